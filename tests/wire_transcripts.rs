//! Recorded sessions between two ends of the reference implementation: decoded, encoded again,
//! and played against this crate in place of either end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation of a helper fails its test"
)]

mod common;
#[path = "common/scripted.rs"]
mod scripted;

use std::collections::VecDeque;
use std::time::Duration;

use common::watched;
use packetstream::wire::{Packet, PacketKind, PacketReader};
use packetstream::{
    BoxError, Connection, Error, Flags, Incoming, OpenGuard, PendingResponse, Request, Response,
};
use scripted::{Gate, Peer, hex, unhex};
use serde_json::Value;

macro_rules! transcripts {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("data/transcripts/", $name, ".json")))),*]
    };
}

const TRANSCRIPTS: &[(&str, &str)] = transcripts![
    "both_close_at_once",
    "call_back",
    "client_shutdown_with_request_pending",
    "failing_request",
    "five_slow_requests",
    "grace_zero",
    "immediate_close",
    "no_handler",
    "one_sync_call",
    "out_of_order",
    "pipelined_100",
    "request_after_erq",
    "request_while_server_closing",
    "server_shutdown_idle",
    "server_shutdown_while_handling",
    "transport_ends_without_eof_packet",
];

const INDEX: &str = include_str!("data/transcripts/index.json");

fn transcript(name: &str) -> Value {
    let (_, text) = TRANSCRIPTS.iter().find(|(n, _)| *n == name).unwrap();
    serde_json::from_str(text).unwrap()
}

fn stream(transcript: &Value, who: &str) -> Vec<u8> {
    unhex(transcript[format!("{who}_hex")].as_str().unwrap())
}

fn decode(octets: &[u8]) -> Vec<Packet> {
    PacketReader::new(octets).map(Result::unwrap).collect()
}

/// (channel, tag, ok, application flags, payload)
type Answer = (u64, u64, bool, u64, Vec<u8>);

/// The responses among packets, in the order of their tags: that of arrival is a matter of time.
fn answers(packets: &[Packet]) -> Vec<Answer> {
    let mut answers: Vec<Answer> = packets
        .iter()
        .filter_map(|packet| {
            Some((
                packet.channel().get(),
                packet.tag().get(),
                packet.is_ok()?,
                packet.flags().bits(),
                packet.payload().to_vec(),
            ))
        })
        .collect();
    answers.sort();
    answers
}

/// The request types of the recorded ends. The type that takes its time answers at once: which
/// answer comes first is not what is compared.
fn reference_handler(incoming: Incoming) -> Result<Response, BoxError> {
    match incoming.request_type().get() {
        0 => {
            let reversed: Vec<u8> = incoming.payload().iter().rev().copied().collect();
            Ok(Response::new(Flags::from(0x11), reversed))
        }
        6 => Err("always fails".into()),
        7 => Ok(Response::from(incoming.into_payload())),
        8 => {
            let request = Request::new(0)
                .with_flags(incoming.flags())
                .with_payload(incoming.payload());
            Ok(incoming.connection().call(request)?)
        }
        other => Err(format!("unknown request type {other}").into()),
    }
}

fn request(request_type: u32, payload: &str) -> Request {
    Request::new(request_type).with_payload(payload)
}

/// A server as the recorded ones were: serves until the peer's end, then closes.
fn serve(guard: OpenGuard) {
    let report = guard.serve();
    assert!(report.cause().is_none(), "{report:?}");
}

#[test]
fn every_recorded_session_is_here() {
    let index: Value = serde_json::from_str(INDEX).unwrap();
    let mut recorded: Vec<&str> = index
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    recorded.sort_unstable();
    let here: Vec<&str> = TRANSCRIPTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(here, recorded);
}

