//! Our own requests: tags, room, cancellation and answers.

use super::*;

const ROOMY: Limits = Limits {
    outstanding_requests: 10_000,
    send_queue_len: 10_000,
    ..LIMITS
};

#[test]
fn tags_start_at_2_on_channel_0_and_at_0_elsewhere_and_only_grow() {
    let mut end = End::new();
    let other = ChannelId::new(7);
    assert_eq!(end.state.next_tag(ChannelId::DEFAULT), Tag::new(2));
    assert_eq!(end.state.next_tag(other), Tag::new(0));

    let first = end.ask_and_send("first");
    assert_eq!(end.ask_on(other, 0, "other"), (other, Tag::new(0)));
    assert!(matches!(end.answered(first), Action::Settle("first")));
    assert_eq!(end.ask("second").1, Tag::new(3), "an answered tag is spent");

    assert_eq!(end.ask_on(other, 0, "other 2").1, Tag::new(1));
}

/// The tags of the packets, in their order.
fn tags(packets: &[Packet]) -> Vec<u64> {
    packets.iter().map(|packet| packet.tag().get()).collect()
}

#[test]
fn requests_that_are_withdrawn_use_up_no_tag_wherever_they_stand_in_the_queue() {
    for withdrawn in 0..1_u32 << 6 {
        let mut end = End::with(ROOMY, true);
        let keys: Vec<_> = (0..6).map(|waiter| end.ask(waiter)).collect();
        for (index, key) in keys.into_iter().enumerate() {
            if withdrawn & 1 << index != 0 {
                end.cancel(key).unwrap();
            }
        }
        let sent = end.take();
        let expected: Vec<_> = (2..).take(sent.len()).collect();
        assert_eq!(tags(&sent), expected, "{withdrawn:06b}");
        // Each is answered under the tag that it was sent with.
        let waiters = (0..6).filter(|waiter| withdrawn & 1 << waiter == 0);
        for (waiter, packet) in waiters.zip(&sent) {
            let action = end.answered((packet.channel(), packet.tag()));
            assert!(matches!(action, Action::Settle(told) if told == waiter));
        }
        end.ask(6);
        assert_eq!(tags(&end.take()), [2 + u64::try_from(sent.len()).unwrap()]);
    }
}

#[test]
fn first_request_on_a_channel_has_the_first_tag_after_any_number_that_were_never_sent() {
    let mut end = End::with(ROOMY, true);
    let other = ChannelId::new(7);
    for (channel, first) in [(ChannelId::DEFAULT, 2), (other, 0)] {
        for _ in 0..300 {
            let key = end.ask_on(channel, 0, "withdrawn");
            end.cancel(key).unwrap();
        }
        let key = end.ask_on(channel, 0, "sent");
        assert_eq!(key.1.get(), first + 300, "not final yet");
        assert_eq!(tags(&end.take()), [first]);
        let action = end.answered((channel, Tag::new(first)));
        assert!(matches!(action, Action::Settle("sent")));
    }
}

#[test]
fn tag_is_never_used_twice_although_withdrawn_requests_leave_theirs_to_others() {
    let mut end = End::with(ROOMY, true);
    let first = end.ask("first");
    let sent = end.take();
    assert_eq!(tags(&sent), [2]);
    let withdrawn = end.ask("withdrawn");
    let number = end.queue[0].number;
    end.cancel(withdrawn).unwrap();
    let (second, third) = (end.ask("second"), end.ask("third"));
    assert_eq!((second.1.get(), third.1.get()), (4, 5));
    // Taken in pieces: what is still in the queue stands there under its old tag.
    let rest = end.queue.split_off(2);
    assert_eq!(tags(&end.take()), [3], "moved up");
    end.queue = rest;
    assert_eq!(end.ask("fourth").1, Tag::new(6));
    assert_eq!(tags(&end.take()), [4, 5], "moved up too");
    assert_eq!(end.ask("fifth").1, Tag::new(6), "nothing to move up for");
    assert_eq!(tags(&end.take()), [6]);
    // Who withdrew has the tag of another request now, which is none of his business.
    assert_eq!(end.state.cancel(withdrawn, number), None);
    for (tag, waiter) in [(3, "second"), (4, "third"), (5, "fourth"), (6, "fifth")] {
        let action = end.answered(theirs(tag));
        assert!(matches!(action, Action::Settle(told) if told == waiter));
    }
    assert!(matches!(end.answered(first), Action::Settle("first")));
}

