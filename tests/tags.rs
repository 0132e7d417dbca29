//! How tags and channels are used: a test for each rule of PROTOCOL, on the wire.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation of a helper fails its test"
)]

mod common;
#[path = "common/scripted.rs"]
mod scripted;

use common::watched;
use packetstream::wire::Tag;
use packetstream::{Connection, ConnectionBuilder, Error, Incoming};
use scripted::{Gate, Peer, ask, not_ok_packet, ok_packet, request_packet, submit_and_see};

fn serving_r() -> ConnectionBuilder {
    Connection::builder().handler(|_: Incoming| Ok("R"))
}

#[test]
fn tags_are_numbered_per_channel_from_two_on_channel_zero_and_from_zero_on_others() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder());
        let mut pending = Vec::new();
        for (channel, expected) in [
            (0, "04 02 02 01 78"),
            (5, "05 00 03 05 01 78"),
            (0, "04 03 02 01 78"),
            (5, "05 01 03 05 01 78"),
            (257, "06 00 03 82 01 01 78"),
            (0, "04 04 02 01 78"),
        ] {
            let request = ask("x").with_channel(channel);
            pending.push(guard.submit(request).unwrap());
            peer.expect_hex(expected);
        }
    });
}

#[test]
fn a_tag_is_never_used_twice_whatever_became_of_its_request() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder());
        for tag in 2..20 {
            let pending = guard.submit(ask("x")).unwrap();
            assert_eq!(peer.next_packet().tag(), Tag::new(tag));
            match tag % 4 {
                0 => drop(pending.cancel()),
                1 => drop(pending),
                2 => {
                    peer.answer(0, tag, "yes");
                    pending.wait().unwrap();
                }
                _ => {
                    peer.send_packet(&not_ok_packet(tag, "no"));
                    pending.wait().unwrap_err();
                }
            }
        }
    });
}

#[test]
fn answers_come_in_any_order_and_are_matched_by_channel_and_tag() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder());
        let mut pending = Vec::new();
        for channel in [0, 5, 6] {
            for _ in 0..3 {
                let request = ask("").with_channel(channel);
                pending.push(guard.submit(request).unwrap());
                peer.next_packet();
            }
        }
        let mut order: Vec<_> = pending.iter().map(|p| (p.channel(), p.tag())).collect();
        fastrand::Rng::with_seed(1).shuffle(&mut order);
        for (channel, tag) in order {
            let (channel, tag) = (channel.get(), tag.get());
            peer.answer(channel, tag, format!("{channel}/{tag}"));
        }
        for pending in pending {
            let expected = format!("{}/{}", pending.channel(), pending.tag());
            assert_eq!(pending.wait().unwrap().payload(), expected.as_bytes());
        }
    });
}

#[test]
fn a_response_to_no_request_is_counted_and_dropped() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder());
        let first = submit_and_see(&guard, &mut peer, "first");
        let second = submit_and_see(&guard, &mut peer, "second");
        // The first packet of a stream must be owed.
        peer.answer(0, 2, "yes");
        peer.answer(0, 99, "what");
        peer.answer(5, 2, "another channel");
        peer.answer(0, 2, "twice");
        peer.answer(0, 3, "yes");
        assert_eq!(first.wait().unwrap().payload(), b"yes");
        assert_eq!(second.wait().unwrap().payload(), b"yes");
        peer.goodbye();
        peer.expect_goodbye();
        let report = guard.close();
        assert_eq!(report.late_responses(), 3);
        assert!(report.into_result().is_ok());
    });
}

#[test]
fn the_late_answer_to_a_cancelled_request_is_dropped() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder());
        let cancelled = submit_and_see(&guard, &mut peer, "first");
        let kept = submit_and_see(&guard, &mut peer, "second");
        cancelled.cancel();
        peer.answer(0, 2, "late");
        peer.answer(0, 3, "yes");
        assert_eq!(kept.wait().unwrap().payload(), b"yes");
        assert!(guard.is_open());
    });
}

#[test]
fn a_request_with_a_tag_that_is_still_served_ends_the_connection() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (guard, mut peer) = Peer::open(Connection::builder().handler(handler));
        let pending = submit_and_see(&guard, &mut peer, "mine");
        peer.request(7, "original");
        assert_eq!(gate.entered(), b"original");
        peer.request(7, "duplicate");
        let error = pending.wait().unwrap_err();
        let is_named = |error: &Error| {
            matches!(error.cause(), Error::DuplicateTag { channel, tag }
                if (channel.get(), tag.get()) == (0, 7))
        };
        assert!(is_named(&error), "{error:?}");
        assert!(error.cause().is_peer());
        gate.release();
        let packets = peer.packets_to_end_of_stream();
        let answers: Vec<_> = packets.iter().filter(|p| p.is_response()).collect();
        assert_eq!(answers, [&ok_packet(0, 7, 0, b"original")]);
        let report = guard.close();
        assert!(report.cause().is_some_and(is_named), "{report:?}");
        drop(report);
        peer.expect_end();
        assert_eq!(gate.waiting(), 0, "the duplicate was served");
    });
}

#[test]
fn the_same_tag_on_another_channel_is_another_request() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (_guard, mut peer) = Peer::open(Connection::builder().handler(handler));
        for channel in 0..3 {
            peer.send_packet(&request_packet(channel, 7, 0, b"same"));
            gate.entered();
        }
        (0..3).for_each(|_| gate.release());
        let mut channels: Vec<u64> = (0..3).map(|_| peer.next_packet().channel().get()).collect();
        channels.sort_unstable();
        assert_eq!(channels, [0, 1, 2]);
    });
}

/// Free again before the first octet of the answer is written: the peer may use it at once.
#[test]
fn a_tag_may_be_used_again_as_soon_as_its_answer_was_seen() {
    watched(|| {
        let (_guard, mut peer) = Peer::open(serving_r());
        for _ in 0..500 {
            peer.request(7, "");
            peer.expect_packet(&ok_packet(0, 7, 0, b"R"));
        }
    });
}

#[test]
fn requests_on_every_channel_are_served() {
    watched(|| {
        let (_guard, mut peer) = Peer::open(serving_r());
        for channel in [1, 5, 127, 128, 257, 1 << 32, u64::MAX] {
            peer.send_packet(&request_packet(channel, 5, 0, b"c5"));
            peer.expect_packet(&ok_packet(channel, 5, 0, b"R"));
        }
        // Channel 0 said in so many words is channel 0.
        peer.send_hex("06 05 03 00 01 63 30");
        peer.expect_hex("03 05 04 52");
    });
}

#[test]
fn a_python_peer_refusing_a_channel_is_an_ordinary_rejection() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder());
        let request = ask("").with_channel(5);
        let pending = guard.submit(request).unwrap();
        peer.expect_hex("04 00 03 05 01");
        peer.send_hex("15 00 01 05 756e6b6e6f776e206368616e6e656c202564");
        let error = pending.wait().unwrap_err();
        assert!(error.is_rejected());
        assert_eq!(error.rejection().unwrap().message(), "unknown channel %d");
        assert!(guard.is_open());
    });
}
