//! Floods of everything there is, and no more memory than the limits say.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use packetstream::{Connection, ConnectionBuilder, OpenGuard, Outcome, Packet, Request, Transport};

use super::heap::{Growth, KIB, MIB, PER_REQUEST};
use super::measure::until;
use super::pairs::start;
use super::sizes::sized;
use super::stream::{answer, request};

/// What tables, queues and buffers may have grown to beyond what they hold, and the adversary's own
/// needs.
const SLACK: usize = MIB;

/// How many unstarted requests there may be, and how many bytes in them.
const REQUESTS: usize = 1000;
const BYTES: usize = MIB;

/// Longer than anybody who reads at all does not read.
const STUCK: Duration = Duration::from_millis(300);

fn limited() -> ConnectionBuilder {
    Connection::builder()
        .linger(Some(Duration::ZERO))
        .max_inbound_requests(REQUESTS)
        .max_inbound_bytes(BYTES)
        .max_handler_threads(8)
}

fn open(builder: ConnectionBuilder) -> (OpenGuard, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let guard = builder.open(Transport::try_from(ours).unwrap()).unwrap();
    theirs.set_write_timeout(Some(STUCK)).unwrap();
    theirs
        .set_read_timeout(Some(super::common::PATIENCE))
        .unwrap();
    (guard, theirs)
}

/// Says it until nobody has taken it for a while, or the end; returns how often that was.
fn flood(theirs: &mut UnixStream, times: usize, say: impl Fn(u64) -> Vec<u8>) -> usize {
    for number in 0..times {
        if theirs.write_all(&say(number as u64)).is_err() {
            return number;
        }
    }
    times
}

fn next(theirs: &mut UnixStream, received: &mut Vec<u8>) -> Packet {
    let mut buffer = [0; 4096];
    loop {
        if let Ok((packet, len)) = Packet::parse(received) {
            received.drain(..len);
            return packet;
        }
        let amount = theirs.read(&mut buffer).unwrap();
        assert!(amount > 0, "it has ended");
        received.extend(&buffer[..amount]);
    }
}

pub fn answers_to_nobody() {
    let (guard, mut theirs) = open(limited().handler(super::pairs::echo));
    // The first of all must not be one.
    theirs
        .write_all(&request(0, 2, 1, "x").transcribe())
        .unwrap();
    let mut received = Vec::new();
    assert_eq!(next(&mut theirs, &mut received).payload(), b"x");
    let growth = Growth::start();
    let times = sized(100_000, 1_000_000);
    let said = flood(&mut theirs, times, |number| {
        answer(number, true, 0, "asked by nobody").transcribe()
    });
    assert_eq!(said, times);
    theirs
        .write_all(&request(0, 3, 1, "y").transcribe())
        .unwrap();
    assert_eq!(next(&mut theirs, &mut received).payload(), b"y");
    growth.assert_at_most(SLACK, "answers to nobody");
    assert_eq!(guard.abort().late_responses(), times as u64);
}

pub fn ends_of_requests() {
    let (guard, mut theirs) = open(limited().handler(super::pairs::echo));
    let growth = Growth::start();
    let times = sized(100_000, 1_000_000);
    assert_eq!(flood(&mut theirs, times, |_| vec![3, 1, 2, 0]), times);
    theirs
        .write_all(&request(0, 2, 1, "x").transcribe())
        .unwrap();
    let refused = next(&mut theirs, &mut Vec::new());
    assert_eq!(refused.payload(), b"requests no longer allowed");
    growth.assert_at_most(SLACK, "ends of requests");
    let _ = guard.abort();
}

/// With one that calls back, the connection may not pause: an answer could come.
pub fn requests_that_call_back_unread() {
    let builder = limited().handler(|incoming| {
        let response = incoming.connection().call(Request::new(7))?;
        Ok(response.into_payload())
    });
    unread(builder, 100, 0);
}

pub fn requests_for_long_answers_unread() {
    const ANSWER: usize = 64 * KIB;
    unread(limited().handler(|_| Ok(vec![b'x'; ANSWER])), 0, ANSWER);
}

pub fn requests_that_are_refused_unread() {
    unread(limited(), 10, 0);
}

/// A flood of requests of which no answer is read.
fn unread(builder: ConnectionBuilder, payload: usize, answer: usize) {
    let (guard, mut theirs) = open(builder);
    let growth = Growth::start();
    let text = "x".repeat(payload);
    let written = flood(&mut theirs, sized(40_000, 400_000), |number| {
        request(0, number + 2, 1, &text).transcribe()
    });
    // Requests and answers; refusals up to four times as many; and one answer in each handler.
    let held = 2 * (BYTES + REQUESTS * PER_REQUEST);
    let refusals = 4 * REQUESTS * PER_REQUEST;
    let in_hand = 8 * answer;
    let what = format!("{written} of {payload} bytes");
    growth.assert_at_most(held + refusals + in_hand + SLACK, &what);
    let _ = guard.abort();
}

