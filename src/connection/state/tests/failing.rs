//! Ends out of order: end of input with requests pending, write errors, force.

use super::*;
use Outcome::{NotSent, Unknown};

/// An end with three requests, numbered from 1, of which the sender has taken two.
fn two_taken_of_three() -> End<&'static str> {
    let mut end = End::new();
    end.ask("a");
    end.ask("b");
    end.take();
    end.ask("c");
    end
}

#[test]
fn the_end_of_input_fails_sent_requests_as_unknown_and_queued_ones_as_not_sent() {
    let mut end = two_taken_of_three();
    let failed = end.state.end_input(Error::PeerClosed);
    let expected = [("a", Unknown), ("b", Unknown), ("c", NotSent)];
    assert_eq!(outcomes(&failed), expected);
    for (_, error) in &failed {
        assert!(matches!(error.cause(), Error::PeerClosed), "{error:?}");
    }
    assert_eq!(end.take(), [], "what was reported as not sent is not sent");
    let losses = end.state.losses();
    assert_eq!((losses.requests_unknown, losses.requests_not_sent), (2, 1));
    assert_eq!(end.state.outstanding(), 0);
    assert!(end.state.has_room(LIMITS.outstanding_bytes));
    let end = end.state.input_end().unwrap();
    assert!(matches!(**end, Error::PeerClosed));
}

#[test]
fn what_registers_after_the_end_of_input_is_told_the_cause() {
    let mut end = End::<()>::new();
    end.state
        .end_input(Error::EndOfInput(Some("exit 3".into())));
    end.state.goodbyes();
    let error = end.state.may_request().unwrap_err();
    assert_eq!(error.outcome(), NotSent);
    assert!(
        matches!(error.cause(), Error::EndOfInput(Some(text)) if &**text == "exit 3"),
        "{error:?}"
    );
}

#[test]
fn an_end_of_requests_does_not_undo_the_end_of_input() {
    let mut end = End::<()>::new();
    end.state.end_input(Error::PeerClosed);
    end.state.receive(&Packet::END_OF_REQUESTS, false);
    assert!(end.state.input_end().is_some());
}

#[test]
fn cancelled_requests_are_not_told_and_not_counted_as_lost() {
    let mut end = End::new();
    let key = end.ask_and_send("cancelled");
    end.cancel(key).unwrap();
    assert!(end.state.end_input(Error::PeerClosed).is_empty());
    assert_eq!(end.state.losses().requests_unknown, 0);
    assert!(matches!(end.answered(key), Action::Drop));
}

#[test]
fn a_write_error_fails_at_once_what_was_not_handed_over_and_keeps_the_rest() {
    // Two were taken, the second was still before the writer when it failed.
    let mut end = two_taken_of_three();
    let failed = end.fail_output(1, 0);
    assert_eq!(outcomes(&failed), [("b", NotSent), ("c", NotSent)]);
    assert!(failed.iter().all(|(_, error)| error.is_transport()));
    let error = end.state.may_request().unwrap_err();
    assert!(matches!(error.cause(), Error::Write(_)), "{error:?}");
    assert_eq!(error.outcome(), NotSent);
    assert_eq!(end.state.outstanding(), 1);
    assert!(end.state.is_output_over());

    assert!(matches!(end.answered(theirs(2)), Action::Settle("a")));
    assert!(end.state.end_input(Error::PeerClosed).is_empty());
    assert_eq!(end.state.losses().requests_not_sent, 2);
    assert_eq!(end.state.losses().requests_unknown, 0);
}

#[test]
fn sent_requests_fail_at_the_end_of_input_with_the_write_error_as_cause() {
    let mut end = End::new();
    end.ask_and_send("sent");
    assert!(end.fail_output(1, 0).is_empty());
    let failed = end.state.end_input(reset());
    assert_eq!(outcomes(&failed), [("sent", Unknown)]);
    assert!(matches!(failed[0].1.cause(), Error::Write(_)));
    let fault = end.state.fault().unwrap();
    assert!(matches!(**fault, Error::Write(_)), "the first one");
    let input_end = end.state.input_end().unwrap();
    assert!(matches!(**input_end, Error::Read(_)));
}

#[test]
fn after_a_write_error_nothing_is_queued_and_lost_answers_are_counted() {
    let mut end = End::<()>::new();
    end.asked(5);
    end.asked(6);
    end.fail_output(0, 3);
    assert!(!end.answer(5));
    assert!(matches!(end.asked(7), Action::Drop));
    end.state.close();
    assert_eq!(end.state.goodbyes(), (false, false));
    end.state.force(Error::LingerExpired, 0);
    assert!(!end.answer(6), "counted by the forced end already");
    assert_eq!(end.state.losses().answers_lost, 5);
    assert_eq!(end.state.losses().requests_dropped, 1);
    let fault = end.state.fault().unwrap();
    assert!(matches!(**fault, Error::Write(_)), "{fault:?}");
}

