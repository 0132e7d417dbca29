//! How a connection ends: the order of the goodbyes, the ways a peer's direction may end, and
//! what becomes of requests and answers in each.
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
use packetstream::wire::{Packet, RequestType};
use packetstream::{
    CloseReport, Connection, ConnectionBuilder, DecodeError, Error, Incoming, Outcome,
    PendingResponse, Request,
};
use scripted::{
    EOF, ERQ, Gate, Peer, ask, not_ok_packet, ok_packet, request_packet, spawn, submit_and_see,
};

fn serving_r() -> ConnectionBuilder {
    Connection::builder().handler(|_: Incoming| Ok("R"))
}

fn assert_unknown(error: &Error, is_cause: impl Fn(&Error) -> bool) {
    assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
    assert!(is_cause(error.cause()), "{error:?}");
}

/// The end of every orderly session: our side has nothing more to say and says so.
fn assert_orderly(report: &CloseReport, goodbye: bool) {
    assert!(report.cause().is_none(), "{report:?}");
    assert_eq!(report.peer_said_goodbye(), goodbye);
    assert_eq!(report.answers_lost(), 0);
}

#[test]
fn a_close_sends_what_was_accepted_then_end_of_requests_then_end_of_stream() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (guard, mut peer) = Peer::open(Connection::builder().handler(handler));
        peer.request(5, "accepted");
        gate.entered();
        drop(submit_and_see(&guard, &mut peer, "ours"));
        let closing = spawn("close", move || guard.close());
        peer.probe_until_refused(6);
        gate.release();
        peer.expect_packet(&ok_packet(0, 5, 0, b"accepted"));
        // Until then its handler might have asked for something.
        peer.expect_hex(ERQ);
        // A refusal, not our EOF, comes next: the answer to our own request is still waited for.
        peer.request(5, "");
        peer.expect_packet(&not_ok_packet(5, "rejecting request: shutting down"));
        peer.answer(0, 2, "yes");
        peer.expect_hex(EOF);
        assert!(!closing.is_finished(), "did not wait for the peer's EOF");
        peer.goodbye();
        assert_orderly(&closing.join().unwrap(), true);
        peer.expect_end();
    });
}

#[test]
fn a_close_ends_with_the_end_of_the_transport_as_well_as_with_a_goodbye() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder());
        let closing = spawn("close", move || guard.close());
        peer.expect_goodbye();
        peer.close_write();
        assert_orderly(&closing.join().unwrap(), false);
        peer.expect_end();
    });
}

#[test]
fn end_of_requests_is_sent_once_however_often_it_is_asked_for() {
    watched(|| {
        let (guard, mut peer) = Peer::open(serving_r());
        guard.finish_requests().unwrap();
        // Whether asking again is an error is not what is tested.
        drop(guard.finish_requests());
        drop(guard.end_stream());
        peer.goodbye();
        assert_orderly(&guard.close(), true);
        peer.expect_goodbye();
        peer.expect_end();
    });
}

#[test]
fn after_finish_requests_a_submit_fails_here_and_sends_nothing() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder());
        guard.finish_requests().unwrap();
        let error = guard.submit(ask("late")).unwrap_err();
        assert!(matches!(error, Error::RequestsFinished), "{error:?}");
        assert_eq!(error.outcome(), Outcome::NotSent);
        peer.goodbye();
        drop(guard);
        peer.expect_goodbye();
        peer.expect_end();
    });
}

#[test]
fn end_stream_lets_what_was_accepted_be_answered_first() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (guard, mut peer) = Peer::open(Connection::builder().handler(handler));
        peer.request(5, "accepted");
        gate.entered();
        guard.end_stream().unwrap();
        peer.expect_hex(ERQ);
        gate.release();
        peer.expect_packet(&ok_packet(0, 5, 0, b"accepted"));
        peer.expect_hex(EOF);
        peer.goodbye();
        assert_orderly(&guard.close(), true);
        peer.expect_end();
    });
}

