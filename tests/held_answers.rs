//! An answer is held for company only while company can come: with a grace of an hour, whatever is
//! held by mistake does not come at all (law L11).
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

use std::time::Duration;

use common::watched;
use packetstream::{Connection, ConnectionBuilder, Incoming, Packet, Responder};
use pairs::{ScriptedPeer, echo, request_packet, take};

/// Held for an hour, or not at all; one request at a time.
fn patient() -> ConnectionBuilder {
    Connection::builder()
        .flush_grace(Duration::from_secs(3600))
        .linger(Some(Duration::ZERO))
        .handler_threads(1)
}

fn requests(number: u64) -> Vec<Packet> {
    (2..2 + number).map(|tag| request_packet(tag, "")).collect()
}

#[test]
fn answers_go_out_while_the_inbound_budget_pauses_reading() {
    // Complete requests lie in the read buffer, but none is read before answers have gone.
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let _guard = patient()
            .max_inbound_requests(1)
            .handler(echo)
            .open(transport)
            .unwrap();
        peer.send(&requests(20));
        for tag in 2..22 {
            peer.response(tag);
        }
    });
}

#[test]
fn an_answer_goes_out_when_reading_pauses_for_requests_that_are_deferred() {
    // More requests lie in the read buffer than the budget admits, and no handler is left to run
    // that could flush on its way out.
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let (defer, deferred) = crossbeam_channel::unbounded::<Responder>();
        let _guard = patient()
            .max_inbound_requests(100)
            .deferred_handler(move |_, responder| defer.send(responder).unwrap())
            .open(transport)
            .unwrap();
        peer.send(&requests(200));
        let mut kept: Vec<_> = (0..100).map(|_| take(&deferred)).collect();
        kept.remove(0).respond("");
        peer.response(2);
    });
}

#[test]
fn an_answer_goes_out_when_the_request_it_was_held_for_is_deferred() {
    // The second request is unstarted when the first is answered, and then answers nothing itself.
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let (defer, deferred) = crossbeam_channel::unbounded::<Responder>();
        let _guard = patient()
            .deferred_handler(move |incoming: Incoming, responder| {
                if incoming.tag().get() == 2 {
                    responder.respond("");
                } else {
                    defer.send(responder).unwrap();
                }
            })
            .open(transport)
            .unwrap();
        peer.send(&requests(2));
        let _kept = take(&deferred);
        peer.response(2);
    });
}