#[test]
fn a_goodbye_that_cannot_be_written_to_a_peer_that_has_gone_is_no_fault() {
    let mut end = End::<()>::new();
    end.state.end_input(Error::PeerClosed);
    end.state.goodbyes();
    end.fail_output(0, 0);
    assert!(end.state.fault().is_none());
    assert!(end.state.is_output_over());
    assert!(!end.state.ended_in_order());
    end.state.output_over();
    assert!(!end.state.ended_in_order(), "a failed output stays failed");
}

#[test]
fn an_answer_that_cannot_be_written_to_a_peer_that_has_gone_is_a_fault() {
    let mut end = End::<()>::new();
    end.state.end_input(Error::PeerClosed);
    end.fail_output(0, 1);
    assert!(end.state.fault().is_some(), "it was in the buffer");

    let mut end = End::<()>::new();
    end.asked(5);
    end.state.end_input(Error::PeerClosed);
    end.fail_output(0, 0);
    assert!(end.state.fault().is_some(), "it was being made");
}

#[test]
fn a_write_error_after_the_output_is_over_changes_nothing() {
    let mut end = End::<()>::new();
    end.state.end_input(Error::PeerClosed);
    end.state.goodbyes();
    end.state.output_over();
    assert!(end.fail_output(0, 1).is_empty());
    assert!(end.state.ended_in_order());
    assert_eq!(end.state.losses().answers_lost, 0);
}

#[test]
fn a_forced_end_tells_by_what_was_handed_over_whether_requests_were_sent() {
    let mut end = two_taken_of_three();
    let (failed, _) = end.state.force(Error::LingerExpired, 1);
    let expected = [("a", Unknown), ("b", NotSent), ("c", NotSent)];
    assert_eq!(outcomes(&failed), expected);
    for (_, error) in &failed {
        assert!(matches!(error.cause(), Error::LingerExpired), "{error:?}");
    }
    let error = end.state.may_request().unwrap_err();
    assert!(matches!(error.cause(), Error::LingerExpired), "{error:?}");
    assert!(matches!(end.answered(theirs(2)), Action::Drop));
    assert_eq!(end.take(), []);
    assert!(!end.state.ended_in_order());
}

#[test]
fn a_forced_end_says_goodbye_if_all_that_was_accepted_has_been_answered() {
    let mut end = End::new();
    end.asked(5);
    end.ask_and_send("ours");
    end.state.close();
    assert_eq!(end.state.goodbyes(), (false, false));
    end.answer(5);
    assert_eq!(end.state.goodbyes(), (true, false));
    let (failed, goodbye) = end.state.force(Error::LingerExpired, 1);
    assert_eq!(failed.len(), 1);
    assert!(goodbye);
    assert!(!end.state.is_output_over(), "it is yet to be written");
    assert_eq!(end.state.goodbyes(), (false, false));
    let (failed, again) = end.state.force(Error::LingerExpired, 1);
    assert!(failed.is_empty() && !again);
    assert!(matches!(end.asked(6), Action::Drop));
    end.state.output_over();
    assert!(end.state.is_output_over());
}

#[test]
fn a_forced_end_with_accepted_requests_unanswered_says_no_goodbye() {
    let mut end = End::<()>::new();
    end.asked(5);
    end.asked(6);
    let (_, goodbye) = end.state.force(Error::Aborted, 0);
    assert!(!goodbye);
    assert!(end.state.is_output_over());
    assert_eq!(end.state.serving(), 0);
    assert_eq!(end.state.losses().answers_lost, 2);
    assert!(!end.answer(5));
    assert_eq!(end.state.losses().answers_lost, 2, "counted once");
    assert_eq!(end.state.goodbyes(), (false, false));
    assert!(matches!(end.asked(5), Action::Drop));
}

#[test]
fn a_forced_end_says_no_second_goodbye() {
    let mut end = End::<()>::new();
    end.state.close();
    assert_eq!(end.state.goodbyes(), (true, true));
    assert!(!end.state.force(Error::LingerExpired, 0).1);
    assert!(
        !end.state.is_output_over(),
        "the first is yet to be written"
    );
}

#[test]
fn a_forced_end_after_a_write_error_says_no_goodbye_and_keeps_the_cause() {
    let mut end = End::new();
    end.ask_and_send("sent");
    end.fail_output(1, 0);
    let (failed, goodbye) = end.state.force(Error::LingerExpired, 1);
    assert!(!goodbye);
    assert_eq!(outcomes(&failed), [("sent", Unknown)]);
    assert!(matches!(failed[0].1.cause(), Error::Write(_)));
    assert!(matches!(**end.state.fault().unwrap(), Error::Write(_)));
}

#[test]
fn what_a_foreign_program_said_explains_an_earlier_write_error() {
    let mut end = End::new();
    end.ask_and_send("sent");
    end.fail_output(1, 0);
    let cause = Error::NotPacketstream("command not found".into());
    let failed = end.state.end_input(cause);
    assert_eq!(outcomes(&failed), [("sent", Unknown)]);
    assert!(matches!(failed[0].1.cause(), Error::NotPacketstream(_)));
    let fault = end.state.fault().unwrap();
    assert!(matches!(**fault, Error::NotPacketstream(_)), "{fault:?}");
}

