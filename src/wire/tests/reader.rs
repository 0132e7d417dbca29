//! What a packet reader asks of its reader, and what it leaves to others.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use crate::wire::packet::to_u64;
use crate::wire::reader::Step;
use crate::wire::{ChannelId, DecodeError, Field, Flags, Packet, PacketReader, RequestType, Tag};
use crate::{Error, Result};

fn request(len: usize) -> Packet {
    let payload: Vec<u8> = (0..=250_u8).cycle().take(len).collect();
    let (channel, tag) = (ChannelId::DEFAULT, Tag::new(2));
    Packet::request(channel, tag, RequestType::from(5), Flags::NONE, payload)
}

fn stream(packets: &[Packet]) -> Vec<u8> {
    packets.iter().flat_map(Packet::transcribe).collect()
}

/// A source that delivers at most so many octets a call, is interrupted before each, and fails
/// if it is asked to go on after its end.
struct Source<'a> {
    octets: &'a [u8],
    most: usize,
    interrupted: bool,
    reads: Vec<usize>,
    is_over: bool,
}

impl<'a> Source<'a> {
    fn new(octets: &'a [u8], most: usize) -> Self {
        Self {
            octets,
            most,
            interrupted: false,
            reads: Vec::new(),
            is_over: false,
        }
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(ErrorKind::Interrupted.into());
        }
        assert!(!self.is_over, "read again after the end");
        self.reads.push(buffer.len());
        let most = buffer.len().min(self.most);
        let count = self.octets.read(&mut buffer[..most])?;
        self.is_over = count == 0;
        Ok(count)
    }
}

#[test]
fn every_buffer_and_every_fragmentation_give_the_same_packets() {
    let packets = [
        request(0),
        request(9000),
        request(3),
        request(300_000),
        Packet::END_OF_REQUESTS,
        request(100),
        Packet::END_OF_STREAM,
    ];
    let octets = stream(&packets);
    for capacity in [1, 7, 64, 8192, 65_536] {
        for most in [11, 1000, 8192, 1_000_000] {
            let source = Source::new(&octets, most);
            let mut reader = PacketReader::new(BufReader::with_capacity(capacity, source));
            let read: Result<Vec<Packet>> = reader.by_ref().collect();
            assert_eq!(read.unwrap(), packets, "{capacity} {most}");
            assert!(reader.has_ended());
            assert_eq!(reader.offset(), to_u64(octets.len()));
        }
    }
}

#[test]
fn a_long_payload_bypasses_the_buffer_of_a_buf_reader() {
    let octets = stream(&[request(1_000_000)]);
    let source = Source::new(&octets, usize::MAX);
    let mut reader = PacketReader::new(BufReader::with_capacity(8192, source));
    reader.read_packet().unwrap().unwrap();
    let reads = &reader.get_ref().get_ref().reads;
    assert!(reads[1..].iter().all(|&room| room > 8192), "{reads:?}");
    assert!(reads.len() <= 6, "{reads:?}");
}

#[test]
fn nothing_after_end_of_stream_is_consumed() {
    let mut octets = stream(&[request(3), Packet::END_OF_STREAM]);
    let end = octets.len();
    octets.extend_from_slice(&stream(&[request(4)]));

    let mut reader = PacketReader::new(&octets[..]);
    assert_eq!(reader.by_ref().count(), 2);
    assert!(
        !reader.has_complete_packet(),
        "what follows is not for this reader"
    );
    assert_eq!(reader.offset(), to_u64(end));

    let mut second = PacketReader::new(reader.into_inner());
    assert_eq!(second.read_packet().unwrap(), Some(request(4)));
    assert_eq!(second.read_packet().unwrap(), None);
    assert!(!second.has_ended());
}

#[test]
fn no_octet_is_asked_for_once_end_of_stream_is_there() {
    let octets = stream(&[Packet::END_OF_STREAM]);
    let mut reader = PacketReader::new(BufReader::new(Source::new(&octets, usize::MAX)));
    assert_eq!(reader.by_ref().count(), 1);
    assert_eq!(reader.read_packet().unwrap(), None);
    assert_eq!(reader.get_ref().get_ref().reads.len(), 1);
}

#[test]
fn a_complete_packet_is_seen_without_reading() {
    let octets = stream(&[request(1), request(20), request(1)]);
    let source = Source::new(&octets, octets.len() - 1);
    let mut reader = PacketReader::new(BufReader::new(source));
    assert!(!reader.has_complete_packet(), "nothing was read yet");
    assert_eq!(reader.get_ref().get_ref().reads.len(), 0);

    reader.read_packet().unwrap();
    assert!(reader.has_complete_packet());
    reader.read_packet().unwrap();
    assert!(!reader.has_complete_packet(), "an octet is missing");
    assert_eq!(reader.get_ref().get_ref().reads.len(), 1);
    assert_eq!(reader.read_packet().unwrap(), Some(request(1)));
    assert!(!reader.has_complete_packet());
}

#[test]
fn a_step_reads_once() {
    let octets = stream(&[request(5)]);
    let source = Source::new(&octets, 4);
    let mut reader = PacketReader::new(BufReader::new(source));
    assert!(matches!(reader.step(), Ok(Step::Partial)));
    assert!(matches!(reader.step(), Ok(Step::Partial)));
    assert!(matches!(reader.step(), Ok(Step::Packet(_))));
    assert!(matches!(reader.step(), Ok(Step::End)));
    assert!(matches!(reader.step(), Ok(Step::End)));
}

