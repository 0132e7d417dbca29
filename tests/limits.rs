//! The limits: packet length, unanswered requests, their octets, and what a hostile peer claims.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation of a helper fails its test"
)]

mod common;
#[path = "common/scripted.rs"]
mod scripted;

use std::time::Duration;

use common::watched;
use packetstream::wire::{
    ChannelId, DEFAULT_MAX_PACKET_LEN, DecodeError, Decoder, Field, Flags, Packet, PacketReader,
    RequestType, Tag,
};
use packetstream::{
    BoxError, Connection, ConnectionBuilder, Error, Incoming, OpenGuard, Outcome, PendingResponse,
    Request, Response,
};
use scripted::{Peer, ask, not_ok_packet, ok_packet, request_packet, spawn, submit_and_see};

fn serving_r() -> ConnectionBuilder {
    Connection::builder().handler(|_: Incoming| Ok("R"))
}

fn sized(len: usize) -> Request {
    Request::new(0).with_payload(vec![b'x'; len])
}

/// A packet whose length is exactly `len`.
fn packet_of_len(tag: u64, len: usize) -> Packet {
    let packet = request_packet(0, tag, 0, &vec![b'x'; len - 3]);
    assert_eq!(packet.body_len(), len as u64);
    packet
}

fn assert_names_both(error: &Error, len: u64, limit: u64) {
    let told = match error.cause() {
        Error::Decode(cause) => cause.to_string(),
        cause => cause.to_string(),
    };
    assert!(told.contains(&len.to_string()), "{told}");
    assert!(told.contains(&limit.to_string()), "{told}");
}

/// `submit` may fail, or what it returns.
fn outcome_of(guard: &OpenGuard, request: Request) -> Result<Response, Error> {
    guard.submit(request).and_then(PendingResponse::wait)
}

#[test]
fn a_request_of_the_longest_length_is_sent_and_one_octet_more_fails_here_with_both_numbers() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder().max_packet_len(100));
        let longest = guard.submit(sized(97)).unwrap();
        peer.expect_packet(&packet_of_len(2, 100));
        let error = outcome_of(&guard, sized(98)).unwrap_err();
        let named = matches!(
            error.cause(),
            Error::TooLong {
                len: 101,
                limit: 100
            }
        );
        assert!(named, "{error:?}");
        assert_names_both(&error, 101, 100);
        assert_eq!(error.outcome(), Outcome::NotSent);
        assert!(error.is_caller());
        // Nothing of it was sent, and nobody else pays for it.
        let next = guard.submit(ask("next")).unwrap();
        let packet = peer.next_packet();
        assert_eq!(packet.payload(), b"next");
        peer.answer(0, 2, "yes");
        peer.answer(0, packet.tag().get(), "yes");
        assert!(longest.wait().is_ok() && next.wait().is_ok());
    });
}

#[test]
fn a_packet_of_the_longest_length_is_served_and_a_claim_over_sixteen_times_that_is_an_error() {
    watched(|| {
        let (guard, mut peer) = Peer::open(serving_r().max_packet_len(300));
        let pending = submit_and_see(&guard, &mut peer, "ours");
        peer.send_packet(&packet_of_len(5, 300));
        peer.expect_packet(&ok_packet(0, 5, 0, b"R"));
        // 4,801; the prefix alone is enough.
        peer.send_hex("a5 41");
        let error = pending.wait().unwrap_err();
        let expected = DecodeError::PacketTooLong {
            len: 4801,
            limit: 300,
        };
        assert!(
            matches!(error.cause(), Error::Decode(e) if *e == expected),
            "{error:?}"
        );
        assert_names_both(&error, 4801, 300);
        assert!(guard.close().cause().is_some_and(Error::is_peer));
    });
}

#[test]
fn the_default_limit_is_sixty_four_mebioctets_exactly() {
    assert_eq!(DEFAULT_MAX_PACKET_LEN, 64 << 20);
    let claims = |octets: &[u8]| Decoder::new().decode(&mut &*octets);
    assert_eq!(claims(&[0xa0, 0x80, 0x80, 0x00]), Ok(None));
    let limit = DEFAULT_MAX_PACKET_LEN;
    let expected = DecodeError::PacketTooLong {
        len: limit + 1,
        limit,
    };
    assert_eq!(claims(&[0xa0, 0x80, 0x80, 0x01]), Err(expected));
}

