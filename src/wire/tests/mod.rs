//! Properties of the codec as a whole, over random packets and random octets.

use super::*;
use crate::Error;

mod reader;

const SEED: u64 = 20_240_630;

fn random_number(random: &mut fastrand::Rng) -> u64 {
    random.u64(..) >> random.u32(0..64)
}

fn random_packet(random: &mut fastrand::Rng, longest: usize) -> Packet {
    let channel = match random.u8(0..3) {
        0 => ChannelId::new(random_number(random)),
        _ => ChannelId::DEFAULT,
    };
    let tag = Tag::new(random_number(random));
    let len = random.usize(0..=longest) >> random.u32(0..16);
    let payload: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(len).collect();
    match random.u8(0..8) {
        0 => Packet::END_OF_REQUESTS,
        1..=3 => {
            let flags = Flags::new(random_number(random) >> 3).unwrap();
            Packet::response(channel, tag, random.bool(), flags, payload).unwrap()
        }
        _ => {
            let number = RequestType::new(random_number(random).saturating_sub(1)).unwrap();
            let flags = Flags::new(random_number(random) >> 2).unwrap();
            Packet::request(channel, tag, number, flags, payload)
        }
    }
}

/// Decodes all that `pieces` hold, in these pieces.
fn decode_pieces(pieces: &[&[u8]]) -> (Vec<Packet>, Result<(), DecodeError>) {
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
    let end = decoder.finish();
    (packets, end)
}

fn random_pieces<'a>(random: &mut fastrand::Rng, mut octets: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while !octets.is_empty() {
        let (piece, rest) = octets.split_at(random.usize(1..=octets.len().min(40)));
        pieces.push(piece);
        octets = rest;
    }
    pieces
}

fn singly(octets: &[u8]) -> Vec<&[u8]> {
    octets.chunks(1).collect()
}

/// Tag, flags, channel, type and payload, with the numbers as they stand on the wire.
type Plain = (u128, u128, u128, Option<u128>, Vec<u8>);

/// Decodes one packet; shares nothing with the real decoder and is as plain as it can be.
///
/// `None` if the octets are not exactly one valid packet.
fn decode_plainly(octets: &[u8]) -> Option<Plain> {
    fn number(octets: &mut &[u8]) -> Option<u128> {
        let len = octets.iter().position(|&octet| octet < 0x80)? + 1;
        let (number, rest) = octets.split_at(len);
        *octets = rest;
        let groups = number.iter().map(|&octet| u128::from(octet % 128));
        (len <= 10)
            .then(|| groups.fold(0, |value, group| value * 128 + group))
            .filter(|&value| value < 1 << 64)
    }
    let mut rest = octets;
    let len = number(&mut rest)?;
    if len != rest.len() as u128 {
        return None;
    }
    let tag = number(&mut rest)?;
    let word = number(&mut rest)?;
    let (flags, is_request, has_channel) = (word / 4, word / 2 % 2 == 1, word % 2 == 1);
    let channel = if has_channel { number(&mut rest)? } else { 0 };
    let request_type = if is_request {
        Some(number(&mut rest)?)
    } else {
        None
    };
    let is_end = tag <= 1 && flags == 0 && channel == 0 && rest.is_empty();
    (request_type != Some(0) || is_end).then(|| (tag, flags, channel, request_type, rest.to_vec()))
}

fn plain(packet: Packet) -> Plain {
    let flags = u128::from(packet.flags().bits());
    let (flags, request_type) = match packet.kind() {
        PacketKind::Request(number) => (flags, Some(u128::from(number.get()) + 1)),
        PacketKind::Response { ok } => (flags * 2 + u128::from(ok), None),
        PacketKind::EndOfRequests | PacketKind::EndOfStream => (flags, Some(0)),
    };
    let tag = u128::from(packet.tag().get());
    let channel = u128::from(packet.channel().get());
    (tag, flags, channel, request_type, packet.into_payload())
}

fn assert_matches_plain(octets: &[u8]) {
    let mut input = octets;
    let decoded = Decoder::new().decode(&mut input).ok().flatten();
    let decoded = decoded.filter(|_| input.is_empty()).map(plain);
    assert_eq!(decoded, decode_plainly(octets), "{octets:02x?}");
}

#[test]
fn packets_survive_a_round_trip_in_the_announced_length() {
    let mut random = fastrand::Rng::with_seed(SEED);
    for _ in 0..2000 {
        let packet = random_packet(&mut random, 1000);
        let octets = packet.transcribe();
        assert_eq!(octets.len() as u64, packet.encoded_len());
        assert_eq!(Packet::parse(&octets), Ok((packet.clone(), octets.len())));
        assert_matches_plain(&octets);

        let mut written = Vec::new();
        packet.write(&mut written).unwrap();
        assert_eq!(written, octets);
    }
}

