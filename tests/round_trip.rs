//! Requests and answers survive every kind of transport: the test plan of the Python original,
//! and payloads around every boundary of the wire format.
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

use packetstream::{
    BoxError, ChannelId, Connection, Decoder, Flags, Incoming, OpenGuard, Packet, PacketReader,
    PendingResponse, Request, RequestType, Response, Tag, Transport,
};

use pairs::{asking, echo, start};

/// Around the steps of the length prefix, of the buffers and of what is reserved on a claim.
const PAYLOAD_LENGTHS: [usize; 10] = [
    0,
    1,
    127,
    128,
    16_383,
    16_384,
    65_535,
    65_536,
    1 << 20,
    8 << 20,
];

const FULL_DUPLEX_CALLS: u64 = 1_678;

type Pair = fn() -> (Transport, Transport);

macro_rules! over_each_transport {
    ($($transport:ident),+) => {$(
        mod $transport {
            use super::{common::watched, pairs};

            #[test]
            fn an_immediate_close_is_orderly_on_both_ends() {
                watched(|| super::immediate_close(pairs::$transport));
            }

            #[test]
            fn half_duplex_calls_are_answered_each_with_its_own() {
                watched(|| super::half_duplex(pairs::$transport));
            }

            #[test]
            fn full_duplex_calls_are_answered_in_whatever_order_they_are_collected() {
                watched(|| super::full_duplex(pairs::$transport));
            }

            #[test]
            fn the_same_streams_carry_one_connection_after_another() {
                watched(|| super::reuse(pairs::$transport));
            }

            #[test]
            fn payloads_of_every_size_come_back_as_they_were_sent() {
                watched(|| super::payload_lengths(pairs::$transport));
            }
        }
    )+};
}

over_each_transport!(os_pipes, unix_sockets, tcp, memory);

/// Answers with the request's flags and its payload backwards, so that no answer can pass for
/// the request or for another answer.
fn backwards(incoming: Incoming) -> Result<(Flags, Vec<u8>), BoxError> {
    let flags = incoming.flags();
    let mut payload = incoming.into_payload();
    payload.reverse();
    Ok((flags, payload))
}

fn open_both(here: Transport, there: Transport) -> (OpenGuard, OpenGuard) {
    (
        Connection::builder().handler(backwards).open(here).unwrap(),
        Connection::builder()
            .handler(backwards)
            .open(there)
            .unwrap(),
    )
}

fn close_both(here: OpenGuard, there: OpenGuard) {
    here.close().into_result().unwrap();
    there.close().into_result().unwrap();
}

fn immediate_close(pair: Pair) {
    let (here, there) = pair();
    let (here, there) = open_both(here, there);
    for report in [here.close(), there.close()] {
        assert!(report.is_last() && !report.in_progress());
        assert!(report.peer_said_goodbye(), "{report:?}");
        assert!(report.cause().is_none(), "{report:?}");
    }
}

fn half_duplex(pair: Pair) {
    let (here, there) = pair();
    let (here, there) = open_both(here, there);
    let mut random = fastrand::Rng::with_seed(16);
    for number in 0..16_u32 {
        let payload: Vec<u8> = (0..random.usize(0..1000)).map(|_| random.u8(..)).collect();
        let flags = Flags::from(random.u32(..));
        let request = Request::new(number)
            .with_flags(flags)
            .with_payload(payload.clone());
        let response = here.call(request).unwrap();
        let expected: Vec<u8> = payload.into_iter().rev().collect();
        assert_eq!(response, Response::new(flags, expected));
    }
    close_both(here, there);
}

fn full_duplex(pair: Pair) {
    let (here, there) = pair();
    let (here, there) = open_both(here, there);
    let other = there.clone();
    let elsewhere = start(move || submit_all_then_collect(&other, 2));
    submit_all_then_collect(&here, 1);
    elsewhere.join().unwrap();
    close_both(here, there);
}

fn submit_all_then_collect(connection: &Connection, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut pending: Vec<(Vec<u8>, PendingResponse)> = (0..FULL_DUPLEX_CALLS)
        .map(|number| {
            let mut payload = number.to_be_bytes().to_vec();
            payload.extend((0..random.usize(0..300)).map(|_| random.u8(..)));
            let submitted = connection.submit(asking(payload.clone())).unwrap();
            payload.reverse();
            (payload, submitted)
        })
        .collect();
    random.shuffle(&mut pending);
    for (expected, submitted) in pending {
        assert_eq!(submitted.wait().unwrap().payload(), expected);
    }
}