#[test]
fn after_the_peers_end_of_requests_ours_go_on() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder());
        peer.send_hex(ERQ);
        for tag in 2..10 {
            let pending = submit_and_see(&guard, &mut peer, "ours");
            peer.answer(0, tag, "yes");
            assert_eq!(pending.wait().unwrap().payload(), b"yes");
        }
    });
}

#[test]
fn requests_that_cross_our_goodbye_are_each_answered_once_until_our_end_of_stream() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let builder = Connection::builder().handler_threads(2).handler(handler);
        let (guard, mut peer) = Peer::open(builder);
        for tag in 10..20 {
            peer.request(tag, "early");
        }
        gate.entered();
        guard.finish_requests().unwrap();
        peer.expect_hex(ERQ);
        for tag in 20..25 {
            peer.request(tag, "crossing");
        }
        (10..25).for_each(|_| gate.release());
        let mut tags: Vec<u64> = (10..25).map(|_| peer.next_packet().tag().get()).collect();
        tags.sort_unstable();
        assert!(tags.iter().copied().eq(10..25), "{tags:?}");
        peer.goodbye();
        peer.expect_hex(EOF);
        assert_orderly(&guard.close(), true);
        peer.expect_end();
    });
}

#[test]
fn a_forced_end_with_requests_unanswered_sends_no_end_of_stream() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (guard, mut peer) = Peer::open(Connection::builder().handler(handler));
        peer.request(5, "never answered");
        gate.entered();
        let report = guard.shutdown(Some(Duration::from_millis(20)));
        assert!(
            matches!(report.cause(), Some(Error::LingerExpired)),
            "{report:?}"
        );
        assert_eq!(report.answers_lost(), 1);
        assert!(report.into_transport().is_none());
        // The handler still runs, and the peer has its end nevertheless.
        let rest = peer.packets_to_end();
        assert_eq!(rest, [], "the handler might have asked for something");
        gate.release();
    });
}

#[test]
fn an_abort_with_requests_unanswered_sends_no_end_of_stream() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (guard, mut peer) = Peer::open(Connection::builder().handler(handler));
        peer.request(5, "never answered");
        gate.entered();
        let pending = submit_and_see(&guard, &mut peer, "ours");
        let report = guard.abort();
        assert!(matches!(report.cause(), Some(Error::Aborted)), "{report:?}");
        let error = pending.wait().unwrap_err();
        assert_unknown(&error, |cause| matches!(cause, Error::Aborted));
        let rest = peer.packets_to_end();
        assert!(!rest.contains(&Packet::END_OF_STREAM), "{rest:?}");
        gate.release();
    });
}

#[test]
fn a_silent_peer_cannot_hold_a_close_longer_than_the_linger_time() {
    watched(|| {
        let builder = Connection::builder().linger(Some(Duration::from_millis(20)));
        let (guard, mut peer) = Peer::open(builder);
        drop(submit_and_see(&guard, &mut peer, "never answered"));
        let report = guard.close();
        assert!(
            matches!(report.cause(), Some(Error::LingerExpired)),
            "{report:?}"
        );
        assert_eq!(report.requests_unknown(), 1);
        assert!(!report.peer_said_goodbye());
        peer.expect_hex(ERQ);
    });
}

#[test]
fn after_the_peers_end_of_stream_nothing_is_consumed_or_served() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (guard, mut peer) = Peer::open(Connection::builder().handler(handler));
        let pending = submit_and_see(&guard, &mut peer, "ours");
        let answer = ok_packet(0, 2, 0, b"too late").transcribe();
        let request = request_packet(0, 5, 0, b"too late").transcribe();
        peer.send([&scripted::unhex(EOF)[..], &answer, &request].concat());
        let error = pending.wait().unwrap_err();
        assert_unknown(&error, |cause| matches!(cause, Error::PeerClosed));
        peer.expect_goodbye();
        assert_orderly(&guard.close(), true);
        peer.expect_end();
        assert_eq!(gate.waiting(), 0);
    });
}

