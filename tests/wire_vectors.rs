//! The golden vectors: every packet and every malformed input recorded from the reference
//! implementation, through each way of reading and writing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation of a helper fails its test"
)]

#[path = "common/scripted.rs"]
mod scripted;
#[path = "common/vectors.rs"]
mod vectors;

use std::io::Cursor;

use packetstream::wire::{
    ChannelId, DecodeError, Decoder, Flags, Packet, PacketKind, PacketWriter, RequestType, Tag,
};
use scripted::{hex, unhex};
use serde_json::Value;
use sha2::{Digest, Sha256};
use vectors::{prescribed_error, scan, vectors};

fn payload_of(vector: &Value) -> Vec<u8> {
    let payload = &vector["payload"];
    if let Some(hex) = payload["hex"].as_str() {
        return unhex(hex);
    }
    if let Some(unit) = payload["repeat_hex"].as_str() {
        return unhex(unit).repeat(usize::try_from(payload["count"].as_u64().unwrap()).unwrap());
    }
    let seed = payload["pattern_seed"].as_u64().unwrap();
    let len = payload["len"].as_u64().unwrap();
    (0..len)
        .map(|i| u8::try_from((seed + i * 167 + (i >> 8) * 13) % 256).unwrap())
        .collect()
}

fn wire_of(vector: &Value) -> Vec<u8> {
    let mut wire = unhex(vector["head_hex"].as_str().unwrap());
    wire.extend(payload_of(vector));
    wire
}

/// The packet that a vector describes; `None` if no `Packet` can stand for it.
fn packet_of(vector: &Value) -> Option<Packet> {
    let channel = ChannelId::new(vector["channel"].as_u64()?);
    let tag = Tag::new(vector["tag"].as_u64()?);
    let flags = vector["flags"].as_u64()?;
    let payload = payload_of(vector);
    if vector["is_request"] == false {
        let application = Flags::new(flags >> 1)?;
        return Packet::response(channel, tag, flags & 1 == 1, application, payload).ok();
    }
    let on_the_wire = vector["rq_type"].as_u64()?;
    let flags = Flags::new(flags)?;
    if on_the_wire > 0 {
        let request_type = RequestType::new(on_the_wire - 1).unwrap();
        return Some(Packet::request(channel, tag, request_type, flags, payload));
    }
    let plain = channel == ChannelId::DEFAULT && flags.is_empty() && payload.is_empty();
    match (plain, tag.get()) {
        (true, 0) => Some(Packet::END_OF_STREAM),
        (true, 1) => Some(Packet::END_OF_REQUESTS),
        _ => None,
    }
}

fn decode_bytewise(wire: &[u8]) -> Result<Option<Packet>, DecodeError> {
    let mut decoder = Decoder::new();
    for octet in wire.chunks(1) {
        let mut input = octet;
        let packet = decoder.decode(&mut input)?;
        assert!(input.is_empty(), "an octet of the packet was left");
        if packet.is_some() {
            assert!(decoder.is_between_packets());
            return Ok(packet);
        }
    }
    decoder.finish().map(|()| None)
}

fn assert_fields(packet: &Packet, vector: &Value) {
    let flags = vector["flags"].as_u64().unwrap();
    assert_eq!(packet.channel().get(), vector["channel"], "{vector}");
    assert_eq!(packet.tag().get(), vector["tag"], "{vector}");
    assert_eq!(packet.payload(), payload_of(vector), "{vector}");
    match packet.kind() {
        PacketKind::Request(request_type) => {
            assert_eq!(request_type.get() + 1, vector["rq_type"], "{vector}");
            assert_eq!(packet.flags().bits(), flags, "{vector}");
        }
        PacketKind::Response { ok } => {
            assert_eq!(vector["is_request"], false, "{vector}");
            assert_eq!(packet.flags().bits() << 1 | u64::from(ok), flags);
        }
        PacketKind::EndOfRequests | PacketKind::EndOfStream => {
            assert_eq!((&vector["rq_type"], flags), (&Value::from(0), 0));
        }
    }
}

#[test]
fn every_valid_packet_decodes_to_its_fields() {
    for vector in vectors("packet") {
        let Some(expected) = packet_of(&vector) else {
            continue;
        };
        let wire = wire_of(&vector);
        let (parsed, len) = Packet::parse(&wire).unwrap();
        assert_eq!(len, wire.len(), "{vector}");
        assert_fields(&parsed, &vector);
        assert_eq!(parsed, expected);
        if wire.len() < 100_000 {
            assert_eq!(decode_bytewise(&wire), Ok(Some(expected.clone())));
        }
        assert_eq!(scan(Cursor::new(wire)), (vec![expected], Ok(())));
    }
}

