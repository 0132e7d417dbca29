//! When our two end packets are due, and in which order.

use super::*;

const NOTHING: (bool, bool) = (false, false);
const REQUESTS: (bool, bool) = (true, false);
const STREAM: (bool, bool) = (false, true);
const BOTH: (bool, bool) = (true, true);

#[test]
fn an_open_connection_says_no_goodbye() {
    let mut end = End::<()>::new();
    assert_eq!(end.state.goodbyes(), NOTHING);
    assert!(end.state.finish_requests());
    assert!(!end.state.finish_requests(), "once");
    let error = end.state.may_request().unwrap_err();
    assert!(matches!(error, Error::RequestsFinished), "{error:?}");
    assert_eq!(end.state.goodbyes(), NOTHING, "that ends requests only");
    end.state.end_stream();
    assert_eq!(end.state.goodbyes(), STREAM);
}

#[test]
fn an_idle_close_says_both_goodbyes_at_once_and_once() {
    for begin in [State::close, State::end_stream] {
        let mut end = End::<()>::new();
        begin(&mut end.state);
        assert_eq!(end.state.goodbyes(), BOTH);
        begin(&mut end.state);
        assert_eq!(end.state.goodbyes(), NOTHING);
        assert!(!end.state.finish_requests());
        assert!(end.state.may_request().is_err());
    }
}

#[test]
fn a_close_ends_requests_after_what_was_accepted_and_the_stream_after_all_answers() {
    let mut end = End::new();
    end.asked(5);
    let key = end.ask_and_send("ours");
    end.state.close();
    assert_eq!(end.state.goodbyes(), NOTHING, "a handler may ask yet");
    let error = end.state.may_request().unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent);
    end.state.may_request_for(Sake::Accepted).unwrap();
    assert!(end.answer(5));
    assert_eq!(end.state.goodbyes(), REQUESTS, "ours is unanswered");
    let error = end.state.may_request_for(Sake::Accepted).unwrap_err();
    assert!(matches!(error, Error::RequestsFinished), "{error:?}");
    assert_eq!(end.state.goodbyes(), NOTHING);
    assert!(matches!(end.answered(key), Action::Settle("ours")));
    assert_eq!(end.state.goodbyes(), STREAM);
    assert_eq!(end.state.goodbyes(), NOTHING);
}

#[test]
fn a_close_waits_for_handlers_after_our_answers_have_come() {
    let mut end = End::new();
    end.asked(5);
    let key = end.ask_and_send("ours");
    end.state.close();
    end.state.goodbyes();
    end.answered(key);
    assert_eq!(end.state.goodbyes(), NOTHING);
    end.answer(5);
    assert_eq!(end.state.goodbyes(), BOTH);
}

/// `end_stream` says that no requests follow at once, and so for handlers too.
#[test]
fn an_end_of_the_stream_ends_the_requests_of_handlers_too() {
    let mut end = End::<()>::new();
    end.asked(5);
    end.state.end_stream();
    assert_eq!(end.state.goodbyes(), REQUESTS);
    assert!(end.state.may_request_for(Sake::Accepted).is_err());
    end.answer(5);
    assert_eq!(end.state.goodbyes(), STREAM);
}

#[test]
fn a_close_does_not_wait_for_cancelled_requests() {
    let mut end = End::new();
    let sent = end.ask_and_send("sent");
    let queued = end.ask("queued");
    end.state.close();
    assert_eq!(end.state.goodbyes(), REQUESTS);
    end.cancel(queued).unwrap();
    assert_eq!(end.state.goodbyes(), NOTHING);
    end.cancel(sent).unwrap();
    assert_eq!(end.state.goodbyes(), STREAM);
}

#[test]
fn the_answer_to_a_cancelled_request_does_not_stand_for_another() {
    let mut end = End::new();
    let (cancelled, _kept) = (end.ask("cancelled"), end.ask("kept"));
    end.take();
    end.cancel(cancelled).unwrap();
    end.state.close();
    end.answered(cancelled);
    assert_eq!(end.state.goodbyes(), REQUESTS, "one is still awaited");
}

