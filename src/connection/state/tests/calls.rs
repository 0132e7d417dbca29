//! Our own requests: tags, room, cancellation and answers.

use super::*;

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

    let second = theirs(3);
    end.state.cancel(second).unwrap();
    assert_eq!(end.ask("third").1, Tag::new(4), "so is a withdrawn one");
    assert_eq!(end.ask_on(other, 0, "other 2").1, Tag::new(1));
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
    end.state.cancel(last).unwrap();
    assert!(!end.state.has_room(0), "it still takes a place");
    end.take();
    assert!(end.state.has_room(0));
}

#[test]
fn a_request_cancelled_before_it_is_taken_is_never_sent() {
    let mut end = End::new();
    let first = end.ask("kept");
    let key = end.ask_on(ChannelId::DEFAULT, 100, "withdrawn");
    let cancelled = end.state.cancel(key);
    assert_eq!(cancelled, Some(("withdrawn", Outcome::NotSent)));
    assert_eq!(end.state.cancel(key), None, "once");
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
    let cancelled = end.state.cancel(key);
    assert_eq!(cancelled, Some(("sent", Outcome::Unknown)));
    assert_eq!(end.state.cancel(key), None, "once");
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
    assert_eq!(end.state.cancel(key), None, "it is settled");
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
