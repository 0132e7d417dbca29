//! The moments of the end between two real ends: a server on standard input and output in a process
//! of its own, and long chains of calls back and forth.
//!
//! The table of who waits where is in `end_moments.rs`.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed expectation of a helper fails its test"
)]

mod common;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "common/processes.rs"]
mod processes;
#[path = "common/scripted.rs"]
mod scripted;
#[path = "common/sizes.rs"]
mod sizes;

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{watched, watched_for};
use crossbeam_channel::{Receiver, Sender};
use fastrand::Rng;
use measure::assert_no_thread_is_named;
use packetstream::{
    BoxError, Connection, Incoming, OpenGuard, Outcome, Packet, PacketKind, PacketReader, Request,
};
use pairs::{memory, os_pipes, start, take, unix_sockets};
use processes::example;
use scripted::{Gate, request_packet, unhex};
use sizes::{LONG, seed, sized};

/// The request types of the example `peer`.
const ECHO: u32 = 0;
const CALL_BACK: u32 = 8;

fn server() -> Command {
    let mut command = Command::new(example("peer"));
    command.args(["serve", "--stdio", "--max-seconds", "40"]);
    command
}

/// A server that waits for our answer to its callback.
struct Server {
    child: Child,
    input: Option<ChildStdin>,
    output: PacketReader<std::io::BufReader<ChildStdout>>,
    packets: Vec<Packet>,
}

impl Server {
    /// Asks for a callback with request 7 and for nothing special with request 8.
    fn waiting() -> Self {
        let mut child = server()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let output = PacketReader::new(std::io::BufReader::new(child.stdout.take().unwrap()));
        let requests = [(7, CALL_BACK, "150"), (8, ECHO, "x")];
        let requests =
            requests.map(|(tag, kind, text)| request_packet(0, tag, kind, text.as_bytes()));
        let bytes: Vec<u8> = requests.iter().flat_map(Packet::transcribe).collect();
        input.write_all(&bytes).unwrap();
        let mut server = Self {
            child,
            input: Some(input),
            output,
            packets: Vec::new(),
        };
        while !server.packets.iter().any(is_request) {
            let packet = server.output.read_packet().unwrap().unwrap();
            server.packets.push(packet);
        }
        server
    }

    fn write(&mut self, hex: &str) {
        let input = self.input.as_mut().unwrap();
        input.write_all(&unhex(hex)).unwrap();
    }

    /// Reads to the end, and tells how the process ended.
    fn finish(&mut self, what: &str) {
        while let Some(packet) = self.output.read_packet().unwrap() {
            self.packets.push(packet);
        }
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{what}: {status}");
        let packets = &self.packets;
        for tag in [7, 8] {
            let is_answer = |p: &&Packet| p.is_response() && p.tag().get() == tag;
            let answers = packets.iter().filter(is_answer).count();
            assert_eq!(answers, 1, "{what}: answers to {tag} in {packets:?}");
        }
        let ends = [Packet::END_OF_REQUESTS, Packet::END_OF_STREAM];
        for end in &ends {
            let number = packets.iter().filter(|packet| *packet == end).count();
            assert_eq!(number, 1, "{what}: {end} in {packets:?}");
        }
        assert_eq!(packets.last(), ends.last(), "{what}");
        // Three packets of ours, two of theirs, and the callback.
        assert_eq!(packets.len(), 5, "{what}: {packets:?}");
    }

