//! What went wrong in the Python implementation, once each, and does not here.
//!
//! Some of these rules have a test where they belong, which would be the same as one here:
//!
//! | there | test here |
//! |---|---|
//! | a request made after the peer's end is accepted and never completes | `ending::a_request_made_after_the_peers_end_is_not_sent` |
//! | the late answer to a cancelled request kills the receiver | `results::a_late_answer_after_a_cancel_is_dropped_counted_and_disturbs_nobody` |
//! | to leave the block while a request is open kills the receiver | `lifecycle::a_guard_may_go_while_results_are_held_and_they_still_arrive` |
//! | a close waits for a silent peer for ever | `forced_end::a_close_with_a_silent_peer_ends_by_force_when_linger_is_over` |
//! | a tag that is used again after its answer is not answered | `tags::a_tag_may_be_used_again_as_soon_as_its_answer_was_seen` |
//! | the cause of a failed handler is lost | `answers::a_failed_handler_is_answered_without_the_cause_which_is_logged_here` |
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    clippy::needless_pass_by_value,
    reason = "helpers of tests fail the test; handlers have the shape that is asked of them"
)]

mod common;
#[path = "common/scripted.rs"]
mod scripted;

use std::io::{self, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::watched;
use packetstream::wire::{DecodeError, Decoder, Field};
use packetstream::{
    BoxError, Connection, Error, Flags, Incoming, OpenGuard, Outcome, PendingResponse, Request,
    Response, Transport,
};
use scripted::{Gate, Peer, ask, ok_packet, request_packet, spawn, submit_and_see};

/// Depth of the chain of callbacks; with four handlers on each end, eight filled all slots.
const DEPTH: u8 = 20;

fn echo(incoming: Incoming) -> Result<Response, BoxError> {
    Ok(Response::from(incoming.into_payload()))
}

/// There: the state changes, and whoever waits is not woken.
#[test]
fn whoever_waits_when_the_peer_says_goodbye_is_woken() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder());
        let pending = submit_and_see(&guard, &mut peer, "never answered");
        let (begin, waits) = crossbeam_channel::bounded(0);
        let waiting = spawn("waiting", move || {
            begin.send(()).unwrap();
            pending.wait()
        });
        waits.recv().unwrap();
        peer.goodbye();
        let error = waiting.join().unwrap().unwrap_err();
        assert!(matches!(error.cause(), Error::PeerClosed), "{error:?}");
        assert_eq!(error.outcome(), Outcome::Unknown);
    });
}

/// There: the sender dies, 32 requests are accepted and the next one blocks, none ever completes.
#[test]
fn when_nobody_reads_every_request_fails_and_none_blocks() {
    watched(|| {
        let (input, _peer) = io::pipe().unwrap();
        let (read_end, output) = io::pipe().unwrap();
        drop(read_end);
        let transport = Transport::new(BufReader::new(input), output);
        let builder = Connection::builder().send_queue_len(16);
        let guard = builder
            .linger(Some(Duration::ZERO))
            .flush_grace(Duration::ZERO)
            .open(transport)
            .unwrap();
        let pending: Vec<Result<PendingResponse, Error>> =
            (0..40).map(|_| guard.submit(ask("unread"))).collect();
        for pending in pending {
            let error = pending.and_then(PendingResponse::wait).unwrap_err();
            assert!(error.is_closed() && error.is_transport(), "{error:?}");
        }
        let report = guard.close();
        let is_pipe = |error: &Error| matches!(error, Error::Write(error) if error.kind() == io::ErrorKind::BrokenPipe);
        assert!(report.cause().is_some_and(is_pipe), "{report:?}");
    });
}

/// There: the receiver dies, and the request stays pending.
#[test]
fn an_end_of_input_inside_a_packet_fails_what_is_pending_with_that_cause() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder());
        let pending = submit_and_see(&guard, &mut peer, "never answered");
        peer.send_hex("20 02");
        peer.close_write();
        let error = pending.wait().unwrap_err();
        let is_cut = matches!(error.cause(), Error::Decode(DecodeError::Truncated { .. }));
        assert!(is_cut, "{error:?}");
    });
}

/// There: four handlers on each end, and the ninth callback in a row hangs.
#[test]
fn callbacks_nest_deeper_than_both_ends_have_handlers() {
    fn calls_back(incoming: Incoming) -> Result<Response, BoxError> {
        let depth = incoming.payload()[0];
        if depth == 0 {
            return Ok(Response::from("bottom"));
        }
        let request = Request::new(0).with_payload([depth - 1]);
        Ok(incoming.connection().call(request)?)
    }
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let open = |transport| Connection::builder().handler(calls_back).open(transport);
        let (client, _server) = (open(ours).unwrap(), open(theirs).unwrap());
        let answer = client.call(Request::new(0).with_payload([DEPTH])).unwrap();
        assert_eq!(answer.payload(), b"bottom");
    });
}

