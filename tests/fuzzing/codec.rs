//! The codec reads the same from the same octets, however they come, and writes what it reads.

use std::io::{self, BufReader, Read};

use fastrand::Rng;
use packetstream::Error;
use packetstream::wire::{DecodeError, Decoder, Packet, PacketReader, PacketWriter};

/// What came of a stream.
type Scan = (Vec<Packet>, Result<(), DecodeError>);

pub fn check(octets: &[u8]) {
    let whole = decode(octets, || usize::MAX);
    let seed = octets.iter().fold(octets.len() as u64, |seed, octet| {
        (seed ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut random = Rng::with_seed(seed);
    assert_eq!(decode(octets, || 1), whole, "octet by octet");
    let most = random.usize(1..64);
    assert_eq!(
        decode(octets, || random.usize(1..=most)),
        whole,
        "in pieces"
    );
    assert_eq!(read(octets, seed), whole, "by the reader");
    assert_eq!(parse(octets), whole, "by itself");
    encode(&whole.0);
}

/// Feeds a decoder with pieces of the lengths that `next` says.
fn decode(mut octets: &[u8], mut next: impl FnMut() -> usize) -> Scan {
    let mut decoder = Decoder::new();
    let mut packets = Vec::new();
    while !octets.is_empty() && !decoder.has_ended() {
        let (mut piece, rest) = octets.split_at(next().min(octets.len()));
        octets = rest;
        while !piece.is_empty() && !decoder.has_ended() {
            match decoder.decode(&mut piece) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => assert!(piece.is_empty(), "octets were left"),
                Err(error) => {
                    assert_eq!(decoder.decode(&mut &[3, 0, 2, 0][..]), Err(error), "final");
                    return (packets, Err(error));
                }
            }
        }
    }
    (packets, decoder.finish())
}

/// Gives its octets in pieces, now and then interrupted.
struct Dribble<'a> {
    octets: &'a [u8],
    random: Rng,
}

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.random.u8(0..8) == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let most = buffer.len().min(self.octets.len());
        let amount = self.random.usize(most.min(1)..=most);
        let (piece, rest) = self.octets.split_at(amount);
        buffer[..amount].copy_from_slice(piece);
        self.octets = rest;
        Ok(amount)
    }
}

fn read(octets: &[u8], seed: u64) -> Scan {
    let mut random = Rng::with_seed(seed);
    let capacity = random.usize(1..40);
    let input = BufReader::with_capacity(capacity, Dribble { octets, random });
    let mut reader = PacketReader::new(input);
    let mut packets = Vec::new();
    let end = loop {
        match reader.read_packet() {
            Ok(Some(packet)) => packets.push(packet),
            Ok(None) => break Ok(()),
            Err(Error::Decode(error)) => break Err(error),
            Err(error) => panic!("reading memory failed: {error}"),
        }
    };
    (packets, end)
}

fn parse(mut octets: &[u8]) -> Scan {
    let mut packets = Vec::new();
    while !octets.is_empty() {
        match Packet::parse(octets) {
            Ok((packet, len)) => {
                octets = &octets[len..];
                packets.push(packet);
                if packets.last() == Some(&Packet::END_OF_STREAM) {
                    break;
                }
            }
            Err(error) => return (packets, Err(error)),
        }
    }
    (packets, Ok(()))
}

/// What was read is written so that it reads the same.
fn encode(packets: &[Packet]) {
    let mut writer = PacketWriter::with_capacity(100, Vec::new());
    let mut expected = Vec::new();
    for packet in packets {
        let octets = packet.transcribe();
        assert_eq!(octets.len() as u64, packet.encoded_len());
        assert_eq!(Packet::parse(&octets), Ok((packet.clone(), octets.len())));
        writer.write_packet(packet).unwrap();
        expected.extend(octets);
    }
    writer.flush().unwrap();
    assert_eq!(writer.into_inner(), expected);
}