#[test]
fn a_decoder_and_a_reader_take_the_longest_packet_and_refuse_one_octet_more() {
    for len in 3..300 {
        let wire = packet_of_len(5, len).transcribe();
        let len = len as u64;
        for limit in [len, len - 1] {
            let refusal = DecodeError::PacketTooLong { len, limit };
            let mut decoder = Decoder::new().with_max_packet_len(limit);
            let fed = decoder.decode(&mut &wire[..]);
            let mut reader = PacketReader::new(&wire[..]).with_max_packet_len(limit);
            let read = reader.read_packet();
            if limit == len {
                assert!(matches!((fed, read), (Ok(Some(_)), Ok(Some(_)))), "{len}");
            } else {
                assert_eq!(fed, Err(refusal));
                assert!(
                    matches!(read, Err(Error::Decode(e)) if e == refusal),
                    "{len}"
                );
            }
        }
    }
}

#[test]
fn over_the_cap_of_unanswered_requests_try_submit_says_full() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder().max_outstanding_requests(2));
        let first = guard.try_submit(ask("1")).unwrap();
        let second = guard.try_submit(ask("2")).unwrap();
        let error = Error::from(guard.try_submit(ask("3")).unwrap_err());
        assert!(matches!(error, Error::Full), "{error:?}");
        assert_eq!(error.outcome(), Outcome::NotSent);
        assert_eq!(peer.next_packet().payload(), b"1");
        assert_eq!(peer.next_packet().payload(), b"2");
        peer.answer(0, 3, "yes");
        second.wait().unwrap();
        let third = guard.try_submit(ask("3")).unwrap();
        assert!(matches!(guard.try_submit(ask("4")), Err(refused) if refused.is_full()));
        assert_eq!(peer.next_packet().payload(), b"3");
        peer.answer(0, 2, "yes");
        peer.answer(0, 4, "yes");
        assert!(first.wait().is_ok() && third.wait().is_ok());
    });
}

#[test]
fn over_the_cap_submit_waits_for_an_answer() {
    watched(|| {
        let (guard, mut peer) = Peer::open(serving_r().max_outstanding_requests(1));
        let first = submit_and_see(&guard, &mut peer, "first");
        let connection = Connection::clone(&guard);
        let blocked = spawn("blocked", move || connection.call(ask("second")));
        // Served meanwhile, again and again; the second request is not seen before the answer.
        for tag in 0..50 {
            peer.request(tag, "");
            peer.expect_packet(&ok_packet(0, tag, 0, b"R"));
        }
        assert!(!blocked.is_finished());
        peer.answer(0, 2, "yes");
        first.wait().unwrap();
        let second = peer.next_packet();
        assert_eq!(second.payload(), b"second");
        peer.answer(0, second.tag().get(), "yes");
        assert_eq!(blocked.join().unwrap().unwrap().payload(), b"yes");
    });
}

#[test]
fn a_blocked_submit_fails_as_not_sent_when_the_connection_ends() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder().max_outstanding_requests(1));
        let _first = submit_and_see(&guard, &mut peer, "first");
        let connection = Connection::clone(&guard);
        let blocked = spawn("blocked", move || connection.call(ask("second")));
        peer.goodbye();
        let error = blocked.join().unwrap().unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotSent, "{error:?}");
        peer.expect_goodbye();
    });
}

#[test]
fn the_octets_of_unanswered_requests_are_capped_and_freed_by_answers() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder().max_outstanding_bytes(10_000));
        let first = guard.try_submit(sized(6_000)).unwrap();
        assert!(matches!(guard.try_submit(sized(6_000)), Err(refused) if refused.is_full()));
        let small = guard.try_submit(sized(1_000)).unwrap();
        assert_eq!(peer.next_packet().payload().len(), 6_000);
        assert_eq!(peer.next_packet().payload().len(), 1_000);
        peer.answer(0, 2, "yes");
        first.wait().unwrap();
        let second = guard.try_submit(sized(6_000)).unwrap();
        assert_eq!(peer.next_packet().payload().len(), 6_000);
        peer.answer(0, 3, "yes");
        peer.answer(0, 4, "yes");
        assert!(small.wait().is_ok() && second.wait().is_ok());
    });
}

