//! What a connection answers: a test for each row of PROTOCOL's table, on the wire.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation of a helper fails its test"
)]

mod common;
#[path = "common/scripted.rs"]
mod scripted;

use std::sync::LazyLock;

use common::watched;
use packetstream::wire::{ChannelId, Flags, Packet, Tag};
use packetstream::{
    BoxError, Connection, ConnectionBuilder, DecodeError, Error, Incoming, Rejection, Response,
};
use parking_lot::Mutex;
use scripted::{ERQ, Gate, Peer, not_ok_packet, ok_packet, request_packet, spawn, submit_and_see};

/// Everything that was logged in this process, at warnings and above.
static LOGGED: LazyLock<Mutex<Vec<String>>> = LazyLock::new(Mutex::default);

struct Journal;

impl log::Log for Journal {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LOGGED.lock().push(record.args().to_string());
    }

    fn flush(&self) {}
}

fn keep_a_journal() {
    static JOURNAL: Journal = Journal;
    // Another test of this process may have been first.
    let _ = log::set_logger(&JOURNAL);
    log::set_max_level(log::LevelFilter::Info);
}

fn was_logged(texts: &[&str]) -> bool {
    LOGGED
        .lock()
        .iter()
        .any(|line| texts.iter().all(|text| line.contains(text)))
}

fn serving<R: Into<Response> + 'static>(
    handler: impl Fn(Incoming) -> Result<R, BoxError> + Send + Sync + 'static,
) -> ConnectionBuilder {
    Connection::builder().handler(handler)
}

/// Sends one request with tag 2 to a connection, and expects exactly these octets for it.
fn answers_with(builder: ConnectionBuilder, expected: &str) {
    let (guard, mut peer) = Peer::open(builder);
    peer.send_hex("06 02 02 01 61 62 63");
    peer.expect_hex(expected);
    // The connection is no worse for it.
    peer.goodbye();
    peer.expect_goodbye();
    assert!(guard.close().into_result().is_ok());
}

#[test]
fn a_returned_payload_is_answered_ok() {
    watched(|| {
        answers_with(serving(|_| Ok("late")), "06 02 04 6c 61 74 65");
        answers_with(serving(|_| Ok(b"late".to_vec())), "06 02 04 6c 61 74 65");
        answers_with(
            serving(|_| Ok(String::from("h\u{e9}"))),
            "05 02 04 68 c3 a9",
        );
    });
}

#[test]
fn returned_flags_stand_above_the_ok_bit() {
    watched(|| {
        answers_with(serving(|_| Ok(())), "02 02 04");
        answers_with(serving(|_| Ok(Flags::from(1))), "02 02 0c");
        let both = || (Flags::from(0x11), vec![0x52]);
        answers_with(serving(move |_| Ok(both())), "04 02 81 0c 52");
    });
}

#[test]
fn a_handler_gets_type_flags_channel_and_payload_of_the_request() {
    watched(|| {
        let (tell, told) = crossbeam_channel::unbounded();
        let (_guard, mut peer) = Peer::open(serving(move |incoming| {
            tell.send((
                incoming.request_type().get(),
                incoming.flags().bits(),
                incoming.channel().get(),
                incoming.tag().get(),
                incoming.payload().to_vec(),
            ))?;
            Ok(())
        }));
        peer.send_hex("0d 82 2c 84 27 82 01 81 48 68 65 6c 6c 6f");
        peer.expect_packet(&ok_packet(257, 300, 0, b""));
        assert_eq!(
            told.recv().unwrap(),
            (199, 137, 257, 300, b"hello".to_vec())
        );
    });
}

#[test]
fn a_failed_handler_is_answered_without_the_cause_which_is_logged_here() {
    keep_a_journal();
    watched(|| {
        let handler =
            |_: Incoming| -> Result<Response, BoxError> { Err("the disk is full".into()) };
        let text = hex_of_answer(false, "exception during handler");
        answers_with(Connection::builder().handler(handler), &text);
        assert!(was_logged(&["the disk is full"]));
    });
}

#[test]
fn a_panicking_handler_is_answered_as_a_failed_one_and_its_message_is_logged_here() {
    keep_a_journal();
    watched(|| {
        let handler = |_: Incoming| -> Result<Response, BoxError> { panic!("unlucky number") };
        let text = hex_of_answer(false, "exception during handler");
        answers_with(Connection::builder().handler(handler), &text);
        assert!(was_logged(&["unlucky number"]));
    });
}

