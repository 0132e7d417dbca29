//! The user's code that runs on the thread of a caller may call everything: decode functions, and the
//! wakers and callbacks of others.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod common;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "common/user_code.rs"]
mod user_code;

use std::net::Shutdown;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use common::watched;
use packetstream::{BoxError, Connection};
use pairs::{OnWake, ScriptedPeer, asking, start, take};
use user_code::{CALLS, Code};

/// What a close is given here. Its peers are silent, so that most ends are forced.
const LINGER: Duration = Duration::from_millis(20);

/// A decode function runs on the thread that waits, and a callback on the one that registers it if
/// the answer is there.
#[test]
fn decode_function_and_callback_may_call_everything_when_the_peer_goes() {
    for (name, call) in CALLS {
        for is_callback in [false, true] {
            println!("{name}");
            watched(move || {
                let (transport, mut peer) = ScriptedPeer::new();
                let guard = Connection::builder()
                    .linger(Some(LINGER))
                    .open(transport)
                    .unwrap();
                let pending = guard.submit(asking("x")).unwrap();
                let request = peer.request();
                peer.answer(&request, "y");
                let connection = Connection::clone(&guard);
                let (returned, has_returned) = crossbeam_channel::unbounded();
                if is_callback {
                    while !pending.is_finished() {
                        std::thread::yield_now();
                    }
                }
                peer.cut(Shutdown::Both);
                if is_callback {
                    pending.on_complete(move |_| {
                        call(&connection);
                        returned.send(()).unwrap();
                    });
                } else {
                    let decoded = pending.and_then(move |_| {
                        call(&connection);
                        returned.send(()).unwrap();
                        Ok::<_, BoxError>(())
                    });
                    decoded.wait().unwrap();
                }
                take(&has_returned);
                drop(guard);
            });
        }
    }
}

/// A caller that is alone reads its own answer, and finds what ends the connection; those who are
/// woken then may call everything, on whatever thread that is.
#[test]
fn those_whom_a_reading_caller_wakes_may_call_everything() {
    type Ender = fn(&Connection, &ScriptedPeer);
    const ENDERS: [(&str, Ender); 5] = [
        ("abort", |connection, _| drop(connection.abort())),
        ("shutdown", |connection, _| {
            drop(connection.shutdown(Some(LINGER)));
        }),
        ("shutdown at once", |connection, _| {
            drop(connection.shutdown(Some(Duration::ZERO)));
        }),
        ("peer's cut", |_, peer| peer.cut(Shutdown::Both)),
        ("peer's end", |_, peer| peer.cut(Shutdown::Write)),
    ];
    for (ender_name, ender) in ENDERS {
        for (name, call) in CALLS {
            println!("{ender_name}: {name}");
            watched(move || {
                let (transport, mut peer) = ScriptedPeer::new();
                let guard = Connection::builder()
                    .linger(Some(LINGER))
                    .open(transport)
                    .unwrap();
                // A first one, so that the next is known to be one of several calls.
                let calls = guard.clone();
                let calling = start(move || {
                    assert!(calls.call(asking("first")).is_ok());
                    assert!(calls.call(asking("never answered")).is_err());
                });
                let request = peer.request();
                peer.answer(&request, "y");
                peer.request();
                let mut pending = guard.submit(asking("never answered")).unwrap();
                let (code, _begun, returned) = Code::new(call);
                assert!(code.connection.set(Connection::clone(&guard)).is_ok());
                let waker = OnWake::waker(move || code.run());
                let polled = Pin::new(&mut pending).poll(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());
                ender(&guard, &peer);
                take(&returned);
                calling.join().unwrap();
                drop((pending, guard));
            });
        }
    }
}

/// A cancelled request is settled, and its waker called, by the thread that cancels.
#[test]
fn waker_of_a_cancelled_request_may_call_everything() {
    for (name, call) in CALLS {
        println!("{name}");
        watched(move || {
            let (transport, peer) = ScriptedPeer::new();
            let guard = Connection::builder()
                .linger(Some(LINGER))
                .open(transport)
                .unwrap();
            let mut pending = guard.submit(asking("never answered")).unwrap();
            let (code, _begun, returned) = Code::new(call);
            assert!(code.connection.set(Connection::clone(&guard)).is_ok());
            let waker = OnWake::waker(move || code.run());
            let polled = Pin::new(&mut pending).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            let canceller = pending.canceller();
            // What waits for the peer may do so: nothing ends yet.
            peer.cut(Shutdown::Both);
            canceller.cancel();
            take(&returned);
            drop((pending, guard));
        });
    }
}