#[test]
fn how_a_stream_is_cut_into_pieces_makes_no_difference() {
    let mut random = fastrand::Rng::with_seed(SEED);
    for _ in 0..100 {
        let mut packets: Vec<Packet> = std::iter::repeat_with(|| random_packet(&mut random, 300))
            .take(5)
            .collect();
        packets.push(Packet::END_OF_STREAM);
        let stream: Vec<u8> = packets.iter().flat_map(Packet::transcribe).collect();

        let pieces = random_pieces(&mut random, &stream);
        assert_eq!(decode_pieces(&pieces), (packets.clone(), Ok(())));
        assert_eq!(decode_pieces(&singly(&stream)), (packets.clone(), Ok(())));

        let mut written = PacketWriter::with_capacity(random.usize(0..500), Vec::new());
        for packet in &packets {
            written.write_packet(packet).unwrap();
        }
        written.flush().unwrap();
        assert_eq!(written.into_inner(), stream);
    }
}

#[test]
fn a_packet_may_be_split_at_every_octet() {
    let mut random = fastrand::Rng::with_seed(SEED);
    for _ in 0..100 {
        let packet = random_packet(&mut random, 40);
        let octets = packet.transcribe();
        for split in 0..=octets.len() {
            let (front, back) = octets.split_at(split);
            assert_eq!(
                decode_pieces(&[front, back]),
                (vec![packet.clone()], Ok(()))
            );
        }
    }
}

#[test]
fn every_truncation_is_said_to_be_one() {
    let mut random = fastrand::Rng::with_seed(SEED);
    for _ in 0..100 {
        let octets = random_packet(&mut random, 200).transcribe();
        let prefix_len = octets.iter().position(|&octet| octet < 0x80).unwrap() + 1;
        for cut in 0..octets.len() {
            let truncated = DecodeError::Truncated {
                received: cut as u64,
                expected: (cut >= prefix_len).then_some(octets.len() as u64),
            };
            let front = &octets[..cut];
            assert_eq!(Packet::parse(front), Err(truncated));

            let at_end = if cut == 0 { Ok(()) } else { Err(truncated) };
            assert_eq!(decode_pieces(&[front]), (Vec::new(), at_end));
            assert_eq!(decode_pieces(&singly(front)), (Vec::new(), at_end));
            match PacketReader::new(front).read_packet() {
                Ok(None) => assert_eq!(cut, 0),
                Err(Error::Decode(error)) => assert_eq!(error, truncated),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn random_octets_decode_alike_however_they_arrive() {
    let mut random = fastrand::Rng::with_seed(SEED);
    for round in 0..3000 {
        let len = random.usize(0..60);
        let mut octets: Vec<u8> = std::iter::repeat_with(|| match random.u8(0..4) {
            0 => random.u8(0x80..),
            1 => random.u8(0..4),
            2 => random.u8(0..0x20),
            _ => random.u8(..),
        })
        .take(len)
        .collect();
        if round % 2 == 0 && !octets.is_empty() {
            // A length that is right lets more of the rest be looked at.
            octets[0] = u8::try_from(octets.len() - 1).unwrap();
        }
        let whole = decode_pieces(&[&octets[..]]);
        assert_eq!(decode_pieces(&singly(&octets)), whole, "{octets:02x?}");
        assert_eq!(
            decode_pieces(&random_pieces(&mut random, &octets)),
            whole,
            "{octets:02x?}"
        );
        assert_matches_plain(&octets);

        let mut reader = PacketReader::new(&octets[..]);
        let read: Vec<Packet> = reader.by_ref().map_while(Result::ok).collect();
        assert_eq!(read, whole.0, "{octets:02x?}");
    }
}

#[test]
fn valid_packets_with_an_octet_changed_decode_as_the_plain_decoder_says() {
    let mut random = fastrand::Rng::with_seed(SEED);
    for _ in 0..3000 {
        let mut octets = random_packet(&mut random, 20).transcribe();
        let position = random.usize(0..octets.len());
        octets[position] = random.u8(..);
        assert_matches_plain(&octets);
    }
}

/// The common kind of packet is decoded by code of its own, which must not differ from the rest.
#[test]
fn packets_are_decoded_the_same_by_the_short_way_and_by_the_long_one() {
    const OCTETS: [u8; 9] = [0, 1, 2, 3, 5, 0x7f, 0x80, 0x81, 0xff];
    const LEN: u32 = 6;
    for number in 0..OCTETS.len().pow(LEN) {
        let mut rest = number;
        let mut input = [0; LEN as usize];
        for octet in &mut input {
            *octet = OCTETS[rest % OCTETS.len()];
            rest /= OCTETS.len();
        }
        let mut left = &input[..];
        let decoded = Decoder::new().decode(&mut left);
        let taken = input.len() - left.len();
        match Packet::parse(&input) {
            Ok((packet, len)) => {
                assert_eq!((decoded, taken), (Ok(Some(packet)), len), "{input:x?}");
            }
            Err(DecodeError::Truncated { .. }) => assert_eq!(decoded, Ok(None), "{input:x?}"),
            Err(error) => assert_eq!(decoded, Err(error), "{input:x?}"),
        }
        let mut whole = &input[..];
        let batched = Decoder::new().decode_whole(&mut whole);
        let (packet, len) =
            Packet::parse(&input).map_or((None, 0), |(packet, len)| (Some(packet), len));
        assert_eq!(
            (batched, input.len() - whole.len()),
            (packet, len),
            "{input:x?}"
        );
    }
}
