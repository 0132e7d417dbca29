//! What connections and requests cost, and that nothing of it stays.
//!
//! One test in a binary of its own, because it counts what the whole process allocates.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    clippy::print_stderr,
    reason = "helpers of tests fail the test and tell what they measured"
)]

mod common;
#[path = "common/heap.rs"]
mod heap;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "common/sizes.rs"]
mod sizes;

use std::io::{self, BufReader, Read};
use std::time::Duration;

use common::watched_for;
use crossbeam_channel::{Receiver, Sender};
use heap::{DUST, Growth, KIB, MIB, PER_REQUEST, run_in_sequence};
use measure::until;
use packetstream::wire::{Decoder, varint};
use packetstream::{ChannelId, Connection, Flags, OpenGuard, Packet, Tag, Transport};
use pairs::{ScriptedPeer, asking, echo, memory, os_pipes, start, take, tcp, unix_sockets};
use sizes::sized;

/// The two buffers of a connection that was busy, whatever it was busy with: the reader's and the
/// writer's.
const BUFFERS: usize = (256 + 208) * KIB;

/// What the test itself allocates meanwhile, to be told that the reader was asked.
const TOOLS: usize = 2 * KIB;

#[test]
fn connections_and_requests_are_small_and_leave_nothing() {
    watched_for(Duration::from_secs(300), || {
        run_in_sequence(&[
            ("idle connections", idle_connections_are_small),
            ("pending requests", pending_requests_are_small),
            ("answered requests", answered_requests_leave_nothing),
            ("long payloads", long_payloads_leave_nothing),
            (
                "long and short",
                long_memory_goes_though_short_payloads_come,
            ),
            (
                "a claim in their place",
                claim_does_not_keep_the_memory_of_a_payload,
            ),
            ("claims", claims_cost_no_more_than_twice_what_came),
            ("refused claims", refused_claims_cost_nothing),
            ("skipped payloads", payload_that_is_skipped_takes_no_memory),
        ]);
    });
}

fn open(transport: Transport) -> OpenGuard {
    Connection::builder()
        .handler(echo)
        .linger(Some(Duration::ZERO))
        .open(transport)
        .unwrap()
}

fn idle_connections_are_small() {
    type Pair = fn() -> (Transport, Transport);
    let pairs: [(&str, Pair); 4] = [
        ("memory", memory),
        ("pipes", os_pipes),
        ("Unix sockets", unix_sockets),
        ("TCP", tcp),
    ];
    for (name, pair) in pairs {
        const PAIRS: usize = 20;
        let mut open_pairs = Vec::with_capacity(PAIRS);
        let growth = Growth::start();
        for _ in 0..PAIRS {
            let (here, there) = pair();
            open_pairs.push((open(here), open(there)));
        }
        let each = growth.settled() / PAIRS;
        eprintln!("    {name}: {each} octets for both ends");
        assert!(each <= 40 * KIB, "{name}: {each} octets for both ends");
        for (here, there) in open_pairs {
            // Together: over pipes nobody but the other end frees a reader.
            let _ = here.end_stream();
            let _ = there.close();
        }
    }
}

fn pending_requests_are_small() {
    for count in [1000, 1100, 10_000, 15_000] {
        let (transport, mut peer) = ScriptedPeer::new();
        let client = open(transport);
        // Whatever is allocated once.
        let first = client.submit(asking("x")).unwrap();
        let request = peer.request();
        peer.answer(&request, "y");
        first.wait().unwrap();
        let reading = start(move || {
            (0..count).for_each(|_| drop(peer.request()));
            peer
        });
        let growth = Growth::start();
        let pending: Vec<_> = (0..count)
            .map(|_| client.submit(asking("")).unwrap())
            .collect();
        let mut peer = reading.join().unwrap();
        assert_eq!(client.stats().outstanding, count);
        let count = usize::try_from(count).unwrap();
        let each = growth.settled() / count;
        eprintln!("    {count} pending: {each} octets each");
        assert!(each <= PER_REQUEST, "{each} octets each of {count}");
        for answer in pending {
            peer.send(&[ok_packet(answer.tag())]);
            answer.wait().unwrap();
        }
        let kept = growth.settled();
        eprintln!("    answered: {kept} octets kept");
        let bound = BUFFERS + DUST;
        assert!(kept <= bound, "{kept} octets kept for {count} requests");
        let _ = client.abort();
    }
}