fn reuse(pair: Pair) {
    let (mut here, mut there) = pair();
    for round in 0..3_u8 {
        let (client, server) = open_both(here, there);
        let first = client.submit(asking([round, 1])).unwrap();
        assert_eq!(
            first.tag(),
            Tag::new(2),
            "tags start again with each connection"
        );
        assert_eq!(first.wait().unwrap().payload(), [1, round]);
        let back = server.submit(asking([round, 2])).unwrap();
        assert_eq!(back.tag(), Tag::new(2));
        assert_eq!(back.wait().unwrap().payload(), [2, round]);
        let elsewhere = start(move || server.close());
        here = client
            .close()
            .into_transport()
            .expect("an orderly end gives the streams back");
        there = elsewhere
            .join()
            .unwrap()
            .into_transport()
            .expect("on both ends");
    }
}

fn payload_lengths(pair: Pair) {
    let (here, there) = pair();
    let server = Connection::builder().handler(echo).open(there).unwrap();
    let client = Connection::builder().open(here).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    for length in PAYLOAD_LENGTHS {
        let mut payload = vec![0; length];
        random.fill(&mut payload);
        let response = client.call(asking(payload.clone())).unwrap();
        assert!(
            response.payload() == payload,
            "{length} octets came back changed"
        );
    }
    close_both(client, server);
}

/// 400 packets: every channel with every tag, every flags and every kind.
fn grid() -> Vec<Packet> {
    let channels = [0, 1, 128, u64::MAX].map(ChannelId::new);
    let tags = [0, 2, 127, 16_384, u64::MAX].map(Tag::new);
    let flags = [0, 1, 31, Flags::MAX_RESPONSE.bits()].map(|bits| Flags::new(bits).unwrap());
    let types = [
        RequestType::from(0),
        RequestType::from(126),
        RequestType::MAX,
    ]
    .map(Some);
    let mut packets = Vec::new();
    for channel in channels {
        for tag in tags {
            for flags in flags {
                for kind in types.into_iter().chain([None, None]) {
                    // Consecutive packets get consecutive sizes, so each field meets each size.
                    let number = packets.len();
                    let payload = vec![number.to_be_bytes()[7]; PAYLOAD_LENGTHS[number % 7]];
                    packets.push(match kind {
                        Some(kind) => Packet::request(channel, tag, kind, flags, payload),
                        None => {
                            Packet::response(channel, tag, number % 2 == 0, flags, payload).unwrap()
                        }
                    });
                }
            }
        }
    }
    packets
}

#[test]
fn each_packet_of_the_grid_decodes_to_itself() {
    let packets = grid();
    assert_eq!(packets.len(), 400);
    for packet in packets {
        let octets = packet.transcribe();
        assert_eq!(octets.len() as u64, packet.encoded_len());
        let (parsed, taken) = Packet::parse(&octets).unwrap();
        assert_eq!(parsed, packet);
        assert_eq!(taken, octets.len());
        let mut written = Vec::new();
        packet.write(&mut written).unwrap();
        assert_eq!(written, octets);
    }
}

#[test]
fn the_grid_decodes_whatever_the_pieces_it_arrives_in() {
    let packets = grid();
    let octets: Vec<u8> = packets.iter().flat_map(Packet::transcribe).collect();
    let mut random = fastrand::Rng::with_seed(400);
    let mut decoder = Decoder::new();
    let mut packets_read = Vec::new();
    let mut rest = octets.as_slice();
    while !rest.is_empty() {
        let longest = [1, 5, 100, 10_000][random.usize(..4)];
        let (mut piece, after) = rest.split_at(random.usize(1..=longest).min(rest.len()));
        while let Some(packet) = decoder.decode(&mut piece).unwrap() {
            packets_read.push(packet);
        }
        assert!(
            piece.is_empty(),
            "a decoder that wants more has taken everything"
        );
        rest = after;
    }
    decoder.finish().unwrap();
    assert!(packets_read == packets);
}

#[test]
fn the_grid_is_read_from_a_stream_and_what_follows_its_end_stays_there() {
    let packets = grid();
    let mut octets: Vec<u8> = packets.iter().flat_map(Packet::transcribe).collect();
    octets.extend(Packet::END_OF_STREAM.transcribe());
    octets.extend(b"another connection's");
    let mut reader = PacketReader::new(octets.as_slice());
    for packet in packets {
        assert_eq!(reader.read_packet().unwrap(), Some(packet));
    }
    assert_eq!(reader.read_packet().unwrap(), Some(Packet::END_OF_STREAM));
    assert_eq!(reader.read_packet().unwrap(), None);
    assert_eq!(reader.into_inner(), b"another connection's");
}
