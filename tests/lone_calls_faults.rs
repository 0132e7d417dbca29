//! Whatever befalls a connection while a caller reads its own answer, or has left the reading to
//! the next, is told like on a connection whose receiver reads.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    reason = "helpers of tests fail the test; handlers have the shape that is asked of them"
)]

mod common;
#[path = "common/lone.rs"]
mod lone;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/pairs.rs"]
mod pairs;

use std::io::Read;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::{PATIENCE, watched};
use lone::{Scene, patient, staged, tell, tell_later, tell_packet, tell_rest};
use packetstream::{
    ChannelId, Connection, Error, Flags, Outcome, Packet, RequestType, Tag, Transport,
};
use pairs::{ScriptedPeer, answer_to, asking, request_packet, start};

// ---- what the peer says ----------------------------------------------------------------------

/// What comes from the peer.
#[derive(Clone)]
struct Event {
    name: &'static str,
    octets: Vec<u8>,
    /// How many requests of the peer are among them.
    requests: usize,
    /// Whether the peer's stream ends behind them.
    is_cut: bool,
    /// Whether nothing can be answered afterwards.
    is_end: bool,
}

fn goes_on(name: &'static str, packets: &[Packet]) -> Event {
    let octets = packets.iter().flat_map(Packet::transcribe).collect();
    let requests = packets
        .iter()
        .filter(|packet| packet.request_type().is_some())
        .count();
    Event {
        name,
        octets,
        requests,
        is_cut: false,
        is_end: false,
    }
}

fn ends(name: &'static str, octets: &[u8]) -> Event {
    Event {
        name,
        octets: octets.to_vec(),
        requests: 0,
        is_cut: false,
        is_end: true,
    }
}

fn is_cut(event: Event) -> Event {
    Event {
        is_cut: true,
        is_end: true,
        ..event
    }
}

fn stray(payload: Vec<u8>) -> Packet {
    answer_to(&request_packet(999_999, ""), payload)
}

fn on_another_channel() -> Packet {
    Packet::request(
        ChannelId::new(7),
        Tag::new(0),
        RequestType::from(3),
        Flags::NONE,
        "x",
    )
}

fn events() -> Vec<Event> {
    let end = Packet::END_OF_STREAM.transcribe();
    let both = [Packet::END_OF_REQUESTS.transcribe(), end.clone()].concat();
    let requests: Vec<Packet> = (5..105).map(|tag| request_packet(tag, "x")).collect();
    vec![
        goes_on("nothing", &[]),
        goes_on("a stray response", &[stray(b"x".into())]),
        goes_on("a long stray response", &[stray(vec![1; 100_000])]),
        goes_on("a request", &[request_packet(5, "x")]),
        goes_on("a request elsewhere", &[on_another_channel()]),
        goes_on("many requests", &requests),
        goes_on("the end of requests", &[Packet::END_OF_REQUESTS]),
        ends("the end of the stream", &end),
        ends("both ends", &both),
        is_cut(ends("the end of input", b"")),
        is_cut(ends("an end inside a packet", &[0x20, 2])),
        is_cut(ends("a text", b"HTTP/1.1 400 Bad Request\r\n")),
        is_cut(goes_on("a request and the end", &[request_packet(5, "x")])),
        ends("an integer without end", &[0xff; 16]),
        // 16 times the limit and one more.
        ends("a claim beyond all limits", &[0x84, 0x80, 0x80, 0x80, 1, 1]),
        ends("a malformed end", &[3, 2, 2, 0]),
    ]
}

/// When it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    WhileCalling,
    /// The same, one octet at a time.
    InPieces,
    /// In one write with the answer.
    BeforeTheAnswer,
    BehindTheAnswer,
    BetweenCalls,
}

/// What the user and the peer see of it.
fn history(event: &Event, when: When, is_warm: bool) -> Vec<String> {
    let (mut scene, held) = staged(patient(), when != When::BetweenCalls, is_warm);
    let answer = held
        .as_ref()
        .map(|held| answer_to(held, "late").transcribe());
    let answer = answer.unwrap_or_default();
    let octets = match when {
        When::BeforeTheAnswer => [event.octets.clone(), answer.clone()].concat(),
        When::BehindTheAnswer => [answer.clone(), event.octets.clone()].concat(),
        _ => event.octets.clone(),
    };
    let is_with_it = matches!(when, When::BeforeTheAnswer | When::BehindTheAnswer);
    let is_in_pieces = when == When::InPieces;
    let (pieces, rest) = octets.split_at(octets.len().min(if is_in_pieces { 200 } else { 0 }));
    for octet in pieces.chunks(1) {
        scene.peer.send_octets(octet);
    }
    scene.peer.send_octets(rest);
    if event.is_cut {
        scene.peer.cut(Shutdown::Write);
    }
    let rejections = (0..event.requests).map(|_| tell_packet(&scene.peer.next().unwrap()));
    let mut told: Vec<String> = rejections.collect();
    if !is_with_it && !event.is_end {
        scene.peer.send_octets(&answer);
    }
    if held.is_some() {
        told.push(format!("{:?}", scene.answered()));
    }
    let guard = scene.guard();
    let report = if event.is_end {
        told.push(format!("{:?}", guard.wait_end_of_stream()));
        told.push(tell_later(&scene));
        told.extend(tell_rest(&mut scene));
        guard.close()
    } else {
        for _ in 0..20 {
            scene.call();
        }
        let closing = start(move || guard.close());
        told.extend(tell_rest(&mut scene));
        scene.peer.goodbye();
        closing.join().unwrap()
    };
    told.push(tell(&report));
    told.push(tell_later(&scene));
    told
}