fn ok_packet(tag: Tag) -> Packet {
    Packet::response(ChannelId::DEFAULT, tag, true, Flags::NONE, "").unwrap()
}

fn answered_requests_leave_nothing() {
    let (here, there) = unix_sockets();
    let (client, server) = (open(here), open(there));
    let batch = |size| {
        let pending: Vec<_> = (0..size)
            .map(|_| client.submit(asking("")).unwrap())
            .collect();
        for answer in pending {
            answer.wait().unwrap();
        }
    };
    batch(1000);
    let growth = Growth::start();
    for _ in 0..sized(20, 1000) {
        batch(1000);
    }
    // The requests of one batch, pending at one end and served at the other.
    growth.assert_at_most(2 * 1000 * PER_REQUEST + DUST, "empty requests");
    let kept = growth.settled();
    assert!(kept <= 2 * BUFFERS + DUST, "{kept} octets kept");
    let _ = client.abort();
    let _ = server.abort();
}

fn used_ends() -> (OpenGuard, OpenGuard) {
    let (here, there) = unix_sockets();
    let (client, server) = (open(here), open(there));
    client.call(asking("")).unwrap();
    (client, server)
}

fn ask_at_once(client: &OpenGuard, count: usize, len: usize) {
    let pending: Vec<_> = (0..count)
        .map(|_| client.submit(asking(vec![1; len])).unwrap())
        .collect();
    for answer in pending {
        assert_eq!(answer.wait().unwrap().payload().len(), len);
    }
}

/// The memory of payloads serves several, but not for longer than they follow each other.
fn long_payloads_leave_nothing() {
    let (client, server) = used_ends();
    let growth = Growth::start();
    for len in [MIB, MIB, 3 * MIB, 64 * KIB, 100 * KIB, 20 * KIB] {
        ask_at_once(&client, 4, len);
    }
    until(
        || (growth.now() <= 2 * BUFFERS + DUST).then_some(()),
        || format!("{} octets stay", growth.now()),
    );
    let _ = client.abort();
    let _ = server.abort();
}

fn long_memory_goes_though_short_payloads_come() {
    let (client, server) = used_ends();
    let growth = Growth::start();
    ask_at_once(&client, 16, MIB);
    until(
        || {
            ask_at_once(&client, 16, 16);
            (growth.now() <= 2 * BUFFERS + DUST).then_some(())
        },
        || format!("{} octets stay", growth.now()),
    );
    let _ = client.abort();
    let _ = server.abort();
}

/// What is reserved for a claim is bounded, whether or not it has been used before.
fn claim_does_not_keep_the_memory_of_a_payload() {
    let (transport, mut peer) = ScriptedPeer::new();
    let server = Connection::builder()
        .handler(|_| Ok(()))
        .linger(Some(Duration::ZERO))
        .open(transport)
        .unwrap();
    let growth = Growth::start();
    for len in [64 * KIB, MIB, 4 * MIB] {
        let octets = claim(len as u64, len - 3);
        peer.send_octets(&octets);
        drop(octets);
        let _ = peer.next();
    }
    peer.send_octets(&claim(4 * MIB as u64, 0));
    let bound = MIB + BUFFERS + DUST;
    until(
        || (growth.now() <= bound).then_some(()),
        || format!("{} octets are held for a claim", growth.now()),
    );
    let _ = server.abort();
}

/// Octets that come and then silence; each time it has nothing more it says so and waits.
struct ThenSilence {
    octets: io::Cursor<Vec<u8>>,
    asked: Sender<()>,
    go_on: Receiver<()>,
}