#[test]
fn a_decode_error_is_repeated_and_ends_the_iterator() {
    let octets = [3, 1, 2, 0, 1, 9, 3, 1, 2, 0];
    let expected = DecodeError::FieldsBeyondEnd { field: Field::Word };
    let mut reader = PacketReader::new(&octets[..]);
    assert_eq!(reader.next().unwrap().unwrap(), Packet::END_OF_REQUESTS);
    assert!(!reader.has_complete_packet());
    assert!(matches!(reader.next(), Some(Err(Error::Decode(error))) if error == expected));
    assert!(reader.next().is_none());
    assert!(matches!(reader.read_packet(), Err(Error::Decode(error)) if error == expected));
    assert_eq!(reader.offset(), 4);
}

#[test]
fn a_read_error_is_repeated_without_reading_again() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(ErrorKind::ConnectionReset.into())
        }
    }
    for front in [
        stream(&[]),
        vec![3, 1],
        stream(&[request(50_000)])[..100].to_vec(),
    ] {
        let source = BufReader::new(front.chain(Failing));
        let mut reader = PacketReader::new(source);
        for _ in 0..2 {
            match reader.read_packet() {
                Err(Error::Read(error)) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn an_end_inside_a_payload_is_said_to_be_one() {
    let octets = stream(&[request(50_000)]);
    for cut in [10, 5000, 49_000, octets.len() - 1] {
        let mut reader = PacketReader::new(BufReader::new(&octets[..cut]));
        let expected = DecodeError::Truncated {
            received: to_u64(cut),
            expected: Some(to_u64(octets.len())),
        };
        for _ in 0..2 {
            let error = reader.read_packet().unwrap_err();
            assert!(
                matches!(error, Error::Decode(error) if error == expected),
                "{error:?}"
            );
        }
    }
}

#[test]
fn a_limit_of_the_callers_is_kept_to() {
    let octets = stream(&[request(97), request(98)]);
    let mut reader = PacketReader::new(&octets[..]).with_max_packet_len(100);
    assert_eq!(reader.read_packet().unwrap(), Some(request(97)));
    let error = reader.read_packet().unwrap_err();
    let expected = DecodeError::PacketTooLong {
        len: 101,
        limit: 100,
    };
    assert!(matches!(error, Error::Decode(error) if error == expected));
}

#[test]
fn a_reader_that_counts_wrongly_does_no_harm() {
    struct Liar;
    impl Read for Liar {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            Ok(buffer.len() + 1_000_000)
        }
    }
    impl BufRead for Liar {
        fn fill_buf(&mut self) -> io::Result<&[u8]> {
            Ok(&[0x83, 0xa9, 0x00, 2, 2, 1])
        }
        fn consume(&mut self, _: usize) {}
    }
    let packet = PacketReader::new(Liar).read_packet().unwrap().unwrap();
    assert_eq!(packet.payload().len(), (3 << 14) + (0x29 << 7) - 3);
}

#[test]
fn what_has_come_of_the_first_packet_is_kept_with_all_that_came_with_it() {
    let octets = stream(&[request(10), request(10)]);
    let first = request(10).transcribe();
    for most in [1, 5, 100] {
        let source = Source::new(&octets, most);
        let mut reader = PacketReader::new(BufReader::new(source));
        assert_eq!(reader.start(), b"");
        reader.step().unwrap();
        assert_eq!(reader.start(), &octets[..most.min(octets.len())]);
        while !reader.start().starts_with(&first) {
            reader.step().unwrap();
        }
    }
}

#[test]
fn no_more_than_256_octets_of_the_start_are_kept() {
    let octets = stream(&[request(100_000)]);
    let mut reader = PacketReader::new(BufReader::with_capacity(40, &octets[..]));
    reader.read_packet().unwrap();
    assert_eq!(reader.start(), &octets[..256]);
}

#[test]
fn all_that_came_is_kept_of_a_stream_that_is_something_else() {
    let cut_off = &b"bash: server: command not found\n"[..];
    let undecodable = &[0, 0x16, 3, 1][..];
    let too_long = &b"\xef\xbb\xbf\xbfText"[..];
    for octets in [cut_off, undecodable, too_long] {
        let mut reader = PacketReader::new(octets).with_max_packet_len(1000);
        assert!(reader.read_packet().is_err());
        assert_eq!(reader.start(), octets);
    }
}

#[test]
fn what_has_been_read_whole_is_taken_along_without_reading_more() {
    let packets: Vec<Packet> = (2..8)
        .map(|tag| {
            let (channel, flags) = (ChannelId::DEFAULT, Flags::NONE);
            Packet::request(channel, Tag::new(tag), RequestType::from(0), flags, [7; 10])
        })
        .collect();
    let octets = stream(&packets);
    let (front, last) = octets.split_at(octets.len() - 3);
    // Each read of a chain comes to the end of one part at most.
    let input = BufReader::new(front.chain(last));
    let mut reader = PacketReader::new(input);
    let mut taken = Vec::new();
    reader.take_buffered(&mut taken, 10, 1000);
    assert_eq!(taken, [], "nothing has been read");
    assert_eq!(reader.read_packet().unwrap().as_ref(), packets.first());
    reader.take_buffered(&mut taken, 2, 1000);
    assert_eq!(taken, packets[1..3], "as many as are asked for");
    reader.take_buffered(&mut taken, 10, 5);
    assert_eq!(taken, packets[1..4], "until there are so many octets");
    reader.take_buffered(&mut taken, 10, 1000);
    assert_eq!(taken, packets[1..5], "the last one is not whole");
    assert_eq!(reader.read_packet().unwrap().as_ref(), packets.last());
    assert_eq!(reader.offset(), to_u64(octets.len()));
    assert_eq!(reader.read_packet().unwrap(), None);
}
