//! A stream that is not ours: what a shell, a login banner or another protocol says is quoted in
//! the error, and never acted on.
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
use packetstream::wire::Packet;
use packetstream::{Connection, Error, Incoming, Outcome, Request, Transport};
use scripted::{Gate, Peer, ok_packet, request_packet, submit_and_see};

/// A peer says `text`, and then nothing or the end; the connection must end, quoting it.
fn is_quoted(text: &'static [u8], then_eof: bool, quoted: &'static str) {
    watched(move || {
        let (gate, handler) = Gate::new();
        let (guard, mut peer) = Peer::open(Connection::builder().handler(handler));
        let pending = submit_and_see(&guard, &mut peer, "ours");
        peer.send(text);
        if then_eof {
            peer.close_write();
        }
        let error = pending.wait().unwrap_err();
        let cause = error.cause();
        let named = matches!(cause, Error::NotPacketstream(_)) && cause.is_peer();
        assert!(named, "{cause:?}");
        assert!(cause.to_string().contains(quoted), "{cause}");
        let report = guard.close();
        let cause = report.cause().unwrap();
        assert!(cause.to_string().contains(quoted), "{cause}");
        assert_eq!(gate.waiting(), 0, "text was served as a request");
    });
}

#[test]
fn what_a_shell_says_is_quoted() {
    watched(|| {
        let (guard, peer) = Peer::open(Connection::builder());
        let mut sender = peer.sender();
        sender.send("bash: server: command not found");
        peer.close_write();
        let report = guard.serve();
        assert_eq!(
            report.cause().unwrap().to_string(),
            r#"peer is not speaking packetstream; it said: "bash: server: command not found""#
        );
    });
    is_quoted(
        b"bash: server: command not found\n",
        true,
        "bash: server: command not found",
    );
}

/// Length 76, tag 97, a request on channel 116.
#[test]
fn a_login_banner_that_decodes_as_a_request_is_quoted_and_not_served() {
    let banner =
        b"Last login: Mon Nov 23 10:51:02 2026 from 192.0.2.7 on pts/0, and a good day to you\r\n";
    let (packet, _) = Packet::parse(banner).unwrap();
    assert!(packet.is_request());
    is_quoted(banner, false, "Last login: Mon Nov 23");
}

/// Length 72, tag 84, a response.
#[test]
fn an_http_response_that_decodes_as_a_response_is_quoted() {
    let http =
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n400";
    let (packet, _) = Packet::parse(http).unwrap();
    assert!(packet.is_response());
    is_quoted(http, false, "HTTP/1.1 400 Bad Request");
}

/// A line feed is a length of 10: the first packet ends within the text.
#[test]
fn a_short_first_packet_is_enough_to_know_text() {
    is_quoted(b"\n\n\nReboot scheduled for noon\n", false, "Reboot s");
}

#[test]
fn text_cut_off_inside_the_first_packet_is_quoted() {
    is_quoted(b"GET / HTTP/1.0\r\n\r\n", true, "GET / HTTP/1.0");
}

#[test]
fn only_the_first_sixty_four_octets_must_be_text() {
    let mut text = vec![b'x'; 64];
    text.extend([0xff; 200]);
    is_quoted(text.leak(), true, "xxxxxxxx");
}

#[test]
fn the_start_of_a_tls_record_is_named_as_such() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x8a\x1f\x00\x7b\x2c\x51\x90\xee\x0d\x44\x73\x21";
    is_quoted(hello, false, "TLS");
    let alert = b"\x15\x03\x03\x00\x02\x02\x28";
    is_quoted(alert, true, "TLS");
}

/// Its length is 22 and its tag 3, as a request before it was never sent.
#[test]
fn a_first_request_that_starts_like_a_tls_record_is_served() {
    watched(|| {
        loop {
            let (ours, theirs) = Transport::pair();
            let echo = |incoming: Incoming| Ok(incoming.into_payload());
            let _server = Connection::builder().handler(echo).open(theirs).unwrap();
            let client = Connection::builder().open(ours).unwrap();
            let outcome = client.submit(Request::new(0)).unwrap().cancel();
            let response = client.call(Request::new(0).with_payload([1; 19])).unwrap();
            assert_eq!(response.payload(), [1; 19]);
            // The sender may have been quicker.
            if outcome == Outcome::NotSent {
                return;
            }
        }
    });
}

/// Thirty requests bring the tag among the printable octets; the answer is one all the same.
#[test]
fn an_answer_to_a_request_of_ours_may_look_like_text() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder());
        let mut pending: Vec<_> = (0..32)
            .map(|_| submit_and_see(&guard, &mut peer, "ours"))
            .collect();
        let answer = b"!!$all of this is printable text..";
        let (packet, len) = Packet::parse(answer).unwrap();
        assert_eq!((packet.tag().get(), len), (33, answer.len()));
        peer.send(answer);
        let response = pending.pop().unwrap().wait().unwrap();
        assert_eq!(response.payload(), &answer[3..]);
        assert!(guard.is_open());
        peer.answer(0, 2, "and the stream is known to be ours");
        let first = pending.swap_remove(0).wait().unwrap();
        assert_eq!(first.payload(), b"and the stream is known to be ours");
    });
}

/// Only the first packet is judged: afterwards the stream is known to be ours.
#[test]
fn a_later_packet_may_look_like_text() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (_guard, mut peer) = Peer::open(Connection::builder().handler(handler));
        gate.release();
        peer.send_packet(&request_packet(0, 200, 0, b"first"));
        peer.expect_packet(&ok_packet(0, 200, 0, b"first"));
        let banner =
            b"Last login: Mon Nov 23 10:51:02 2026 from 192.0.2.7 on pts/0, and a good day.";
        assert_eq!(Packet::parse(banner).unwrap().1, banner.len());
        peer.send(banner);
        gate.release();
        assert_eq!(peer.next_packet().channel().get(), 116);
    });
}

#[test]
fn while_the_first_packet_is_incomplete_the_report_of_a_timeout_quotes_what_came() {
    watched(|| {
        let builder = Connection::builder().linger(Some(Duration::from_millis(500)));
        let (guard, mut peer) = Peer::open(builder);
        peer.send("Password: ");
        let report = guard.close();
        let told = format!(
            "{:?} {:?}",
            report.cause().map(ToString::to_string),
            report.diagnosis()
        );
        assert!(told.contains("Password: "), "{told}");
    });
}