#[test]
fn every_valid_packet_encodes_to_its_octets() {
    for vector in vectors("packet") {
        let Some(packet) = packet_of(&vector) else {
            continue;
        };
        let wire = packet.transcribe();
        assert_eq!(wire.len(), vector["wire_len"], "{vector}");
        match vector["wire_hex"].as_str() {
            Some(expected) => assert_eq!(hex(&wire), expected),
            None => assert_eq!(hex(&Sha256::digest(&wire)), vector["wire_sha256"]),
        }
        let mut head = Vec::new();
        packet.encode_head(&mut head);
        assert_eq!(hex(&head), vector["head_hex"]);
        assert_eq!(packet.encoded_len(), vector["wire_len"]);

        let mut written = Vec::new();
        packet.write(&mut written).unwrap();
        assert_eq!(written, wire);
        let mut writer = PacketWriter::new(Vec::new());
        writer.write_packet(&packet).unwrap();
        writer.flush().unwrap();
        assert_eq!(writer.into_inner(), wire);
    }
}

/// Wire type 0 belongs to the two end packets, and numbers end at 64 bits; nothing else in the
/// vectors may be refused.
#[test]
fn packets_that_cannot_be_represented_are_refused_by_name() {
    let mut refused = 0;
    for vector in vectors("packet") {
        if packet_of(&vector).is_some() {
            continue;
        }
        refused += 1;
        let wire = wire_of(&vector);
        let error = Packet::parse(&wire).unwrap_err();
        if vector["u64"] == false {
            let too_large = matches!(error, DecodeError::IntegerTooLarge { .. });
            assert!(too_large, "{error} for {vector}");
        } else {
            assert_eq!(vector["rq_type"], 0, "{vector}");
            assert_eq!(error, DecodeError::MalformedEndPacket, "{vector}");
        }
        assert_eq!(decode_bytewise(&wire), Err(error));
        assert_eq!(scan(Cursor::new(wire)), (Vec::new(), Err(error)));
    }
    assert!(refused > 10, "only {refused}");
}

#[test]
fn arbitrary_octets_decode_as_prescribed() {
    for vector in vectors("bytes") {
        let name = vector["name"].as_str().unwrap();
        let octets = unhex(vector["hex"].as_str().unwrap());
        let recorded = &vector["parse"];
        let first_is_good = name.starts_with("good request, then");
        match prescribed_error(name).filter(|_| !first_is_good) {
            Some(error) => {
                assert_eq!(Packet::parse(&octets), Err(error), "{name}");
                assert_eq!(decode_bytewise(&octets), Err(error), "{name}");
            }
            None if recorded["outcome"] == "packet" => {
                let (packet, consumed) = Packet::parse(&octets).unwrap();
                assert_eq!(consumed, recorded["consumed"], "{name}");
                assert_fields(&packet, &recorded["packet"]);
                let canonical = recorded["canonical_hex"].as_str().unwrap();
                assert_eq!(hex(&packet.transcribe()), canonical, "{name}");
                let is_end = packet == Packet::END_OF_STREAM;
                assert_eq!(is_end, recorded["is_eof"], "{name}");
                let is_end = packet == Packet::END_OF_REQUESTS;
                assert_eq!(is_end, recorded["is_erq"], "{name}");
            }
            None => {
                let error = Packet::parse(&octets).unwrap_err();
                let truncated = matches!(error, DecodeError::Truncated { .. });
                assert!(truncated, "{error} for {name}");
            }
        }
    }
}

#[test]
fn streams_of_arbitrary_octets_end_as_prescribed() {
    for vector in vectors("bytes") {
        let name = vector["name"].as_str().unwrap();
        let octets = unhex(vector["hex"].as_str().unwrap());
        let (packets, end) = scan(Cursor::new(octets));
        if let Some(at) = packets.iter().position(|p| *p == Packet::END_OF_STREAM) {
            // The reference's scan goes on behind the end, its connections do not.
            assert_eq!((at + 1, end), (packets.len(), Ok(())), "{name}");
            continue;
        }
        if let Some(error) = prescribed_error(name) {
            assert_eq!(end, Err(error), "{name}");
            let good_ones = usize::from(name.starts_with("good request"));
            assert_eq!(packets.len(), good_ones, "{name}");
            continue;
        }
        assert_eq!(packets.len(), vector["scan"]["packets"], "{name}");
        if vector["scan"]["end"] == "clean" {
            assert_eq!(end, Ok(()), "{name}");
        } else {
            let truncated = matches!(end, Err(DecodeError::Truncated { .. }));
            assert!(truncated, "{end:?} for {name}");
        }
    }
}