/// There: the last close, in the handler's thread, waits for itself.
#[test]
fn a_handler_that_holds_the_connection_open_may_be_the_last_to_let_go() {
    watched(|| {
        let (entered, enters) = crossbeam_channel::bounded(1);
        let (let_go, goes) = crossbeam_channel::bounded::<()>(1);
        let handler = move |incoming: Incoming| -> Result<Response, BoxError> {
            let guard: OpenGuard = incoming.connection().open()?;
            entered.send(())?;
            goes.recv()?;
            drop(guard);
            Ok(Response::from("let go"))
        };
        let (guard, mut peer) = Peer::open(Connection::builder().handler(handler));
        let connection = Connection::clone(&guard);
        peer.request(5, "");
        enters.recv().unwrap();
        assert!(!guard.close().is_last());
        let_go.send(()).unwrap();
        let mut packets = peer.packets_to_end_of_stream();
        packets.retain(packetstream::Packet::is_response);
        assert_eq!(packets, [ok_packet(0, 5, 0, b"let go")]);
        peer.goodbye();
        assert!(connection.wait_closed().into_result().is_ok());
    });
}

/// There: the second is refused with the tag of the first, whose real answer is then lost.
#[test]
fn a_tag_that_is_still_served_is_never_answered_in_the_place_of_the_first() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (guard, mut peer) = Peer::open(Connection::builder().handler(handler));
        let twice = ["first", "second"].map(|text| {
            let request = request_packet(0, 5, 0, text.as_bytes());
            request.transcribe()
        });
        peer.send(twice.concat());
        assert_eq!(gate.entered(), b"first");
        let error = guard.wait_end_of_stream().unwrap_err();
        assert!(matches!(error, Error::DuplicateTag { .. }), "{error:?}");
        gate.release();
        let mut packets = peer.packets_to_end_of_stream();
        packets.retain(packetstream::Packet::is_response);
        assert_eq!(packets, [ok_packet(0, 5, 0, b"first")]);
        assert_eq!(gate.waiting(), 0);
    });
}

/// There: flags with text are no answer, none is sent, and the tag stays taken.
#[test]
fn flags_with_text_are_an_answer_and_the_tag_is_free_again() {
    watched(|| {
        let handler = |_: Incoming| Ok(Response::new(Flags::NONE, "text"));
        let (_guard, mut peer) = Peer::open(Connection::builder().handler(handler));
        for _ in 0..2 {
            peer.request(5, "");
            peer.expect_packet(&ok_packet(0, 5, 0, b"text"));
        }
    });
}

/// There: an answer that cannot be made is none at all.
#[test]
fn an_answer_that_cannot_be_sent_is_answered_not_ok_and_the_tag_is_free_again() {
    watched(|| {
        let handler = |incoming: Incoming| match incoming.payload() {
            b"too much" => Ok(Response::new(Flags::MAX, "too many flags")),
            _ => Ok(Response::from("fine")),
        };
        let (_guard, mut peer) = Peer::open(Connection::builder().handler(handler));
        peer.request(5, "too much");
        assert_eq!(peer.next_packet().is_ok(), Some(false));
        peer.request(5, "little");
        peer.expect_packet(&ok_packet(0, 5, 0, b"fine"));
    });
}

/// There: reader and writer come in the other order than the documentation says.
#[test]
fn a_connector_gives_reader_and_writer_in_the_documented_order() {
    watched(|| {
        let connection = Connection::builder().build_on_demand(|| {
            let (there_reads, here_writes) = io::pipe()?;
            let (here_reads, there_writes) = io::pipe()?;
            let there = Transport::new(BufReader::new(there_reads), there_writes);
            let server = Connection::builder().handler(echo).open(there);
            let server = server.map_err(io::Error::other)?;
            // It ends by itself with the peer's goodbye.
            spawn("server", move || server.serve());
            Ok(Transport::new(BufReader::new(here_reads), here_writes))
        });
        for _ in 0..2 {
            let guard = connection.open().unwrap();
            assert_eq!(guard.call(ask("x")).unwrap().payload(), b"x");
            assert!(guard.close().into_result().is_ok());
        }
    });
}

