//! A packet over the limit costs no more than itself: its head is read, who sent or awaits it is told
//! both numbers, its payload is skipped, and all others go on.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation of a helper fails its test"
)]

mod common;
#[path = "common/lone.rs"]
mod lone;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "common/scripted.rs"]
mod scripted;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::watched;
use lone::{Scene, patient};
use packetstream::wire::{DEFAULT_MAX_PACKET_LEN, Decoder, Packet, PacketReader, varint};
use packetstream::{
    BoxError, Connection, ConnectionBuilder, DecodeError, Error, Flags, Incoming, Outcome,
    Rejection, Request, Transport,
};
use pairs::{ScriptedPeer, answer_to};
use scripted::{Gate, Peer, ask, not_ok_packet, ok_packet, request_packet, submit_and_see};

const LIMIT: u64 = 300;

fn limited() -> ConnectionBuilder {
    Connection::builder().max_packet_len(LIMIT)
}

fn echoing() -> ConnectionBuilder {
    limited().handler(|incoming: Incoming| Ok(incoming.into_payload()))
}

fn told(len: u64, limit: u64) -> String {
    format!("rejecting request: {len} bytes are more than the limit of {limit}")
}

/// A request on channel 0 whose body has that length.
fn request_of(tag: u64, len: usize) -> Packet {
    let packet = request_packet(0, tag, 0, &vec![b'x'; len - 3]);
    assert_eq!(packet.body_len(), len as u64);
    packet
}

/// A response to that tag whose body has that length.
fn response_of(tag: u64, len: usize) -> Packet {
    let packet = ok_packet(0, tag, 0, &vec![b'x'; len - 2]);
    assert_eq!(packet.body_len(), len as u64);
    packet
}

/// The start of a request that claims a length.
fn claim(len: u64, tag: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint::encode(len, &mut bytes);
    bytes.extend([tag, 2, 1]);
    bytes
}

/// The limit holds in both directions of a whole connection, between two ends.
#[test]
fn only_what_is_over_the_limit_is_lost_and_named_with_both_numbers() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let answers = |incoming: Incoming| {
            let len = usize::try_from(incoming.flags().bits()).unwrap();
            Ok(vec![b'y'; len])
        };
        let server = limited().handler(answers).open(theirs).unwrap();
        let small = Connection::builder().max_packet_len(1000);
        let client = small.open(ours).unwrap();
        let request = |len: usize| Request::new(0).with_payload(vec![b'x'; len - 3]);
        for round in 0..20 {
            let beside = client.submit(request(10).with_flags(5)).unwrap();
            let longest = client.submit(request(298)).unwrap();
            let too_long = client.submit(request(301)).unwrap();
            let last = client.submit(request(10).with_flags(7)).unwrap();
            let error = too_long.wait().unwrap_err();
            assert_eq!(error.rejection().unwrap().message(), told(301, LIMIT));
            assert_eq!(error.outcome(), Outcome::NotRun, "{round}");
            assert_eq!(longest.wait().unwrap().payload(), b"");
            assert_eq!(beside.wait().unwrap().payload(), [b'y'; 5]);
            assert_eq!(last.wait().unwrap().payload(), [b'y'; 7]);
        }
        assert!(client.close().into_result().is_ok());
        assert!(server.close().into_result().is_ok());
    });
}

#[test]
fn request_of_one_byte_more_than_the_limit_is_refused_and_of_no_byte_more_served() {
    watched(|| {
        let (guard, mut peer) = Peer::open(echoing());
        for (len, extra) in (290..310).flat_map(|len| [(len, 0), (len, 1)]) {
            // Whole, or in two pieces with the head alone first.
            let bytes = request_of(5, len).transcribe();
            let middle = if extra == 1 { 6 } else { bytes.len() };
            peer.send(&bytes[..middle]);
            if len as u64 > LIMIT {
                peer.expect_packet(&not_ok_packet(5, &told(len as u64, LIMIT)));
                peer.send(&bytes[middle..]);
            } else {
                peer.send(&bytes[middle..]);
                let payload = vec![b'x'; len - 3];
                // An answer has one field less.
                peer.expect_packet(&ok_packet(0, 5, 0, &payload));
            }
        }
        assert!(guard.is_open());
        peer.goodbye();
        assert!(guard.close().into_result().is_ok());
    });
}

