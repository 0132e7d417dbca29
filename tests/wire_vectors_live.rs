//! The recorded malformed input, sent to a live connection that has a handler and one request of
//! its own under way: what it answers, what it runs, what becomes of its request.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation of a helper fails its test"
)]

mod common;
#[path = "common/scripted.rs"]
mod scripted;
#[path = "common/vectors.rs"]
mod vectors;

use common::watched;
use packetstream::wire::{DecodeError, Flags, Packet, PacketKind};
use packetstream::{BoxError, Connection, Error, Incoming, Outcome, Response};
use scripted::{Peer, ask, request_packet, unhex};
use serde_json::Value;
use vectors::{prescribed_error, scan, vectors};

/// How the peer's direction ends for a connection, by PROTOCOL.
#[derive(Debug, PartialEq)]
enum End {
    Open,
    Goodbye,
    BetweenPackets,
    Decode(DecodeError),
    Text,
}

/// What a connection has to do on a stream: a model small enough to be read.
struct Expectation {
    end: End,
    answers: Vec<Packet>,
    handled: usize,
    refuses: bool,
    answered: Option<(bool, Vec<u8>)>,
}

fn expectation(octets: &[u8], then_eof: bool) -> Expectation {
    let (packets, scanned) = scan(octets);
    let mut this = Expectation {
        end: match scanned {
            Err(DecodeError::Truncated { .. }) if !then_eof => End::Open,
            Err(error) => End::Decode(error),
            Ok(()) if packets.last() == Some(&Packet::END_OF_STREAM) => End::Goodbye,
            Ok(()) if then_eof => End::BetweenPackets,
            Ok(()) => End::Open,
        },
        answers: Vec::new(),
        handled: 0,
        refuses: false,
        answered: None,
    };
    // What comes first and answers nothing is no stream of ours.
    let is_answer = |packet: &Packet| {
        packet.is_response() && (packet.channel().get(), packet.tag().get()) != (0, 2)
    };
    if packets.first().is_some_and(is_answer) {
        this.end = End::Text;
        return this;
    }
    let text = |octet: &u8| octet.is_ascii_graphic() || b" \t\r\n\x0b\x0c".contains(octet);
    if !octets.is_empty() && octets.iter().take(64).all(text) && matches!(this.end, End::Decode(_))
    {
        this.end = End::Text;
    }
    for packet in packets {
        let (channel, tag) = (packet.channel(), packet.tag());
        let (ok, flags, payload): (_, _, &[u8]) = match packet.kind() {
            PacketKind::EndOfRequests => {
                this.refuses = true;
                continue;
            }
            PacketKind::Response { ok } => {
                if (channel.get(), tag.get()) == (0, 2) && this.answered.is_none() {
                    this.answered = Some((ok, packet.into_payload()));
                }
                continue;
            }
            PacketKind::Request(_) if this.refuses => {
                (false, Flags::NONE, b"requests no longer allowed")
            }
            PacketKind::Request(_) => {
                this.handled += 1;
                (true, Flags::from(1), b"R")
            }
            PacketKind::EndOfStream => continue,
        };
        let answer = Packet::response(channel, tag, ok, flags, payload).unwrap();
        this.answers.push(answer);
    }
    this
}

fn sorted(mut packets: Vec<Packet>) -> Vec<Vec<u8>> {
    packets.sort_by_key(|packet| (packet.channel(), packet.tag()));
    packets.iter().map(Packet::transcribe).collect()
}

fn assert_cause(error: &Error, end: &End, name: &str) {
    let as_prescribed = match (end, error.cause()) {
        (End::Goodbye, Error::PeerClosed)
        | (End::BetweenPackets, Error::EndOfInput(_))
        | (End::Text, Error::NotPacketstream(_)) => true,
        (End::Decode(expected), Error::Decode(got)) => expected == got,
        _ => false,
    };
    assert!(as_prescribed, "{name}: {error:?}, for {end:?}");
}