/// There: one descriptor for both directions is documented, and a type error.
#[test]
fn one_descriptor_may_serve_both_directions() {
    watched(|| {
        let (here, there) = UnixStream::pair().unwrap();
        let transport = |socket: UnixStream| Transport::try_from(OwnedFd::from(socket)).unwrap();
        let server = Connection::builder()
            .handler(echo)
            .open(transport(there))
            .unwrap();
        let client = Connection::builder().open(transport(here)).unwrap();
        assert_eq!(client.call(ask("x")).unwrap().payload(), b"x");
        assert!(client.close().into_result().is_ok());
        assert!(server.close().into_result().is_ok());
    });
}

/// There: it is taken for the end of the stream, and nobody is told of an error.
#[test]
fn a_malformed_end_packet_fails_what_is_pending_as_the_peers_fault() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder());
        let pending = submit_and_see(&guard, &mut peer, "never answered");
        peer.send_hex("04 05 02 00 61");
        let error = pending.wait().unwrap_err();
        let is_malformed = matches!(
            error.cause(),
            Error::Decode(DecodeError::MalformedEndPacket)
        );
        assert!(is_malformed && error.is_peer(), "{error:?}");
        peer.close_write();
        let report = guard.close();
        assert!(report.cause().is_some_and(Error::is_peer), "{report:?}");
    });
}

/// There: 88 000 requests are taken, at the cost of 600 MB.
#[test]
fn a_peer_that_floods_and_never_reads_is_served_within_the_budget_only() {
    const BUDGET: usize = 64;
    const FLOOD: u64 = 88_000;
    watched(|| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs
            .set_write_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let guard = Connection::builder()
            .max_outstanding_requests(BUDGET / 2)
            .max_inbound_requests(BUDGET)
            .linger(Some(Duration::ZERO))
            .handler(echo)
            .open(Transport::try_from(ours).unwrap())
            .unwrap();
        let flood = spawn("flood", move || {
            let sent = (0..FLOOD).take_while(|tag| {
                let request = request_packet(0, *tag, 0, &[b'x'; 1024]).transcribe();
                // Either we stop reading, or the connection fails.
                (&theirs).write_all(&request).is_ok()
            });
            (sent.count() as u64, theirs)
        });
        let (sent, _theirs) = flood.join().unwrap();
        assert!(sent < FLOOD, "all {sent} were taken");
        // Those whose answers fill the socket, and then what is kept and what the answers of may wait.
        let received = guard.stats().requests_received;
        assert!(received < 2000, "{received} were taken");
        assert!(
            guard.stats().serving <= 4 * BUDGET as u64 + 8,
            "{:?}",
            guard.stats()
        );
    });
}

/// There: the time grows with the square of the length, without an end.
#[test]
fn an_integer_without_end_is_refused_at_its_eleventh_octet() {
    let octets = [vec![0xff; 200_000], vec![0x7f]].concat();
    let mut input = &octets[..];
    let error = Decoder::new().decode(&mut input).unwrap_err();
    assert_eq!(
        error,
        DecodeError::IntegerTooLarge {
            field: Field::Length
        }
    );
    assert!(
        octets.len() - input.len() <= 11,
        "{} octets were taken",
        octets.len() - input.len()
    );
    watched(move || {
        let (guard, mut peer) = Peer::open(Connection::builder());
        let pending = submit_and_see(&guard, &mut peer, "never answered");
        // The connection may be gone before it is all sent.
        let _ = peer.try_send(octets);
        let error = pending.wait().unwrap_err();
        let is_too_large = matches!(
            error.cause(),
            Error::Decode(DecodeError::IntegerTooLarge { .. })
        );
        assert!(is_too_large, "{error:?}");
    });
}

/// There: two sets grow with each request, and are never emptied.
#[test]
fn nothing_is_kept_of_a_request_that_has_been_answered() {
    const REQUESTS: usize = 4200;
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let server = Connection::builder().handler(echo).open(theirs).unwrap();
        let client = Connection::builder().open(ours).unwrap();
        let mut pending = Vec::new();
        for _ in 0..REQUESTS {
            pending.push(client.submit(ask("")).unwrap());
            if pending.len() == 100 {
                pending
                    .drain(..)
                    .for_each(|pending| drop(pending.wait().unwrap()));
            }
        }
        assert_eq!(client.stats().outstanding, 0);
        assert!(client.close().into_result().is_ok());
        assert!(server.wait_closed().into_result().is_ok());
        assert_eq!(server.stats().serving, 0);
        assert_eq!(server.stats().requests_received, REQUESTS as u64);
    });
}