#[test]
fn a_request_above_the_cap_of_octets_goes_when_nothing_else_is_outstanding() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder().max_outstanding_bytes(10));
        let small = submit_and_see(&guard, &mut peer, "x");
        assert!(matches!(guard.try_submit(sized(5_000)), Err(refused) if refused.is_full()));
        peer.answer(0, 2, "yes");
        small.wait().unwrap();
        let large = guard.try_submit(sized(5_000)).unwrap();
        let packet = peer.next_packet();
        assert_eq!(packet.payload().len(), 5_000);
        assert!(matches!(guard.try_submit(ask("x")), Err(refused) if refused.is_full()));
        peer.answer(0, packet.tag().get(), "yes");
        large.wait().unwrap();
        drop(guard.try_submit(ask("x")).unwrap());
    });
}

#[test]
fn a_cancelled_request_stays_owed_until_its_answer_comes() {
    watched(|| {
        let (guard, mut peer) = Peer::open(serving_r().max_outstanding_requests(1));
        submit_and_see(&guard, &mut peer, "cancelled").cancel();
        assert!(matches!(guard.try_submit(ask("next")), Err(refused) if refused.is_full()));
        peer.answer(0, 2, "late");
        let next = guard.submit(ask("next")).unwrap();
        assert_eq!(peer.next_packet().payload(), b"next");
        // Waiting in vain is no different.
        let Err(next) = next.wait_timeout(Duration::from_millis(1)) else {
            panic!("an answer from nowhere")
        };
        drop(next);
        assert!(matches!(guard.try_submit(ask("third")), Err(refused) if refused.is_full()));
        peer.answer(0, 3, "late");
        drop(guard.submit(ask("third")).unwrap());
        assert_eq!(peer.next_packet().payload(), b"third");
    });
}

#[test]
fn a_request_of_a_handler_is_counted_but_never_waits_at_the_cap() {
    watched(|| {
        let handler = |incoming: Incoming| -> Result<Response, BoxError> {
            Ok(incoming.connection().call(ask("nested"))?)
        };
        let builder = Connection::builder().max_outstanding_requests(1);
        let (guard, mut peer) = Peer::open(builder.handler(handler));
        let outer = submit_and_see(&guard, &mut peer, "outer");
        peer.request(5, "");
        let nested = peer.next_packet();
        assert_eq!(nested.payload(), b"nested");
        peer.answer(0, nested.tag().get(), "inner");
        peer.expect_packet(&ok_packet(0, 5, 0, b"inner"));
        peer.answer(0, 2, "yes");
        outer.wait().unwrap();
    });
}

/// The octets never end, and the stream stays open: ten are enough to know.
#[test]
fn an_endless_integer_is_an_error_after_ten_octets() {
    let octets = [0x80; 11];
    for given in 0..10 {
        assert_eq!(
            Decoder::new().decode(&mut &octets[..given]),
            Ok(None),
            "{given}"
        );
    }
    let error = DecodeError::IntegerTooLarge {
        field: Field::Length,
    };
    assert_eq!(Decoder::new().decode(&mut &octets[..]), Err(error));
    watched(move || {
        let (guard, mut peer) = Peer::open(serving_r());
        let pending = submit_and_see(&guard, &mut peer, "ours");
        peer.send([0x80; 5_000]);
        let ended = pending.wait().unwrap_err();
        assert!(
            matches!(ended.cause(), Error::Decode(e) if *e == error),
            "{ended:?}"
        );
        assert!(guard.close().cause().is_some_and(Error::is_peer));
    });
}

#[test]
fn an_enormous_claim_is_refused_at_its_prefix() {
    watched(|| {
        let (guard, mut peer) = Peer::open(serving_r());
        let pending = submit_and_see(&guard, &mut peer, "ours");
        peer.send_hex("81 80 80 80 80 80 80 80 80 00");
        let error = pending.wait().unwrap_err();
        assert_names_both(&error, 1 << 63, DEFAULT_MAX_PACKET_LEN);
        assert!(guard.close().cause().is_some_and(Error::is_peer));
    });
}