fn assert_it_is_told_alike(when: When) {
    watched(move || {
        for event in events() {
            if when == When::InPieces && event.octets.len() < 2 {
                continue;
            }
            let context = format!("{}, {when:?}", event.name);
            let cold = history(&event, when, false);
            let warm = history(&event, when, true);
            assert_eq!(warm, cold, "{context}");
            let is_rejected = warm[0].contains("no request handler");
            assert_eq!(is_rejected, event.requests > 0, "{context}: {warm:?}");
        }
    });
}

#[test]
fn what_comes_while_a_caller_reads_is_told_as_ever() {
    assert_it_is_told_alike(When::WhileCalling);
}

#[test]
fn what_comes_in_pieces_while_a_caller_reads_is_told_as_ever() {
    assert_it_is_told_alike(When::InPieces);
}

#[test]
fn what_comes_before_the_answer_in_one_piece_is_told_as_ever() {
    assert_it_is_told_alike(When::BeforeTheAnswer);
}

#[test]
fn what_comes_behind_the_answer_in_one_piece_is_told_as_ever() {
    assert_it_is_told_alike(When::BehindTheAnswer);
}

#[test]
fn what_comes_when_a_caller_has_left_the_reading_is_told_as_ever() {
    assert_it_is_told_alike(When::BetweenCalls);
}

#[test]
fn a_second_answer_is_late_whoever_reads() {
    for is_warm in [false, true] {
        for is_in_one_piece in [false, true] {
            watched(move || {
                let (mut scene, held) = staged(patient(), true, is_warm);
                let held = held.unwrap();
                let [first, second] = ["first", "second"].map(|text| answer_to(&held, text));
                for together in [first, second].chunks(1 + usize::from(is_in_one_piece)) {
                    scene.peer.send(together);
                }
                assert_eq!(scene.answered().unwrap().payload(), b"first");
                for _ in 0..20 {
                    scene.call();
                }
                let guard = scene.guard();
                let closing = start(move || guard.close());
                scene.peer.part();
                assert_eq!(closing.join().unwrap().late_responses(), 1);
            });
        }
    }
}

// ---- what is done here -----------------------------------------------------------------------

/// Something done to the connection on another thread than the caller's; returns what is seen.
type Deed = fn(&mut Scene, Option<&Packet>) -> Vec<String>;

fn settle(scene: &mut Scene, held: Option<&Packet>) -> Vec<String> {
    if let Some(held) = held {
        scene.peer.answer(held, "late");
    }
    scene.peer.goodbye();
    let mut told = tell_rest(scene);
    told.push(tell(&scene.connection.wait_closed()));
    told
}

const DEEDS: [(&str, Deed); 8] = [
    ("abort", |scene, _| vec![tell(&scene.connection.abort())]),
    ("shutdown at once", |scene, _| {
        let report = scene.connection.shutdown(Some(Duration::ZERO));
        vec![tell(&report)]
    }),
    ("shutdown, the peer is silent", |scene, _| {
        let linger = Some(Duration::from_millis(30));
        vec![tell(&scene.connection.shutdown(linger))]
    }),
    ("shutdown, the peer is slow", |scene, held| {
        let connection = scene.connection.clone();
        let closing = start(move || connection.shutdown(Some(PATIENCE)));
        scene.peer.expect(&Packet::END_OF_REQUESTS);
        let mut told = settle(scene, held);
        told.push(tell(&closing.join().unwrap()));
        told
    }),
    ("a guard goes, the peer is silent", |scene, held| {
        let mut told = Vec::new();
        if held.is_some() {
            // The call holds it open, until it fails.
            drop(scene.guard());
            scene.peer.cut(Shutdown::Write);
            told.extend(tell_rest(scene));
        } else {
            told.push(tell(&scene.guard().close()));
        }
        told.push(tell(&scene.connection.wait_closed()));
        told
    }),
    ("a guard goes, the peer answers", |scene, held| {
        let guard = scene.guard();
        if let Some(held) = held {
            drop(guard);
            scene.peer.answer(held, "late");
            scene.peer.part();
            return vec![tell(&scene.connection.wait_closed())];
        }
        let closing = start(move || guard.close());
        scene.peer.part();
        vec![tell(&closing.join().unwrap())]
    }),
    ("the end of the stream", |scene, held| {
        scene.connection.end_stream().unwrap();
        scene.peer.expect(&Packet::END_OF_REQUESTS);
        settle(scene, held)
    }),
    ("the end of requests", |scene, held| {
        scene.connection.finish_requests().unwrap();
        scene.peer.expect(&Packet::END_OF_REQUESTS);
        settle(scene, held)
    }),
];

