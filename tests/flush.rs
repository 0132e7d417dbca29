//! The flush grace batches, and never taxes anybody who waits (law L11).
//!
//! The grace is an hour here: what came through cannot have waited for it.
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

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::watched;
use crossbeam_channel::TryRecvError;
use packetstream::{BoxError, Connection, OpenGuard, Packet, PendingSet, Response, Transport};
use pairs::{Gate, ScriptedPeer, asking, block_on, echo, request_packet, start, take};

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Default)]
struct Counts {
    writes: Arc<AtomicU64>,
    flushes: Arc<AtomicU64>,
}

impl Counts {
    fn writes(&self) -> u64 {
        self.writes.load(SeqCst)
    }

    fn flushes(&self) -> u64 {
        self.flushes.load(SeqCst)
    }
}

/// Counts the calls and passes them on.
struct Counting<W> {
    inner: W,
    counts: Counts,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.counts.writes.fetch_add(1, SeqCst);
        self.inner.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.counts.flushes.fetch_add(1, SeqCst);
        self.inner.flush()
    }
}

fn counting(stream: UnixStream) -> (Transport, Counts) {
    let counts = Counts::default();
    let reader = BufReader::new(stream.try_clone().unwrap());
    let writer = Counting {
        inner: stream.try_clone().unwrap(),
        counts: counts.clone(),
    };
    let transport = Transport::new(reader, writer).with_shutdown(move || {
        let _ = stream.shutdown(Shutdown::Both);
    });
    (transport, counts)
}

/// A client with this grace whose writes are counted, and a server with a grace of an hour.
fn client(grace: Duration) -> (OpenGuard, OpenGuard, Counts) {
    let (here, there) = UnixStream::pair().unwrap();
    let (transport, counts) = counting(here);
    let server = Connection::builder()
        .flush_grace(HOUR)
        .handler(echo)
        .open(Transport::try_from(there).unwrap())
        .unwrap();
    let client = Connection::builder()
        .flush_grace(grace)
        .open(transport)
        .unwrap();
    (client, server, counts)
}

/// A server with this grace whose writes are counted, and its peer.
fn server(grace: Duration) -> (OpenGuard, ScriptedPeer, Counts) {
    let (here, there) = UnixStream::pair().unwrap();
    let (transport, counts) = counting(here);
    let server = Connection::builder()
        .flush_grace(grace)
        .handler_threads(1)
        .handler(echo)
        .open(transport)
        .unwrap();
    (server, ScriptedPeer::on(there), counts)
}

#[test]
fn a_burst_of_requests_leaves_in_few_writes() {
    watched(|| {
        let (client, _server, counts) = client(HOUR);
        let pending: Vec<_> = (0..500_u32)
            .map(|n| client.submit(asking(n.to_be_bytes())).unwrap())
            .collect();
        assert!(
            counts.writes() <= 500 / 64,
            "nobody waits yet, so each write is worth it: {}",
            counts.writes()
        );
        for (n, pending) in (0..500_u32).zip(pending) {
            assert_eq!(pending.wait().unwrap().payload(), n.to_be_bytes());
        }
        assert!(
            counts.writes() <= 500 / 64 + 2,
            "{} writes for 500 requests",
            counts.writes()
        );
        assert!(
            counts.flushes() <= 500 / 64 + 2,
            "{} flushes for 500 requests",
            counts.flushes()
        );
    });
}

#[test]
fn a_call_does_not_wait_for_the_grace_on_either_end() {
    watched(|| {
        let (client, _server, counts) = client(HOUR);
        for _ in 0..100 {
            client.call(asking("x")).unwrap();
        }
        assert!(
            counts.flushes() <= 110,
            "{} flushes for 100 calls",
            counts.flushes()
        );
    });
}

#[test]
fn whoever_begins_to_wait_has_his_request_flushed() {
    type Wait = fn(packetstream::PendingResponse) -> packetstream::Result<Response>;
    let waits: [Wait; 6] = [
        packetstream::PendingResponse::wait,
        |pending| pending.wait_timeout(HOUR).expect("answered"),
        |pending| {
            pending
                .wait_deadline(Instant::now() + HOUR)
                .expect("answered")
        },
        |pending| pending.and_then(Ok::<_, BoxError>).wait(),
        |pending| block_on(pending),
        |pending| PendingSet::from_iter([pending]).next().expect("one").1,
    ];
    watched(move || {
        let (client, _server, _counts) = client(HOUR);
        for wait in waits {
            assert_eq!(
                wait(client.submit(asking("x")).unwrap()).unwrap().payload(),
                b"x"
            );
        }
        let (completed, completions) = crossbeam_channel::bounded(1);
        client
            .submit(asking("y"))
            .unwrap()
            .on_complete(move |answer| {
                let _ = completed.send(answer);
            });
        assert_eq!(take(&completions).unwrap().payload(), b"y");
        let set: PendingSet<Response> = (0..9_u8)
            .map(|n| client.submit(asking([n])).unwrap())
            .collect();
        assert!(set.wait_all().into_iter().all(|answer| answer.is_ok()));
    });
}