/// As much as a packet may be, and nothing of it.
pub fn claims_without_bytes() {
    let growth = Growth::start();
    let mut opened = Vec::new();
    for _ in 0..8 {
        let (guard, mut theirs) = open(limited().handler(super::pairs::echo));
        // 64 MiB: the default limit. Then the head of a request.
        theirs.write_all(&[0xa0, 0x80, 0x80, 0, 2, 2, 1]).unwrap();
        theirs.write_all(&[b'x'; 100]).unwrap();
        opened.push((guard, theirs));
    }
    let settled = growth.settled();
    assert!(settled <= 8 * (MIB + 256 * KIB) + SLACK, "{settled}");
    for (guard, _) in opened {
        let _ = guard.abort();
    }
}

/// Slow, but no enemy: everything comes.
pub fn answers_are_sipped_under_a_flood() {
    let (guard, theirs) = open(limited().handler(super::pairs::echo));
    let times = sized(2000, 20_000);
    let mut writer = theirs.try_clone().unwrap();
    writer.set_write_timeout(None).unwrap();
    let writing = start(move || {
        flood(&mut writer, times, |number| {
            request(0, number + 2, 1, "sipped").transcribe()
        })
    });
    let mut theirs = theirs;
    let (mut received, mut byte) = (Vec::new(), [0]);
    let mut answers = 0;
    while answers < times {
        match theirs.read(&mut byte) {
            Ok(1) => received.extend(byte),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => panic!("{other:?} after {answers} answers"),
        }
        if let Ok((packet, _)) = Packet::parse(&received) {
            let is_refused = packet.payload() == b"rejecting request: busy";
            assert!(is_refused || packet.payload() == b"sipped", "{packet}");
            received.clear();
            answers += 1;
        }
    }
    assert_eq!(writing.join().unwrap(), times);
    assert!(guard.is_open());
    let _ = guard.abort();
}

/// What is told of requests that nobody reads is true, also of those that were just being written.
pub fn own_requests_unread() {
    const ASKING: usize = 4;
    for rest in [0, 1, 5000] {
        let builder = limited().max_outstanding_bytes(MIB);
        let (guard, mut theirs) = open(builder.send_queue_len(usize::MAX));
        let asking = [(); ASKING].map(|()| {
            let connection = Connection::clone(&guard);
            start(move || {
                let mut asked = Vec::new();
                loop {
                    let request = Request::new(1).with_payload(vec![b'x'; 1000]);
                    match connection.submit(request) {
                        Ok(pending) => asked.push((pending.tag(), pending)),
                        Err(error) => {
                            assert_eq!(error.outcome(), Outcome::NotSent, "{error:?}");
                            return asked;
                        }
                    }
                }
            })
        });
        let mut sent = Vec::new();
        // Something of it is read, so that the writer has gone on.
        let mut buffer = vec![0; rest];
        theirs.read_exact(&mut buffer).unwrap();
        sent.extend(buffer);
        let full = (MIB / 1000) as u64;
        until(
            || (guard.stats().outstanding == full).then_some(()),
            || format!("{:?}", guard.stats()),
        );
        let report = guard.shutdown(Some(Duration::from_millis(10)));
        drop(report);
        drop(guard);
        let asked: Vec<_> = asking
            .into_iter()
            .flat_map(|asking| asking.join().unwrap())
            .collect();
        theirs.read_to_end(&mut sent).unwrap();
        let mut written = HashSet::new();
        let mut at = 0;
        while let Ok((packet, len)) = Packet::parse(&sent[at..]) {
            written.insert(packet.tag());
            at += len;
        }
        let (mut unsent, mut unknown) = (0, 0);
        for (tag, pending) in asked {
            let error = pending.wait().unwrap_err();
            match error.outcome() {
                Outcome::NotSent => {
                    assert!(!written.contains(&tag), "{tag}: written; {error:?}");
                    unsent += 1;
                }
                Outcome::Unknown => unknown += 1,
                other => panic!("{tag}: {other:?} of {error:?}"),
            }
        }
        eprintln!(
            "    {} written, {unknown} unknown, {unsent} not sent",
            written.len()
        );
        assert!(unsent > 0 && unknown >= written.len());
    }
}
