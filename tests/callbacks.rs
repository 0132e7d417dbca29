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

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use common::watched;
use crossbeam_channel::RecvTimeoutError;
use packetstream::{Connection, OpenGuard, Transport};
use pairs::{ScriptedPeer, asking, client_and_server, echo, start, take};

/// How long a race is tried that cannot be forced.
const TRIES: Duration = Duration::from_secs(1);

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

fn without_limit(transport: Transport) -> OpenGuard {
    let builder = Connection::builder().linger(None);
    builder.open(transport).unwrap()
}

/// A round of a race: callbacks are registered, the peer ends, and the client is closed within
/// that time, all at once.
fn race_the_close(linger: Option<Duration>, callback: impl FnOnce() + Clone + Send + 'static) {
    let (ours, theirs) = Transport::pair();
    let (server, client) = (without_limit(theirs), without_limit(ours));
    let barrier = Arc::new(Barrier::new(5));
    for _ in 0..3 {
        let pending = client.submit(asking("x")).unwrap();
        let (barrier, callback) = (Arc::clone(&barrier), callback.clone());
        start(move || {
            barrier.wait();
            pending.on_complete(move |_| callback());
        });
    }
    let together = Arc::clone(&barrier);
    start(move || {
        together.wait();
        drop(server);
    });
    barrier.wait();
    let _ = client.shutdown(linger);
}

#[test]
fn a_close_waits_for_no_callbacks_thread_that_never_started() {
    // A registration that loses against the end of the input must not leave the thread counted.
    watched(|| {
        let begin = Instant::now();
        while begin.elapsed() < TRIES {
            race_the_close(None, || ());
        }
    });
}

#[test]
fn a_close_is_over_with_its_linger_time_though_a_callback_blocks() {
    // A registration that loses a race must not have a thread that runs counted as ended, and the
    // close join it.
    watched(|| {
        let begin = Instant::now();
        while begin.elapsed() < TRIES {
            let (_release, released) = crossbeam_channel::bounded::<()>(0);
            race_the_close(Some(Duration::from_millis(10)), move || {
                let current = thread::current();
                // What is settled already calls back on the registering thread.
                if current
                    .name()
                    .is_some_and(|name| name.contains("callbacks"))
                {
                    let _ = released.recv();
                }
            });
        }
    });
}