#[test]
fn one_handler_thread_survives_the_panics_of_its_handlers() {
    watched(|| {
        let builder = Connection::builder().handler_threads(1);
        let (_guard, mut peer) = Peer::open(builder.handler(|incoming: Incoming| {
            assert_ne!(incoming.payload(), b"panic");
            Ok("fine")
        }));
        for tag in 0..20 {
            peer.request(2 * tag, "panic");
            peer.expect_packet(&not_ok_packet(2 * tag, "exception during handler"));
            peer.request(2 * tag + 1, "");
            peer.expect_packet(&ok_packet(0, 2 * tag + 1, 0, b"fine"));
        }
    });
}

#[test]
fn a_rejection_chooses_the_text_and_the_flags() {
    watched(|| {
        let rejecting = |rejection: Rejection| {
            Connection::builder().handler(move |_: Incoming| -> Result<Response, BoxError> {
                Err(rejection.clone().into())
            })
        };
        answers_with(rejecting(Rejection::new("no")), "04 02 00 6e 6f");
        let flagged = Rejection::new("no").with_flags(Flags::from(0x11));
        answers_with(rejecting(flagged), "05 02 81 08 6e 6f");
    });
}

#[test]
fn a_responder_answers_later_or_not_ok_when_it_is_dropped() {
    watched(|| {
        let (hand_over, responders) = crossbeam_channel::unbounded();
        let builder = Connection::builder().deferred_handler(move |_, responder| {
            drop(hand_over.send(responder));
        });
        let (_guard, mut peer) = Peer::open(builder);
        for tag in 0..4 {
            peer.request(tag, "");
        }
        let taken: Vec<_> = (0..4).map(|_| responders.recv().unwrap()).collect();
        let mut taken = taken.into_iter();
        taken.next().unwrap().respond("late");
        taken.next().unwrap().reject(Rejection::new("no"));
        taken.next().unwrap().fail("cause");
        drop(taken.next());
        let mut answers: Vec<Packet> = (0..4).map(|_| peer.next_packet()).collect();
        answers.sort_by_key(Packet::tag);
        assert!(answers.iter().map(|p| p.tag().get()).eq(0..4));
        let mut oks: Vec<_> = answers.iter().map(Packet::is_ok).collect();
        oks.sort();
        assert_eq!(oks, [Some(false), Some(false), Some(false), Some(true)]);
        let said = |text: &[u8]| answers.iter().any(|p| p.payload() == text);
        assert!(said(b"late") && said(b"no") && said(b"exception during handler"));
    });
}

#[test]
fn without_a_handler_requests_are_refused() {
    watched(|| {
        answers_with(
            Connection::builder(),
            &hex_of_answer(false, "no request handler"),
        );
    });
}

#[test]
fn requests_after_the_peers_end_of_requests_are_refused() {
    watched(|| {
        let (_guard, mut peer) = Peer::open(serving(|_| Ok("R")));
        peer.request(5, "before");
        peer.expect_packet(&ok_packet(0, 5, 0, b"R"));
        peer.send_hex(ERQ);
        peer.request(6, "late");
        peer.expect_hex("1c 06 00 7265717565737473206e6f206c6f6e67657220616c6c6f776564");
    });
}

#[test]
fn while_closing_accepted_requests_are_finished_and_later_ones_refused() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (guard, mut peer) = Peer::open(Connection::builder().handler(handler));
        peer.request(5, "accepted");
        assert_eq!(gate.entered(), b"accepted");
        let closing = spawn("close", move || guard.close());
        peer.probe_until_refused(6);
        gate.release();
        peer.expect_packet(&ok_packet(0, 5, 0, b"accepted"));
        peer.expect_hex(ERQ);
        peer.expect_packet(&Packet::END_OF_STREAM);
        peer.goodbye();
        assert!(closing.join().unwrap().into_result().is_ok());
        peer.expect_end();
        assert_eq!(gate.waiting(), 0);
    });
}

/// `finish_requests` ends our requests, not those of the peer.
#[test]
fn after_our_own_end_of_requests_the_peer_is_still_served() {
    watched(|| {
        let (guard, mut peer) = Peer::open(serving(|_| Ok("R")));
        guard.finish_requests().unwrap();
        peer.expect_hex(ERQ);
        peer.request(5, "");
        peer.expect_packet(&ok_packet(0, 5, 0, b"R"));
    });
}

