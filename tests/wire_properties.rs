//! Properties of the codec over random packets and random octets, from fixed seeds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation of a helper fails its test"
)]

#[path = "common/scripted.rs"]
mod scripted;

use std::io::{self, BufReader, Read};

use fastrand::Rng;
use packetstream::Error;
use packetstream::wire::{
    ChannelId, DecodeError, Decoder, Flags, Packet, PacketReader, PacketWriter, RequestType, Tag,
    varint,
};
use scripted::hex;

const ROUNDS: u64 = 2_000;

/// Any of the 64 bit numbers, small ones and the edges of the octet counts more often.
fn number(rng: &mut Rng, max: u64) -> u64 {
    let bits = rng.u32(0..=64);
    let limit = 1_u64.checked_shl(bits).map_or(u64::MAX, |limit| limit - 1);
    match rng.u8(0..4) {
        0 => limit.min(max),
        1 => limit.saturating_add(1).min(max),
        _ => rng.u64(0..=limit.min(max)),
    }
}

fn random_packet(rng: &mut Rng) -> Packet {
    let channel = if rng.bool() { number(rng, u64::MAX) } else { 0 };
    let channel = ChannelId::new(channel);
    let tag = Tag::new(number(rng, u64::MAX));
    let payload: Vec<u8> = (0..rng.usize(0..200)).map(|_| rng.u8(..)).collect();
    match rng.u8(0..10) {
        0 => Packet::END_OF_REQUESTS,
        1..5 => {
            let flags = Flags::new(number(rng, Flags::MAX.bits())).unwrap();
            let request_type = number(rng, RequestType::MAX.get());
            let request_type = RequestType::new(request_type).unwrap();
            Packet::request(channel, tag, request_type, flags, payload)
        }
        _ => {
            let flags = Flags::new(number(rng, Flags::MAX_RESPONSE.bits())).unwrap();
            Packet::response(channel, tag, rng.bool(), flags, payload).unwrap()
        }
    }
}

fn random_octets(rng: &mut Rng, max: usize) -> Vec<u8> {
    let high_bits = rng.u8(..);
    (0..rng.usize(0..=max))
        .map(|_| {
            if rng.u8(..) < high_bits {
                rng.u8(..) | 0x80
            } else {
                rng.u8(0..8)
            }
        })
        .collect()
}

/// Gives its octets in pieces of random length, now and then interrupted.
struct Dribble<'a> {
    octets: &'a [u8],
    rng: Rng,
}

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rng.u8(0..8) == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = self
            .rng
            .usize(1..=buffer.len().min(9))
            .min(self.octets.len());
        buffer[..len].copy_from_slice(&self.octets[..len]);
        self.octets = &self.octets[len..];
        Ok(len)
    }
}

/// Feeds a decoder in the given pieces.
fn decode_in_pieces(pieces: &[&[u8]]) -> (Vec<Packet>, Result<(), DecodeError>) {
    let mut decoder = Decoder::new();
    let mut packets = Vec::new();
    for &(mut piece) in pieces {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, Err(error)),
            }
        }
        assert!(piece.is_empty() || decoder.has_ended());
    }
    let end = if decoder.has_ended() {
        Ok(())
    } else {
        decoder.finish()
    };
    (packets, end)
}