#[test]
fn renumbered_request_is_told_its_tag_and_can_be_cancelled_under_it() {
    let mut end = End::with(ROOMY, true);
    let withdrawn = end.ask("withdrawn");
    let kept = end.ask("kept");
    let number = end.queue[1].number;
    end.cancel(withdrawn).unwrap();
    let mut batch = std::mem::take(&mut end.queue);
    let told = std::cell::RefCell::new(Vec::new());
    end.state.take(&mut batch, |waiter, tag| {
        told.borrow_mut().push((*waiter, tag));
    });
    assert_eq!(told.into_inner(), [("kept", Tag::new(2))]);
    assert_eq!(
        end.state.cancel(kept, number),
        None,
        "its tag was not final"
    );
    let cancelled = end.state.cancel(theirs(2), number);
    assert_eq!(cancelled, Some(("kept", Outcome::Unknown)));
}

#[test]
fn long_response_to_nothing_of_ours_ends_the_connection_at_its_head() {
    let mut end = End::new();
    let key = end.ask_and_send("sent");
    let long = LIMITS.unowed_response + 1;
    assert!(end.state.may_read_response(key, u64::MAX).is_ok());
    assert!(end.state.may_read_response(theirs(9), long - 1).is_ok());
    let error = end.state.may_read_response(theirs(9), long).unwrap_err();
    assert!(matches!(error, Error::UnknownResponse { len, .. } if len == long));
    assert!(error.is_peer());
    // Cancelled, it is still owed.
    end.cancel(key).unwrap();
    assert!(end.state.may_read_response(key, long).is_ok());
    // What a forced end has given up is nobody's fault.
    end.state.force(Error::LingerExpired, 1);
    assert!(end.state.may_read_response(key, long).is_ok());
}

#[test]
fn response_that_is_too_long_settles_who_waits_and_leaves_the_others_alone() {
    let mut end = End::new();
    let (first, second) = (end.ask("first"), end.ask("second"));
    let cancelled = end.ask("cancelled");
    end.take();
    end.cancel(cancelled).unwrap();
    let action = end.state.receive_too_long(&response(first, 0), 11, 10);
    assert!(matches!(action, Action::Settle("first")));
    let action = end.state.receive_too_long(&response(cancelled, 0), 11, 10);
    assert!(matches!(action, Action::Drop));
    assert!(matches!(end.answered(second), Action::Settle("second")));
    assert_eq!(end.state.outstanding(), 0);
}

#[test]
fn the_count_of_unanswered_requests_is_capped() {
    let mut end = End::new();
    let first = end.ask("0");
    for _ in 1..LIMITS.outstanding_requests {
        assert!(end.state.has_room(0));
        end.ask("n");
    }
    end.take();
    assert_eq!(end.state.outstanding(), 4);
    assert!(!end.state.has_room(0));
    end.answered(first);
    assert!(end.state.has_room(0));
}

#[test]
fn the_bytes_of_unanswered_requests_are_capped_inclusively() {
    let mut end = End::new();
    let key = end.ask_on(ChannelId::DEFAULT, 60, "60");
    end.take();
    assert!(end.state.has_room(40));
    assert!(!end.state.has_room(41));
    end.answered(key);
    assert!(end.state.has_room(100));
}

#[test]
fn a_request_above_the_byte_cap_goes_when_nothing_else_is_outstanding() {
    let mut end = End::new();
    assert!(end.state.has_room(1_000));
    let key = end.ask_on(ChannelId::DEFAULT, 1_000, "big");
    end.take();
    assert!(!end.state.has_room(0));
    end.answered(key);
    let small = end.ask_and_send("small");
    assert!(!end.state.has_room(1_000));
    end.answered(small);
    assert!(end.state.has_room(1_000));
}

