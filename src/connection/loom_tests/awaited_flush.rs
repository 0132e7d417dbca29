//! A caller that waits until its packet has been sent, before it reads the answer by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::outbox::{Session, finish};
use super::{explore, explore_within, spawn};
use crate::sync::expire;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

/// A caller waits for its packet to be sent before it reads the answer by itself.
#[test]
fn caller_is_told_of_the_flush_that_it_waits_for() {
    explore_within("outbox, a flush that is waited for", 3, || {
        let session = Arc::new(Session::with_endless_grace(32));
        let sender = spawn(&session, |session| session.send());
        let submitter = spawn(&session, |session| _ = session.submit());
        let number = session.queue();
        session.flush(number);
        assert!(session.rest.wait_for_flush(number, soon()));
        finish(&session, number, sender, [submitter]);
    });
}

#[test]
fn caller_is_told_that_there_will_be_no_flush() {
    explore("outbox, a flush that fails", || {
        let mut session = Session::new();
        session.writer_fails = true;
        let session = Arc::new(session);
        let number = session.queue();
        let sender = spawn(&session, |session| session.send());
        session.flush(number);
        assert!(!session.rest.wait_for_flush(number, soon()));
        sender.join().unwrap();
    });
}

#[test]
fn caller_waits_for_a_flush_no_longer_than_it_may() {
    explore_within("outbox, a flush that is late", 4, || {
        let session = Arc::new(Session::new());
        expire();
        let number = session.queue();
        let sender = spawn(&session, |session| session.send());
        session.flush(number);
        // Whichever comes first; the next to wait is not disturbed by that.
        session.rest.wait_for_flush(number, soon());
        session.wait_until_sent(number);
        session.rest.wait_for_flush(number, soon());
        session.end();
        sender.join().unwrap();
    });
}