#[test]
fn recorded_streams_decode_to_the_recorded_packets() {
    for (name, _) in TRANSCRIPTS {
        let transcript = transcript(name);
        for who in ["client", "server"] {
            let packets = decode(&stream(&transcript, who));
            let recorded = transcript[format!("{who}_packets")].as_array().unwrap();
            assert_eq!(packets.len(), recorded.len(), "{name} {who}");
            let mut offset = 0;
            for (packet, recorded) in packets.iter().zip(recorded) {
                let context = format!("{name} {who} {recorded}");
                let (kind, flags) = match packet.kind() {
                    PacketKind::Request(request_type) => {
                        assert_eq!(request_type.get() + 1, recorded["rq_type"], "{context}");
                        ("request", packet.flags().bits())
                    }
                    PacketKind::Response { ok } => {
                        ("response", packet.flags().bits() << 1 | u64::from(ok))
                    }
                    PacketKind::EndOfRequests => ("ERQ", 0),
                    PacketKind::EndOfStream => ("EOF", 0),
                };
                assert_eq!(kind, recorded["kind"], "{context}");
                assert_eq!(flags, recorded["flags"], "{context}");
                assert_eq!(packet.channel().get(), recorded["channel"], "{context}");
                assert_eq!(packet.tag().get(), recorded["tag"], "{context}");
                assert_eq!(packet.payload().len(), recorded["payload_len"], "{context}");
                if let Some(payload) = recorded["payload_hex"].as_str() {
                    assert_eq!(hex(packet.payload()), payload, "{context}");
                }
                assert_eq!(recorded["offset"], offset, "{context}");
                offset += packet.encoded_len();
                assert_eq!(recorded["length"], packet.encoded_len(), "{context}");
            }
        }
    }
}

#[test]
fn recorded_streams_encode_again_octet_for_octet() {
    for (name, _) in TRANSCRIPTS {
        let transcript = transcript(name);
        for who in ["client", "server"] {
            let octets = stream(&transcript, who);
            let again: Vec<u8> = decode(&octets)
                .iter()
                .flat_map(Packet::transcribe)
                .collect();
            assert_eq!(hex(&again), hex(&octets), "{name} {who}");
        }
    }
}

/// The client's stream, all at once, to a server of ours: the same answers, then ERQ and EOF.
fn play_client_against_our_server(name: &'static str) {
    watched(move || {
        let transcript = transcript(name);
        let (guard, mut peer) = Peer::open(Connection::builder().handler(reference_handler));
        let server = scripted::spawn("serve", move || serve(guard));
        peer.send(stream(&transcript, "client"));
        peer.close_write();
        let packets = peer.packets_to_end_of_stream();
        let recorded = decode(&stream(&transcript, "server"));
        assert_eq!(answers(&packets), answers(&recorded), "{name}");
        let ends = packets.iter().filter(|packet| {
            let kind = packet.kind();
            kind == PacketKind::EndOfRequests || kind == PacketKind::EndOfStream
        });
        let ends: Vec<&Packet> = ends.collect();
        assert_eq!(
            ends,
            [&Packet::END_OF_REQUESTS, &Packet::END_OF_STREAM],
            "{name}"
        );
        server.join().unwrap();
        peer.expect_end();
    });
}

/// All sessions but those where the server asks (`call_back`, `no_handler`, below) or had closed
/// before the request came.
#[test]
fn a_recorded_client_gets_the_recorded_answers_from_our_server() {
    for (name, _) in TRANSCRIPTS {
        let server_acts = ["call_back", "no_handler", "request_while_server_closing"];
        if !server_acts.contains(name) {
            play_client_against_our_server(name);
        }
    }
}

/// Plays a session in the recorded order, with this crate in place of `who`: what the other end
/// sent is sent, and what `who` sent must come from us, octet for octet.
fn replay(name: &'static str, who: &'static str) {
    watched(move || {
        let transcript = transcript(name);
        // The recorded client has no handler, but where the server calls it back.
        let builder = Connection::builder().flush_grace(Duration::ZERO);
        let (guard, mut peer) = match (who, name) {
            ("client", "call_back") | ("server", _) => {
                Peer::open(builder.handler(reference_handler))
            }
            _ => Peer::open(builder),
        };
        let mut guard = Some(guard);
        let packets = decode(&stream(&transcript, who));
        let recorded = transcript[format!("{who}_packets")].as_array().unwrap();
        let mut position = 0;
        let mut pending = VecDeque::new();
        let mut closing = None;
        for event in transcript["events"].as_array().unwrap() {
            let ours = event["who"] == who;
            match event["event"].as_str().unwrap() {
                "bytes" if !ours => peer.send_hex(event["hex"].as_str().unwrap()),
                "bytes" => {
                    let octets = event["hex"].as_str().unwrap();
                    let end = position + octets.len() as u64 / 2;
                    for (packet, recorded) in packets.iter().zip(recorded) {
                        let starts_here =
                            (position..end).contains(&recorded["offset"].as_u64().unwrap());
                        let by_a_handler = (name, who) == ("call_back", "server");
                        if starts_here && !by_a_handler {
                            pending.extend(submit_again(guard.as_ref(), packet));
                        }
                    }
                    position = end;
                    peer.expect_hex(octets);
                }
                "result" if ours => expect_result(pending.pop_front().unwrap(), &event["value"]),
                "close begins" if ours => {
                    for pending in pending.drain(..) {
                        pending.wait().unwrap();
                    }
                    let guard = guard.take().unwrap();
                    closing = Some(scripted::spawn("close", move || guard.close()));
                }
                _ => {}
            }
        }
        let report = closing.unwrap().join().unwrap();
        assert!(report.cause().is_none(), "{name} {who}: {report:?}");
        assert!(report.peer_said_goodbye(), "{name} {who}");
        drop(report);
        peer.expect_end();
    });
}

