//! How a connection ends in order, from either side, and what its report says.
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

use std::net::Shutdown;
use std::time::Duration;

use common::watched;
use packetstream::{Connection, Error, OpenGuard, Outcome, Packet, PacketKind, Transport};
use pairs::{Gate, ScriptedPeer, answer_to, asking, echo, request_packet, start};

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
fn finish_requests_is_said_once_and_ends_ours_only() {
    watched(|| {
        let (guard, mut peer) = serving(None);
        guard.finish_requests().unwrap();
        guard.finish_requests().unwrap();
        let error = guard.submit(asking("x")).unwrap_err();
        assert!(matches!(error, Error::RequestsFinished), "{error:?}");
        assert_eq!(error.outcome(), Outcome::NotSent);
        peer.send(&[request_packet(2, "yours")]);
        peer.expect(&Packet::END_OF_REQUESTS);
        assert_eq!(peer.response(2).payload(), b"yours");
        let closing = start(move || guard.close());
        peer.expect(&Packet::END_OF_STREAM);
        peer.goodbye();
        assert!(closing.join().unwrap().into_result().is_ok());
    });
}

#[test]
fn requests_made_before_finish_requests_are_answered_after_it() {
    watched(|| {
        let (guard, mut peer) = serving(None);
        let pending = guard.submit(asking("x")).unwrap();
        guard.finish_requests().unwrap();
        let request = peer.request();
        peer.expect(&Packet::END_OF_REQUESTS);
        peer.answer(&request, "y");
        assert_eq!(pending.wait().unwrap().payload(), b"y");
        peer.goodbye();
    });
}

#[test]
fn after_the_peers_end_of_requests_its_requests_are_refused_and_ours_go_on() {
    watched(|| {
        let (guard, mut peer) = serving(None);
        peer.send(&[
            Packet::END_OF_REQUESTS,
            Packet::END_OF_REQUESTS,
            request_packet(2, "x"),
        ]);
        let refusal = peer.response(2);
        assert_eq!(refusal.is_ok(), Some(false));
        assert_eq!(refusal.payload(), b"requests no longer allowed");
        let pending = guard.submit(asking("mine")).unwrap();
        let request = peer.request();
        peer.answer(&request, "y");
        assert_eq!(pending.wait().unwrap().payload(), b"y");
        peer.goodbye();
    });
}

#[test]
fn end_stream_does_not_block_and_answers_what_was_accepted_first() {
    watched(|| {
        let (guard, mut peer, gate) = gated(None);
        peer.send(&[request_packet(2, "accepted")]);
        gate.arrived();
        guard.end_stream().unwrap();
        peer.expect(&Packet::END_OF_REQUESTS);
        peer.assert_silence();
        assert_eq!(
            guard.submit(asking("x")).unwrap_err().outcome(),
            Outcome::NotSent
        );
        gate.release_one();
        assert_eq!(peer.response(2).payload(), b"accepted");
        peer.expect(&Packet::END_OF_STREAM);
        peer.goodbye();
        assert!(guard.close().into_result().is_ok());
    });
}

#[test]
fn a_request_of_ours_is_answered_though_our_stream_has_ended() {
    watched(|| {
        let (guard, mut peer) = serving(None);
        let pending = guard.submit(asking("x")).unwrap();
        guard.end_stream().unwrap();
        let request = peer.request();
        peer.expect(&Packet::END_OF_REQUESTS);
        peer.expect(&Packet::END_OF_STREAM);
        peer.answer(&request, "y");
        assert_eq!(pending.wait().unwrap().payload(), b"y");
        peer.goodbye();
        assert!(guard.close().into_result().is_ok());
    });
}

#[test]
fn the_peers_goodbye_is_answered_by_itself_though_guards_are_open() {
    watched(|| {
        let (guard, mut peer) = serving(None);
        peer.send(&[
            request_packet(2, "last wish"),
            Packet::END_OF_REQUESTS,
            Packet::END_OF_STREAM,
        ]);
        let packets = peer.rest();
        let kinds: Vec<_> = packets.iter().map(Packet::kind).collect();
        assert_eq!(
            kinds
                .iter()
                .filter(|kind| **kind == PacketKind::EndOfRequests)
                .count(),
            1
        );
        assert_eq!(kinds.last(), Some(&PacketKind::EndOfStream));
        let answers: Vec<_> = packets
            .iter()
            .filter(|packet| packet.is_response())
            .collect();
        assert_eq!(answers.len(), 1, "{kinds:?}");
        assert_eq!(answers[0].payload(), b"last wish");
        drop(guard);
    });
}