#[test]
fn requests_wait_for_room_in_the_send_queue_and_answers_do_not_count() {
    let limits = Limits {
        send_queue_len: 2,
        ..LIMITS
    };
    let mut end = End::with(limits, true);
    for tag in 2..12 {
        end.enqueue(response(theirs(tag), 0));
    }
    end.ask("a");
    assert!(end.state.has_room(0));
    let last = end.ask("b");
    assert!(!end.state.has_room(0));
    end.cancel(last).unwrap();
    assert!(!end.state.has_room(0), "it still takes a place");
    end.take();
    assert!(end.state.has_room(0));
}

#[test]
fn a_request_cancelled_before_it_is_taken_is_never_sent() {
    let mut end = End::new();
    let first = end.ask("kept");
    let key = end.ask_on(ChannelId::DEFAULT, 100, "withdrawn");
    let cancelled = end.cancel(key);
    assert_eq!(cancelled, Some(("withdrawn", Outcome::NotSent)));
    assert_eq!(end.cancel(key), None, "once");
    assert_eq!(end.state.outstanding(), 1);
    assert!(!end.state.has_room(100), "its packet is still in the queue");
    assert_eq!(end.take(), [request(first, 0)]);
    assert!(end.state.has_room(100), "its bytes are free again");
    assert!(!end.state.is_owed(key));
}

#[test]
fn a_request_cancelled_after_it_was_taken_stays_owed_until_its_late_answer() {
    let mut end = End::new();
    let key = end.ask_on(ChannelId::DEFAULT, 90, "sent");
    end.take();
    let cancelled = end.cancel(key);
    assert_eq!(cancelled, Some(("sent", Outcome::Unknown)));
    assert_eq!(end.cancel(key), None, "once");
    assert!(end.state.is_owed(key));
    assert!(!end.state.has_room(11), "it counts against the caps");

    assert!(matches!(end.answered(key), Action::Drop));
    assert_eq!(end.state.losses().late_responses, 1);
    assert_eq!(end.state.outstanding(), 0);
    assert!(end.state.has_room(100));
}

#[test]
fn a_response_to_nothing_we_sent_is_dropped_and_counted() {
    let mut end = End::new();
    assert!(matches!(end.answered(theirs(2)), Action::Drop), "unknown");
    let key = end.ask("queued");
    assert!(!end.state.is_owed(key));
    assert!(matches!(end.answered(key), Action::Drop), "unsent");
    assert_eq!(end.state.losses().late_responses, 2);

    end.take();
    let elsewhere = (ChannelId::new(1), key.1);
    assert!(matches!(end.answered(elsewhere), Action::Drop));
    assert!(matches!(end.answered(key), Action::Settle("queued")));
    assert!(matches!(end.answered(key), Action::Drop), "answered twice");
    assert_eq!(end.state.losses().late_responses, 4);
    assert_eq!(end.cancel(key), None, "it is settled");
}

#[test]
fn answers_in_any_order_reach_the_caller_of_their_tag() {
    let mut end = End::new();
    let (a, b) = (end.ask("a"), end.ask("b"));
    let c = end.ask_on(ChannelId::new(1), 0, "c");
    end.take();
    assert!(matches!(end.answered(c), Action::Settle("c")));
    assert!(matches!(end.answered(b), Action::Settle("b")));
    assert!(matches!(end.answered(a), Action::Settle("a")));
}

#[test]
fn queue_numbers_grow_by_one_whatever_is_queued() {
    let mut end = End::new();
    end.ask("a");
    assert_eq!(end.state.last_queued(), 1);
    assert_eq!(end.enqueue(response(theirs(2), 0)), 2);
    assert_eq!(end.enqueue(Packet::END_OF_REQUESTS), 3);
    end.ask("b");
    assert_eq!(end.state.last_queued(), 4);
}
