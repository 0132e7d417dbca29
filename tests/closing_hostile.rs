//! Close, abort and drop end a connection within bounds, whatever its peer does and wherever the
//! last reference goes.
//!
//! The watchdog is the bound: the linger time and a margin for a loaded machine.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    reason = "helpers of tests fail the test; handlers have the shape that is asked of them"
)]

mod common;
#[path = "common/hostile.rs"]
mod hostile;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/pairs.rs"]
mod pairs;

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use common::watched_for;
use hostile::{
    Hostile, deaf_child, dribbling_peer, silent_memory, silent_pipes, silent_socket, silent_tcp,
    sipping_peer, stopped_child,
};
use measure::assert_no_thread_is_named;
use packetstream::{
    BoxError, Connection, ConnectionBuilder, Error, Incoming, OpenGuard, Outcome, Transport,
};
use pairs::{OnWake, ScriptedPeer, asking, echo, request_packet, start, take};
use parking_lot::Mutex;

const LINGER: Duration = Duration::from_millis(50);

fn bounded(body: impl FnOnce() + Send + 'static) {
    watched_for(LINGER + Duration::from_secs(25), body);
}

fn builder() -> ConnectionBuilder {
    Connection::builder().linger(Some(LINGER)).handler(echo)
}

/// More than fits into the buffers between here and there.
fn flood() -> packetstream::Request {
    asking(vec![b'x'; 1 << 20])
}

// ---- every peer, every load, every way to end ------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Idle,
    /// A request is unanswered.
    Waiting,
    /// The sender is stuck in a write.
    Stuck,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Close,
    Drop,
    Shutdown,
    Abort,
}

fn assert_every_end_is_bounded(peer: fn() -> Hostile) {
    for load in [Load::Idle, Load::Waiting, Load::Stuck] {
        for ending in [Ending::Close, Ending::Drop, Ending::Shutdown, Ending::Abort] {
            bounded(move || assert_end_is_bounded(peer, load, ending));
        }
    }
}

fn assert_end_is_bounded(peer: fn() -> Hostile, load: Load, ending: Ending) {
    let (transport, peer) = peer();
    let guard = builder().open(transport).unwrap();
    let connection = Connection::clone(&guard);
    let requests = match load {
        Load::Idle => Vec::new(),
        Load::Waiting => vec![asking("x")],
        Load::Stuck => vec![asking("x"), flood(), flood(), asking("y")],
    };
    let pending = requests.into_iter().map(|r| guard.submit(r).unwrap());
    // Results that are held would keep the connection open.
    let is_last = matches!(ending, Ending::Close | Ending::Drop);
    let pending: Vec<_> = pending.filter(|_| !is_last).collect();
    let count = pending.len();
    let (tell, told) = crossbeam_channel::unbounded();
    for pending in pending {
        let tell = tell.clone();
        start(move || tell.send(pending.wait()));
    }
    match ending {
        Ending::Close => {
            let report = guard.close();
            assert!(report.is_last() && !report.in_progress(), "{report:?}");
        }
        Ending::Drop => drop(guard),
        Ending::Shutdown => drop(connection.shutdown(Some(LINGER))),
        Ending::Abort => drop(connection.abort()),
    }
    assert!(!connection.is_open());
    let report = connection.wait_closed();
    let expected = if ending == Ending::Abort {
        matches!(report.cause(), Some(Error::Aborted))
    } else {
        matches!(report.cause(), Some(Error::LingerExpired))
    };
    assert!(expected, "{load:?}, {ending:?}: {report:?}");
    for _ in 0..count {
        let error = take(&told).unwrap_err();
        assert!(error.is_closed(), "{error:?}");
    }
    let error = connection.call(asking("after")).unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent, "{error:?}");
    drop(peer);
}

#[test]
fn every_end_is_bounded_with_a_silent_socket() {
    assert_every_end_is_bounded(silent_socket);
}

#[test]
fn every_end_is_bounded_with_a_silent_tcp_peer() {
    assert_every_end_is_bounded(silent_tcp);
}

#[test]
fn every_end_is_bounded_with_silent_pipes_whose_threads_nothing_frees() {
    assert_every_end_is_bounded(silent_pipes);
}

#[test]
fn every_end_is_bounded_with_a_silent_peer_in_memory() {
    assert_every_end_is_bounded(silent_memory);
}

#[test]
fn every_end_is_bounded_with_a_child_that_does_not_read() {
    assert_every_end_is_bounded(deaf_child);
}