#[test]
fn what_is_done_to_the_connection_is_told_as_ever_whoever_reads() {
    for (name, deed) in DEEDS {
        for is_calling in [true, false] {
            watched(move || {
                let [cold, warm] = [false, true].map(|is_warm| {
                    let builder = Connection::builder().linger(Some(Duration::from_millis(200)));
                    let (mut scene, held) = staged(builder, is_calling, is_warm);
                    let mut told = deed(&mut scene, held.as_ref());
                    if is_calling {
                        told.push(format!("{:?}", scene.answered()));
                    }
                    told.push(tell_later(&scene));
                    told
                });
                assert_eq!(warm, cold, "{name}, while calling: {is_calling}");
            });
        }
    }
}

/// Whatever was last, a transport that has come to its end in order carries another connection.
#[test]
fn a_transport_is_given_back_with_what_lies_behind_the_end() {
    for is_with_the_answer in [true, false] {
        watched(move || {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let peer = ScriptedPeer::on(theirs.try_clone().unwrap());
            let transport = Transport::try_from(ours).unwrap();
            let mut scene = Scene::over(patient(), transport, peer);
            let mut last = Vec::new();
            if is_with_the_answer {
                let held = scene.hold();
                last.extend(answer_to(&held, "").transcribe());
            } else {
                scene.leave();
            }
            last.extend(Packet::END_OF_REQUESTS.transcribe());
            last.extend(Packet::END_OF_STREAM.transcribe());
            last.extend(b"more");
            scene.peer.send_octets(&last);
            scene.peer.rest();
            if is_with_the_answer {
                scene.answered().unwrap();
            }
            let report = scene.guard().close();
            assert!(report.peer_said_goodbye(), "{report:?}");
            let (mut reader, writer) = report.into_transport().unwrap().into_parts();
            let mut more = [0; 4];
            reader.read_exact(&mut more).unwrap();
            assert_eq!(&more, b"more");

            let transport = Transport::new(reader, writer);
            let again = patient().open(transport).unwrap();
            let mut peer = ScriptedPeer::on(theirs);
            let call = start(move || (again.call(asking("x")), again.close()));
            let request = peer.request();
            assert_eq!(request.tag(), Tag::new(2));
            peer.answer(&request, "y");
            peer.part();
            let (answer, report) = call.join().unwrap();
            assert_eq!(answer.unwrap().payload(), b"y");
            report.into_result().unwrap();
        });
    }
}

// ---- what the stream does --------------------------------------------------------------------

/// The reset of a peer that goes with something unread.
#[test]
fn a_reset_is_told_as_ever() {
    for is_calling in [true, false] {
        watched(move || {
            let [cold, warm] = [false, true].map(|is_warm| {
                let (mut scene, _) = staged(patient(), is_calling, is_warm);
                // The peer never reads this.
                drop(scene.connection.submit(asking("unread")).unwrap());
                let Scene { peer, .. } = &mut scene;
                let (_, other) = ScriptedPeer::new();
                drop(std::mem::replace(peer, other));
                let mut told = Vec::new();
                if is_calling {
                    told.push(format!("{:?}", scene.answered()));
                }
                told.push(format!("{:?}", scene.connection.wait_end_of_stream()));
                told.push(tell_later(&scene));
                told.push(format!("{:?}", scene.guard().close().cause()));
                told
            });
            assert_eq!(warm, cold, "while calling: {is_calling}");
        });
    }
}

/// A call meets the end of the peer before anybody has read it.
#[test]
fn a_peer_that_has_gone_between_two_calls_is_no_fault_of_writing() {
    watched(|| {
        let outcomes = [(); 20].map(|()| {
            let mut scene = Scene::new(patient());
            scene.leave();
            let Scene { peer, .. } = &mut scene;
            let (_, other) = ScriptedPeer::new();
            drop(std::mem::replace(peer, other));
            scene.ask(asking("too late"));
            let error = scene.answered().unwrap_err();
            assert!(matches!(error.cause(), Error::EndOfInput(_)), "{error:?}");
            let report = scene.guard().close();
            assert!(report.cause().is_none(), "{report:?}");
            error.outcome()
        });
        // Unknown only if the write was under way just when the end was read, which is rare.
        let is_known = |outcome: &&Outcome| **outcome == Outcome::NotSent;
        let known = outcomes.iter().filter(is_known).count();
        assert!(known >= outcomes.len() / 2, "{outcomes:?}");
        assert!(!outcomes.contains(&Outcome::NotRun), "{outcomes:?}");
    });
}

/// A hook of the user's in the place of ours is not relied on for callers.
#[test]
fn a_call_ends_with_its_connection_even_if_the_shutdown_hook_frees_nobody() {
    watched(|| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let transport = Transport::try_from(ours).unwrap().with_shutdown(|| ());
        let mut scene = Scene::over(Connection::builder(), transport, ScriptedPeer::on(theirs));
        let _held = scene.warm();
        let _ = scene.connection.shutdown(Some(Duration::ZERO));
        let error = scene.answered().unwrap_err();
        assert!(matches!(error.cause(), Error::LingerExpired), "{error:?}");
    });
}