// ---- between the write error and what it makes of our own requests ---------------------------

#[test]
fn a_write_error_ends_serving_before_it_is_told_to_who_asked() {
    let mut end = two_taken_of_three();
    end.asked(5);
    end.state.stop_output(&broken_pipe(), 1, 1);
    assert!(end.state.is_output_over());
    assert!(!end.answer(5));
    assert!(matches!(end.asked(7), Action::Drop));
    assert_eq!(end.state.goodbyes(), (false, false));
    let losses = end.state.losses();
    assert_eq!((losses.answers_lost, losses.requests_dropped), (2, 1));
    assert_eq!(end.state.outstanding(), 3);
    assert_eq!(losses.requests_not_sent, 0);
    assert!(matches!(end.answered(theirs(2)), Action::Settle("a")));
    let made_up = end.answered(theirs(3));
    assert!(matches!(made_up, Action::Drop), "it was not handed over");
}

#[test]
fn what_is_asked_between_a_write_error_and_its_cause_is_told_that_cause() {
    let mut end = two_taken_of_three();
    end.state.stop_output(&broken_pipe(), 1, 0);
    end.state.may_request().unwrap();
    end.ask("d");
    let cause = Error::NotPacketstream("command not found".into());
    let failed = end.state.end_input_at(cause, 1);
    let expected = [
        ("a", Unknown),
        ("b", NotSent),
        ("c", NotSent),
        ("d", NotSent),
    ];
    assert_eq!(outcomes(&failed), expected);
    for (_, error) in &failed {
        assert!(matches!(error.cause(), Error::NotPacketstream(_)));
    }
    assert!(end.state.fail_output().is_empty());
    let error = end.state.may_request().unwrap_err();
    assert!(matches!(error.cause(), Error::NotPacketstream(_)));
    let fault = end.state.fault().unwrap();
    assert!(matches!(**fault, Error::NotPacketstream(_)), "{fault:?}");
    assert_eq!(end.state.losses().requests_not_sent, 3);
}

#[test]
fn what_is_asked_between_a_write_error_and_no_cause_is_told_the_write_error() {
    let mut end = two_taken_of_three();
    end.state.stop_output(&broken_pipe(), 1, 0);
    end.ask("d");
    let failed = end.state.fail_output();
    let expected = ["b", "c", "d"].map(|waiter| (waiter, NotSent));
    assert_eq!(outcomes(&failed), expected);
    assert!(matches!(**end.state.fault().unwrap(), Error::Write(_)));
}

#[test]
fn answers_that_a_write_error_loses_are_its_fault_even_if_the_peer_ends_in_order() {
    let mut end = End::<()>::new();
    end.asked(5);
    end.state.stop_output(&broken_pipe(), 1, 0);
    end.state.end_input(Error::PeerClosed);
    end.state.fail_output();
    assert!(matches!(**end.state.fault().unwrap(), Error::Write(_)));
    assert!(!end.state.ended_in_order());
}

#[test]
fn a_forced_end_between_a_write_error_and_its_cause_settles_everybody_with_the_write_error() {
    let mut end = two_taken_of_three();
    end.state.stop_output(&broken_pipe(), 1, 0);
    let (failed, goodbye) = end.state.force(Error::LingerExpired, 1);
    assert!(!goodbye);
    let expected = [("a", Unknown), ("b", NotSent), ("c", NotSent)];
    assert_eq!(outcomes(&failed), expected);
    for (_, error) in &failed {
        assert!(matches!(error.cause(), Error::Write(_)), "{error:?}");
    }
    assert!(end.state.fail_output().is_empty());
    assert!(matches!(**end.state.fault().unwrap(), Error::Write(_)));
}

#[test]
fn requests_can_be_finished_between_a_write_error_and_its_cause() {
    let finished: [fn(&mut End<()>); 3] = [
        |end| assert!(!end.state.finish_requests(), "nothing is to be sent"),
        |end| end.state.end_stream(),
        |end| end.state.close(),
    ];
    for finish in finished {
        let mut end = End::<()>::new();
        end.state.stop_output(&broken_pipe(), 0, 0);
        finish(&mut end);
        assert_eq!(end.state.goodbyes(), (false, false));
        let error = end.state.may_request().unwrap_err();
        assert!(matches!(error, Error::RequestsFinished), "{error:?}");
        end.state.fail_output();
        let error = end.state.may_request().unwrap_err();
        assert!(matches!(error.cause(), Error::Write(_)), "{error:?}");
    }
}

/// A responder that outlives the connection loses its answer, which is counted once.
#[test]
fn what_is_given_up_unanswered_is_counted_once() {
    let mut end = End::<()>::new();
    end.asked(5);
    end.asked(6);
    let error = Error::Write(Arc::new(std::io::ErrorKind::BrokenPipe.into()));
    end.state.stop_output(&error, 0, 0);
    assert!(!end.answer(5), "it cannot be sent");
    assert_eq!(end.state.give_up_serving(), 1);
    assert!(!end.answer(6));
    assert_eq!(end.state.give_up_serving(), 0);
    assert_eq!(end.state.losses().answers_lost, 2);
}
