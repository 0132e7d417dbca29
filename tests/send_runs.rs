//! Packets go into the send queue in runs, and what fits the buffer is handed over together: what
//! nobody waits for is sent all the same when it should be, and nothing that was not sent counts as
//! sent.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests, in which a failed expectation fails the test"
)]

mod common;
#[path = "common/pairs.rs"]
mod pairs;

use std::io::{self, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::watched;
use crossbeam_channel::{Receiver, Sender};
use packetstream::{
    BoxError, Connection, DEFAULT_FLUSH_GRACE, Incoming, OpenGuard, Outcome, PendingResponse,
    Transport,
};
use pairs::{ScriptedPeer, asking, request_packet, start, take};

const HOUR: Duration = Duration::from_secs(3600);

/// So many requests come in one write, and the handler of the last one does not return before the
/// first one is answered.
fn first_of_many_inline(number: u64, grace: Duration) {
    for _ in 0..5 {
        let (transport, mut peer) = ScriptedPeer::new();
        let (release, released) = crossbeam_channel::bounded::<()>(0);
        let guard = Connection::builder()
            .flush_grace(grace)
            .linger(Some(Duration::ZERO))
            .inline_handler(true)
            .handler(move |incoming: Incoming| -> Result<(), BoxError> {
                if incoming.tag().get() == number + 1 {
                    let _ = released.recv();
                }
                Ok(())
            })
            .open(transport)
            .unwrap();
        let requests: Vec<_> = (2..2 + number).map(|tag| request_packet(tag, "")).collect();
        peer.send(&requests);
        let first = peer.next().expect("an answer");
        assert_eq!((first.is_ok(), first.tag().get()), (Some(true), 2));
        drop(release);
        drop(guard.abort());
    }
}

#[test]
fn inline_answers_do_not_wait_for_a_slow_handler_of_the_next_read() {
    watched(|| first_of_many_inline(129, DEFAULT_FLUSH_GRACE));
}

#[test]
fn inline_answers_do_not_wait_for_a_slow_handler_of_the_same_read() {
    watched(|| first_of_many_inline(33, DEFAULT_FLUSH_GRACE));
}

#[test]
fn inline_answers_do_not_wait_for_a_slow_handler_without_a_grace() {
    watched(|| first_of_many_inline(65, Duration::ZERO));
}

/// A writer that says how much it is given and waits for a word on what to do with it.
struct Gated {
    inner: UnixStream,
    entered: Sender<usize>,
    words: Receiver<Word>,
}

enum Word {
    Write,
    WriteAtMost(usize),
    Fail,
}

impl Write for Gated {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let _ = self.entered.send(octets.len());
        match self.words.recv() {
            Ok(Word::Fail) => Err(io::Error::other("the writer fails")),
            Ok(Word::WriteAtMost(most)) => self.inner.write(&octets[..most.min(octets.len())]),
            // Without anybody to ask, the gate is open.
            Ok(Word::Write) | Err(_) => self.inner.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Gate {
    entered: Receiver<usize>,
    words: Sender<Word>,
}

impl Gate {
    /// Waits for the writer, and lets it go on.
    fn pass(&self, word: Word) -> usize {
        let len = take(&self.entered);
        self.words.send(word).unwrap();
        len
    }
}

fn gated() -> (Transport, ScriptedPeer, Gate) {
    let (here, there) = UnixStream::pair().unwrap();
    let (enter, entered) = crossbeam_channel::unbounded();
    let (say, words) = crossbeam_channel::unbounded();
    let writer = Gated {
        inner: here.try_clone().unwrap(),
        entered: enter,
        words,
    };
    let reader = BufReader::new(here.try_clone().unwrap());
    let transport = Transport::new(reader, writer).with_shutdown(move || {
        let _ = here.shutdown(Shutdown::Both);
    });
    let gate = Gate {
        entered,
        words: say,
    };
    (transport, ScriptedPeer::on(there), gate)
}

#[test]
fn much_that_is_queued_while_the_sender_writes_does_not_wait_for_the_grace() {
    watched(|| {
        let (transport, mut peer, gate) = gated();
        let guard = Connection::builder()
            .flush_grace(HOUR)
            .linger(Some(Duration::ZERO))
            .open(transport)
            .unwrap();
        let first = guard.submit(asking(vec![1; 100 * 1024])).unwrap();
        take(&gate.entered);
        let second = guard.submit(asking(vec![2; 40 * 1024])).unwrap();
        drop(gate.words);
        assert_eq!(peer.request().payload().len(), 100 * 1024);
        assert_eq!(peer.request().payload().len(), 40 * 1024);
        drop(guard.abort());
        drop((first, second));
    });
}

/// The first is being written; the second, which is too long for the buffer, and the third lie in
/// the queue, and have been taken out together when this returns.
fn long_before_short() -> (
    OpenGuard,
    ScriptedPeer,
    Gate,
    PendingResponse,
    PendingResponse,
) {
    let (transport, peer, gate) = gated();
    let guard = Connection::builder()
        .linger(Some(Duration::ZERO))
        .open(transport)
        .unwrap();
    guard.submit(asking("first")).unwrap().on_complete(|_| ());
    take(&gate.entered);
    let long = guard.submit(asking(vec![1; 100 * 1024])).unwrap();
    let short = guard.submit(asking("short")).unwrap();
    gate.words.send(Word::Write).unwrap();
    (guard, peer, gate, long, short)
}

#[test]
fn request_behind_a_long_one_whose_write_fails_was_not_sent() {
    watched(|| {
        let (guard, _peer, gate, long, short) = long_before_short();
        let _head = gate.pass(Word::Write);
        assert_eq!(gate.pass(Word::WriteAtMost(10)), 100 * 1024);
        gate.pass(Word::Fail);
        assert_eq!(short.wait().unwrap_err().outcome(), Outcome::NotSent);
        assert_eq!(long.wait().unwrap_err().outcome(), Outcome::Unknown);
        drop(guard.close());
    });
}

#[test]
fn request_behind_a_long_one_that_is_stuck_was_not_sent() {
    watched(|| {
        let (guard, _peer, gate, long, short) = long_before_short();
        take(&gate.entered);
        let closer = start(move || guard.abort());
        assert_eq!(short.wait().unwrap_err().outcome(), Outcome::NotSent);
        assert_eq!(long.wait().unwrap_err().outcome(), Outcome::Unknown);
        drop(gate.words);
        drop(closer.join());
    });
}
