//! What a connection leaves when it is over: lent streams to their owner, the next period alone,
//! no descriptor, and a report that counts.
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

use std::io::{self, BufReader, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::watched;
use crossbeam_channel::{Receiver, Sender};
use packetstream::{
    BoxError, CloseReport, Connection, Incoming, OpenGuard, Outcome, PacketReader, Transport,
};
use pairs::{Gate, ScriptedPeer, asking, echo, request_packet, take};

/// What is seen of a reader.
#[derive(Debug, PartialEq)]
enum Seen {
    Read,
    Dropped,
}

/// A reader that tells how it is used, and reads what it is given.
struct Lent {
    tell: Sender<Seen>,
    given: Receiver<Vec<u8>>,
}

impl Read for Lent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let _ = self.tell.send(Seen::Read);
        let octets = self.given.recv().unwrap_or_default();
        buffer[..octets.len()].copy_from_slice(&octets);
        Ok(octets.len())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let _ = self.tell.send(Seen::Dropped);
    }
}

#[test]
fn a_reader_that_was_let_go_reads_no_more() {
    // Who lent the stream reads on, and must miss no more than what the stuck read returns, be
    // that a packet or a part of one.
    for octets in [request_packet(2, "x").transcribe(), vec![4]] {
        watched(move || {
            let (tell, seen) = crossbeam_channel::unbounded();
            let (give, given) = crossbeam_channel::bounded(1);
            let transport = Transport::new(BufReader::new(Lent { tell, given }), io::sink());
            let guard = Connection::builder().handler(echo).open(transport).unwrap();
            assert_eq!(take(&seen), Seen::Read);
            let _ = guard.abort();
            drop(guard);
            give.send(octets).unwrap();
            assert_eq!(take(&seen), Seen::Dropped);
        });
    }
}

#[test]
fn a_handler_of_a_period_that_was_ended_by_force_does_not_call_the_next_peer() {
    // On demand, the same connection is open again, but to a peer that never asked the handler.
    watched(|| {
        let (enter, entered) = crossbeam_channel::bounded(1);
        let (release, released) = crossbeam_channel::bounded::<()>(0);
        let (tell, told) = crossbeam_channel::bounded(1);
        let (connect, connected) = crossbeam_channel::unbounded();
        let connection = Connection::builder()
            .linger(Some(Duration::ZERO))
            .handler(move |incoming: Incoming| -> Result<(), BoxError> {
                enter.send(())?;
                let _ = released.recv();
                tell.send(incoming.connection().call(asking("nested")))?;
                Ok(())
            })
            .build_on_demand(move || {
                let (transport, peer) = ScriptedPeer::new();
                connect.send(peer).unwrap();
                Ok(transport)
            });
        let _first = connection.open().unwrap();
        take(&connected).send(&[request_packet(2, "")]);
        take(&entered);
        let _ = connection.shutdown(Some(Duration::ZERO));

        let second = connection.open().unwrap();
        let mut peer = take(&connected);
        drop(release);
        let error = take(&told).unwrap_err();
        assert!(error.is_closed(), "{error:?}");
        assert_eq!(error.outcome(), Outcome::NotSent);
        let _pending = second.submit(asking("ours")).unwrap();
        assert_eq!(peer.request().payload(), b"ours");
    });
}

#[test]
fn an_answer_that_blocks_those_behind_it_and_those_in_the_making_are_all_lost() {
    // Each is found in another place when the end is forced: with the handler, in the write, and
    // behind it in the queue or unstarted.
    watched(|| {
        let (here, mut there) = UnixStream::pair().unwrap();
        let (enter, entered) = crossbeam_channel::bounded(1);
        let (_release, released) = crossbeam_channel::bounded::<()>(0);
        let guard = Connection::builder()
            .handler_threads(2)
            .handler(move |incoming: Incoming| {
                if incoming.tag().get() == 2 {
                    enter.send(())?;
                    let _ = released.recv();
                }
                Ok(vec![0; 4 << 20])
            })
            .open(Transport::try_from(here).unwrap())
            .unwrap();
        let requests = [2, 3, 4].map(|tag| request_packet(tag, "").transcribe());
        io::Write::write_all(&mut there, &requests.concat()).unwrap();
        take(&entered);
        there.read_exact(&mut [0]).unwrap();
        let report = guard.shutdown(Some(Duration::from_millis(30)));
        assert_eq!(report.answers_lost(), 3, "{report:?}");
    });
}

#[test]
fn an_answer_that_is_held_for_company_is_lost_in_an_abort() {
    // It may have left the queue and lie in the write buffer. What the peer has is not lost.
    watched(|| {
        let (here, there) = UnixStream::pair().unwrap();
        let mut peer = ScriptedPeer::on(there.try_clone().unwrap());
        let (gate, handler) = Gate::new();
        let guard = Connection::builder()
            .flush_grace(Duration::from_secs(3600))
            .handler_threads(1)
            .handler(handler)
            .open(Transport::try_from(here).unwrap())
            .unwrap();
        peer.send(&[2, 3, 4].map(|tag| request_packet(tag, "")));
        gate.arrived();
        gate.release_one();
        gate.arrived();
        let report = guard.abort();
        let delivered = PacketReader::new(BufReader::new(there))
            .filter(|packet| packet.as_ref().unwrap().is_response())
            .count() as u64;
        assert_eq!(report.answers_lost(), 3 - delivered, "{report:?}");
    });
}

#[test]
fn a_connection_that_is_over_keeps_no_hook() {
    // Hooks hold descriptors, and somebody may keep a clone of the connection for ever.
    type End = fn(&OpenGuard) -> CloseReport;
    let ends: [End; 2] = [|guard| guard.shutdown(None), |guard| guard.abort()];
    for end in ends {
        watched(move || {
            let (here, there) = UnixStream::pair().unwrap();
            let mut peer = ScriptedPeer::on(there);
            let (held, dropped) = crossbeam_channel::bounded::<()>(0);
            let also_held = held.clone();
            let reader = BufReader::new(here.try_clone().unwrap());
            let transport = Transport::new(reader, here.try_clone().unwrap())
                .with_shutdown(move || {
                    let _ = &held;
                    let _ = here.shutdown(Shutdown::Both);
                })
                .with_diagnosis(move || {
                    let _ = &also_held;
                    None
                });
            let guard = Connection::builder().open(transport).unwrap();
            let kept = Connection::clone(&guard);
            peer.goodbye();
            drop(end(&guard));
            drop(guard);
            assert!(dropped.recv().is_err(), "nobody sends");
            assert!(!kept.is_open());
        });
    }
}
