//! A stream that is not ours, and text in front of one that is: what real programs say ends the
//! connection at once, is quoted, and is never acted on.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation of a helper fails its test"
)]

#[path = "foreign_text/banners.rs"]
mod banners;
mod common;
#[path = "common/scripted.rs"]
mod scripted;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use banners::BANNERS;
use common::{watched, watched_for};
use packetstream::{Connection, ConnectionBuilder, Error, OpenGuard, Outcome, Transport};
use scripted::{EOF, ERQ, Gate, Peer, ask, ok_packet, request_packet, submit_and_see, unhex};

/// How text arrives.
#[derive(Clone, Copy, Debug)]
struct Delivery {
    line_end: &'static str,
    /// What the server that the text stands in front of sends.
    packets: Packets,
    is_dribbled: bool,
    /// Our end serves only, or has made a request and waits for the answer.
    calls: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Packets {
    None,
    Answer,
    Request,
    Ends,
}

impl Packets {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::Answer => ok_packet(0, 2, 0, b"the answer").transcribe(),
            Self::Request => request_packet(0, 2, 0, b"a request").transcribe(),
            Self::Ends => unhex(&format!("{ERQ}{EOF}")),
        }
    }
}

fn deliveries() -> impl Iterator<Item = Delivery> {
    let packets = [
        Packets::None,
        Packets::Answer,
        Packets::Request,
        Packets::Ends,
    ];
    (0..48).map(move |number: usize| Delivery {
        line_end: ["", "\n", "\r\n"][number % 3],
        packets: packets[number / 3 % 4],
        is_dribbled: number / 12 % 2 == 1,
        calls: number / 24 == 1,
    })
}

/// As an error shows it.
fn escaped(text: &str) -> String {
    text.replace('\u{1b}', "\\u{1b}")
        .replace('\u{7}', "\\u{7}")
        .replace('\u{feff}', "\\u{feff}")
        .replace('\t', "\\t")
        .replace('"', "\\\"")
}

/// What is said of a text that has come whole, or the beginnings of that which may be said of it.
fn assert_quotes(told: &str, text: &str, is_whole: bool, what: &str) {
    let quote = told
        .strip_prefix("peer is not speaking packetstream; it said: \"")
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or_else(|| panic!("{what}: {told}"));
    let line = escaped(text.trim_start());
    if is_whole {
        assert!(quote.starts_with(&line), "{what}: {told}");
    } else {
        let agrees = line.starts_with(quote) || quote.starts_with(&line);
        assert!(agrees && !quote.is_empty(), "{what}: {told}");
    }
}

fn is_refused(text: &str, delivery: Delivery) {
    let what = format!("{text:?}, {delivery:?}");
    let (gate, handler) = Gate::new();
    let (guard, mut peer) = Peer::open(Connection::builder().handler(handler));
    let pending = delivery
        .calls
        .then(|| submit_and_see(&guard, &mut peer, "ours"));
    let mut stream = [text.as_bytes(), delivery.line_end.as_bytes()].concat();
    stream.extend(delivery.packets.bytes());
    if delivery.is_dribbled {
        for byte in stream {
            peer.send([byte]);
        }
    } else {
        peer.send(stream);
    }
    // The stream stays open, and nobody's time is limited: only the text can end this.
    let cause = match pending {
        Some(pending) => {
            let error = pending.wait().unwrap_err();
            assert_eq!(error.outcome(), Outcome::Unknown, "{what}");
            error.cause().clone()
        }
        None => guard.wait_end_of_stream().unwrap_err(),
    };
    assert!(
        matches!(cause, Error::NotPacketstream(_)),
        "{what}: {cause:?}"
    );
    assert!(cause.is_peer(), "{what}");
    let is_whole = !delivery.is_dribbled;
    assert_quotes(&cause.to_string(), text, is_whole, &what);
    let report = guard.close();
    let reported = report.cause().unwrap().to_string();
    assert_eq!(reported, cause.to_string(), "{what}");
    assert_eq!(gate.waiting(), 0, "{what}: it was served");
}

#[test]
fn text_is_refused_at_once_and_quoted_however_it_comes_and_whatever_follows() {
    assert!(BANNERS.len() >= 40);
    for text in BANNERS {
        let long = text.len() + 2;
        assert!((3..=200).contains(&long), "{text}");
        watched(move || {
            for delivery in deliveries() {
                // Of a prompt of two bytes there is no word until its line ends.
                if text.len() >= 3 || !delivery.line_end.is_empty() {
                    is_refused(text, delivery);
                }
            }
        });
    }
}

