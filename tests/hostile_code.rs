//! User code that misbehaves costs its own request or its own connection, and nobody waits for
//! ever.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test, and the code under them is to panic"
)]

mod common;
#[path = "common/pairs.rs"]
mod pairs;

use std::cell::RefCell;
use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::panic::panic_any;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::thread;
use std::time::Duration;

use common::watched;
use packetstream::{
    BoxError, Connection, ConnectionBuilder, Incoming, OpenGuard, Request, Transport,
};
use pairs::{OnWake, ScriptedPeer, asking, echo, request_packet};
use parking_lot::Mutex;

/// A panic payload that panics when it is dropped.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        assert!(
            thread::panicking(),
            "expected by the test: a payload is dropped"
        );
    }
}

/// An error whose text panics.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("expected by the test: an error is shown")
    }
}

impl std::error::Error for Unspeakable {}

/// Makes the text of every record, as a logger does.
struct Speaker;

impl log::Log for Speaker {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let _ = record.args().to_string();
    }

    fn flush(&self) {}
}

/// Has everything logged; all tests of this file may.
fn log_everything() {
    static SPEAKER: Speaker = Speaker;
    // The first test has set it.
    let _ = log::set_logger(&SPEAKER);
    log::set_max_level(log::LevelFilter::Trace);
}

/// A stream that fails in its own way.
struct Failing(fn() -> io::Error);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err((self.0)())
    }
}

impl Write for Failing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err((self.0)())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failing_reader(how: fn() -> io::Error) -> Transport {
    Transport::new(BufReader::new(Failing(how)), io::sink())
}

/// Nothing ever comes to its reader.
fn failing_writer(how: fn() -> io::Error) -> (Transport, UnixStream) {
    let (here, there) = UnixStream::pair().unwrap();
    let reader = BufReader::new(here.try_clone().unwrap());
    let transport = Transport::new(reader, Failing(how)).with_shutdown(move || {
        let _ = here.shutdown(Shutdown::Both);
    });
    (transport, there)
}

/// A call fails, and so does the connection, without a panic on this thread.
fn assert_ends(transport: Transport) {
    log_everything();
    let guard = Connection::builder().open(transport).unwrap();
    let connection = Connection::clone(&guard);
    assert!(guard.call(asking("x")).unwrap_err().is_closed());
    // It logs what the connection failed of.
    drop(guard);
    assert!(connection.wait_closed().into_result().is_err());
}

#[test]
fn a_reader_whose_panic_cannot_be_dropped_ends_the_connection() {
    watched(|| assert_ends(failing_reader(|| panic_any(Grenade))));
}

#[test]
fn a_reader_whose_error_cannot_be_shown_ends_the_connection() {
    watched(|| assert_ends(failing_reader(|| io::Error::other(Unspeakable))));
}

#[test]
fn a_writer_whose_panic_cannot_be_dropped_ends_the_connection() {
    watched(|| {
        let (transport, _peer) = failing_writer(|| panic_any(Grenade));
        assert_ends(transport);
    });
}

#[test]
fn a_writer_whose_error_cannot_be_shown_ends_the_connection() {
    watched(|| {
        let (transport, _peer) = failing_writer(|| io::Error::other(Unspeakable));
        assert_ends(transport);
    });
}

/// The only worker outlives a request whose handler panics.
fn assert_serves_on(builder: ConnectionBuilder) {
    log_everything();
    let (transport, mut peer) = ScriptedPeer::new();
    let _guard = builder
        .linger(Some(Duration::ZERO))
        .handler_threads(1)
        .max_handler_threads(1)
        .open(transport)
        .unwrap();
    for tag in [2, 3] {
        peer.send(&[request_packet(tag, "")]);
        assert_eq!(peer.response(tag).is_ok(), Some(tag == 3));
    }
}

#[test]
fn a_handler_whose_panic_cannot_be_dropped_costs_its_own_request() {
    watched(|| {
        assert_serves_on(Connection::builder().handler(|incoming: Incoming| {
            if incoming.tag().get() == 2 {
                panic_any(Grenade)
            }
            Ok(())
        }));
    });
}

#[test]
fn a_deferred_handler_whose_panic_cannot_be_dropped_costs_its_own_request() {
    watched(|| {
        assert_serves_on(
            Connection::builder().deferred_handler(|incoming, responder| {
                if incoming.tag().get() == 2 {
                    panic_any(Grenade)
                }
                responder.respond(());
            }),
        );
    });
}