impl ThenSilence {
    fn new(octets: Vec<u8>) -> (Self, Receiver<()>, Sender<()>) {
        let (asked, asks) = crossbeam_channel::unbounded();
        let (go, go_on) = crossbeam_channel::unbounded();
        let reader = Self {
            octets: io::Cursor::new(octets),
            asked,
            go_on,
        };
        (reader, asks, go)
    }
}

impl Read for ThenSilence {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let position = self.octets.position();
        if position == 0 || position == self.octets.get_ref().len() as u64 {
            let _ = self.asked.send(());
            let _ = self.go_on.recv();
        }
        self.octets.read(buf)
    }
}

/// A length prefix, the fields of a request, and the first octets of its payload.
fn claim(len: u64, payload: usize) -> Vec<u8> {
    let mut octets = Vec::with_capacity(payload + 13);
    varint::encode(len, &mut octets);
    octets.extend([5, 2, 1]);
    octets.resize(octets.len() + payload, b'x');
    octets
}

fn claims_cost_no_more_than_twice_what_came() {
    let lengths = [1 << 21, 64 << 20, 1 << 32, 1 << 62, (1 << 63) - 1];
    let received = [0, 1, 1000, 100_000, MIB, 3 * MIB, 9 * MIB + 1];
    for len in lengths {
        for payload in received.into_iter().filter(|p| *p as u64 + 3 < len) {
            let octets = claim(len, payload);
            let came = octets.len();
            // This allocator moves what grows, and then counts both places.
            let bound = |factor: usize| factor * came + MIB + TOOLS;

            let (reader, asks, go) = ThenSilence::new(octets.clone());
            let transport = Transport::new(BufReader::new(reader), io::sink());
            let guard = Connection::builder()
                .max_packet_len(u64::MAX)
                .handler(echo)
                .linger(Some(Duration::ZERO))
                .open(transport)
                .unwrap();
            take(&asks);
            let growth = Growth::start();
            go.send(()).unwrap();
            take(&asks);
            let grown = growth.settled();
            assert!(
                grown <= bound(2),
                "{payload} of {len}: {grown} octets allocated"
            );
            let peak = growth.most();
            assert!(peak <= bound(3), "{payload} of {len}: {peak} at most");
            drop(go);
            let _ = guard.abort();

            let mut decoder = Decoder::new().with_max_packet_len(u64::MAX);
            let growth = Growth::start();
            for piece in octets.chunks(10_000) {
                assert_eq!(decoder.decode(&mut &*piece), Ok(None));
            }
            let grown = growth.now();
            assert!(
                grown <= bound(2),
                "{payload} of {len}: {grown} in a decoder"
            );
        }
    }
}

fn payload_that_is_skipped_takes_no_memory() {
    let limit = MIB;
    let (transport, mut peer) = ScriptedPeer::new();
    let guard = Connection::builder()
        .max_packet_len(limit as u64)
        .handler(echo)
        .open(transport)
        .unwrap();
    peer.send(&[pairs::request_packet(2, "served")]);
    let _ = peer.next();
    let piece = vec![b'x'; 64 * KIB];
    let growth = Growth::start();
    peer.send_octets(&claim(16 * MIB as u64, 0));
    for _ in 0..16 * MIB / piece.len() {
        peer.send_octets(&piece);
    }
    growth.assert_at_most(BUFFERS + DUST, "skipped");
    let _ = guard.abort();
}

fn refused_claims_cost_nothing() {
    for len in [(1 << 30) + 1, 1 << 32, 1 << 63] {
        let (transport, mut peer) = ScriptedPeer::new();
        let guard = open(transport);
        let growth = Growth::start();
        peer.send_octets(&claim(len, 0));
        let error = guard.wait_end_of_stream().unwrap_err();
        assert!(error.is_peer(), "{error:?}");
        growth.assert_at_most(BUFFERS + DUST, "claimed beyond the limit");
        let _ = guard.abort();
    }
}