#[test]
fn three_bytes_of_text_end_the_connection_at_once() {
    watched(|| {
        for text in BANNERS.iter().filter(|text| text.is_ascii()) {
            let text = text.get(..3).unwrap_or("abc");
            let (guard, mut peer) = Peer::open(Connection::builder());
            let pending = submit_and_see(&guard, &mut peer, "ours");
            peer.send(text);
            let error = pending.wait().unwrap_err();
            assert_quotes(&error.cause().to_string(), text, true, text);
        }
    });
}

/// A first packet may be any response, not only text, if it answers a request of ours: but for no
/// other is there a reason.
#[test]
fn first_packet_that_is_a_response_to_no_request_is_refused() {
    watched(|| {
        let greeting = unhex("4a0000000a382e302e3336002a000000");
        let not_made = ok_packet(0, 3, 0, b"early").transcribe();
        let elsewhere = ok_packet(7, 2, 0, b"elsewhere").transcribe();
        let head_only = unhex("a08080000304");
        for stream in [greeting, not_made, elsewhere, head_only] {
            let (guard, mut peer) = Peer::open(Connection::builder());
            let pending = submit_and_see(&guard, &mut peer, "ours");
            peer.send(stream);
            let error = pending.wait().unwrap_err();
            let cause = error.cause();
            assert!(matches!(cause, Error::NotPacketstream(_)), "{cause:?}");
        }
    });
}

#[test]
fn start_of_a_tls_record_is_named_while_the_stream_stays_open() {
    watched(|| {
        let hello = "160301020001000 1fc03038a1f".replace(' ', "");
        let of_1_2 = "1603030200020001fc03038a1f";
        for (record, is_dribbled) in [
            (&hello[..], false),
            (&hello, true),
            (of_1_2, false),
            (of_1_2, true),
            ("15030300020228", false),
            ("15030100020228", true),
            ("15030300020228", true),
        ] {
            let (guard, mut peer) = Peer::open(Connection::builder());
            let pending = submit_and_see(&guard, &mut peer, "ours");
            let bytes = unhex(record);
            let pieces = bytes.chunks(if is_dribbled { 1 } else { 100 });
            pieces.for_each(|piece| peer.send(piece));
            let error = pending.wait().unwrap_err();
            let told = error.cause().to_string();
            assert!(told.contains("TLS"), "{record}: {told}");
        }
    });
}

#[test]
fn echo_of_a_terminal_is_named() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder());
        let pending = submit_and_see(&guard, &mut peer, "ours");
        // What a terminal makes of that request.
        peer.send("^G^B^B^Aours");
        let error = pending.wait().unwrap_err();
        let told = error.cause().to_string();
        assert!(
            told.ends_with("as a terminal does: \"^G^B^B^Aours\""),
            "{told}"
        );
    });
}