#[test]
fn end_stream_waits_for_handlers_but_not_for_our_own_answers() {
    let mut end = End::new();
    end.asked(5);
    let key = end.ask_and_send("ours");
    end.state.end_stream();
    assert_eq!(end.state.goodbyes(), REQUESTS);
    end.answer(5);
    assert_eq!(end.state.goodbyes(), STREAM);
    let action = end.answered(key);
    assert!(matches!(action, Action::Settle("ours")), "it still comes");
}

#[test]
fn of_close_and_end_stream_the_one_that_waits_for_less_wins() {
    for begin in [
        |state: &mut State<_>| (state.close(), state.end_stream()),
        |state: &mut State<_>| (state.end_stream(), state.close()),
    ] {
        let mut end = End::new();
        end.ask_and_send("ours");
        begin(&mut end.state);
        assert_eq!(end.state.goodbyes(), BOTH);
    }
}

#[test]
fn after_the_peers_end_both_goodbyes_follow_the_last_answer() {
    for cause in [Error::PeerClosed, Error::EndOfInput(None), reset()] {
        let mut end = End::<()>::new();
        end.asked(5);
        end.asked(6);
        end.state.end_input(cause);
        assert_eq!(end.state.goodbyes(), NOTHING);
        assert!(end.answer(5));
        assert_eq!(end.state.goodbyes(), NOTHING);
        assert!(end.answer(6));
        assert_eq!(end.state.goodbyes(), BOTH);
        assert_eq!(end.state.goodbyes(), NOTHING);
    }
}

#[test]
fn after_the_peers_end_the_end_of_requests_is_not_said_twice() {
    let mut end = End::<()>::new();
    assert!(end.state.finish_requests());
    end.state.end_input(Error::PeerClosed);
    assert_eq!(end.state.goodbyes(), STREAM);

    let mut end = End::<()>::new();
    end.asked(5);
    end.state.end_input(Error::PeerClosed);
    assert_eq!(end.state.goodbyes(), NOTHING);
    end.state.close();
    assert_eq!(end.state.goodbyes(), NOTHING);
    end.answer(5);
    assert_eq!(end.state.goodbyes(), BOTH);
}

#[test]
fn the_peers_end_fails_what_a_close_waits_for() {
    let mut end = End::new();
    end.ask_and_send("ours");
    end.state.close();
    assert_eq!(end.state.goodbyes(), REQUESTS);
    assert_eq!(end.state.end_input(Error::PeerClosed).len(), 1);
    assert_eq!(end.state.goodbyes(), STREAM);
}

#[test]
fn both_directions_at_end_of_stream_end_in_order() {
    let mut end = End::<()>::new();
    assert!(matches!(
        end.state.receive(&Packet::END_OF_STREAM, false),
        Action::Ended(Error::PeerClosed)
    ));
    end.state.end_input(Error::PeerClosed);
    assert_eq!(end.state.goodbyes(), BOTH);
    assert!(!end.state.ended_in_order(), "it is only queued");
    assert!(!end.state.is_output_over());
    end.state.output_over();
    assert!(end.state.is_output_over());
    assert!(end.state.ended_in_order());
    assert!(end.state.fault().is_none());
}

#[test]
fn without_the_peers_end_of_stream_the_end_is_not_in_order() {
    for (cause, is_fault) in [(Error::EndOfInput(None), false), (reset(), true)] {
        let mut end = End::<()>::new();
        end.state.close();
        end.state.goodbyes();
        end.state.output_over();
        assert!(!end.state.ended_in_order());
        end.state.end_input(cause);
        assert!(!end.state.ended_in_order());
        assert_eq!(end.state.fault().is_some(), is_fault);
    }
}
