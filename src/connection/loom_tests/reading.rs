//! The reading that is offered while the thread that has read serves: it is never left alone.

use std::sync::Arc;

use super::slots::{INTERRUPTIONS, Session, Waits};
use super::{explore_within, spawn};
use crate::connection::one_shot::OneShot;
use crate::sync::expire;

/// Reads requests on this thread, the first alone and then so many at once, with a thread that has
/// served one before and watches, perhaps. `beside` is done by another thread at some time.
/// Returns once all have been served.
fn read_all(
    slots: usize,
    max_threads: usize,
    batch: usize,
    inputs: &[Option<(usize, Waits)>],
    beside: Option<fn(&Arc<Session>)>,
) {
    let mut session = Session::new(slots, max_threads, inputs.len());
    session.inputs = inputs.to_vec();
    session.batch = batch;
    let session = Arc::new(session);
    let beside = beside.map(|beside| spawn(&session, beside));
    session.read(0);
    expire();
    session.wait_until_done(inputs.len());
    if let Some(beside) = beside {
        beside.join().unwrap();
    }
    assert_eq!(session.end(), inputs.len());
    assert!(session.answers.iter().all(OneShot::is_settled));
}

/// The handler waits for a request that has not been read yet, and says so.
#[test]
fn reading_goes_on_when_a_handler_in_place_begins_to_wait() {
    explore_within("reading, a wait that lends", INTERRUPTIONS, || {
        read_all(1, 2, 1, &[None, Some((2, Waits::Lending)), None], None);
    });
}

/// The same, but nobody knows that it waits: the watcher finds out after a tick.
#[test]
fn reading_goes_on_when_a_handler_in_place_blocks_unseen() {
    explore_within("reading, an unseen wait", INTERRUPTIONS, || {
        expire();
        read_all(2, 2, 1, &[None, Some((2, Waits::Unseen)), None], None);
    });
}

/// It blocks for a request that was read with it, and lies in the queue.
#[test]
fn request_behind_a_handler_that_blocks_in_place_is_served() {
    explore_within("reading, a queued request", INTERRUPTIONS, || {
        expire();
        read_all(2, 2, 2, &[None, Some((2, Waits::Unseen)), None], None);
    });
}

/// The watcher is called for a request that blocks too: it must not take that while the reading
/// is left to it.
#[test]
fn watcher_that_is_called_for_a_request_reads_instead() {
    explore_within("reading, a call for the watcher", 2, || {
        expire();
        let unseen = Some((3, Waits::Unseen));
        let call: fn(&Arc<Session>) = |session| session.change(|_| ());
        read_all(3, 3, 2, &[None, unseen, unseen, None], Some(call));
    });
}

/// With one thread at most, beside the one that reads.
#[test]
fn reading_is_taken_over_by_the_only_worker() {
    explore_within("reading, one worker", INTERRUPTIONS, || {
        expire();
        read_all(1, 1, 1, &[None, None, None], None);
    });
}