/// The first connection ends; what the reader had read beyond is the second one's.
#[test]
fn streams_had_back_carry_a_further_connection_with_tags_from_two() {
    watched(|| {
        let (guard, mut peer) = Peer::open(serving_r());
        let pending = submit_and_see(&guard, &mut peer, "first");
        let next = request_packet(0, 2, 0, b"of the second").transcribe();
        let answer = ok_packet(0, 2, 0, b"yes").transcribe();
        let goodbye = scripted::unhex(&[ERQ, EOF].concat());
        peer.send([&answer[..], &goodbye, &next].concat());
        assert_eq!(pending.wait().unwrap().payload(), b"yes");
        peer.expect_goodbye();

        let report = guard.close();
        let transport = report.into_transport().expect("both ends said goodbye");
        let guard = serving_r().open(transport).unwrap();
        peer.expect_packet(&ok_packet(0, 2, 0, b"R"));
        let pending = guard.submit(ask("second")).unwrap();
        peer.expect_packet(&request_packet(0, 2, 0, b"second"));
        peer.answer(0, 2, "again");
        assert_eq!(pending.wait().unwrap().payload(), b"again");
        peer.goodbye();
        peer.expect_goodbye();
        assert!(guard.close().into_transport().is_some());
        peer.expect_end();
    });
}

#[test]
fn a_transport_that_ended_without_a_goodbye_is_not_given_back() {
    watched(|| {
        let (guard, mut peer) = Peer::open(serving_r());
        peer.close_write();
        peer.expect_goodbye();
        let report = guard.close();
        assert_orderly(&report, false);
        assert!(report.into_transport().is_none());
    });
}

/// What the peer does at the end of its direction, and the cause that must be reported.
struct Ending {
    octets: Vec<u8>,
    closes: bool,
    is_cause: fn(&Error) -> bool,
    orderly: bool,
    goodbye: bool,
}

/// Requests of both sides are under way when the peer's direction ends: ours fail with the cause,
/// the peer's are answered and flushed, and our own goodbye follows by itself, guards open.
fn ends_with(ending: Ending) {
    watched(move || {
        let (gate, handler) = Gate::new();
        let builder = Connection::builder().handler_threads(1).handler(handler);
        let (guard, mut peer) = Peer::open(builder);
        let pending = submit_and_see(&guard, &mut peer, "ours");
        peer.request(5, "running");
        peer.request(6, "queued");
        assert_eq!(gate.entered(), b"running");
        peer.send(&ending.octets);
        if ending.closes {
            peer.close_write();
        }
        let error = pending.wait().unwrap_err();
        assert_unknown(&error, ending.is_cause);
        gate.release();
        gate.release();
        let mut packets = peer.packets_to_end_of_stream();
        // Its place among the answers is a rule, and a test, of its own.
        packets.retain(|packet| *packet != Packet::END_OF_REQUESTS);
        let expected = [
            ok_packet(0, 5, 0, b"running"),
            ok_packet(0, 6, 0, b"queued"),
            Packet::END_OF_STREAM,
        ];
        assert_eq!(packets, expected);
        let late = guard.submit(ask("late")).and_then(PendingResponse::wait);
        assert_eq!(late.unwrap_err().outcome(), Outcome::NotSent);
        let report = guard.close();
        assert_eq!(report.peer_said_goodbye(), ending.goodbye);
        assert_eq!(report.answers_lost(), 0);
        assert_eq!(report.requests_unknown(), 1);
        match report.cause() {
            None => assert!(ending.orderly, "the end was reported as orderly"),
            Some(cause) => assert!(!ending.orderly && (ending.is_cause)(cause), "{cause:?}"),
        }
        drop(report);
        peer.expect_end();
    });
}

/// What the peer had asked is answered, and our ERQ and EOF follow, in this order.
#[test]
fn after_the_peers_end_the_answers_come_before_our_end_of_requests() {
    for end in [EOF, ""] {
        watched(move || {
            let (gate, handler) = Gate::new();
            let (guard, mut peer) = Peer::open(Connection::builder().handler(handler));
            peer.request(5, "accepted");
            gate.entered();
            peer.send_hex(end);
            peer.close_write();
            drop(guard.wait_end_of_stream());
            gate.release();
            peer.expect_packet(&ok_packet(0, 5, 0, b"accepted"));
            peer.expect_goodbye();
            assert!(guard.close().into_result().is_ok());
            peer.expect_end();
        });
    }
}