    fn answer_to_7(&self) -> (bool, String) {
        let answer = self
            .packets
            .iter()
            .find(|packet| packet.is_response() && packet.tag().get() == 7)
            .unwrap();
        let text = String::from_utf8_lossy(answer.payload()).into_owned();
        (
            matches!(answer.kind(), PacketKind::Response { ok: true, .. }),
            text,
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail after it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_request(packet: &Packet) -> bool {
    matches!(packet.kind(), PacketKind::Request(_))
}

/// The answer to the callback: ok, flags 0, `late`.
const LATE: &str = "0602046c617465";

#[test]
fn server_process_answers_what_it_has_accepted_however_its_input_ends() {
    watched_for(LONG, || {
        let cases = [
            (
                "the answer and the end in one write",
                "0602046c617465 03000200",
            ),
            (
                "the answer and both end packets",
                "0602046c617465 03010200 03000200",
            ),
            ("the answer and no end packet", LATE),
            ("the end of the stream alone", "03000200"),
            ("both end packets alone", "03010200 03000200"),
            ("the end of the requests and no more", "03010200"),
            ("nothing", ""),
        ];
        for _ in 0..sized(15, 300) {
            for (what, hex) in cases {
                let mut server = Server::waiting();
                server.write(hex);
                drop(server.input.take());
                server.finish(what);
                let expected = if hex.starts_with(LATE) {
                    (true, "late".to_owned())
                } else {
                    (false, "exception during handler".to_owned())
                };
                assert_eq!(server.answer_to_7(), expected, "{what}");
            }
        }
    });
}

/// The input stays open: nothing but the peer's goodbye ends it.
#[test]
fn server_process_ends_with_the_goodbye_while_its_input_is_open() {
    watched_for(LONG, || {
        for _ in 0..sized(20, 300) {
            let mut server = Server::waiting();
            server.write(&[LATE, "03000200"].concat());
            server.finish("the answer and the end in one write");
            assert_eq!(server.answer_to_7(), (true, "late".to_owned()));
        }
    });
}

#[test]
fn server_process_that_cannot_write_an_answer_fails() {
    watched_for(LONG, || {
        for rest in [&[LATE, "03000200"].concat(), "03010200 03000200", LATE, ""] {
            for _ in 0..sized(4, 100) {
                let mut server = Server::waiting();
                let (empty, _) = std::io::pipe().unwrap();
                // Nobody reads the output any more.
                let output = PacketReader::new(std::io::BufReader::new(ChildStdout::from(
                    std::os::fd::OwnedFd::from(empty),
                )));
                drop(std::mem::replace(&mut server.output, output));
                // Perhaps it has gone already, since it could not write the answer to request 8.
                let _ = server.input.as_mut().unwrap().write_all(&unhex(rest));
                drop(server.input.take());
                let status = server.child.wait().unwrap();
                let mut said = String::new();
                let stderr = server.child.stderr.as_mut().unwrap();
                stderr.read_to_string(&mut said).unwrap();
                assert_eq!(status.code(), Some(1), "after {rest:?}: {said}");
                assert!(said.contains("cannot write"), "after {rest:?}: {said}");
            }
        }
    });
}

#[test]
fn close_of_a_client_lets_a_server_process_have_its_callback() {
    watched_for(LONG, || {
        for held_elsewhere in [false, true] {
            for _ in 0..sized(5, 100) {
                let (gate, handler) = Gate::new();
                let client = Connection::builder().handler(handler).spawn(server());
                let client = client.unwrap();
                let connection = Connection::clone(&client);
                let asking = Request::new(CALL_BACK).with_payload("kept");
                let pending = client.submit(asking).unwrap();
                let told = start(move || {
                    (held_elsewhere.then(|| pending.wait())).map_or(Ok(()), |r| r.map(drop))
                });
                gate.entered();
                let closing = start(move || client.close());
                let deadline = Instant::now() + Duration::from_secs(20);
                while connection.is_open() && Instant::now() < deadline {
                    std::thread::yield_now();
                }
                assert!(!connection.is_open(), "the close does not begin");
                gate.release();
                let report = closing.join().unwrap();
                assert!(report.is_last() && report.peer_said_goodbye(), "{report:?}");
                assert_eq!(report.answers_lost(), 0, "{report:?}");
                report.into_result().unwrap();
                told.join().unwrap().unwrap();
            }
        }
    });
}

/// How the client's side of a chain ends.
#[derive(Clone, Copy, Debug)]
enum Way {
    Close,
    Drop,
    Shutdown,
}

/// Calls the other end one level lower, tells the level at which it is, and adds one to what comes
/// back. A level that is refused is the end of the chain.
fn descend(level: &Sender<u64>, incoming: &Incoming) -> Result<Vec<u8>, BoxError> {
    let depth = u64::from_be_bytes(incoming.payload().try_into()?);
    // A test that has failed does not want to know.
    let _ = level.send(depth);
    let below = match depth.checked_sub(1) {
        None => 0,
        Some(depth) => {
            let request = Request::new(1).with_payload(depth.to_be_bytes());
            match incoming.connection().call(request) {
                Ok(answer) => u64::from_be_bytes(answer.payload().try_into()?),
                Err(error) if error.outcome() == Outcome::NotRun => 0,
                Err(error) => {
                    eprintln!("level {depth}: {error:?}");
                    return Err(error.into());
                }
            }
        }
    };
    Ok((below + 1).to_be_bytes().to_vec())
}

fn chain(name: &str, rng: &mut Rng) {
    let (here, there) = match rng.u8(..3) {
        0 => memory(),
        1 => unix_sockets(),
        _ => os_pipes(),
    };
    let (tell, levels) = crossbeam_channel::unbounded();
    let threads = rng.usize(1..=4);
    let [client, server] = [here, there].map(|transport| {
        let tell = tell.clone();
        Connection::builder()
            .name(name)
            .linger(Some(Duration::from_secs(20)))
            .handler_threads(threads)
            .handler(move |incoming: Incoming| descend(&tell, &incoming))
            .open(transport)
            .unwrap()
    });
    let depth = rng.u64(2..=200);
    // Beyond zero the whole chain is there, or back.
    let moment = rng.u64(..=depth);
    let way = [Way::Close, Way::Drop, Way::Shutdown][rng.usize(..3)];
    let is_server_too = rng.u8(..4) == 0;
    let story = format!("depth {depth}, {way:?} at {moment}, server too: {is_server_too}");

    let request = Request::new(1).with_payload(depth.to_be_bytes());
    let pending = client.submit(request).unwrap();
    let asking = start(move || pending.wait());
    await_level(&levels, moment);
    let connection = Connection::clone(&client);
    let shut_server = is_server_too.then(|| Connection::clone(&server));
    let serving = start(move || server.serve());
    let shutting = shut_server
        .map(|server| start(move || drop(server.shutdown(Some(Duration::from_secs(20))))));
    end(client, way);
    let report = connection.wait_closed();
    assert!(report.cause().is_none(), "{story}: {report:?}");
    assert_eq!(report.answers_lost(), 0, "{story}: {report:?}");
    assert_eq!(report.requests_unknown(), 0, "{story}: {report:?}");
    let report = serving.join().unwrap();
    assert!(report.cause().is_none(), "{story}: {report:?}");
    assert_eq!(report.answers_lost(), 0, "{story}: {report:?}");
    assert_eq!(report.requests_unknown(), 0, "{story}: {report:?}");
    if let Some(shutting) = shutting {
        shutting.join().unwrap();
    }
    let answer = asking.join().unwrap().unwrap_or_else(|error| {
        panic!("{story}: {error:?}");
    });
    let levels_run = u64::from_be_bytes(answer.payload().try_into().unwrap());
    // Those down to the moment had been accepted.
    let accepted = depth - moment + 1;
    assert!(
        (accepted..=depth + 1).contains(&levels_run),
        "{story}: {levels_run} levels"
    );
}

fn await_level(levels: &Receiver<u64>, moment: u64) {
    while take(levels) > moment {}
}

fn end(guard: OpenGuard, way: Way) {
    match way {
        Way::Close => {
            let report = guard.close();
            assert!(report.is_last() && !report.in_progress(), "{report:?}");
        }
        Way::Drop => drop(guard),
        Way::Shutdown => {
            let report = guard.shutdown(Some(Duration::from_secs(20)));
            assert!(report.is_last() && !report.in_progress(), "{report:?}");
        }
    }
}

#[test]
fn chains_of_calls_back_and_forth_are_answered_when_an_end_closes_at_any_depth() {
    let seed = seed();
    let times = sized(60, 2000);
    let name = Arc::new("chain".to_owned());
    for time in 0..times {
        let seed = seed.wrapping_add(time as u64);
        let name = Arc::clone(&name);
        let played = std::panic::catch_unwind(|| {
            watched(move || chain(&name, &mut Rng::with_seed(seed)));
        });
        assert!(
            played.is_ok(),
            "chain {time} failed: PACKETSTREAM_TEST_SEED={seed}"
        );
    }
    assert_no_thread_is_named("chain:");
}
