//! A logger that panics at every line: everybody is told what they would be told without it.
//!
//! One test in a binary of its own, because the logger is that of the whole process.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod common;
#[path = "common/pairs.rs"]
mod pairs;

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::Duration;

use common::watched;
use packetstream::{Connection, ConnectionBuilder, Error, Request, Transport};
use pairs::{ScriptedPeer, asking, block_on, request_packet, take};

static LINES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// A panic inside of another one would end the process.
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Panics wherever it is asked something.
struct Panics;

impl Panics {
    fn panic() {
        if !std::thread::panicking() && !IS_INSIDE.replace(true) {
            LINES.fetch_add(1, Ordering::Relaxed);
            IS_INSIDE.set(false);
            std::panic::resume_unwind(Box::new("from the logger"));
        }
    }
}

impl log::Log for Panics {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        LINES.load(Ordering::Relaxed).is_multiple_of(2) || {
            Self::panic();
            false
        }
    }

    fn log(&self, _: &log::Record<'_>) {
        Self::panic();
    }

    fn flush(&self) {}
}

fn plain() -> ConnectionBuilder {
    Connection::builder().linger(Some(Duration::from_secs(1)))
}

/// Everything a request can be waited with, when its peer goes.
fn end_of_input_tells_every_waiter() {
    for how in 0..4 {
        let (ours, mut peer) = ScriptedPeer::new();
        let guard = plain().open(ours).unwrap();
        let waiting: Vec<_> = (0..4)
            .map(|_| guard.submit(Request::new(0)).unwrap())
            .collect();
        let (send, called) = crossbeam_channel::bounded(1);
        guard
            .submit(Request::new(0))
            .unwrap()
            .on_complete(move |result| send.send(result.map(drop)).unwrap());
        for _ in 0..5 {
            peer.request();
        }
        match how {
            0 => peer.goodbye(),
            1 => peer.cut(Shutdown::Both),
            // Not a packet, text, half a packet.
            2 => peer.send_octets(b"\x03\x07\x02\x00"),
            _ => {
                peer.send_octets(b"Killed\n");
            }
        }
        assert!(take(&called).is_err());
        for (number, pending) in waiting.into_iter().enumerate() {
            let result = match number {
                0 => block_on(pending),
                1 => pending.wait_timeout(Duration::from_secs(50)).unwrap(),
                _ => pending.wait(),
            };
            assert!(result.unwrap_err().is_closed());
        }
        assert!(how < 2 || guard.wait_end_of_stream().is_err());
        drop(peer);
        let _ = guard.close();
    }
}

/// Takes nothing, and says that the peer has gone or something else.
struct Refuses(io::ErrorKind);

impl Write for Refuses {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says nothing until it is dropped.
struct Silent(crossbeam_channel::Receiver<()>);

impl Read for Silent {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(0)
    }
}

fn write_error_tells_every_waiter() {
    for kind in [io::ErrorKind::BrokenPipe, io::ErrorKind::StorageFull] {
        let (stop, silent) = crossbeam_channel::bounded(0);
        let transport = Transport::new(io::BufReader::new(Silent(silent)), Refuses(kind));
        let guard = plain().open(transport).unwrap();
        let waiting: Vec<_> = (0..3)
            .filter_map(|_| guard.submit(Request::new(0)).ok())
            .collect();
        for pending in waiting {
            assert!(pending.wait().unwrap_err().is_closed());
        }
        assert!(guard.call(asking("")).unwrap_err().is_closed());
        drop(stop);
        drop(guard);
    }
}

fn failures_of_handlers_are_answered() {
    let (ours, theirs) = Transport::pair();
    let server = plain()
        .max_packet_len(1000)
        .handler(|incoming| match incoming.payload() {
            b"fails" => Err("it fails".into()),
            b"panics" => std::panic::resume_unwind(Box::new("on purpose")),
            b"too long" => Ok(vec![0; 1001]),
            _ => Ok(Vec::new()),
        })
        .open(theirs)
        .unwrap();
    let client = plain().open(ours).unwrap();
    for payload in ["fails", "panics", "too long"] {
        assert!(client.call(asking(payload)).unwrap_err().is_rejected());
    }
    assert!(client.call(asking("")).is_ok());
    client.close().into_result().unwrap();
    server.close().into_result().unwrap();

    let (ours, mut peer) = ScriptedPeer::new();
    let _guard = plain()
        .deferred_handler(|_, _| std::panic::resume_unwind(Box::new("on purpose")))
        .open(ours)
        .unwrap();
    peer.send(&[request_packet(2, "")]);
    assert_eq!(peer.response(2).payload(), b"exception during handler");
}

struct Panicking;

impl Wake for Panicking {
    fn wake(self: std::sync::Arc<Self>) {
        std::panic::resume_unwind(Box::new("on purpose"));
    }
}

fn panics_of_wakers_and_callbacks_keep_nobody_from_an_answer() {
    let (ours, mut peer) = ScriptedPeer::new();
    let guard = plain().open(ours).unwrap();
    let mut polled = guard.submit(Request::new(0)).unwrap();
    let waker = std::sync::Arc::new(Panicking).into();
    let mut context = std::task::Context::from_waker(&waker);
    assert!(
        std::pin::Pin::new(&mut polled)
            .poll(&mut context)
            .is_pending()
    );
    guard
        .submit(Request::new(0))
        .unwrap()
        .on_complete(|_| std::panic::resume_unwind(Box::new("on purpose")));
    let waiting = guard.submit(Request::new(0)).unwrap();
    for _ in 0..3 {
        let request = peer.request();
        peer.answer(&request, "yes");
    }
    assert_eq!(waiting.wait().unwrap().payload(), b"yes");
    assert_eq!(block_on(polled).unwrap().payload(), b"yes");
}

/// The linger is over, and a guard is dropped with something to be told of.
fn ends_out_of_order_end() {
    let (ours, mut peer) = ScriptedPeer::new();
    let guard = Connection::builder()
        .linger(Some(Duration::from_millis(20)))
        .open(ours)
        .unwrap();
    let pending = guard.submit(Request::new(0)).unwrap();
    peer.request();
    drop(guard);
    drop(pending);
    let (ours, _peer) = ScriptedPeer::new();
    let guard = plain().open(ours).unwrap();
    let pending = guard.submit(Request::new(0)).unwrap();
    let report = guard.abort();
    assert!(matches!(report.cause(), Some(Error::Aborted)));
    assert!(pending.wait().unwrap_err().is_closed());
}

#[test]
fn nobodys_result_hangs_on_a_line_of_the_log() {
    log::set_logger(&Panics).unwrap();
    watched(|| {
        for level in [log::LevelFilter::Trace, log::LevelFilter::Debug] {
            log::set_max_level(level);
            end_of_input_tells_every_waiter();
            write_error_tells_every_waiter();
            failures_of_handlers_are_answered();
            panics_of_wakers_and_callbacks_keep_nobody_from_an_answer();
            ends_out_of_order_end();
        }
    });
    assert!(LINES.load(Ordering::Relaxed) > 20);
}
