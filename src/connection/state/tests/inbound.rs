//! The peer's requests: what is served, refused or dropped, and the inbound budget.

use super::*;

/// An end without requests of its own, with as many of the peer's as the budget allows.
fn full() -> End<&'static str> {
    let mut end = End::new();
    for tag in 10..12 {
        assert!(!end.state.may_pause());
        assert!(matches!(end.asked(tag), Action::Serve));
    }
    end
}

#[test]
fn a_tag_that_is_being_served_may_not_be_used_again() {
    let mut end = End::<()>::new();
    assert!(matches!(end.asked(5), Action::Serve));
    let elsewhere = request((ChannelId::new(1), Tag::new(5)), 0);
    let action = end.state.receive(&elsewhere, false);
    assert!(matches!(action, Action::Serve), "channels are separate");
    let action = end.asked(5);
    assert!(
        matches!(action, Action::Ended(Error::DuplicateTag { channel, tag })
            if (channel, tag) == theirs(5)),
        "{action:?}"
    );
    assert_eq!(end.state.serving(), 2);
}

#[test]
fn a_tag_is_free_again_before_its_answer_is_queued() {
    let mut end = End::<()>::new();
    end.asked(5);
    assert!(end.state.served(theirs(5)));
    assert_eq!(end.state.last_queued(), 0);
    assert!(matches!(end.asked(5), Action::Serve));
    assert!(end.answer(5));
    assert!(!end.answer(5), "a request is answered once");
    assert_eq!(end.state.losses().answers_lost, 0);
}

#[test]
fn tags_0_and_1_with_another_type_are_ordinary_requests() {
    let mut end = End::<()>::new();
    assert!(matches!(end.asked(0), Action::Serve));
    assert!(matches!(end.asked(1), Action::Serve));
}

#[test]
fn a_repeated_end_of_requests_is_harmless() {
    let mut end = End::new();
    let key = end.ask_and_send("ours");
    for _ in 0..3 {
        let action = end.state.receive(&Packet::END_OF_REQUESTS, false);
        assert!(matches!(action, Action::RequestsFinished));
    }
    assert!(end.state.may_request().is_ok(), "ours may go on");
    assert!(matches!(end.answered(key), Action::Settle("ours")));
    assert_eq!(end.state.goodbyes(), (false, false));
    assert!(end.state.input_end().is_none());
}

#[test]
fn requests_after_the_peers_end_of_requests_are_refused() {
    let mut end = End::<()>::new();
    end.asked(5);
    end.state.receive(&Packet::END_OF_REQUESTS, false);
    assert_rejected(&end.asked(6), b"requests no longer allowed");
    assert_eq!(end.state.serving(), 1);
    assert!(end.answer(5), "what was accepted before is answered");
}

#[test]
fn requests_while_we_close_are_refused_and_accepted_ones_finished() {
    for begin in [State::close, State::end_stream] {
        let mut end = End::<()>::new();
        end.asked(5);
        begin(&mut end.state);
        assert_rejected(&end.asked(6), b"rejecting request: shutting down");
        assert!(end.answer(5));
    }
}

#[test]
fn having_finished_our_requests_we_still_serve() {
    let mut end = End::<()>::new();
    assert!(end.state.finish_requests());
    assert!(matches!(end.asked(5), Action::Serve));
    assert!(end.answer(5));
}

#[test]
fn without_a_handler_every_request_is_refused() {
    let mut end = End::<()>::with(LIMITS, false);
    assert_rejected(&end.asked(5), b"no request handler");
    assert_rejected(&end.asked(5), b"no request handler");
    assert_eq!(end.state.serving(), 0);
}

#[test]
fn requests_after_our_end_of_stream_are_dropped_and_counted() {
    let mut end = End::<()>::new();
    end.state.end_stream();
    assert_eq!(end.state.goodbyes(), (true, true));
    assert!(matches!(end.asked(5), Action::Drop));
    end.state.output_over();
    assert!(matches!(end.asked(6), Action::Drop));
    assert_eq!(end.state.losses().requests_dropped, 2);
    assert!(!end.state.served(theirs(5)), "it was never accepted");
    assert_eq!(end.state.losses().answers_lost, 0);
}

#[test]
fn over_the_budget_reading_may_pause_while_we_wait_for_nothing() {
    let mut end = full();
    assert!(end.state.may_pause());
    // One batch may have been read already.
    assert!(matches!(end.asked(20), Action::Serve));
    end.answer(20);
    assert!(end.state.may_pause());
    end.answer(10);
    assert!(!end.state.may_pause(), "budget has become free");
}

#[test]
fn over_the_budget_in_bytes_is_over_the_budget() {
    let mut end = End::<()>::new();
    end.state.receive(&request(theirs(10), 50), false);
    assert!(end.state.may_pause());
    let action = end.state.receive(&request(theirs(11), 0), true);
    assert_rejected(&action, b"rejecting request: busy");
    end.answer(10);
    assert!(!end.state.may_pause());
}