#[test]
fn a_waker_or_callback_whose_panic_cannot_be_dropped_costs_nobody_else() {
    // The one is woken by the receiver, the other runs on the callbacks thread.
    watched(|| {
        log_everything();
        let (transport, mut peer) = ScriptedPeer::new();
        let guard: OpenGuard = Connection::builder()
            .linger(Some(Duration::ZERO))
            .open(transport)
            .unwrap();
        let mut woken = pin!(guard.submit(asking("")).unwrap());
        let waker = OnWake::waker(|| panic_any(Grenade));
        let polled = woken.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        let (done, completions) = crossbeam_channel::bounded(1);
        let [first, second] = [(); 2].map(|()| guard.submit(asking("")).unwrap());
        first.on_complete(|_| panic_any(Grenade));
        second.on_complete(move |answer| done.send(answer).unwrap());
        for _ in 0..3 {
            let request = peer.request();
            peer.answer(&request, "");
        }
        pairs::take(&completions).unwrap();
    });
}

/// Panics when it is dropped first.
struct Bomb(Arc<AtomicBool>);

impl Drop for Bomb {
    fn drop(&mut self) {
        let is_first = self.0.swap(false, Ordering::SeqCst);
        assert!(!is_first, "expected by the test: a hook is dropped");
    }
}

#[test]
fn an_on_demand_connection_reopens_though_a_hook_of_its_last_period_panics_when_dropped() {
    // Were it dropped in the middle of the reopening, that would leave a session without threads.
    type Hook = fn(Transport, Bomb) -> Transport;
    let hooks: [Hook; 3] = [
        |transport, bomb| {
            transport.with_shutdown(move || {
                let _ = &bomb;
            })
        },
        |transport, bomb| transport.with_end_of_write(move || drop(bomb)),
        |transport, bomb| {
            transport.with_diagnosis(move || {
                let _ = &bomb;
                None
            })
        },
    ];
    for hook in hooks {
        watched(move || {
            let is_armed = Arc::new(AtomicBool::new(true));
            let servers = Mutex::new(Vec::new());
            let connection = Connection::builder().build_on_demand(move || {
                let (ours, theirs) = Transport::pair();
                let server = Connection::builder().handler(echo).open(theirs).unwrap();
                servers.lock().push(server);
                Ok(hook(ours, Bomb(Arc::clone(&is_armed))))
            });
            for _ in 0..2 {
                connection.call(asking("x")).unwrap();
                let _ = connection.wait_closed();
            }
        });
    }
}

/// A request whose handler asks back, which needs a second thread for that time.
const RELAY: u32 = 1;
/// What that handler asks.
const ASK_BACK: u32 = 2;
/// What is asked by a thread that ends.
const LAST: u32 = 3;

/// Makes a call when it is dropped.
struct CallsWhenDropped(Connection);

impl Drop for CallsWhenDropped {
    fn drop(&mut self) {
        // At the end of the test it may fail.
        let _ = self.0.call(Request::new(LAST));
    }
}

thread_local! {
    static LEFT: RefCell<Option<CallsWhenDropped>> = const { RefCell::new(None) };
}

#[test]
fn a_retired_worker_whose_thread_local_value_calls_does_not_stop_the_receiver() {
    // The answer to that call comes through the receiver, so nobody there may join the worker.
    watched(|| {
        let (called, calls) = crossbeam_channel::unbounded();
        let (release, released) = crossbeam_channel::bounded::<()>(0);
        let (ours, theirs) = Transport::pair();
        let _server = Connection::builder()
            .handler_threads(1)
            .handler(|incoming: Incoming| {
                let connection = incoming.connection();
                if incoming.request_type() == RELAY.into() {
                    LEFT.with_borrow_mut(|left| {
                        left.get_or_insert_with(|| CallsWhenDropped(connection.clone()));
                    });
                    connection.call(Request::new(ASK_BACK))?;
                }
                Ok(())
            })
            .open(theirs)
            .unwrap();
        let client = Connection::builder()
            .handler(move |incoming: Incoming| -> Result<(), BoxError> {
                if incoming.request_type() == LAST.into() {
                    let _ = called.send(());
                    let _ = released.recv();
                } else {
                    incoming.connection().call(Request::new(0))?;
                }
                Ok(())
            })
            .open(ours)
            .unwrap();
        // Which of the two threads retires, the one that has the value or the other, is open.
        while calls.recv_timeout(Duration::from_millis(1)).is_err() {
            client.call(Request::new(RELAY)).unwrap();
        }
        client.call(Request::new(RELAY)).unwrap();
        drop(release);
        client.close().into_result().unwrap();
    });
}

/// Takes what it is given, and panics all the same.
struct TakesAndPanics;

impl Write for TakesAndPanics {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        panic_any("after it was sent");
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_a_write_that_panics_was_given_may_have_been_sent() {
    watched(|| {
        let (ours, _theirs) = Transport::pair();
        let (reader, _) = ours.into_parts();
        let guard = Connection::builder()
            .linger(Some(Duration::ZERO))
            .open(Transport::new(reader, TakesAndPanics))
            .unwrap();
        let error = guard.call(Request::new(0)).unwrap_err();
        assert_eq!(error.outcome(), packetstream::Outcome::Unknown, "{error:?}");
        let _ = guard.abort();
    });
}