#[test]
fn a_wait_in_one_thread_is_not_held_by_submits_in_another() {
    watched(|| {
        let (client, _server, _counts) = client(HOUR);
        let other = client.clone();
        let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
        let busy = start(move || {
            while stopped.try_recv() == Err(TryRecvError::Empty) {
                drop(other.submit(asking("noise")).unwrap());
            }
        });
        for _ in 0..20 {
            client.call(asking("x")).unwrap();
        }
        drop(stop);
        busy.join().unwrap();
    });
}

#[test]
fn a_submit_that_waits_for_room_is_not_held_by_the_grace() {
    // Nobody waits for the requests themselves, but their answers make the room.
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let server = Connection::builder().handler(echo).open(theirs).unwrap();
        let client = Connection::builder()
            .flush_grace(HOUR)
            .max_outstanding_requests(4)
            .open(ours)
            .unwrap();
        for _ in 0..50 {
            drop(client.submit(asking("forgotten")).unwrap());
        }
        assert!(client.close().into_result().is_ok());
        assert_eq!(server.stats().requests_received, 50);
    });
}

#[test]
fn callers_that_wait_for_room_do_not_hold_those_that_wait_for_answers() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let _server = Connection::builder().handler(echo).open(theirs).unwrap();
        let client = Connection::builder()
            .flush_grace(HOUR)
            .max_outstanding_requests(2)
            .open(ours)
            .unwrap();
        let helpers: Vec<_> = (0..6)
            .map(|_| {
                let client = client.clone();
                start(move || {
                    for _ in 0..500 {
                        client.call(asking("x")).unwrap();
                    }
                })
            })
            .collect();
        for helper in helpers {
            helper.join().unwrap();
        }
    });
}

#[test]
fn an_answer_is_not_held_by_the_grace() {
    watched(|| {
        let (_server, mut peer, _counts) = server(HOUR);
        for tag in 2..50 {
            peer.send(&[request_packet(tag, "x")]);
            assert_eq!(peer.response(tag).payload(), b"x");
        }
    });
}

#[test]
fn an_answer_is_not_held_for_a_handler_that_still_runs() {
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let (gate, handler) = Gate::new();
        let _server = Connection::builder()
            .flush_grace(HOUR)
            .handler(handler)
            .open(transport)
            .unwrap();
        peer.send(&[request_packet(2, "a"), request_packet(3, "b")]);
        gate.arrived();
        gate.arrived();
        gate.release_one();
        let first = peer.next().unwrap();
        assert!(first.is_response());
        gate.release_one();
        assert!(peer.next().unwrap().is_response());
        peer.goodbye();
    });
}

#[test]
fn answers_to_a_burst_leave_together() {
    watched(|| {
        let (_server, mut peer, counts) = server(HOUR);
        let burst: Vec<Packet> = (2..202).map(|tag| request_packet(tag, "x")).collect();
        peer.send(&burst);
        for _ in 0..200 {
            assert_eq!(peer.next().unwrap().is_ok(), Some(true));
        }
        assert!(
            counts.flushes() <= 20,
            "{} flushes for 200 answers",
            counts.flushes()
        );
        assert!(
            counts.writes() <= 20,
            "{} writes for 200 answers",
            counts.writes()
        );
    });
}

#[test]
fn half_a_request_in_the_read_buffer_does_not_hold_an_answer() {
    watched(|| {
        let (_server, mut peer, _counts) = server(HOUR);
        let second = request_packet(3, "yy").transcribe();
        let mut octets = request_packet(2, "x").transcribe();
        octets.extend(&second[..4]);
        peer.send_octets(&octets);
        assert_eq!(peer.response(2).payload(), b"x");
        peer.send_octets(&second[4..]);
        assert_eq!(peer.response(3).payload(), b"yy");
    });
}