#[test]
fn request_that_is_too_long_is_refused_with_both_numbers_whatever_else_is_against_it() {
    let too_long = |end: &mut End<()>, tag| {
        let head = request(theirs(tag), 0);
        end.state.receive_too_long(&head, 301, 300)
    };
    let told = b"rejecting request: 301 bytes are more than the limit of 300";
    let mut end = End::new();
    assert_rejected(&too_long(&mut end, 5), told);
    assert_rejected(&too_long(&mut end, 5), told);
    assert_eq!(end.state.serving(), 0, "its tag is free");
    assert!(matches!(end.asked(5), Action::Serve));
    assert!(matches!(
        too_long(&mut end, 5),
        Action::Ended(Error::DuplicateTag { .. })
    ));
    end.state.receive(&Packet::END_OF_REQUESTS, false);
    assert_rejected(&too_long(&mut end, 6), told);
    end.answer(5);
    end.state.end_stream();
    end.state.goodbyes();
    assert!(matches!(too_long(&mut end, 6), Action::Drop));
    assert_eq!(end.state.losses().requests_dropped, 1);
    let mut silent = End::with(LIMITS, false);
    assert_rejected(&too_long(&mut silent, 5), told);
}

#[test]
fn over_the_budget_requests_are_refused_as_busy_while_we_are_owed_an_answer() {
    let mut end = full();
    let key = end.ask("ours");
    assert!(
        !end.state.may_pause(),
        "a registered request ends the pause"
    );
    assert_rejected(&end.asked(20), b"rejecting request: busy");
    end.take();
    end.cancel(key).unwrap();
    assert_rejected(&end.asked(20), b"rejecting request: busy");
    assert!(!end.state.may_pause(), "a cancelled one is still owed");
    end.answered(key);
    assert!(end.state.may_pause());
    end.answer(10);
    assert!(matches!(end.asked(20), Action::Serve));
}

#[test]
fn over_the_budget_requests_are_refused_as_busy_while_a_handler_waits() {
    let mut end = full();
    let action = end.state.receive(&request(theirs(20), 0), true);
    assert_rejected(&action, b"rejecting request: busy");
    end.answer(10);
    let action = end.state.receive(&request(theirs(20), 0), true);
    assert!(matches!(action, Action::Serve), "within the budget");
}

#[test]
fn a_pause_ends_when_we_close_or_can_no_longer_write() {
    for begin in [State::close, State::end_stream] {
        let mut end = full();
        begin(&mut end.state);
        assert!(!end.state.may_pause());
    }
    let mut end = full();
    end.fail_output(0, 0);
    assert!(!end.state.may_pause());
    let mut end = full();
    end.state.force(Error::Aborted, 0);
    assert!(!end.state.may_pause());
}

#[test]
fn answers_at_the_budget_that_are_not_sent_hold_further_requests() {
    let mut end = End::<()>::new();
    end.enqueue(response(theirs(2), 0));
    assert!(!end.state.has_unsent_answers());
    end.enqueue(Packet::refusal(ChannelId::DEFAULT, Tag::new(3), b""));
    assert!(end.state.has_unsent_answers());
    end.take();
    assert!(!end.state.has_unsent_answers());
    end.enqueue(response(theirs(4), 50));
    assert!(end.state.has_unsent_answers(), "by bytes");
    end.take();
    assert!(!end.state.has_unsent_answers());
}

/// Enqueues responses until nothing more may be read, at most so many; returns how many these are.
fn enqueue_until_flooded(end: &mut End<()>, at_most: u64, payload: usize) -> usize {
    (0..at_most)
        .take_while(|tag| {
            let is_free = end.state.flooded().is_none();
            if is_free {
                end.enqueue(response(theirs(*tag), payload));
            }
            is_free
        })
        .count()
}

#[test]
fn nothing_more_is_read_over_four_times_the_budget_but_never_below_32_768_answers() {
    for (inbound_requests, most) in [
        (2, 32_768),
        (8192, 32_768),
        (8193, 32_772),
        (32_768, 131_072),
    ] {
        let limits = Limits {
            inbound_requests,
            ..LIMITS
        };
        let mut end = End::<()>::with(limits, true);
        assert_eq!(enqueue_until_flooded(&mut end, 200_000, 0), most + 1);
        let Error::PeerNotReading { answers, octets } = end.state.flooded().unwrap() else {
            panic!("another error");
        };
        assert_eq!((usize::try_from(answers), octets), (Ok(most + 1), 0));
        end.take();
        assert!(end.state.flooded().is_none());
    }
}

#[test]
fn nothing_more_is_read_over_four_times_as_many_bytes_as_may_be_here() {
    let mut end = End::<()>::new();
    assert_eq!(enqueue_until_flooded(&mut end, 10, 100), 3);
    assert!(end.state.flooded().unwrap().is_peer());
    end.take();
    end.enqueue(response(theirs(9), 200));
    assert!(end.state.flooded().is_none());
}

#[test]
fn who_answers_no_more_reads_on() {
    let mut end = End::<()>::new();
    end.enqueue(response(theirs(9), 201));
    assert!(end.state.flooded().is_some());
    end.state.stop_output(&Error::Aborted, 0, 0);
    assert!(end.state.flooded().is_none());
}