#[test]
fn every_end_is_bounded_with_a_stopped_child_which_is_reaped() {
    assert_every_end_is_bounded(stopped_child);
}

#[test]
fn every_end_is_bounded_with_a_peer_that_dribbles() {
    assert_every_end_is_bounded(dribbling_peer);
}

#[test]
fn every_end_is_bounded_with_a_peer_that_sips() {
    assert_every_end_is_bounded(sipping_peer);
}

// ---- wherever the last reference goes --------------------------------------------------------

/// The last guard of a connection, to be let go from a place that a test chooses.
#[derive(Clone, Default)]
struct Last(Arc<Mutex<Option<OpenGuard>>>);

impl Last {
    fn put(&self, guard: OpenGuard) {
        *self.0.lock() = Some(guard);
    }

    fn let_go(&self) {
        let guard = self.0.lock().take();
        drop(guard.expect("it is let go once"));
    }
}

/// A connection to a peer that the test plays, and which reads nothing once it was asked.
fn asked(builder: ConnectionBuilder) -> (OpenGuard, ScriptedPeer) {
    let (transport, peer) = ScriptedPeer::new();
    (builder.open(transport).unwrap(), peer)
}

/// Fills the pipe, and leaves the guard where something else will let it go.
fn hand_over(guard: OpenGuard, last: &Last) -> Connection {
    let connection = Connection::clone(&guard);
    drop(guard.submit(flood()).unwrap());
    last.put(guard);
    connection
}

fn assert_ends(connection: &Connection) {
    let report = connection.wait_closed();
    let cause = report.cause();
    assert!(matches!(cause, Some(Error::LingerExpired)), "{report:?}");
    assert!(!connection.is_open());
}

#[test]
fn last_guard_may_go_in_a_handler_or_with_its_panic() {
    for is_inline in [false, true] {
        for panics in [false, true] {
            bounded(move || {
                let last = Last::default();
                let in_handler = last.clone();
                let handler = move |_: Incoming| -> Result<(), BoxError> {
                    if panics {
                        let _unwound = in_handler.0.lock().take();
                        panic!("a handler of the test");
                    }
                    in_handler.let_go();
                    Ok(())
                };
                let builder = builder().inline_handler(is_inline).handler(handler);
                let (guard, mut peer) = asked(builder);
                let connection = hand_over(guard, &last);
                peer.send(&[request_packet(2, "let go")]);
                assert_ends(&connection);
            });
        }
    }
}

#[test]
fn last_guard_may_go_in_a_callback_or_a_waker() {
    for is_waker in [false, true] {
        bounded(move || {
            let last = Last::default();
            let (guard, mut peer) = asked(builder());
            let pending = guard.submit(asking("x")).unwrap();
            let in_callback = last.clone();
            let (tell, told) = crossbeam_channel::bounded(1);
            let mut future = None;
            if is_waker {
                let waker = OnWake::waker(move || {
                    in_callback.let_go();
                    tell.send(()).unwrap();
                });
                let mut polled = Box::pin(pending);
                let poll = polled.as_mut().poll(&mut Context::from_waker(&waker));
                assert!(matches!(poll, Poll::Pending));
                future = Some(polled);
            } else {
                pending.on_complete(move |_| in_callback.let_go());
            }
            let request = peer.request();
            let connection = hand_over(guard, &last);
            peer.answer(&request, "y");
            if let Some(polled) = future {
                // It is a reference too, until its answer has been taken. Polled earlier it would
                // have another waker.
                take(&told);
                pairs::block_on(polled).unwrap();
            }
            assert_ends(&connection);
        });
    }
}

#[test]
fn last_guard_may_go_in_a_decode_function() {
    for is_callback in [false, true] {
        bounded(move || {
            let last = Last::default();
            let (guard, mut peer) = asked(builder());
            let in_decode = last.clone();
            let pending = guard
                .submit(asking("x"))
                .unwrap()
                .and_then(move |response| {
                    in_decode.let_go();
                    Ok::<_, BoxError>(response.into_payload())
                });
            let request = peer.request();
            let connection = hand_over(guard, &last);
            peer.answer(&request, "y");
            if is_callback {
                pending.on_complete(drop);
            } else {
                assert_eq!(pending.wait().unwrap(), b"y");
            }
            assert_ends(&connection);
        });
    }
}