#[test]
fn refusal_is_sent_at_the_head_and_the_tag_is_free_again() {
    watched(|| {
        let (_guard, mut peer) = Peer::open(echoing());
        peer.send(claim(4000, 5));
        peer.expect_packet(&not_ok_packet(5, &told(4000, LIMIT)));
        let mut rest = vec![b'x'; 4000 - 3];
        rest.extend(request_packet(0, 5, 0, b"again").transcribe());
        // However it comes.
        for piece in rest.chunks(7) {
            peer.send(piece);
        }
        peer.expect_packet(&ok_packet(0, 5, 0, b"again"));
    });
}

#[test]
fn requests_that_are_served_and_those_that_are_refused_do_not_disturb_each_other() {
    watched(|| {
        let (guard, mut peer) = Peer::open(echoing());
        let pending = submit_and_see(&guard, &mut peer, "ours");
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for tag in 5..105 {
            if tag % 3 == 0 {
                let len = 301 + usize::try_from(tag).unwrap() * 40;
                stream.extend(request_of(tag, len).transcribe());
                expected.push(not_ok_packet(tag, &told(len as u64, LIMIT)));
            } else {
                stream.extend(request_packet(0, tag, 0, b"short").transcribe());
                expected.push(ok_packet(0, tag, 0, b"short"));
            }
        }
        stream.extend(ok_packet(0, 2, 0, b"yours").transcribe());
        for piece in stream.chunks(1000) {
            peer.send(piece);
        }
        let mut got: Vec<_> = expected.iter().map(|_| peer.next_packet()).collect();
        got.sort_by_key(Packet::tag);
        assert_eq!(got, expected);
        assert_eq!(pending.wait().unwrap().payload(), b"yours");
    });
}

/// 2^64 - 1 is the longest that can be said.
#[test]
fn up_to_sixteen_times_the_limit_is_refused_and_a_longer_claim_ends_the_connection() {
    watched(|| {
        for limit in [3, 300, 1 << 20, DEFAULT_MAX_PACKET_LEN, 1 << 58] {
            let most = 16 * limit;
            let (_guard, mut peer) = Peer::open(echoing().max_packet_len(limit));
            peer.send(claim(most, 5));
            peer.expect_packet(&not_ok_packet(5, &told(most, limit)));
            for len in [most + 1, 2 * most, 1 << 63, u64::MAX] {
                let (guard, mut peer) = Peer::open(echoing().max_packet_len(limit));
                let pending = submit_and_see(&guard, &mut peer, "");
                peer.send(claim(len, 5));
                let error = pending.wait().unwrap_err();
                let expected = DecodeError::PacketTooLong { len, limit };
                assert!(
                    matches!(error.cause(), Error::Decode(error) if *error == expected),
                    "{error:?}"
                );
                assert!(error.cause().is_peer());
            }
        }
        // Sixteen times more than can be said.
        let limit = 1 << 62;
        let (guard, mut peer) = Peer::open(echoing().max_packet_len(limit));
        peer.send(claim(u64::MAX, 5));
        peer.expect_packet(&not_ok_packet(5, &told(u64::MAX, limit)));
        assert!(guard.is_open());
        let _ = guard.abort();
    });
}

#[test]
fn duplicate_tag_and_end_packet_with_a_payload_are_errors_at_the_head() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (guard, mut peer) = Peer::open(limited().handler(handler));
        peer.request(5, "held");
        gate.entered();
        peer.send(claim(301, 5));
        let error = guard.wait_end_of_stream().unwrap_err();
        assert!(matches!(error, Error::DuplicateTag { .. }), "{error:?}");
        gate.release();

        for tag in [0, 1, 9] {
            let (guard, mut peer) = Peer::open(limited());
            // A length of 301, and type 0 on the wire.
            peer.send([0x82, 0x2d, tag, 2, 0]);
            let error = guard.wait_end_of_stream().unwrap_err();
            let expected = DecodeError::MalformedEndPacket;
            assert!(matches!(error, Error::Decode(error) if error == expected));
        }
    });
}

