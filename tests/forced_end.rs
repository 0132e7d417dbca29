//! Ends by force and by failure: bounded, reported, and no waiter is left behind.
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

use std::io::{self, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use common::watched;
use crossbeam_channel::{Receiver, Sender};
use packetstream::{Connection, DecodeError, Error, OpenGuard, Outcome, Packet, Transport};
use pairs::{Gate, ScriptedPeer, answer_to, asking, echo, request_packet, start, take};
use parking_lot::Mutex;

fn serving(linger: Option<Duration>) -> (OpenGuard, ScriptedPeer) {
    let (transport, peer) = ScriptedPeer::new();
    (
        Connection::builder()
            .linger(linger)
            .handler(echo)
            .open(transport)
            .unwrap(),
        peer,
    )
}

fn gated(linger: Option<Duration>) -> (OpenGuard, ScriptedPeer, Gate) {
    let (transport, peer) = ScriptedPeer::new();
    let (gate, handler) = Gate::new();
    let guard = Connection::builder()
        .linger(linger)
        .handler(handler)
        .open(transport)
        .unwrap();
    (guard, peer, gate)
}

#[test]
fn a_close_with_a_silent_peer_ends_by_force_when_linger_is_over() {
    for linger in [Duration::ZERO, Duration::from_millis(30)] {
        watched(move || {
            let (guard, mut peer) = serving(Some(linger));
            let pending = guard.submit(asking("x")).unwrap();
            peer.request();
            let waiting = start(move || pending.wait());
            let connection = Connection::clone(&guard);
            let report = guard.shutdown(Some(linger));
            assert!(
                matches!(report.cause(), Some(Error::LingerExpired)),
                "{report:?}"
            );
            assert!(!report.peer_said_goodbye() && !report.in_progress());
            assert_eq!(report.requests_unknown(), 1);
            assert!(
                report.into_transport().is_none(),
                "it is in no state to be used again"
            );
            let error = waiting.join().unwrap().unwrap_err();
            assert_eq!(error.outcome(), Outcome::Unknown);
            assert!(error.is_closed());
            assert!(!connection.is_open());
        });
    }
}

#[test]
fn the_last_guards_close_is_bounded_by_the_linger_it_was_built_with() {
    watched(|| {
        let (guard, _peer) = serving(Some(Duration::from_millis(30)));
        let report = guard.close();
        assert!(report.is_last() && !report.in_progress());
        assert!(matches!(report.into_result(), Err(Error::LingerExpired)));
    });
}

#[test]
fn an_end_of_input_inside_a_packet_is_an_error_of_the_transport() {
    watched(|| {
        let (guard, mut peer) = serving(None);
        let pending = guard.submit(asking("x")).unwrap();
        peer.request();
        peer.send_octets(&[0x20, 0x02]);
        peer.cut(Shutdown::Write);
        let error = pending.wait().unwrap_err();
        let truncated = matches!(error.cause(), Error::Decode(DecodeError::Truncated { .. }));
        assert!(truncated, "{error:?}");
        assert!(guard.wait_end_of_stream().is_err());
        assert_eq!(peer.rest().last(), Some(&Packet::END_OF_STREAM));
        let report = guard.close();
        assert!(
            report.cause().is_some_and(Error::is_transport),
            "{report:?}"
        );
        assert!(report.into_result().is_err());
    });
}

#[test]
fn a_forced_end_with_a_request_unanswered_counts_it_and_sends_no_end_of_stream() {
    watched(|| {
        let (guard, mut peer, gate) = gated(None);
        peer.send(&[request_packet(2, "never answered")]);
        gate.arrived();
        let report = guard.shutdown(Some(Duration::from_millis(30)));
        assert_eq!(report.answers_lost(), 1, "{report:?}");
        let packets = peer.rest();
        assert!(!packets.contains(&Packet::END_OF_STREAM), "{packets:?}");
    });
}

#[test]
fn shutdown_and_abort_end_a_connection_whatever_holds_it_open() {
    watched(|| {
        let (guard, mut peer) = serving(None);
        let (second, pending) = (guard.clone(), guard.submit(asking("x")).unwrap());
        peer.request();
        let report = guard.abort();
        assert!(matches!(report.cause(), Some(Error::Aborted)), "{report:?}");
        let error = pending.wait().unwrap_err();
        assert!(matches!(error.cause(), Error::Aborted), "{error:?}");
        assert!(!guard.is_open());
        let _ = second.close();
        let _ = guard.close();

        let (ours, theirs) = Transport::pair();
        let _server = Connection::builder().handler(echo).open(theirs).unwrap();
        let guard = Connection::builder().open(ours).unwrap();
        let second = guard.clone();
        assert!(guard.shutdown(None).into_result().is_ok());
        let error = second.call(asking("x")).unwrap_err();
        assert!(
            error.is_closed() && error.outcome() == Outcome::NotSent,
            "{error:?}"
        );
    });
}

#[test]
fn an_abort_frees_a_close_that_waits_without_limit() {
    watched(|| {
        let (guard, mut peer) = serving(None);
        let connection = Connection::clone(&guard);
        let closing = start(move || guard.close());
        peer.expect(&Packet::END_OF_REQUESTS);
        let _ = connection.abort();
        assert!(closing.join().unwrap().into_result().is_err());
    });
}

/// A writer that says when it is given a long run of `a` or `b`, and then waits: for a word after
/// `a`, after `b` until it is shut.
struct Stuck {
    arrived: Sender<u8>,
    released: Receiver<()>,
    shut: Receiver<()>,
}

impl Write for Stuck {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        for (marker, door) in [(b'a', &self.released), (b'b', &self.shut)] {
            if octets.len() > 1000 && octets[octets.len() / 2] == marker {
                let _ = self.arrived.send(marker);
                if door.recv().is_err() {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_was_queued_behind_a_stuck_write_was_not_sent() {
    // The sender takes `b` and `c` out of the queue together, since both are there when it is done
    // with `a`. No octet of `c` was ever handed to the transport.
    watched(|| {
        let (here, _there) = UnixStream::pair().unwrap();
        let reader = BufReader::new(here.try_clone().unwrap());
        let (arrived, arrivals) = crossbeam_channel::unbounded();
        let (release, released) = crossbeam_channel::bounded(1);
        let (keep_open, shut) = crossbeam_channel::bounded(0);
        let keep_open = Mutex::new(Some(keep_open));
        let writer = Stuck {
            arrived,
            released,
            shut,
        };
        let transport = Transport::new(reader, writer).with_shutdown(move || {
            drop(keep_open.lock().take());
            let _ = here.shutdown(Shutdown::Both);
        });
        let guard = Connection::builder().open(transport).unwrap();
        let length = 100_000;
        let first = guard.submit(asking(vec![b'a'; length])).unwrap();
        assert_eq!(take(&arrivals), b'a');
        let second = guard.submit(asking(vec![b'b'; length])).unwrap();
        let third = guard.submit(asking("c")).unwrap();
        release.send(()).unwrap();
        assert_eq!(take(&arrivals), b'b');

        let report = guard.shutdown(Some(Duration::from_millis(30)));
        assert_eq!(first.wait().unwrap_err().outcome(), Outcome::Unknown);
        assert_eq!(second.wait().unwrap_err().outcome(), Outcome::Unknown);
        assert_eq!(third.wait().unwrap_err().outcome(), Outcome::NotSent);
        assert_eq!(report.requests_unknown(), 2, "{report:?}");
        assert_eq!(report.requests_not_sent(), 1, "{report:?}");
    });
}

type OnBreak = Option<Box<dyn FnOnce() + Send>>;

/// A writer that breaks on demand, and lets something happen before it says so.
struct Breakable {
    inner: UnixStream,
    on_break: Arc<Mutex<OnBreak>>,
}

impl Write for Breakable {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let on_break = self.on_break.lock().take();
        match on_break {
            Some(call) => {
                call();
                Err(io::ErrorKind::BrokenPipe.into())
            }
            None => self.inner.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn after_a_write_error_what_was_sent_is_answered_and_what_was_not_fails() {
    watched(|| {
        let (here, there) = UnixStream::pair().unwrap();
        let on_break: Arc<Mutex<OnBreak>> = Arc::default();
        let reader = BufReader::new(here.try_clone().unwrap());
        let writer = Breakable {
            inner: here.try_clone().unwrap(),
            on_break: on_break.clone(),
        };
        let transport = Transport::new(reader, writer).with_shutdown(move || {
            let _ = here.shutdown(Shutdown::Both);
        });
        let guard = Connection::builder().open(transport).unwrap();
        let mut peer = ScriptedPeer::on(there);
        let mut sent: Vec<_> = (0..11_u8)
            .map(|n| guard.submit(asking([n])).unwrap())
            .collect();
        let requests: Vec<_> = (0..11).map(|_| peer.request()).collect();
        let unanswered = sent.pop().unwrap();
        // The ten answers lie in our socket when the write fails.
        let answers: Vec<_> = requests[..10]
            .iter()
            .map(|request| answer_to(request, "y"))
            .collect();
        let (handed, hands) = crossbeam_channel::bounded(1);
        *on_break.lock() = Some(Box::new(move || {
            peer.send(&answers);
            let _ = handed.send(peer);
        }));
        let error = guard.call(asking("broken")).unwrap_err();
        assert!(matches!(error.cause(), Error::Write(_)), "{error:?}");
        for pending in sent {
            assert_eq!(pending.wait().unwrap().payload(), b"y");
        }
        let error = unanswered.wait().unwrap_err();
        assert!(matches!(error.cause(), Error::Write(_)), "{error:?}");
        assert_eq!(error.outcome(), Outcome::Unknown);
        let error = guard.call(asking("after")).unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotSent);
        let report = guard.close();
        assert!(
            matches!(report.cause(), Some(Error::Write(_))),
            "{report:?}"
        );
        assert!(report.into_transport().is_none());
        drop(hands);
    });
}