fn submit_again(guard: Option<&OpenGuard>, packet: &Packet) -> Option<PendingResponse> {
    let request = Request::new(packet.request_type()?)
        .with_flags(packet.flags())
        .with_payload(packet.payload());
    Some(guard.unwrap().submit(request).unwrap())
}

fn expect_result(pending: PendingResponse, recorded: &Value) {
    let (ok, flags, payload) = match pending.wait() {
        Ok(response) => (true, response.flags(), response.into_payload()),
        Err(Error::Rejected(rejection)) => (false, rejection.flags(), rejection.payload().to_vec()),
        Err(error) => panic!("{error:?}, where {recorded} was recorded"),
    };
    assert_eq!(ok, recorded["ok"]);
    assert_eq!(flags.bits(), recorded["flags"]);
    assert_eq!(hex(&payload), recorded["payload_hex"]);
}

#[test]
fn a_client_of_ours_sends_the_recorded_octets() {
    for name in [
        "both_close_at_once",
        "call_back",
        "failing_request",
        "five_slow_requests",
        "grace_zero",
        "immediate_close",
        "no_handler",
        "one_sync_call",
        "out_of_order",
        "pipelined_100",
        "server_shutdown_idle",
    ] {
        replay(name, "client");
    }
}

/// The sessions in which the order of the server's packets does not depend on time.
#[test]
fn a_server_of_ours_sends_the_recorded_octets() {
    for name in [
        "both_close_at_once",
        "call_back",
        "failing_request",
        "grace_zero",
        "immediate_close",
        "no_handler",
        "one_sync_call",
        "request_after_erq",
        "server_shutdown_idle",
    ] {
        replay(name, "server");
    }
}

/// What was recorded, but for the order: the original says that no requests follow while its
/// handler runs; ours says so once the handler cannot make any more.
#[test]
fn a_server_of_ours_that_closes_while_handling_sends_the_recorded_packets() {
    watched(|| {
        let transcript = transcript("server_shutdown_while_handling");
        let (gate, handler) = Gate::new();
        let (guard, mut peer) = Peer::open(Connection::builder().handler(handler));
        let client = decode(&stream(&transcript, "client"));
        peer.send_packet(&client[0]);
        assert_eq!(gate.entered(), b"300");
        let connection = Connection::clone(&guard);
        let closing = scripted::spawn("close", move || guard.close());
        while connection.is_open() {
            std::thread::yield_now();
        }
        gate.release();
        let mut recorded = decode(&stream(&transcript, "server"));
        assert_eq!(recorded[0], Packet::END_OF_REQUESTS);
        recorded.swap(0, 1);
        for packet in &recorded {
            peer.expect_hex(&hex(&packet.transcribe()));
        }
        for packet in &client[1..] {
            peer.send_packet(packet);
        }
        assert!(closing.join().unwrap().cause().is_none());
        peer.expect_end();
    });
}

/// As recorded: the guard goes at once, the pending request holds the connection open, and ERQ
/// and EOF follow its answer.
#[test]
fn a_client_of_ours_that_closes_with_a_request_pending_sends_the_recorded_octets() {
    watched(|| {
        let transcript = transcript("client_shutdown_with_request_pending");
        let (guard, mut peer) = Peer::open(Connection::builder());
        let pending = guard.submit(request(7, "300")).unwrap();
        let client = decode(&stream(&transcript, "client"));
        peer.expect_packet(&client[0]);
        drop(guard);
        let server = decode(&stream(&transcript, "server"));
        peer.send_packet(&server[0]);
        assert_eq!(pending.wait().unwrap().payload(), b"300");
        for packet in &client[1..] {
            peer.expect_hex(&hex(&packet.transcribe()));
        }
        peer.goodbye();
        peer.expect_end();
    });
}