#[test]
fn response_over_the_limit_fails_its_request_only() {
    watched(|| {
        for len in 295..305 {
            let (guard, mut peer) = Peer::open(limited());
            let first = submit_and_see(&guard, &mut peer, "first");
            let second = submit_and_see(&guard, &mut peer, "second");
            let third = submit_and_see(&guard, &mut peer, "third");
            third.cancel();
            peer.send_packet(&response_of(2, len));
            // To one that was cancelled: it says nothing to anybody.
            peer.send_packet(&response_of(4, 400));
            peer.answer(0, 3, "short");
            let limit = LIMIT;
            match first.wait() {
                Ok(response) => {
                    assert!(len as u64 <= limit);
                    assert_eq!(response.payload().len(), len - 2);
                }
                Err(error) => {
                    let len = len as u64;
                    assert!(len > limit);
                    assert_eq!(
                        error.to_string(),
                        format!("a response of {len} bytes is longer than the limit of {limit}")
                    );
                    assert!(
                        matches!(error, Error::ResponseTooLong { len: told, limit: LIMIT }
                        if told == len)
                    );
                    assert_eq!(error.outcome(), Outcome::Unknown);
                    assert!(error.is_caller() && !error.is_peer() && !error.is_closed());
                }
            }
            assert_eq!(second.wait().unwrap().payload(), b"short");
            assert!(guard.is_open());
            let stats = guard.stats();
            assert_eq!((stats.outstanding, stats.late_responses), (0, 1));
            peer.goodbye();
            assert!(guard.close().into_result().is_ok());
        }
    });
}

/// A rejection is a response like another.
#[test]
fn rejection_over_the_limit_is_a_response_over_the_limit() {
    watched(|| {
        let (guard, mut peer) = Peer::open(limited());
        let pending = submit_and_see(&guard, &mut peer, "ours");
        peer.send_packet(&not_ok_packet(2, &"no ".repeat(200)));
        let error = pending.wait().unwrap_err();
        assert!(matches!(error, Error::ResponseTooLong { len: 602, .. }));
    });
}

/// Whether somebody else reads, or the caller itself, and goes on to read itself afterwards.
#[test]
fn caller_that_reads_its_own_answer_learns_that_it_is_too_long() {
    watched(|| {
        let mut scene = Scene::new(patient().max_packet_len(LIMIT));
        for _ in 0..20 {
            let request = scene.hold();
            let too_long = answer_to(&request, vec![1; 500]);
            let bytes = too_long.transcribe();
            let (head, rest) = bytes.split_at(5);
            scene.peer.send_octets(head);
            let error = scene.answered().unwrap_err();
            assert!(matches!(error, Error::ResponseTooLong { limit: LIMIT, .. }));
            scene.peer.send_octets(rest);
            scene.call();
        }
        scene.peer.goodbye();
        assert!(scene.guard().close().into_result().is_ok());
    });
}

#[test]
fn answer_of_our_own_that_is_too_long_is_told_with_both_numbers() {
    watched(|| {
        let handler = |incoming: Incoming| -> Result<Vec<u8>, BoxError> {
            let len = usize::try_from(incoming.flags().bits())?;
            match incoming.request_type().get() {
                0 => Ok(vec![b'y'; len]),
                _ => Err(Rejection::new(vec![b'n'; len]).into()),
            }
        };
        let (_guard, mut peer) = Peer::open(limited().handler(handler));
        for (wire_type, ok) in [(1, true), (2, false)] {
            for len in 290_u32..310 {
                let payload = len - 2;
                let request = Packet::request(
                    0.into(),
                    5.into(),
                    (wire_type - 1).into(),
                    Flags::from(payload),
                    "",
                );
                peer.send_packet(&request);
                if u64::from(len) > LIMIT {
                    let text =
                        format!("the answer of {len} bytes is longer than the limit of {LIMIT}");
                    peer.expect_packet(&not_ok_packet(5, &text));
                } else {
                    let packet = peer.next_packet();
                    assert_eq!((packet.is_ok(), packet.body_len()), (Some(ok), len.into()));
                }
            }
        }
    });
}

