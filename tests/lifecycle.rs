//! Guards and held results together decide how long a connection lives.
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

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use common::watched;
use packetstream::{BoxError, Connection, Error, Incoming, OpenGuard, Outcome, Packet, Transport};
use pairs::{Gate, OnWake, ScriptedPeer, asking, client_and_server, echo, start, take};
use parking_lot::Mutex;

/// A connection without a time limit for its close, whose peer the test plays.
fn patient() -> (OpenGuard, ScriptedPeer) {
    let (transport, peer) = ScriptedPeer::new();
    (
        Connection::builder().linger(None).open(transport).unwrap(),
        peer,
    )
}

#[test]
fn a_connection_that_was_built_is_not_open_and_takes_no_requests() {
    watched(|| {
        let (ours, _theirs) = Transport::pair();
        let connection = Connection::builder().build(ours);
        assert!(!connection.is_open());
        let error = connection.submit(asking("x")).unwrap_err();
        assert!(matches!(error, Error::Closed), "{error:?}");
        assert_eq!(error.outcome(), Outcome::NotSent);
        assert!(error.is_closed() && error.is_caller());
    });
}

#[test]
fn the_first_open_starts_and_the_last_close_ends_the_connection() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let _server = Connection::builder().handler(echo).open(theirs).unwrap();
        let connection = Connection::builder().build(ours);
        let first = connection.open().unwrap();
        let second = connection.open().unwrap();
        let third = second.clone();
        for guard in [first, second] {
            let report = guard.close();
            assert!(!report.is_last(), "{report:?}");
            assert!(connection.is_open());
            assert_eq!(
                connection.call(asking("still")).unwrap().payload(),
                b"still"
            );
        }
        let report = third.close();
        assert!(report.is_last() && !report.in_progress(), "{report:?}");
        assert!(!connection.is_open());
    });
}

#[test]
fn a_clone_of_a_connection_holds_nothing_open() {
    watched(|| {
        let (client, _server) = client_and_server(echo);
        let clone = Connection::clone(&client);
        assert!(client.close().is_last());
        assert!(matches!(clone.call(asking("x")), Err(Error::Closed)));
    });
}

#[test]
fn dropping_the_last_guard_ends_the_connection_before_it_returns() {
    watched(|| {
        let (client, _server) = client_and_server(echo);
        let connection = Connection::clone(&client);
        drop(client);
        assert!(!connection.is_open());
        assert!(connection.wait_closed().into_result().is_ok());
    });
}

#[test]
fn a_guard_may_go_while_results_are_held_and_they_still_arrive() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (client, _server) = client_and_server(handler);
        let connection = Connection::clone(&client);
        let held: Vec<_> = (0..3_u8)
            .map(|n| client.submit(asking([n])).unwrap())
            .collect();
        drop(client);
        assert!(connection.is_open());
        for _ in 0..3 {
            gate.release_one();
        }
        for (n, pending) in (0..3_u8).zip(held) {
            assert_eq!(pending.wait().unwrap().payload(), [n]);
        }
        assert!(connection.wait_closed().into_result().is_ok());
        assert!(!connection.is_open());
    });
}

#[test]
fn the_last_reference_being_a_result_closes_in_the_background() {
    // The peer says goodbye only after each of these has returned: one that waited for the
    // close would wait for ever.
    type Release = fn(packetstream::PendingResponse);
    let releases: [Release; 3] = [
        |pending| assert_eq!(pending.wait().unwrap().payload(), b"late"),
        drop,
        |pending| {
            let _ = pending.cancel();
        },
    ];
    for release in releases {
        watched(move || {
            let (client, mut peer) = patient();
            let connection = Connection::clone(&client);
            let pending = client.submit(asking("x")).unwrap();
            drop(client);
            let request = peer.request();
            peer.answer(&request, "late");
            release(pending);
            peer.part();
            assert!(connection.wait_closed().into_result().is_ok());
        });
    }
}

#[test]
fn dropping_a_result_forgets_the_answer_but_not_the_request() {
    watched(|| {
        let (client, mut peer) = patient();
        drop(client.submit(asking("do it")).unwrap());
        let closing = start(move || client.close());
        let request = peer.request();
        assert_eq!(request.payload(), b"do it");
        peer.expect(&Packet::END_OF_REQUESTS);
        peer.assert_silence();
        peer.answer(&request, "done");
        peer.expect(&Packet::END_OF_STREAM);
        peer.goodbye();
        let report = closing.join().unwrap();
        assert_eq!(report.requests_unknown(), 0, "{report:?}");
        assert!(report.into_result().is_ok());
    });
}

#[test]
fn the_last_close_on_a_handlers_thread_goes_on_in_the_background() {
    watched(|| {
        let slot: Arc<Mutex<Option<OpenGuard>>> = Arc::default();
        let (reported, reports) = crossbeam_channel::bounded(1);
        let (ours, theirs) = Transport::pair();
        let taken = Arc::clone(&slot);
        let server = Connection::builder()
            .handler(move |_: Incoming| -> Result<&str, BoxError> {
                let guard = taken.lock().take();
                if let Some(guard) = guard {
                    reported.send(guard.close()).unwrap();
                }
                Ok("closed")
            })
            .open(theirs)
            .unwrap();
        let connection = Connection::clone(&server);
        *slot.lock() = Some(server);
        let client = Connection::builder().open(ours).unwrap();

        let answer = client.call(asking("close yourself")).unwrap();
        assert_eq!(
            answer.payload(),
            b"closed",
            "an accepted request is answered"
        );
        let report = take(&reports);
        assert!(report.is_last() && report.in_progress(), "{report:?}");
        assert!(connection.wait_closed().into_result().is_ok());
        assert!(client.close().into_result().is_ok());
    });
}