/// While an answer is owed to us the receiver may not pause, so what it cannot keep it refuses.
#[test]
fn over_the_inbound_budget_requests_are_refused_as_busy() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let builder = Connection::builder().handler_threads(1).handler(handler);
        let (guard, mut peer) = Peer::open(builder.max_outstanding_requests(4));
        let _owed = submit_and_see(&guard, &mut peer, "owed");
        peer.request(0, "");
        gate.entered();
        let mut sender = peer.sender();
        let flood = spawn("flood", move || {
            for tag in 1..100_000 {
                let request = request_packet(0, tag, 0, b"").transcribe();
                // Over the hard budget the connection may fail; it has refused by then.
                if sender.try_send(request).is_err() {
                    break;
                }
            }
        });
        flood.join().unwrap();
        // Whatever was refused was so before this is answered.
        gate.release();
        let first = peer.next_packet();
        let kept = guard.stats().requests_received;
        assert_eq!(first.is_ok(), Some(false), "{kept} requests were kept");
        let tag = first.tag().get();
        assert!(tag > 8, "two caps' worth is kept");
        assert_eq!(first, not_ok_packet(tag, "rejecting request: busy"));
        drop(guard.abort());
    });
}

#[test]
fn an_answer_over_the_length_limit_is_told_and_logged_with_both_numbers() {
    keep_a_journal();
    watched(|| {
        let of_wanted_length = |incoming: Incoming| -> Result<Response, BoxError> {
            let len: usize = String::from_utf8_lossy(incoming.payload()).parse()?;
            Ok(Response::from(vec![b'x'; len]))
        };
        let builder = Connection::builder().handler(of_wanted_length);
        let (_guard, mut peer) = Peer::open(builder.max_packet_len(1_233));
        peer.request(5, "1231");
        peer.expect_packet(&ok_packet(0, 5, 0, &[b'x'; 1_231]));
        peer.request(6, "1232");
        let told = "the answer of 1234 bytes is longer than the limit of 1233";
        peer.expect_packet(&not_ok_packet(6, told));
        assert!(was_logged(&["1234", "1233"]));
        peer.request(7, "1231");
        peer.expect_packet(&ok_packet(0, 7, 0, &[b'x'; 1_231]));
    });
}

#[test]
fn requests_read_after_our_end_of_stream_are_dropped_and_counted() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (guard, mut peer) = Peer::open(Connection::builder().handler(handler));
        guard.end_stream().unwrap();
        peer.expect_goodbye();
        peer.request(5, "");
        peer.request(6, "");
        peer.goodbye();
        let report = guard.close();
        assert_eq!(report.requests_dropped(), 2);
        assert!(report.into_result().is_ok());
        peer.expect_end();
        assert_eq!(gate.waiting(), 0);
    });
}

#[test]
fn a_repeated_end_of_requests_is_harmless() {
    watched(|| {
        let (guard, mut peer) = Peer::open(serving(|_| Ok("R")));
        let pending = submit_and_see(&guard, &mut peer, "mine");
        for _ in 0..3 {
            peer.send_hex(ERQ);
        }
        peer.answer(0, 2, "yes");
        assert_eq!(pending.wait().unwrap().payload(), b"yes");
        peer.goodbye();
        peer.expect_goodbye();
        assert!(guard.close().into_result().is_ok());
    });
}

#[test]
fn tags_zero_and_one_with_another_request_type_are_ordinary() {
    watched(|| {
        let (guard, mut peer) = Peer::open(serving(|_| Ok("R")));
        peer.send_hex("03 00 02 01");
        peer.expect_hex("03 00 04 52");
        peer.send_hex("03 01 02 01");
        peer.expect_hex("03 01 04 52");
        assert!(guard.is_open());
        peer.request(2, "");
        peer.expect_packet(&ok_packet(0, 2, 0, b"R"));
    });
}

#[test]
fn a_malformed_end_packet_is_an_error_of_the_peer() {
    for malformed in [
        "03020200",
        "03000600",
        "0400020078",
        "0400030100",
        "03010600",
    ] {
        watched(move || {
            let (guard, mut peer) = Peer::open(serving(|_| Ok("R")));
            let pending = submit_and_see(&guard, &mut peer, "mine");
            peer.send_hex(malformed);
            let error = pending.wait().unwrap_err();
            let cause = error.cause();
            let named = matches!(cause, Error::Decode(DecodeError::MalformedEndPacket));
            assert!(named && cause.is_peer(), "{malformed}: {error:?}");
            assert!(guard.close().into_result().is_err());
        });
    }
}

fn hex_of_answer(ok: bool, text: &str) -> String {
    let packet = Packet::response(
        ChannelId::DEFAULT,
        Tag::new(2),
        ok,
        Flags::NONE,
        text.as_bytes(),
    );
    scripted::hex(&packet.unwrap().transcribe())
}