#[test]
fn answer_that_was_too_long_counts_as_run() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let server = limited().handler(|_| Ok(vec![0; 1000]));
        let _server = server.open(theirs).unwrap();
        let client = Connection::builder().open(ours).unwrap();
        let error = client.call(ask("")).unwrap_err();
        assert!(error.is_rejected());
        assert_eq!(error.outcome(), Outcome::Unknown);
    });
}

#[test]
fn close_while_a_payload_is_skipped_ends_within_linger() {
    watched(|| {
        for sends_on in [false, true] {
            let linger = Duration::from_millis(200);
            let (guard, mut peer) = Peer::open(echoing().linger(Some(linger)));
            peer.send(claim(16 * LIMIT, 5));
            peer.expect_packet(&not_ok_packet(5, &told(16 * LIMIT, LIMIT)));
            let mut sender = peer.sender();
            let dribbling = pairs::start(move || {
                // A byte now and then, for as long as the other end is there.
                while sends_on && sender.try_send([b'x']).is_ok() {
                    measure::pause(Duration::from_millis(1));
                }
            });
            let start = Instant::now();
            let report = guard.close();
            let taken = start.elapsed();
            assert!(taken < Duration::from_secs(5), "{taken:?}");
            assert!(matches!(report.cause(), Some(Error::LingerExpired)));
            drop(report);
            drop(peer);
            dribbling.join().unwrap();
        }
    });
}

#[test]
fn end_of_the_input_in_a_skipped_payload_is_a_cut() {
    watched(|| {
        let (guard, mut peer) = Peer::open(echoing());
        peer.send(claim(1000, 5));
        peer.send([b'x'; 100]);
        peer.close_write();
        let error = guard.wait_end_of_stream().unwrap_err();
        let expected = DecodeError::Truncated {
            received: 105,
            expected: Some(1002),
        };
        assert!(
            matches!(error, Error::Decode(error) if error == expected),
            "{error:?}"
        );
        // What was asked is answered all the same.
        peer.expect_packet(&not_ok_packet(5, &told(1000, LIMIT)));
        peer.expect_goodbye();
    });
}

/// Nobody could answer there, so nothing is skipped.
#[test]
fn reader_and_decoder_end_with_the_error() {
    let wire = request_of(5, 301).transcribe();
    let expected = DecodeError::PacketTooLong {
        len: 301,
        limit: LIMIT,
    };
    let mut decoder = Decoder::new().with_max_packet_len(LIMIT);
    assert_eq!(decoder.decode(&mut &wire[..]), Err(expected));
    let mut reader = PacketReader::new(&wire[..]).with_max_packet_len(LIMIT);
    let error = reader.read_packet().unwrap_err();
    assert!(matches!(error, Error::Decode(error) if error == expected));
}

/// No refusal waits for the payload of another to be read.
#[test]
fn many_refusals_in_a_row_are_each_told() {
    watched(|| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let _guard = echoing().open(Transport::try_from(ours).unwrap()).unwrap();
        let mut writer = theirs.try_clone().unwrap();
        let tags = || (0..1000).map(|number| 5 + number % 100);
        let writing = pairs::start(move || {
            for tag in tags() {
                let request = request_of(tag, 2000).transcribe();
                writer.write_all(&request).unwrap();
            }
        });
        let mut peer = ScriptedPeer::on(theirs);
        for tag in tags() {
            peer.expect(&not_ok_packet(tag, &told(2000, LIMIT)));
        }
        writing.join().unwrap();
    });
}