#[test]
fn the_last_close_on_another_connections_thread_goes_on_in_the_background() {
    watched(|| {
        let (kept, mut peer) = patient();
        let connection = Connection::clone(&kept);
        let slot = Mutex::new(Some(kept));
        let (reported, reports) = crossbeam_channel::bounded(1);
        let (client, _server) = client_and_server(move |_: Incoming| {
            let guard = slot.lock().take();
            if let Some(guard) = guard {
                reported.send(guard.close()).unwrap();
            }
            Ok(())
        });
        client.call(asking("close the other")).unwrap();
        assert!(take(&reports).in_progress());
        peer.part();
        assert!(connection.wait_closed().into_result().is_ok());
    });
}

#[test]
fn a_close_in_a_callback_does_not_deadlock() {
    watched(|| {
        let (client, mut peer) = patient();
        let connection = Connection::clone(&client);
        let pending = client.submit(asking("x")).unwrap();
        let (reported, reports) = crossbeam_channel::bounded(1);
        pending.on_complete(move |answer| {
            answer.unwrap();
            let _ = reported.send(client.close());
        });
        let request = peer.request();
        peer.answer(&request, "y");
        let report = take(&reports);
        assert!(!report.is_last() || report.in_progress(), "{report:?}");
        peer.part();
        assert!(connection.wait_closed().into_result().is_ok());
    });
}

#[test]
fn a_close_in_a_waker_does_not_deadlock() {
    watched(|| {
        let (client, mut peer) = patient();
        let connection = Connection::clone(&client);
        let (reported, reports) = crossbeam_channel::bounded(1);
        {
            let mut pending = pin!(client.submit(asking("x")).unwrap());
            let waker = OnWake::waker(move || {
                let _ = reported.send(client.close());
            });
            let mut context = Context::from_waker(&waker);
            assert!(pending.as_mut().poll(&mut context).is_pending());
            let request = peer.request();
            peer.answer(&request, "y");
            let report = take(&reports);
            assert!(!report.is_last() || report.in_progress(), "{report:?}");
            let Poll::Ready(answer) = pending.as_mut().poll(&mut context) else {
                panic!("a woken future is ready");
            };
            assert_eq!(answer.unwrap().payload(), b"y");
        }
        peer.part();
        assert!(connection.wait_closed().into_result().is_ok());
    });
}

#[test]
fn a_callback_is_run_though_no_guard_is_left() {
    watched(|| {
        let (client, mut peer) = patient();
        let pending = client.submit(asking("x")).unwrap();
        let (completed, completions) = crossbeam_channel::bounded(1);
        pending.on_complete(move |answer| {
            let _ = completed.send(answer);
        });
        let closing = start(move || client.close());
        let request = peer.request();
        peer.answer(&request, "y");
        assert_eq!(take(&completions).unwrap().payload(), b"y");
        peer.part();
        let _ = closing.join().unwrap();
    });
}

#[test]
fn a_connection_on_a_fixed_transport_does_not_reopen() {
    watched(|| {
        let (client, _server) = client_and_server(echo);
        let connection = Connection::clone(&client);
        let _ = client.close();
        let error = connection.open().unwrap_err();
        assert!(matches!(error, Error::Closed), "{error:?}");
        assert_eq!(error.outcome(), Outcome::NotSent);
        let error = connection.submit(asking("x")).unwrap_err();
        assert!(matches!(error, Error::Closed), "{error:?}");
        let error = connection.call(asking("x")).unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotSent);
    });
}

#[test]
fn guards_clones_and_results_in_many_threads_count_right() {
    watched(|| {
        let (client, _server) = client_and_server(echo);
        let connection = Connection::clone(&client);
        let helpers: Vec<_> = (0..8_u64)
            .map(|seed| {
                let guard = client.clone();
                start(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    let mut guards = vec![guard];
                    let mut results = Vec::new();
                    for _ in 0..300 {
                        match random.u8(..4) {
                            0 => guards.push(guards[0].clone()),
                            1 if guards.len() > 1 => {
                                let report = guards.pop().unwrap().close();
                                assert!(!report.is_last());
                            }
                            2 => results.push(guards[0].submit(asking("x")).unwrap()),
                            _ => drop(results.pop()),
                        }
                    }
                    drop(guards);
                    for result in results {
                        result.wait().unwrap();
                    }
                })
            })
            .collect();
        for helper in helpers {
            helper.join().unwrap();
        }
        assert!(connection.is_open(), "one guard is left");
        let report = client.close();
        assert!(report.is_last() && report.into_result().is_ok());
        assert!(!connection.is_open());
    });
}

#[test]
fn names_default_to_something_of_ones_own() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let named = Connection::builder().name("store").build(ours);
        assert_eq!(named.name(), "store");
        let unnamed = Connection::builder().build(theirs);
        let (other, _) = Transport::pair();
        assert_ne!(unnamed.name(), Connection::builder().build(other).name());
    });
}

#[test]
fn a_wait_for_the_close_ends_with_the_connection() {
    watched(|| {
        let (client, _server) = client_and_server(echo);
        let connection = Connection::clone(&client);
        let (ended, ends) = crossbeam_channel::bounded(2);
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let connection = connection.clone();
                let ended = ended.clone();
                start(move || {
                    let report = connection.wait_closed();
                    ended.send(()).unwrap();
                    report
                })
            })
            .collect();
        assert!(
            ends.recv_timeout(Duration::from_millis(50)).is_err(),
            "it is open still"
        );
        let _ = client.close();
        for waiter in waiters {
            assert!(waiter.join().unwrap().into_result().is_ok());
        }
    });
}
