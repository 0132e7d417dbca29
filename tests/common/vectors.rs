//! The golden vectors recorded from the reference implementation, and what PROTOCOL says of them.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::io::{BufReader, Read};

use packetstream::Error;
use packetstream::wire::{DEFAULT_MAX_PACKET_LEN, DecodeError, Field, Packet, PacketReader};
use serde_json::Value;

const VECTORS: &str = include_str!("../data/vectors.jsonl");

pub fn vectors(kind: &str) -> Vec<Value> {
    let vectors: Vec<Value> = VECTORS
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|vector: &Value| vector["kind"] == kind)
        .collect();
    assert!(vectors.len() > 50, "only {} of {kind}", vectors.len());
    vectors
}

/// Reads all packets, and says how it ended.
pub fn scan(input: impl Read) -> (Vec<Packet>, Result<(), DecodeError>) {
    let mut reader = PacketReader::new(BufReader::with_capacity(7, input));
    let mut packets = Vec::new();
    loop {
        match reader.read_packet() {
            Ok(Some(packet)) => packets.push(packet),
            Ok(None) => return (packets, Ok(())),
            Err(Error::Decode(error)) => return (packets, Err(error)),
            Err(error) => panic!("reading memory failed: {error}"),
        }
    }
}

/// What PROTOCOL prescribes where the reference dies of an exception or does otherwise; the rest
/// is as recorded.
pub fn prescribed_error(name: &str) -> Option<DecodeError> {
    use DecodeError::{FieldsBeyondEnd, IntegerTooLarge, MalformedEndPacket, PacketTooLong};
    let limit = DEFAULT_MAX_PACKET_LEN;
    let error = match name {
        "length 0"
        | "length 0 then a good packet"
        | "length 1: unterminated tag"
        | "overlong length zero 80 00"
        | "all zero"
        | "good request, then zeros" => FieldsBeyondEnd { field: Field::Tag },
        "length 1: tag only" | "length 2: unterminated flags" => {
            FieldsBeyondEnd { field: Field::Word }
        }
        "has_channel without channel" | "has_channel request: unterminated channel" => {
            FieldsBeyondEnd {
                field: Field::Channel,
            }
        }
        "request without rq_type"
        | "has_channel request: channel but no rq_type"
        | "request: unterminated rq_type"
        | "length shorter than the fields, next bytes would complete them"
        | "request without rq_type, then a good packet" => FieldsBeyondEnd {
            field: Field::RequestType,
        },
        "overlong length, 19 superfluous bytes"
        | "length 2**64 then nothing"
        | "length 2**64+3 and three bytes"
        | "unterminated length, 30 bytes" => IntegerTooLarge {
            field: Field::Length,
        },
        "overlong tag, 12 superfluous bytes" | "tag 2**64" | "tag 2**100" => {
            IntegerTooLarge { field: Field::Tag }
        }
        "flag word 2**64" => IntegerTooLarge { field: Field::Word },
        "channel 2**64" => IntegerTooLarge {
            field: Field::Channel,
        },
        "overlong rq_type, 10 superfluous bytes" | "rq_type 2**64" => IntegerTooLarge {
            field: Field::RequestType,
        },
        "length 2**40 then nothing" => PacketTooLong {
            len: 1 << 40,
            limit,
        },
        "length 2**63 then nothing" => PacketTooLong {
            len: 1 << 63,
            limit,
        },
        "request with tag 0, rq_type 0 on the wire and a payload" => MalformedEndPacket,
        name if name.starts_with("malformed E") => MalformedEndPacket,
        _ => return None,
    };
    Some(error)
}