#[test]
fn without_a_grace_a_request_leaves_as_soon_as_the_queue_is_empty() {
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let guard = Connection::builder()
            .flush_grace(Duration::ZERO)
            .open(transport)
            .unwrap();
        for n in 0..20_u8 {
            let pending = guard.submit(asking([n])).unwrap();
            let request = peer.request();
            assert_eq!(request.payload(), [n], "nobody waits for it");
            peer.answer(&request, "");
            drop(pending);
        }
        peer.goodbye();
    });
}

#[test]
fn a_request_for_which_nobody_waits_leaves_after_the_grace() {
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let guard = Connection::builder()
            .flush_grace(Duration::from_millis(20))
            .open(transport)
            .unwrap();
        let first = guard.submit(asking("held")).unwrap();
        drop(guard.submit(asking("forgotten")).unwrap());
        assert_eq!(peer.request().payload(), b"held");
        assert_eq!(peer.request().payload(), b"forgotten");
        peer.goodbye();
        assert!(first.wait().is_err());
    });
}

#[test]
fn a_close_flushes_what_was_submitted() {
    watched(|| {
        let (client, server, _counts) = client(HOUR);
        for _ in 0..10 {
            drop(client.submit(asking("forgotten")).unwrap());
        }
        assert!(client.close().into_result().is_ok());
        assert_eq!(server.stats().requests_received, 10);
    });
}

#[test]
fn the_ends_of_requests_and_of_the_stream_are_not_held() {
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let guard = Connection::builder()
            .flush_grace(HOUR)
            .open(transport)
            .unwrap();
        let _pending = guard.submit(asking("x")).unwrap();
        guard.end_stream().unwrap();
        peer.request();
        peer.expect(&Packet::END_OF_REQUESTS);
        peer.expect(&Packet::END_OF_STREAM);
        peer.goodbye();
    });
}

/// A reader that never has more than one packet's worth of octets ready.
struct Trickle<R>(R);

impl<R: BufRead> Read for Trickle<R> {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        let length = octets.len().min(3);
        self.0.read(&mut octets[..length])
    }
}

impl<R: BufRead> BufRead for Trickle<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let octets = self.0.fill_buf()?;
        Ok(&octets[..octets.len().min(3)])
    }

    fn consume(&mut self, taken: usize) {
        self.0.consume(taken);
    }
}

#[test]
fn a_reader_that_delivers_a_few_octets_at_a_time_holds_no_answer() {
    watched(|| {
        let (here, there) = UnixStream::pair().unwrap();
        let reader = Trickle(BufReader::new(here.try_clone().unwrap()));
        let _server = Connection::builder()
            .flush_grace(HOUR)
            .handler(echo)
            .open(Transport::new(reader, here))
            .unwrap();
        let mut peer = ScriptedPeer::on(there);
        for tag in 2..20 {
            peer.send(&[request_packet(tag, "a longer payload")]);
            assert_eq!(peer.response(tag).payload(), b"a longer payload");
        }
        peer.goodbye();
    });
}

/// A request that lies in the writer's buffer is wanted just while the receiver wakes others, which
/// it does without waking the sender for each of them.
#[test]
fn a_request_in_the_buffer_is_sent_for_who_begins_to_wait_while_others_are_told() {
    const OTHERS: usize = 100;
    const ROUNDS: usize = if cfg!(debug_assertions) { 200 } else { 1000 };
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let client = Connection::builder()
            .flush_grace(HOUR)
            .linger(Some(Duration::ZERO))
            .open(transport)
            .unwrap();
        let (asked, all_asked) = crossbeam_channel::bounded(0);
        let (go, going) = crossbeam_channel::bounded::<()>(0);
        let far_end = start(move || {
            for _ in 0..ROUNDS {
                let answers: Vec<Packet> = (0..OTHERS)
                    .map(|_| pairs::answer_to(&peer.request(), ""))
                    .collect();
                asked.send(()).unwrap();
                going.recv().unwrap();
                peer.send(&answers);
                let last = peer.request();
                peer.answer(&last, "");
            }
        });
        for round in 0..ROUNDS {
            let others: PendingSet = (0..OTHERS)
                .map(|_| client.submit(asking("")).unwrap())
                .collect();
            let others = start(move || others.wait_all().len());
            take(&all_asked);
            let sent = client.stats().requests_sent;
            let pending = client.submit(asking("")).unwrap();
            // The sender has taken it, and rests for the hour, or is about to.
            while client.stats().requests_sent == sent {
                std::thread::yield_now();
            }
            go.send(()).unwrap();
            for _ in 0..(round * 7919) % 20_000 {
                std::hint::spin_loop();
            }
            pending.wait().unwrap();
            assert_eq!(others.join().unwrap(), OTHERS);
        }
        far_end.join().unwrap();
    });
}