/// Memory grows with the octets received, not with the claim: without a limit to save it, a
/// connection survives the claim of 2^62 octets, and tells what it had when the stream ends.
#[test]
fn an_enormous_claim_followed_by_silence_costs_no_memory() {
    watched(|| {
        let (guard, mut peer) = Peer::open(serving_r().max_packet_len(u64::MAX));
        let pending = submit_and_see(&guard, &mut peer, "ours");
        for len in ["c0 80 80 80 80 80 80 80 00", "05 02 01 61"] {
            peer.send_hex(len);
        }
        let pending = match pending.wait_timeout(Duration::from_millis(20)) {
            Err(pending) => pending,
            Ok(ended) => panic!("the claim ended the connection: {ended:?}"),
        };
        assert!(guard.is_open());
        peer.close_write();
        let error = pending.wait().unwrap_err();
        let truncated = matches!(error.cause(), Error::Decode(DecodeError::Truncated { .. }));
        assert!(truncated, "{error:?}");
    });
    let mut decoder = Decoder::new().with_max_packet_len(u64::MAX);
    let claim = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 5, 2, 1,
    ];
    assert_eq!(decoder.decode(&mut &claim[..]), Ok(None));
    assert!(matches!(
        decoder.finish(),
        Err(DecodeError::Truncated { .. })
    ));
}

#[test]
fn request_flags_have_sixty_two_bits_and_response_flags_sixty_one() {
    assert_eq!(Flags::MAX.bits(), (1 << 62) - 1);
    assert_eq!(Flags::new((1 << 62) - 1), Some(Flags::MAX));
    assert_eq!(Flags::new(1 << 62), None);
    assert!(Flags::try_from(u64::MAX).is_err());
    assert_eq!(Flags::MAX_RESPONSE.bits(), (1 << 61) - 1);
    let response = |flags| Packet::response(ChannelId::DEFAULT, Tag::new(2), true, flags, b"");
    assert!(response(Flags::MAX_RESPONSE).is_ok());
    let above = Flags::new(1 << 61).unwrap();
    assert!(response(above).is_err() && response(Flags::MAX).is_err());

    watched(|| {
        let (tell, told) = crossbeam_channel::unbounded();
        let (guard, mut peer) =
            Peer::open(Connection::builder().handler(move |incoming: Incoming| {
                tell.send(incoming.flags())?;
                Ok(Flags::MAX_RESPONSE)
            }));
        let pending = guard.submit(ask("").with_flags(Flags::MAX)).unwrap();
        peer.expect_hex("0c 02 81 ff ff ff ff ff ff ff ff 7e 01");
        peer.send_hex("0b 02 81 ff ff ff ff ff ff ff ff 7c");
        assert_eq!(pending.wait().unwrap().flags(), Flags::MAX_RESPONSE);
        peer.send_hex("0c 05 81 ff ff ff ff ff ff ff ff 7e 01");
        peer.expect_hex("0b 05 81 ff ff ff ff ff ff ff ff 7c");
        assert_eq!(told.recv().unwrap(), Flags::MAX);
    });
}

/// The 62nd bit has no place in a response; the request must not go unanswered for that.
#[test]
fn an_answer_with_too_many_flag_bits_is_answered_as_a_failure() {
    watched(|| {
        let (_guard, mut peer) =
            Peer::open(Connection::builder().handler(|_: Incoming| Ok(Flags::MAX)));
        peer.request(5, "");
        peer.expect_packet(&not_ok_packet(5, "exception during handler"));
    });
}

#[test]
fn request_types_reach_from_zero_to_one_below_the_largest_number() {
    assert_eq!(RequestType::new(u64::MAX), None);
    assert_eq!(RequestType::MAX.get(), u64::MAX - 1);
    assert_eq!(RequestType::new(u64::MAX - 1), Some(RequestType::MAX));
    assert!(RequestType::try_from(u64::MAX).is_err());
    watched(|| {
        let (tell, told) = crossbeam_channel::unbounded();
        let (guard, mut peer) =
            Peer::open(Connection::builder().handler(move |incoming: Incoming| {
                tell.send(incoming.request_type())?;
                Ok(())
            }));
        let _pending = guard.submit(Request::new(RequestType::MAX)).unwrap();
        peer.expect_hex("0c 02 02 81 ff ff ff ff ff ff ff ff 7f");
        peer.send_hex("0c 05 02 81 ff ff ff ff ff ff ff ff 7f");
        peer.expect_packet(&ok_packet(0, 5, 0, b""));
        assert_eq!(told.recv().unwrap(), RequestType::MAX);
    });
}