/// Plays one vector against a live connection that has a handler and one request of its own.
fn live(vector: &Value, then_eof: bool) {
    let name = vector["name"].as_str().unwrap();
    let octets = unhex(vector["hex"].as_str().unwrap());
    let expected = expectation(&octets, then_eof);
    let (tell, calls) = crossbeam_channel::unbounded();
    let handler = move |incoming: Incoming| -> Result<Response, BoxError> {
        tell.send(incoming.request_type())?;
        Ok(Response::new(Flags::from(1), b"R"))
    };
    let (guard, mut peer) = Peer::open(Connection::builder().handler(handler));
    let pending = guard.submit(ask("mine")).unwrap();
    peer.expect_packet(&request_packet(0, 2, 0, b"mine"));

    peer.send(&octets);
    if then_eof {
        peer.close_write();
    }
    let mut answers: Vec<Packet> = Vec::new();
    if expected.end == End::Open {
        answers.extend(expected.answers.iter().map(|_| peer.next_packet()));
    }
    if expected.end == End::Open {
        if octets.is_empty() || scan(&octets[..]).1.is_ok() {
            let probe = request_packet(0, 99, 0, b"alive?");
            peer.send_packet(&probe);
            let (ok, flags, text): (_, _, &[u8]) = if expected.refuses {
                (false, Flags::NONE, b"requests no longer allowed")
            } else {
                (true, Flags::from(1), b"R")
            };
            let answer = Packet::response(probe.channel(), probe.tag(), ok, flags, text);
            peer.expect_packet(&answer.unwrap());
        }
        assert!(guard.is_open(), "{name}");
        assert_eq!(pending.is_finished(), expected.answered.is_some(), "{name}");
        peer.close_write();
    }
    let rest = peer.packets_to_end_of_stream();
    let (end, others) = rest.split_last().unwrap();
    assert_eq!(end, &Packet::END_OF_STREAM, "{name}");
    let (goodbyes, late): (Vec<_>, Vec<_>) = others
        .iter()
        .cloned()
        .partition(|packet| *packet == Packet::END_OF_REQUESTS);
    assert_eq!(goodbyes.len(), 1, "{name}: {rest:?}");
    answers.extend(late);
    assert_eq!(sorted(answers), sorted(expected.answers), "{name}");
    if expected.end != End::Open {
        assert_eq!(calls.len(), expected.handled, "{name}");
    }

    match (pending.wait(), expected.answered) {
        (Ok(response), Some((true, payload))) => assert_eq!(response.payload(), payload, "{name}"),
        (Err(Error::Rejected(rejection)), Some((false, payload))) => {
            assert_eq!(rejection.payload(), payload, "{name}");
        }
        (Err(error), None) => {
            assert_eq!(error.outcome(), Outcome::Unknown, "{name}: {error:?}");
            if expected.end != End::Open {
                assert_cause(&error, &expected.end, name);
            }
        }
        (got, expected) => panic!("{name}: {got:?}, where {expected:?} was prescribed"),
    }
    let report = guard.close();
    let goodbye = expected.end == End::Goodbye;
    assert_eq!(report.peer_said_goodbye(), goodbye, "{name}");
    match expected.end {
        End::Goodbye | End::BetweenPackets => assert!(report.cause().is_none(), "{name}"),
        End::Open => {}
        end => assert_cause(report.cause().expect(name), &end, name),
    }
    drop(report);
    peer.expect_end();
}

/// A tag may be used again once its answer is on its way, so the second of two requests with one
/// tag is served or ends the connection, as it happens; `answers` pins both by a held handler.
const DEPENDS_ON_TIME: &str = "two requests with the same tag, in sequence";

#[test]
fn a_live_connection_answers_every_stream_and_then_its_end_as_prescribed() {
    for vector in vectors("bytes") {
        if vector["name"] != DEPENDS_ON_TIME {
            watched(move || live(&vector, true));
        }
    }
}

#[test]
fn a_live_connection_answers_every_stream_that_stays_open_as_prescribed() {
    for vector in vectors("bytes") {
        if vector["name"] != DEPENDS_ON_TIME {
            watched(move || live(&vector, false));
        }
    }
}

/// The model above must not drift: where PROTOCOL follows the reference, so does the model.
#[test]
fn the_model_differs_from_the_recordings_only_where_the_protocol_says_so() {
    for vector in vectors("bytes") {
        let name = vector["name"].as_str().unwrap();
        let octets = unhex(vector["hex"].as_str().unwrap());
        for (then_eof, key) in [(true, "live_then_eof"), (false, "live_stays_open")] {
            let model = expectation(&octets, then_eof);
            let recorded = &vector[key];
            let replies = unhex(recorded["replies_hex"].as_str().unwrap());
            let other_channel = model.answers.iter().any(|p| p.channel().get() != 0);
            // The reference drops an answer to nothing that comes first.
            let refused_here = prescribed_error(name).is_some() || model.end == End::Text;
            if other_channel || refused_here || name == DEPENDS_ON_TIME {
                continue;
            }
            let (replies, _) = scan(&replies[..]);
            assert_eq!(sorted(model.answers), sorted(replies), "{name}");
            let calls = recorded["handler_calls"].as_array().unwrap().len();
            assert_eq!(model.handled, calls, "{name}");
            let done = recorded["pending"] == "DONE";
            assert_eq!(model.answered.is_some(), done, "{name}");
        }
    }
}