fn read_all(octets: &[u8], rng: &mut Rng) -> (Vec<Packet>, Result<(), DecodeError>) {
    let dribble = Dribble {
        octets,
        rng: rng.fork(),
    };
    let capacity = rng.usize(1..64);
    let mut reader = PacketReader::new(BufReader::with_capacity(capacity, dribble));
    let mut packets = Vec::new();
    loop {
        match reader.read_packet() {
            Ok(Some(packet)) => packets.push(packet),
            Ok(None) => return (packets, Ok(())),
            Err(Error::Decode(error)) => return (packets, Err(error)),
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[test]
fn a_decoded_encoding_is_the_packet() {
    let mut rng = Rng::with_seed(1);
    for _ in 0..ROUNDS {
        let packet = random_packet(&mut rng);
        let wire = packet.transcribe();
        assert_eq!(wire.len() as u64, packet.encoded_len());
        assert!(packet.body_len() < packet.encoded_len());
        assert_eq!(Packet::parse(&wire), Ok((packet, wire.len())));
    }
}

#[test]
fn packets_follow_each_other_without_a_gap() {
    let mut rng = Rng::with_seed(2);
    for _ in 0..ROUNDS / 20 {
        let packets: Vec<Packet> = (0..20).map(|_| random_packet(&mut rng)).collect();
        let mut writer = PacketWriter::with_capacity(rng.usize(1..500), Vec::new());
        for packet in &packets {
            writer.write_packet(packet).unwrap();
        }
        writer.flush().unwrap();
        let wire = writer.into_inner();
        assert_eq!(
            wire,
            packets
                .iter()
                .flat_map(Packet::transcribe)
                .collect::<Vec<_>>()
        );
        assert_eq!(read_all(&wire, &mut rng), (packets, Ok(())));
    }
}

#[test]
fn a_packet_may_be_split_at_every_octet() {
    let mut rng = Rng::with_seed(3);
    for _ in 0..ROUNDS / 10 {
        let pair = [random_packet(&mut rng), random_packet(&mut rng)];
        let wire: Vec<u8> = pair.iter().flat_map(Packet::transcribe).collect();
        for at in 0..=wire.len() {
            let (left, right) = wire.split_at(at);
            assert_eq!(decode_in_pieces(&[left, right]), (pair.to_vec(), Ok(())));
        }
        assert_eq!(
            decode_in_pieces(&wire.chunks(1).collect::<Vec<_>>()),
            (pair.to_vec(), Ok(()))
        );
    }
}

#[test]
fn a_packet_cut_short_is_truncated_and_nothing_else() {
    let mut rng = Rng::with_seed(4);
    for _ in 0..ROUNDS / 10 {
        let wire = random_packet(&mut rng).transcribe();
        for len in 1..wire.len() {
            let cut = &wire[..len];
            let error = Packet::parse(cut).unwrap_err();
            let truncated = matches!(error, DecodeError::Truncated { .. });
            assert!(truncated, "{error} for {}", hex(cut));
            assert_eq!(decode_in_pieces(&[cut]), (Vec::new(), Err(error)));
            assert_eq!(read_all(cut, &mut rng), (Vec::new(), Err(error)));
        }
    }
}

/// However the octets come and whatever they are, all three ways of reading agree.
#[test]
fn random_octets_never_panic_and_decode_the_same_however_they_come() {
    let mut rng = Rng::with_seed(5);
    for _ in 0..ROUNDS * 5 {
        let octets = random_octets(&mut rng, 60);
        let whole = decode_in_pieces(&[&octets[..]]);
        assert_eq!(
            decode_in_pieces(&octets.chunks(1).collect::<Vec<_>>()),
            whole,
            "{}",
            hex(&octets)
        );
        assert_eq!(read_all(&octets, &mut rng), whole, "{}", hex(&octets));
        match (Packet::parse(&octets), &whole) {
            (Ok((packet, len)), (packets, _)) => {
                assert_eq!(Some(&packet), packets.first());
                assert!(len <= octets.len());
            }
            (Err(error), (packets, end)) => {
                assert!(packets.is_empty(), "{error} for {}", hex(&octets));
                assert!(octets.is_empty() || *end == Err(error), "{}", hex(&octets));
            }
        }
    }
}

/// What decodes may have come in an overlong form; what is sent of it is the minimal one.
#[test]
fn encoding_what_was_decoded_is_never_longer() {
    let mut rng = Rng::with_seed(6);
    let mut decoded = 0;
    for _ in 0..ROUNDS * 5 {
        let octets = random_octets(&mut rng, 30);
        if let Ok((packet, len)) = Packet::parse(&octets) {
            decoded += 1;
            let again = packet.transcribe();
            assert!(again.len() <= len, "{}", hex(&octets));
            assert_eq!(Packet::parse(&again), Ok((packet, again.len())));
        }
    }
    assert!(
        decoded > 100,
        "only {decoded} of the random octets were packets"
    );
}

#[test]
fn a_damaged_octet_never_panics() {
    let mut rng = Rng::with_seed(7);
    for _ in 0..ROUNDS {
        let mut wire = random_packet(&mut rng).transcribe();
        let at = rng.usize(..wire.len());
        wire[at] ^= 1 << rng.u8(0..8);
        let whole = decode_in_pieces(&[&wire[..]]);
        assert_eq!(read_all(&wire, &mut rng), whole, "{}", hex(&wire));
    }
}

/// The last octet is the only one without the high bit, and the first is never a bare high bit.
#[test]
fn integers_are_written_in_the_minimal_form() {
    let mut rng = Rng::with_seed(8);
    for _ in 0..ROUNDS * 10 {
        let value = number(&mut rng, u64::MAX);
        let mut octets = Vec::new();
        varint::encode(value, &mut octets);
        let bits = u64::BITS - value.leading_zeros();
        assert_eq!(octets.len(), bits.div_ceil(7).max(1) as usize, "{value}");
        assert_eq!(varint::encoded_len(value), octets.len());
        assert_ne!(octets[0], 0x80);
        let (last, others) = octets.split_last().unwrap();
        assert!(*last < 0x80 && others.iter().all(|octet| *octet >= 0x80));
        assert_eq!(varint::decode(&octets), Ok(Some((value, octets.len()))));
        assert_eq!(varint::decode(others), Ok(None));
    }
}

#[test]
fn integers_of_up_to_ten_octets_are_read_in_overlong_forms_too() {
    let mut rng = Rng::with_seed(9);
    for _ in 0..ROUNDS {
        let value = number(&mut rng, u64::MAX);
        let len = varint::encoded_len(value);
        for total in len..14 {
            let mut octets = vec![0x80; total - len];
            varint::encode(value, &mut octets);
            match varint::decode(&octets) {
                Ok(decoded) => assert_eq!((total <= 10, decoded), (true, Some((value, total)))),
                Err(_) => assert!(total > 10, "{value} in {total} octets"),
            }
        }
    }
}
