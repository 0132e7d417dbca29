//! A request's time covers everything that may block, and its late answer disturbs nobody.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    reason = "helpers of tests fail the test; handlers have the shape that is asked of them"
)]

mod common;
#[path = "common/pairs.rs"]
mod pairs;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::watched;
use packetstream::{Connection, Error, Outcome, Packet, PendingSet, Request};
use pairs::{ScriptedPeer, answer_to, client_and_server, echo};

const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(3600);

fn opened(limit: usize) -> (packetstream::OpenGuard, ScriptedPeer) {
    let (transport, peer) = ScriptedPeer::new();
    let guard = Connection::builder()
        .linger(Some(Duration::ZERO))
        .max_outstanding_requests(limit)
        .open(transport)
        .unwrap();
    (guard, peer)
}

/// Makes a call that is sent and not answered in time. On a machine that is busy its time may be
/// over before it has been sent: it says so then, and a longer time is tried.
fn time_out_after_sending(guard: &Connection) -> Error {
    let mut time = SHORT;
    loop {
        let error = guard.call(Request::new(1).with_timeout(time)).unwrap_err();
        if !matches!(error, Error::TimedOut(Outcome::NotSent)) {
            return error;
        }
        time *= 2;
    }
}

#[test]
fn a_call_whose_time_is_over_may_have_run() {
    watched(|| {
        let (guard, mut peer) = opened(8);
        let error = time_out_after_sending(&guard);
        assert!(
            matches!(error, Error::TimedOut(Outcome::Unknown)),
            "{error:?}"
        );
        assert!(error.is_timed_out() && !error.is_closed());
        peer.request();
    });
}

#[test]
fn an_answer_in_time_is_delivered() {
    watched(|| {
        let (client, _server) = client_and_server(echo);
        let request = Request::new(1).with_payload("x").with_timeout(LONG);
        assert_eq!(client.call(request).unwrap().payload(), b"x");
    });
}

#[test]
fn waiting_for_room_counts_and_the_request_is_not_sent() {
    watched(|| {
        let (guard, _peer) = opened(1);
        let _held = guard.submit(Request::new(1)).unwrap();
        let error = guard
            .submit(Request::new(2).with_timeout(SHORT))
            .unwrap_err();
        assert!(
            matches!(error, Error::TimedOut(Outcome::NotSent)),
            "{error:?}"
        );
        let error = guard.call(Request::new(3).with_timeout(SHORT)).unwrap_err();
        assert!(
            matches!(error, Error::TimedOut(Outcome::NotSent)),
            "{error:?}"
        );
    });
}

#[test]
fn the_connections_timeout_holds_for_requests_without_their_own() {
    watched(|| {
        let (transport, _peer) = ScriptedPeer::new();
        let guard = Connection::builder()
            .linger(Some(Duration::ZERO))
            .timeout(Some(SHORT))
            .open(transport)
            .unwrap();
        assert!(guard.call(Request::new(1)).unwrap_err().is_timed_out());
        assert!(
            guard
                .submit(Request::new(1))
                .unwrap()
                .wait()
                .unwrap_err()
                .is_timed_out()
        );
        let own = guard.submit(Request::new(1).with_timeout(LONG)).unwrap();
        assert!(
            own.wait_timeout(SHORT * 3).is_err(),
            "its own time is longer"
        );
    });
}

#[test]
fn the_shorter_of_wait_and_request_ends_the_wait() {
    watched(|| {
        let (guard, _peer) = opened(8);
        let pending = guard.submit(Request::new(1).with_timeout(SHORT)).unwrap();
        let error = pending.wait_timeout(LONG).unwrap().unwrap_err();
        assert!(error.is_timed_out());
        let pending = guard.submit(Request::new(1).with_timeout(LONG)).unwrap();
        let pending = pending.wait_timeout(SHORT).unwrap_err();
        assert!(pending.wait_deadline(Instant::now()).is_err());
    });
}

#[test]
fn a_late_answer_is_dropped_and_counted_and_owed_until_then() {
    watched(|| {
        let (guard, mut peer) = opened(1);
        assert!(time_out_after_sending(&guard).is_timed_out());
        let first = peer.request();
        // The request is still owed an answer, so it takes up the one place there is.
        assert!(matches!(
            guard.try_submit(Request::new(2)),
            Err(refused) if refused.is_full()
        ));
        peer.send(&[answer_to(&first, "late")]);
        let second = guard.submit(Request::new(2)).unwrap();
        let taken = peer.request();
        peer.send(&[answer_to(&taken, "in time")]);
        assert_eq!(second.wait().unwrap().payload(), b"in time");
        assert_eq!(guard.stats().late_responses, 1);
    });
}

#[test]
fn an_answer_that_is_here_is_delivered_although_the_time_is_over() {
    watched(|| {
        let (client, _server) = client_and_server(echo);
        let pending = client
            .submit(Request::new(1).with_payload("x").with_timeout(SHORT))
            .unwrap();
        let (_tell, told) = mpsc::channel::<()>();
        let mut set = PendingSet::new();
        set.insert(client.submit(Request::new(1)).unwrap());
        while !pending.is_finished() {
            set.insert(client.submit(Request::new(1)).unwrap());
            set.next().unwrap().1.unwrap();
        }
        assert!(told.recv_timeout(SHORT * 2).is_err(), "its time passes");
        assert_eq!(pending.wait().unwrap().payload(), b"x");
    });
}

#[test]
fn a_set_yields_those_whose_time_is_over() {
    watched(|| {
        let (guard, mut peer) = opened(8);
        let mut set = PendingSet::new();
        set.insert(guard.submit(Request::new(0)).unwrap());
        // Submitted first, so that its time is over first however long the next submit takes.
        let shorter = guard.submit(Request::new(2).with_timeout(SHORT)).unwrap();
        set.insert(
            guard
                .submit(Request::new(1).with_timeout(SHORT * 2))
                .unwrap(),
        );
        set.insert(shorter);
        set.insert(guard.submit(Request::new(3).with_timeout(LONG)).unwrap());
        let (number, result) = set.next().unwrap();
        assert_eq!(number, 2);
        assert!(result.unwrap_err().is_timed_out());
        let (number, result) = set.next().unwrap();
        assert_eq!(number, 1);
        assert!(result.unwrap_err().is_timed_out());
        assert!(set.next_timeout(SHORT).is_none());
        let first: Packet = peer.request();
        peer.send(&[answer_to(&first, "yes")]);
        let (number, result) = set.next().unwrap();
        assert_eq!(number, 0);
        assert_eq!(result.unwrap().payload(), b"yes");
        assert_eq!(set.len(), 1);
    });
}

/// A handler that lends its slot for a wait of its own, inside of which it also calls back, has
/// lent one slot, not two.
#[test]
fn a_call_inside_of_a_lent_wait_lends_nothing_more() {
    watched(|| {
        let (here, there) = pairs::memory();
        let _server = Connection::builder()
            .handler_threads(1)
            .max_handler_threads(2)
            .handler(|incoming| {
                if incoming.request_type().get() == 0 {
                    return Ok(Vec::new());
                }
                let answer = incoming.lend(|| incoming.connection().call(Request::new(0)))?;
                Ok(answer.into_payload())
            })
            .open(there)
            .unwrap();
        let client = Connection::builder()
            .handler(|incoming| {
                // Served on the lent slot.
                Ok(incoming.connection().call(Request::new(0))?)
            })
            .open(here)
            .unwrap();
        for _ in 0..100 {
            client.call(Request::new(1)).unwrap();
        }
    });
}