/// It cannot be told from a slow peer.
#[test]
fn before_a_whole_word_nothing_is_judged_and_the_report_quotes_what_came() {
    watched(|| {
        for (text, quote) in [("\n", r#""\n""#), ("Hi", r#""Hi""#), ("é", "\"é\"")] {
            let builder = Connection::builder().linger(Some(std::time::Duration::ZERO));
            let (guard, mut peer) = Peer::open(builder);
            let pending = submit_and_see(&guard, &mut peer, "ours");
            peer.send(text);
            let in_vain = pending.wait_timeout(std::time::Duration::from_millis(20));
            let pending = in_vain.expect_err("nothing can be known yet");
            assert!(guard.is_open());
            pending.cancel();
            let report = guard.close();
            let diagnosis = report.diagnosis().unwrap_or_default();
            assert!(diagnosis.ends_with(quote), "{text:?}: {diagnosis}");
        }
    });
}

// ---- real programs -----------------------------------------------------------------------

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn told_of(guard: &OpenGuard) -> String {
    let error = guard.call(ask("hello")).unwrap_err();
    error.cause().to_string()
}

#[test]
fn child_that_says_something_before_it_serves_is_quoted() {
    for (script, quote) in [
        ("echo Welcome; exec cat", "Welcome"),
        (
            "echo; echo '  Last login: today'; exec cat",
            "Last login: today",
        ),
        ("printf 'no line end'; exec cat", "no line end"),
        (
            "printf '\\033[31mred\\033[0m\\n'; exec cat",
            "\\u{1b}[31mred\\u{1b}[0m",
        ),
        ("cat >/dev/null & echo \"sh: can't\"; wait", "sh: can't"),
        ("echo 'bye now'; exit 3", "bye now"),
        ("printf 'W'; printf 'elcome\\n'; exec cat", "W"),
    ] {
        watched(move || {
            let guard = Connection::builder().spawn(shell(script)).unwrap();
            let told = told_of(&guard);
            let expected = format!("it said: \"{quote}");
            assert!(told.contains(&expected), "{script}: {told}");
            drop(guard);
        });
    }
}

#[test]
fn echo_of_a_real_terminal_is_named() {
    if shell("command -v script")
        .output()
        .is_ok_and(|found| !found.status.success())
    {
        eprintln!("NOT RUN: there is no script(1) to make a terminal with");
        return;
    }
    watched(|| {
        let mut command = Command::new("script");
        command.args(["-q", "-c", "sleep 30", "/dev/null"]);
        let guard = Connection::builder().spawn(command).unwrap();
        let told = told_of(&guard);
        assert!(told.contains("as a terminal does: \"^"), "{told}");
        let _ = guard.abort();
    });
}

/// A server on a socket that greets whoever comes, and one that greets who has said something.
fn greeter(line: &'static str, waits: bool) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::Builder::new()
        .spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            if waits {
                let mut first = [0];
                std::io::Read::read_exact(&mut stream, &mut first).unwrap();
            }
            stream.write_all(line.as_bytes()).unwrap();
            // Kept open until the other end goes.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        })
        .unwrap();
    TcpStream::connect(address).unwrap()
}

#[test]
fn wrong_port_is_quoted() {
    for (line, waits) in [
        ("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", false),
        ("220 ready\r\n", false),
        (
            "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
            true,
        ),
        ("-ERR unknown command\r\n", true),
    ] {
        watched(move || {
            let transport = Transport::try_from(greeter(line, waits)).unwrap();
            let guard = Connection::builder().open(transport).unwrap();
            let told = told_of(&guard);
            let quote = line.lines().next().unwrap();
            assert!(told.ends_with(&format!("it said: \"{quote}\"")), "{told}");
        });
    }
}

#[test]
fn client_of_another_protocol_is_quoted_by_the_server() {
    watched(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let server = Connection::builder().handler(|_| Ok(()));
        let server = server.open(Transport::try_from(stream).unwrap()).unwrap();
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let told = server.serve().into_result().unwrap_err().to_string();
        assert!(told.ends_with("it said: \"GET / HTTP/1.0\""), "{told}");
    });
}

// ---- with the judging off ------------------------------------------------------------------

fn credulous() -> ConnectionBuilder {
    Connection::builder().refuse_text(false)
}

#[test]
fn with_the_judging_off_text_that_decodes_is_served() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (_guard, mut peer) = Peer::open(credulous().handler(handler));
        let banner =
            "Last login: Mon Nov 23 10:51:02 2026 from 192.0.2.7 on pts/0, and a good day.";
        peer.send(banner);
        gate.release();
        assert_eq!(peer.next_packet().channel().get(), 116);
    });
}

#[test]
fn with_the_judging_off_responses_to_nothing_are_dropped_and_counted() {
    watched_for(common::PATIENCE, || {
        let (guard, mut peer) = Peer::open(credulous());
        let pending = submit_and_see(&guard, &mut peer, "ours");
        let http =
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: keep-alive\r\n";
        peer.send(&http[..73]);
        peer.send_packet(&ok_packet(0, 9, 0, &vec![0; 3 << 20]));
        peer.answer(0, 2, "yes");
        assert_eq!(pending.wait().unwrap().payload(), b"yes");
        assert_eq!(guard.stats().late_responses, 2);
    });
}

#[test]
fn with_the_judging_off_the_rest_of_a_packet_is_waited_for() {
    watched(|| {
        let (guard, mut peer) = Peer::open(credulous().handler(|_| Ok("R")));
        let request = request_packet(116, 97, 3, b"printable all of it");
        let bytes = request.transcribe();
        for byte in &bytes {
            peer.send([*byte]);
        }
        assert_eq!(peer.next_packet().payload(), b"R");
        assert!(guard.is_open());
    });
}