#[test]
fn last_guard_may_go_in_a_hook_of_the_transport() {
    bounded(|| {
        // The input ends, and who tells why has the last guard.
        let (ours, theirs) = UnixStream::pair().unwrap();
        let last = Last::default();
        let in_hook = last.clone();
        let transport = Transport::try_from(ours).unwrap().with_diagnosis(move || {
            in_hook.let_go();
            None
        });
        let connection = hand_over(builder().open(transport).unwrap(), &last);
        theirs.shutdown(Shutdown::Write).unwrap();
        // In order, if what would be stuck had not been handed over yet.
        let _ = connection.wait_closed();
        assert!(!connection.is_open());
    });
    bounded(|| {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let reader = io::BufReader::new(ours.try_clone().unwrap());
        let last = Last::default();
        let in_hook = last.clone();
        let transport =
            Transport::new(reader, ours.try_clone().unwrap()).with_shutdown(move || {
                let _ = ours.shutdown(Shutdown::Both);
                drop(in_hook.0.lock().take());
            });
        let connection = hand_over(builder().open(transport).unwrap(), &last);
        let report = connection.shutdown(Some(LINGER));
        assert!(matches!(report.cause(), Some(Error::LingerExpired)));
        assert!(last.0.lock().is_none(), "the hook was not called");
    });
}

#[test]
fn everything_may_go_during_a_panic() {
    bounded(|| {
        let (transport, _peer) = silent_socket();
        let guard = builder().open(transport).unwrap();
        let connection = Connection::clone(&guard);
        let panicking = start(move || {
            let second = guard.clone();
            let _pending = guard.submit(flood()).unwrap();
            let _cancelled = second.submit(asking("x")).unwrap().canceller();
            let _queued = second.submit(asking("y")).unwrap();
            panic!("a thread of the test");
        });
        panicking.join().unwrap_err();
        assert_ends(&connection);
    });
}

// ---- what is never let go --------------------------------------------------------------------

fn leak<T: 'static>(value: T) {
    let _leaked: &'static T = Box::leak(Box::new(value));
}

/// The peer reads to the end, so our descriptors are closed; and our threads end.
fn assert_nothing_runs(mut peer: UnixStream, name: &str) {
    let _ = peer.read_to_end(&mut Vec::new());
    assert_no_thread_is_named(name);
}

#[test]
fn leaked_clone_of_a_connection_keeps_nothing() {
    bounded(|| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let transport = Transport::try_from(ours).unwrap();
        let guard = builder().name("clone").open(transport).unwrap();
        leak(Connection::clone(&guard));
        drop(guard.submit(flood()).unwrap());
        assert!(guard.close().is_last());
        assert_nothing_runs(theirs, "clone:");
    });
}

#[test]
fn leaked_guards_results_and_cancellers_keep_nothing_after_a_shutdown() {
    for is_abort in [false, true] {
        bounded(move || {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let transport = Transport::try_from(ours).unwrap();
            let name = if is_abort { "abort" } else { "shut" };
            let guard = builder().name(name).open(transport).unwrap();
            leak(guard.clone());
            let pending = guard.submit(flood()).unwrap();
            leak(pending.canceller());
            leak(pending);
            let callback = guard.submit(asking("x")).unwrap();
            callback.on_complete(drop);
            let report = if is_abort {
                guard.abort()
            } else {
                guard.shutdown(Some(LINGER))
            };
            assert!(report.cause().is_some(), "{report:?}");
            assert_nothing_runs(theirs, &format!("{name}:"));
            leak(guard);
        });
    }
}

/// A serves nobody any more when its client has gone, though it waits for a peer that is silent.
#[test]
fn relay_between_a_peer_that_vanished_and_a_silent_one_ends() {
    bounded(|| {
        let (transport, silent) = silent_socket();
        let onward = builder().open(transport).unwrap();
        let relay = Connection::clone(&onward);
        let (entered, enters) = crossbeam_channel::bounded(1);
        let handler = move |incoming: Incoming| -> Result<Vec<u8>, BoxError> {
            let pending = relay.submit(asking(incoming.into_payload()))?;
            entered.send(())?;
            Ok(pending.wait()?.into_payload())
        };
        let (transport, mut client) = ScriptedPeer::new();
        let serving = builder().handler(handler).open(transport).unwrap();
        client.send(&[request_packet(2, "relayed")]);
        take(&enters);
        drop(client);
        let report = serving.serve();
        assert_eq!(report.answers_lost(), 1, "{report:?}");
        let report = onward.shutdown(Some(LINGER));
        assert_eq!(report.requests_unknown(), 1, "{report:?}");
        drop(silent);
    });
}
