//! A write that blocks holds up nobody but the octets behind it: not a waiter, not a request.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::unnecessary_wraps,
    reason = "helpers of tests fail the test; handlers have the shape that is asked of them"
)]

mod common;
#[path = "common/pairs.rs"]
mod pairs;

use std::io::{self, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{PATIENCE, watched};
use crossbeam_channel::Receiver;
use packetstream::{
    Connection, Error, Incoming, OpenGuard, Outcome, Packet, PendingResponse, Request, Response,
    Transport,
};
use pairs::{ScriptedPeer, answer_to, asking, request_packet, start, take};
use parking_lot::Mutex;

const HOUR: Duration = Duration::from_secs(3600);

/// A request that no pipe and no socket takes whole.
fn huge() -> Request {
    asking(vec![0; 4 << 20])
}

/// A writer without a buffer: it passes one octet on, and blocks until it is shut.
struct Unbuffered {
    stream: UnixStream,
    shut: Receiver<()>,
}

impl Write for Unbuffered {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.stream.write_all(&octets[..1])?;
        let _ = self.shut.recv();
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A transport whose hook frees such a writer.
fn unbuffered(stream: UnixStream) -> Transport {
    let (keep_stuck, shut) = crossbeam_channel::bounded(0);
    let keep_stuck = Mutex::new(Some(keep_stuck));
    let reader = BufReader::new(stream.try_clone().unwrap());
    let writer = Unbuffered {
        stream: stream.try_clone().unwrap(),
        shut,
    };
    Transport::new(reader, writer).with_shutdown(move || {
        drop(keep_stuck.lock().take());
        let _ = stream.shutdown(Shutdown::Both);
    })
}

/// A connection with a request that is not written until somebody waits for it, and with so many
/// requests behind it.
fn unwritten(transport: Transport, behind: usize) -> (OpenGuard, PendingResponse) {
    let guard = Connection::builder()
        .flush_grace(HOUR)
        .linger(Some(Duration::ZERO))
        .open(transport)
        .unwrap();
    let first = guard.submit(asking("")).unwrap();
    // Once the sender has put it into its buffer it rests. What follows does not wake it.
    let (_keep, never) = crossbeam_channel::bounded::<()>(0);
    let deadline = Instant::now() + PATIENCE;
    while guard.stats().requests_sent == 0 && Instant::now() < deadline {
        let _ = never.recv_timeout(Duration::from_millis(1));
    }
    for _ in 0..behind {
        drop(guard.submit(asking(vec![0; 15_000])).unwrap());
    }
    (guard, first)
}

/// More than a socket takes.
const MANY: usize = 40;

/// Makes a call on a thread of its own.
fn calling(
    guard: &OpenGuard,
    request: Request,
) -> std::thread::JoinHandle<Result<Response, Error>> {
    let connection = Connection::clone(guard);
    start(move || connection.call(request))
}

fn assert_a_canceller_wakes(here: Transport, mut there: UnixStream, behind: usize) {
    watched(move || {
        let (_guard, pending) = unwritten(here, behind);
        let canceller = pending.canceller();
        let waiting = start(move || pending.wait());
        there.read_exact(&mut [0]).unwrap();
        assert!(canceller.cancel());
        let error = waiting.join().unwrap().unwrap_err();
        assert!(error.is_cancelled(), "{error:?}");
        assert_eq!(error.outcome(), Outcome::Unknown);
    });
}

#[test]
fn a_canceller_wakes_a_waiter_while_a_write_blocks() {
    // A waiter that wrote for itself would be deaf until the write returned.
    let (here, there) = UnixStream::pair().unwrap();
    assert_a_canceller_wakes(here.try_into().unwrap(), there, MANY);
}

#[test]
fn a_canceller_wakes_a_waiter_though_the_writer_has_no_buffer() {
    // Of a writer of the user's nobody knows how little of it blocks.
    let (here, there) = UnixStream::pair().unwrap();
    assert_a_canceller_wakes(unbuffered(here), there, 0);
}

fn assert_an_answer_is_delivered(here: Transport, mut there: UnixStream, behind: usize) {
    watched(move || {
        let (_guard, pending) = unwritten(here, behind);
        let answer = answer_to(&request_packet(pending.tag().get(), ""), "y");
        let waiting = start(move || pending.wait());
        there.read_exact(&mut [0]).unwrap();
        there.write_all(&answer.transcribe()).unwrap();
        assert_eq!(waiting.join().unwrap().unwrap().payload(), b"y");
    });
}

#[test]
fn an_answer_is_delivered_while_a_write_of_later_requests_blocks() {
    // The peer has the request, which went first, and reads no more.
    let (here, there) = UnixStream::pair().unwrap();
    assert_an_answer_is_delivered(here.try_into().unwrap(), there, MANY);
}

#[test]
fn an_answer_is_delivered_though_the_writer_has_no_buffer() {
    // What came through is for the peer to know, not for the write that has not returned.
    let (here, there) = UnixStream::pair().unwrap();
    assert_an_answer_is_delivered(unbuffered(here), there, 0);
}

#[test]
fn a_waiter_is_failed_by_the_peers_goodbye_while_its_write_blocks() {
    // The peer has ended its stream and never reads again, but leaves its socket open.
    type Wait = fn(&Connection) -> Result<Response, Error>;
    let waits: [Wait; 3] = [
        |connection| connection.call(huge()),
        |connection| connection.submit(huge()).and_then(PendingResponse::wait),
        |connection| {
            let pending = connection.submit(huge())?;
            pending.wait_timeout(HOUR).expect("not an hour")
        },
    ];
    for wait in waits {
        watched(move || {
            let (here, mut there) = UnixStream::pair().unwrap();
            let guard = Connection::builder()
                .linger(Some(Duration::ZERO))
                .open(Transport::try_from(here).unwrap())
                .unwrap();
            let connection = Connection::clone(&guard);
            let waiting = start(move || wait(&connection));
            // The first octet is here, so the write has begun; the last never fits.
            there.read_exact(&mut [0]).unwrap();
            there
                .write_all(&Packet::END_OF_STREAM.transcribe())
                .unwrap();
            let error = waiting.join().unwrap().unwrap_err();
            assert!(matches!(error.cause(), Error::PeerClosed), "{error:?}");
            assert_eq!(error.outcome(), Outcome::Unknown);
        });
    }
}

fn assert_aborted(waiting: std::thread::JoinHandle<Result<Response, Error>>) {
    let error = waiting.join().unwrap().unwrap_err();
    assert!(matches!(error.cause(), Error::Aborted), "{error:?}");
}

#[test]
fn an_abort_frees_a_caller_whose_pipe_cannot_be_shut() {
    // The hook of such a pair shuts the socket; a write into the pipe goes on blocking.
    watched(|| {
        let (socket, _there) = UnixStream::pair().unwrap();
        let (mut unread, pipe) = io::pipe().unwrap();
        let pair = (OwnedFd::from(socket), OwnedFd::from(pipe));
        let guard = Connection::builder()
            .open(Transport::try_from(pair).unwrap())
            .unwrap();
        let waiting = calling(&guard, huge());
        unread.read_exact(&mut [0]).unwrap();
        let _ = guard.abort();
        assert_aborted(waiting);
    });
}

#[test]
fn an_abort_frees_a_caller_whose_childs_child_keeps_the_stdin() {
    // Killing the shell does not close the pipe: its subshell, and then `cat`, holds it until the
    // test's socket ends, which stands in the place of stderr.
    watched(|| {
        let (mut news, stderr) = UnixStream::pair().unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", "(head -c 1 >&2; exec cat 3<&0 0<&2 >/dev/null); true"])
            .stderr(OwnedFd::from(stderr));
        let guard = Connection::builder().spawn(command).unwrap();
        let waiting = calling(&guard, huge());
        news.read_exact(&mut [0]).unwrap();
        let _ = guard.abort();
        assert_aborted(waiting);
    });
}

#[test]
fn a_request_starts_while_the_answer_before_it_blocks_in_its_write() {
    // The only slot is free again; a worker that took the next request along and then wrote its
    // answer would keep that request for as long as the peer does not read.
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let (tell, started) = crossbeam_channel::unbounded();
        let _guard = Connection::builder()
            .linger(Some(Duration::ZERO))
            .handler_threads(1)
            .max_handler_threads(2)
            .handler(move |incoming: Incoming| {
                tell.send(incoming.tag().get()).unwrap();
                Ok(vec![0; 4 << 20])
            })
            .open(transport)
            .unwrap();
        peer.send(&[request_packet(2, ""), request_packet(3, "")]);
        assert_eq!([take(&started), take(&started)], [2, 3]);
    });
}
