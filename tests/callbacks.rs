//! Callbacks of pending responses: once each, on one thread, whatever another one does.
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

use std::thread;
use std::time::Duration;

use common::watched;
use crossbeam_channel::RecvTimeoutError;
use packetstream::{Connection, OpenGuard};
use pairs::{ScriptedPeer, asking, client_and_server, echo, take};

fn opened() -> (OpenGuard, ScriptedPeer) {
    let (transport, peer) = ScriptedPeer::new();
    let guard = Connection::builder()
        .linger(Some(Duration::ZERO))
        .open(transport)
        .unwrap();
    (guard, peer)
}

/// Returns when the receiver has acted on everything that the peer sent before.
fn catch_up(guard: &OpenGuard, peer: &mut ScriptedPeer) {
    let pending = guard.submit(asking("are you there")).unwrap();
    let request = peer.request();
    peer.answer(&request, "");
    pending.wait().unwrap();
}

#[test]
fn callbacks_run_once_each_on_one_thread_of_their_own() {
    watched(|| {
        let (guard, mut peer) = opened();
        let (completed, completions) = crossbeam_channel::unbounded();
        for n in 0..3_u8 {
            let completed = completed.clone();
            guard
                .submit(asking([n]))
                .unwrap()
                .on_complete(move |answer| {
                    let current = thread::current();
                    let name = current.name().unwrap_or_default().to_owned();
                    completed.send((answer, current.id(), name)).unwrap();
                });
        }
        drop(completed);
        for _ in 0..3 {
            let request = peer.request();
            peer.answer(&request, request.payload());
        }
        let mut seen: Vec<_> = (0..3).map(|_| take(&completions)).collect();
        let more = completions.recv_timeout(common::PATIENCE);
        assert!(
            matches!(more, Err(RecvTimeoutError::Disconnected)),
            "each is called once"
        );
        assert!(
            seen.iter()
                .all(|(_, id, _)| *id == seen[0].1 && *id != thread::current().id())
        );
        assert!(
            seen.iter().all(|(_, _, name)| name.contains("callbacks")),
            "{seen:?}"
        );
        seen.sort_by_key(|(answer, ..)| answer.as_ref().unwrap().payload().to_vec());
        for (n, (answer, ..)) in (0..3_u8).zip(seen) {
            assert_eq!(answer.unwrap().payload(), [n]);
        }
    });
}

#[test]
fn a_callback_for_what_is_settled_runs_at_once_here() {
    watched(|| {
        let (guard, mut peer) = opened();
        let pending = guard.submit(asking("x")).unwrap();
        let request = peer.request();
        peer.answer(&request, "y");
        catch_up(&guard, &mut peer);
        let (completed, completions) = crossbeam_channel::bounded(1);
        pending.on_complete(move |answer| {
            completed.send((answer, thread::current().id())).unwrap();
        });
        let (answer, id) = completions.try_recv().expect("it has run");
        assert_eq!(answer.unwrap().payload(), b"y");
        assert_eq!(id, thread::current().id());
    });
}

#[test]
fn a_callback_that_panics_does_not_stop_those_after_it() {
    watched(|| {
        let (guard, mut peer) = opened();
        let (completed, completions) = crossbeam_channel::unbounded();
        for n in 0..5_u8 {
            let completed = completed.clone();
            guard.submit(asking([n])).unwrap().on_complete(move |_| {
                assert!(n % 2 == 1, "expected by the test");
                completed.send(n).unwrap();
            });
        }
        for _ in 0..5 {
            let request = peer.request();
            peer.answer(&request, "");
        }
        assert_eq!([take(&completions), take(&completions)], [1, 3]);
        catch_up(&guard, &mut peer);
    });
}

#[test]
fn a_callback_may_call_and_wait() {
    watched(|| {
        let (client, _server) = client_and_server(echo);
        let connection = Connection::clone(&client);
        let (completed, completions) = crossbeam_channel::bounded(1);
        client.submit(asking("1")).unwrap().on_complete(move |_| {
            completed.send(connection.call(asking("2"))).unwrap();
        });
        assert_eq!(take(&completions).unwrap().payload(), b"2");
    });
}