#[test]
fn the_peers_goodbye_fails_our_requests_and_says_that_they_may_have_run() {
    watched(|| {
        let (guard, mut peer) = serving(None);
        let pending = guard.submit(asking("x")).unwrap();
        let late = guard.submit(asking("z")).unwrap();
        let request = peer.request();
        peer.request();
        peer.send(&[
            answer_to(&request, "y"),
            Packet::END_OF_REQUESTS,
            Packet::END_OF_STREAM,
        ]);
        assert_eq!(
            pending.wait().unwrap().payload(),
            b"y",
            "it came before the end"
        );
        let error = late.wait().unwrap_err();
        assert!(matches!(error.cause(), Error::PeerClosed), "{error:?}");
        assert_eq!(error.outcome(), Outcome::Unknown);
        let error = guard.call(asking("after")).unwrap_err();
        assert!(error.is_closed(), "{error:?}");
        assert_eq!(error.outcome(), Outcome::NotSent);
    });
}

#[test]
fn serve_returns_when_the_peer_is_done() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let client = Connection::builder().open(ours).unwrap();
        let server = Connection::builder().handler(echo).open(theirs).unwrap();
        let serving = start(move || server.serve());
        for _ in 0..10 {
            client.call(asking("x")).unwrap();
        }
        assert!(client.close().into_result().is_ok());
        let report = serving.join().unwrap();
        assert!(report.is_last() && report.peer_said_goodbye(), "{report:?}");
        assert!(report.into_result().is_ok());
    });
}

#[test]
fn an_end_of_input_between_packets_is_orderly_and_what_was_asked_is_answered() {
    // This is `server < requests > answers`.
    watched(|| {
        let (guard, mut peer, gate) = gated(None);
        let requests: Vec<_> = (2..102).map(|tag| request_packet(tag, [1])).collect();
        peer.send(&requests);
        peer.cut(Shutdown::Write);
        let serving = start(move || guard.serve());
        for _ in 0..100 {
            gate.release_one();
        }
        let packets = peer.rest();
        let answered = packets
            .iter()
            .filter(|packet| packet.is_ok() == Some(true))
            .count();
        assert_eq!(answered, 100);
        assert_eq!(packets.last(), Some(&Packet::END_OF_STREAM));
        let report = serving.join().unwrap();
        assert!(!report.peer_said_goodbye(), "{report:?}");
        assert_eq!(report.answers_lost(), 0);
        assert!(report.into_result().is_ok());
    });
}

#[test]
fn wait_end_of_stream_returns_at_the_peers_goodbye_and_at_once_ever_after() {
    watched(|| {
        let (guard, mut peer) = serving(None);
        let connection = Connection::clone(&guard);
        let waiting = start(move || connection.wait_end_of_stream());
        peer.goodbye();
        waiting.join().unwrap().unwrap();
        guard.wait_end_of_stream().unwrap();
    });
}

#[test]
fn without_a_limit_a_close_waits_for_the_peers_goodbye() {
    watched(|| {
        let (guard, mut peer) = serving(None);
        let (closed, closings) = crossbeam_channel::bounded(1);
        let closing = start(move || {
            let report = guard.close();
            closed.send(()).unwrap();
            report
        });
        peer.expect(&Packet::END_OF_REQUESTS);
        peer.expect(&Packet::END_OF_STREAM);
        pairs::assert_quiet(&closings, "the peer has not said goodbye");
        peer.goodbye();
        let report = closing.join().unwrap();
        assert!(report.peer_said_goodbye());
        assert!(report.into_result().is_ok());
    });
}

#[test]
fn a_close_first_finishes_what_the_peer_had_asked() {
    watched(|| {
        let (guard, mut peer, gate) = gated(None);
        peer.send(&[request_packet(2, "accepted")]);
        gate.arrived();
        let closing = start(move || guard.close());
        for tag in 3.. {
            peer.send(&[request_packet(tag, "probe")]);
            let response = peer.response(tag);
            if response.is_ok() == Some(false) {
                assert_eq!(response.payload(), b"rejecting request: shutting down");
                break;
            }
        }
        gate.release_one();
        assert_eq!(peer.response(2).payload(), b"accepted");
        peer.expect(&Packet::END_OF_REQUESTS);
        peer.expect(&Packet::END_OF_STREAM);
        peer.goodbye();
        let report = closing.join().unwrap();
        assert_eq!(report.answers_lost(), 0);
        assert!(report.into_result().is_ok());
    });
}

#[test]
fn a_request_that_comes_after_our_end_of_stream_is_dropped_and_counted() {
    watched(|| {
        let (guard, mut peer) = serving(None);
        let closing = start(move || guard.close());
        peer.expect(&Packet::END_OF_REQUESTS);
        peer.expect(&Packet::END_OF_STREAM);
        peer.send(&[
            request_packet(2, "x"),
            Packet::END_OF_REQUESTS,
            Packet::END_OF_STREAM,
        ]);
        let report = closing.join().unwrap();
        assert_eq!(report.requests_dropped(), 1, "{report:?}");
        assert!(report.peer_said_goodbye() && report.cause().is_none());
        assert!(report.into_transport().is_some());
    });
}
