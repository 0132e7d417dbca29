//! What an abort tells the peer: nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation of a helper fails its test"
)]

mod common;
#[path = "common/scripted.rs"]
mod scripted;

use common::watched;
use packetstream::{Connection, ConnectionBuilder, Error, Incoming};
use scripted::{Gate, Peer, ok_packet, spawn, submit_and_see};

fn serving_r() -> ConnectionBuilder {
    Connection::builder().handler(|_: Incoming| Ok("R"))
}

/// An abort is what a peer sees of a process that was killed.
#[test]
fn abort_sends_no_end_packets() {
    watched(|| {
        // Idle; with a request of ours unanswered; with one of the peer answered; in a callback. The
        // sender is fast enough now and then to write what it must not.
        for case in (0..4).cycle().take(400) {
            let (guard, mut peer) = Peer::open(serving_r());
            let pending = (case == 1).then(|| submit_and_see(&guard, &mut peer, "ours"));
            if case == 2 {
                peer.request(5, "answered");
                peer.expect_packet(&ok_packet(0, 5, 0, b"R"));
            }
            let report = if case == 3 {
                let (tell, told) = crossbeam_channel::bounded(1);
                let connection = Connection::clone(&guard);
                let pending = submit_and_see(&guard, &mut peer, "ours");
                pending.on_complete(move |_| tell.send(connection.abort()).unwrap());
                peer.answer(0, 2, "yes");
                drop(told.recv().unwrap());
                guard.wait_closed()
            } else {
                guard.abort()
            };
            assert!(matches!(report.cause(), Some(Error::Aborted)), "{report:?}");
            assert_eq!(peer.packets_to_end(), [], "case {case}");
            drop(pending);
        }
    });
}

/// What had been said before is not taken back, and nothing is added to it.
#[test]
fn abort_of_a_close_that_runs_sends_no_end_of_stream() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let builder = Connection::builder().handler(handler).linger(None);
        let (guard, mut peer) = Peer::open(builder);
        peer.request(5, "never answered");
        gate.entered();
        drop(submit_and_see(&guard, &mut peer, "ours"));
        let connection = Connection::clone(&guard);
        let closing = spawn("close", move || guard.close());
        peer.probe_until_refused(6);
        let _ = connection.abort();
        gate.release();
        assert!(matches!(
            closing.join().unwrap().cause(),
            Some(Error::Aborted)
        ));
        assert_eq!(peer.packets_to_end(), []);
    });
}