#[test]
fn the_peers_end_of_stream_is_orderly_and_everything_accepted_is_answered() {
    ends_with(Ending {
        octets: scripted::unhex(EOF),
        closes: false,
        is_cause: |cause| matches!(cause, Error::PeerClosed),
        orderly: true,
        goodbye: true,
    });
}

#[test]
fn the_end_of_the_transport_between_packets_is_orderly_without_a_goodbye() {
    ends_with(Ending {
        octets: Vec::new(),
        closes: true,
        is_cause: |cause| matches!(cause, Error::EndOfInput(_)),
        orderly: true,
        goodbye: false,
    });
}

#[test]
fn the_end_of_the_transport_inside_a_packet_is_an_error_and_what_was_accepted_is_answered() {
    ends_with(Ending {
        octets: vec![0x80, 0x40, 0x09],
        closes: true,
        is_cause: |cause| matches!(cause, Error::Decode(DecodeError::Truncated { .. })),
        orderly: false,
        goodbye: false,
    });
}

#[test]
fn an_undecodable_packet_is_an_error_of_the_peer_and_what_was_accepted_is_answered() {
    ends_with(Ending {
        octets: vec![0x01, 0x05],
        closes: false,
        is_cause: |cause| {
            let bad = matches!(cause, Error::Decode(DecodeError::FieldsBeyondEnd { .. }));
            bad && cause.is_peer()
        },
        orderly: false,
        goodbye: false,
    });
}

#[test]
fn a_packet_far_over_the_limit_is_an_error_of_the_peer_and_what_was_accepted_is_answered() {
    ends_with(Ending {
        octets: vec![0xff, 0xff, 0xff, 0xff, 0x7f],
        closes: false,
        is_cause: |cause| {
            let long = matches!(cause, Error::Decode(DecodeError::PacketTooLong { .. }));
            long && cause.is_peer()
        },
        orderly: false,
        goodbye: false,
    });
}

#[test]
fn a_malformed_end_packet_is_an_error_of_the_peer_and_what_was_accepted_is_answered() {
    ends_with(Ending {
        octets: scripted::unhex("03 02 02 00"),
        closes: false,
        is_cause: |cause| {
            let bad = matches!(cause, Error::Decode(DecodeError::MalformedEndPacket));
            bad && cause.is_peer()
        },
        orderly: false,
        goodbye: false,
    });
}

#[test]
fn a_tag_that_is_still_served_is_an_error_of_the_peer_and_what_was_accepted_is_answered() {
    ends_with(Ending {
        octets: request_packet(0, 6, 0, b"duplicate").transcribe(),
        closes: false,
        is_cause: |cause| matches!(cause, Error::DuplicateTag { .. }) && cause.is_peer(),
        orderly: false,
        goodbye: false,
    });
}

/// Then we stop reading: a good request behind the bad packet is not served.
#[test]
fn nothing_is_served_behind_an_error_of_the_peer() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (guard, mut peer) = Peer::open(Connection::builder().handler(handler));
        let good = request_packet(0, 5, 0, b"x").transcribe();
        peer.send([&[0_u8][..], &good].concat());
        let ended = guard.wait_end_of_stream();
        assert!(matches!(ended, Err(Error::Decode(_))), "{ended:?}");
        let report = guard.close();
        assert!(report.cause().is_some_and(Error::is_peer), "{report:?}");
        assert_eq!(gate.waiting(), 0);
    });
}

#[test]
fn a_request_made_after_the_peers_end_is_not_sent() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder());
        peer.goodbye();
        peer.expect_goodbye();
        let request = Request::new(RequestType::from(0));
        let error = guard.call(request).unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotSent, "{error:?}");
        assert!(error.is_closed(), "{error:?}");
        assert_orderly(&guard.close(), true);
        peer.expect_end();
    });
}
