//! Transports that break: input from a file, an error while reading or writing, a peer that stops
//! reading. Accepted requests are answered as long as the peer reads, and nobody waits in vain.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation of a helper fails its test"
)]

mod common;
#[path = "common/scripted.rs"]
mod scripted;

use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::watched;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use packetstream::wire::{Packet, PacketReader};
use packetstream::{
    BoxError, Connection, ConnectionBuilder, Error, Incoming, OpenGuard, Outcome, PendingResponse,
    Response, Transport,
};
use scripted::{Gate, Peer, Sink, ask, ok_packet, request_packet, submit_and_see};

/// A handler that takes its time: each answer waits until a timer has run out.
fn slow(incoming: Incoming) -> Result<Response, BoxError> {
    crossbeam_channel::after(Duration::from_millis(5)).recv()?;
    Ok(Response::from(incoming.into_payload()))
}

fn hundred_requests() -> Vec<u8> {
    (0..100_u64)
        .flat_map(|tag| request_packet(0, tag, 0, &tag.to_be_bytes()).transcribe())
        .collect()
}

/// Every request has its answer, once; there is one ERQ, and the EOF is last.
fn assert_hundred_answers(octets: &[u8]) {
    let mut answers: Vec<Packet> = PacketReader::new(octets).map(Result::unwrap).collect();
    assert_eq!(answers.pop(), Some(Packet::END_OF_STREAM));
    // Where among the answers the ERQ belongs, is for `ending` to say.
    let goodbye = |packet: &Packet| *packet == Packet::END_OF_REQUESTS;
    assert_eq!(answers.extract_if(.., |packet| goodbye(packet)).count(), 1);
    answers.sort_by_key(Packet::tag);
    let expected = (0..100_u64).map(|tag| ok_packet(0, tag, 0, &tag.to_be_bytes()));
    assert!(answers.into_iter().eq(expected));
    assert!(octets.ends_with(&Packet::END_OF_STREAM.transcribe()));
}

fn serve_from_memory(input: Vec<u8>, goodbye: bool) {
    watched(move || {
        let sink = Sink::default();
        let transport = Transport::new(Cursor::new(input), sink.clone());
        let report = Connection::builder()
            .handler(slow)
            .open(transport)
            .unwrap()
            .serve();
        assert!(report.cause().is_none(), "{report:?}");
        assert_eq!(report.peer_said_goodbye(), goodbye);
        assert_eq!(report.answers_lost(), 0);
        assert_hundred_answers(&sink.octets());
    });
}

#[test]
fn requests_from_memory_are_all_answered_without_a_goodbye_at_their_end() {
    serve_from_memory(hundred_requests(), false);
}

#[test]
fn requests_from_memory_are_all_answered_with_a_goodbye_at_their_end() {
    let goodbye = [Packet::END_OF_REQUESTS, Packet::END_OF_STREAM];
    let goodbye = goodbye.iter().flat_map(Packet::transcribe);
    serve_from_memory(
        hundred_requests().into_iter().chain(goodbye).collect(),
        true,
    );
}

/// `server < requests > answers`.
#[test]
fn requests_from_a_file_are_all_answered_into_a_file() {
    let goodbye = Packet::END_OF_STREAM.transcribe();
    for (name, goodbye) in [("with", goodbye), ("without", Vec::new())] {
        watched(move || {
            let place = |what: &str| {
                let process = std::process::id();
                let file = format!("ending_faults-{process}-{name}-goodbye.{what}");
                PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(file)
            };
            fs::write(place("requests"), [hundred_requests(), goodbye].concat()).unwrap();
            let requests = File::open(place("requests")).unwrap();
            let answers = File::create(place("answers")).unwrap();
            let transport = Transport::try_from((requests, answers)).unwrap();
            let report = Connection::builder()
                .handler(slow)
                .open(transport)
                .unwrap()
                .serve();
            assert!(report.into_result().is_ok());
            assert_hundred_answers(&fs::read(place("answers")).unwrap());
            fs::remove_file(place("requests")).unwrap();
            fs::remove_file(place("answers")).unwrap();
        });
    }
}

/// The guard is not even told to serve: the goodbye follows by itself.
#[test]
fn at_the_end_of_input_our_goodbye_follows_by_itself_while_guards_are_open() {
    watched(|| {
        let builder = Connection::builder().handler(slow);
        let (_guard, mut peer) = Peer::open(builder);
        peer.send(hundred_requests());
        peer.close_write();
        let packets = peer.packets_to_end_of_stream();
        let octets: Vec<u8> = packets.iter().flat_map(Packet::transcribe).collect();
        assert_hundred_answers(&octets);
    });
}

/// Gives its octets, and then fails once it is told to.
struct FailingReader {
    octets: Cursor<Vec<u8>>,
    fail: Receiver<()>,
}

impl Read for FailingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.octets.read(buffer)? {
            0 => {
                let _ = self.fail.recv();
                Err(io::Error::other("the cable was pulled"))
            }
            len => Ok(len),
        }
    }
}

#[test]
fn a_read_error_fails_our_requests_with_it_and_what_was_accepted_is_answered() {
    watched(|| {
        let sink = Sink::default();
        let (fail, failing) = bounded(1);
        let reader = FailingReader {
            octets: Cursor::new(request_packet(0, 5, 0, b"accepted").transcribe()),
            fail: failing,
        };
        let (gate, handler) = Gate::new();
        let transport = Transport::new(BufReader::new(reader), sink.clone());
        let guard = Connection::builder()
            .handler(handler)
            .open(transport)
            .unwrap();
        gate.entered();
        let pending = guard.submit(ask("ours")).unwrap();
        let Err(pending) = pending.wait_timeout(Duration::from_millis(1)) else {
            panic!("an answer from nowhere")
        };
        fail.send(()).unwrap();
        let error = pending.wait().unwrap_err();
        let is_cause = |error: &Error| matches!(error.cause(), Error::Read(cause) if cause.to_string().contains("cable"));
        assert!(
            is_cause(&error) && error.cause().is_transport(),
            "{error:?}"
        );
        gate.release();
        let report = guard.close();
        assert!(report.cause().is_some_and(is_cause), "{report:?}");
        assert_eq!(report.answers_lost(), 0);
        let packets: Vec<Packet> = PacketReader::new(&sink.octets()[..])
            .map(Result::unwrap)
            .collect();
        assert!(
            packets.contains(&ok_packet(0, 5, 0, b"accepted")),
            "{packets:?}"
        );
    });
}

/// A writer whose writes wait for the test's leave, and fail when it says so.
struct Valve {
    arrived: Sender<()>,
    verdicts: Receiver<bool>,
    failed: Sender<()>,
}

impl Write for Valve {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let _ = self.arrived.send(());
        if self.verdicts.recv() == Ok(true) {
            return Ok(octets.len());
        }
        let _ = self.failed.send(());
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a child had answered before it was gone: readable once our write has failed.
struct LastWords {
    failed: Receiver<()>,
    words: Cursor<Vec<u8>>,
    then: Receiver<()>,
}

impl Read for LastWords {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.words.position() == 0 {
            let _ = self.failed.recv();
        }
        match self.words.read(buffer)? {
            // Neither an end nor an octet, until the test lets go.
            0 => self.then.recv().map_or(Ok(0), |()| Ok(0)),
            len => Ok(len),
        }
    }
}

struct Broken {
    guard: OpenGuard,
    arrived: Receiver<()>,
    verdicts: Sender<bool>,
    let_go: Sender<()>,
}

fn breaking(builder: ConnectionBuilder, words: Vec<u8>) -> Broken {
    let (arrived_tx, arrived) = unbounded();
    let (verdicts, verdicts_rx) = unbounded();
    let (failed_tx, failed) = unbounded();
    let (let_go, then) = bounded(0);
    let writer = Valve {
        arrived: arrived_tx,
        verdicts: verdicts_rx,
        failed: failed_tx,
    };
    let reader = LastWords {
        failed,
        words: Cursor::new(words),
        then,
    };
    let transport = Transport::new(BufReader::new(reader), writer);
    let guard = builder.flush_grace(Duration::ZERO).open(transport).unwrap();
    Broken {
        guard,
        arrived,
        verdicts,
        let_go,
    }
}

impl Broken {
    /// Submits, and waits until the writer was given it and has let it pass.
    fn send(&self, payload: &str) -> PendingResponse {
        let pending = self.guard.submit(ask(payload)).unwrap();
        self.arrived.recv().unwrap();
        self.verdicts.send(true).unwrap();
        pending
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    matches!(error.cause(), Error::Write(cause) if cause.kind() == io::ErrorKind::BrokenPipe)
}

/// A child that answers ten requests and exits must not cost us the ten answers.
#[test]
fn after_a_write_error_requests_already_sent_still_get_the_answers_that_come() {
    watched(|| {
        let words = (2..12).flat_map(|tag| ok_packet(0, tag, 0, b"yes").transcribe());
        let broken = breaking(Connection::builder(), words.collect());
        let sent: Vec<PendingResponse> = (0..11).map(|_| broken.send("sent")).collect();
        let unsent = broken.guard.submit(ask("unsent")).unwrap();
        broken.arrived.recv().unwrap();
        broken.verdicts.send(false).unwrap();
        let mut sent = sent.into_iter();
        for pending in sent.by_ref().take(10) {
            assert_eq!(pending.wait().unwrap().payload(), b"yes");
        }
        // The reader neither ends nor fails, but the eleventh must not wait for it.
        let error = sent.next().unwrap().wait().unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert!(is_broken_pipe(&error), "{error:?}");
        let error = unsent.wait().unwrap_err();
        assert!(is_broken_pipe(&error), "{error:?}");
        drop(broken.let_go);
        let report = broken.guard.close();
        assert!(report.cause().is_some_and(is_broken_pipe), "{report:?}");
    });
}

#[test]
fn a_write_error_fails_what_was_not_yet_written_at_once_as_not_sent() {
    watched(|| {
        let broken = breaking(Connection::builder(), Vec::new());
        let stuck = broken.guard.submit(ask("stuck in the writer")).unwrap();
        broken.arrived.recv().unwrap();
        let queued: Vec<PendingResponse> = (0..5)
            .map(|_| broken.guard.submit(ask("queued")).unwrap())
            .collect();
        broken.verdicts.send(false).unwrap();
        for pending in queued {
            let error = pending.wait().unwrap_err();
            assert_eq!(error.outcome(), Outcome::NotSent, "{error:?}");
            assert!(is_broken_pipe(&error), "{error:?}");
        }
        assert!(is_broken_pipe(&stuck.wait().unwrap_err()));
        let later = broken.guard.call(ask("later")).unwrap_err();
        assert_eq!(later.outcome(), Outcome::NotSent, "{later:?}");
        drop(broken.let_go);
    });
}

/// Both directions show that a peer has gone, and its end says more than the write error. Here
/// the end is known only when the call has failed, if that does not wait for it.
#[test]
fn a_peer_that_has_gone_is_the_cause_even_if_a_write_shows_it_first() {
    has_gone_home(Connection::builder);
    has_gone_home(|| Connection::builder().handler(|_| Ok(())));
    has_gone_home(|| {
        Connection::builder()
            .inline_handler(true)
            .handler(|_| Ok(()))
    });
}

fn has_gone_home(builder: impl Fn() -> ConnectionBuilder + Send + 'static) {
    watched(move || {
        let outcomes = [(); 10].map(|()| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (reading, has_read) = bounded(1);
            let (call_over, is_over) = bounded::<()>(1);
            let transport = Transport::try_from(ours).unwrap();
            let transport = transport.with_diagnosis(move || {
                let _ = reading.send(());
                let _ = is_over.recv_timeout(Duration::from_millis(5));
                Some("it has gone home".to_owned())
            });
            let guard = builder().open(transport).unwrap();
            drop(theirs);
            has_read.recv().unwrap();
            let error = guard.call(ask("too late")).unwrap_err();
            let _ = call_over.send(());
            let said =
                matches!(error.cause(), Error::EndOfInput(Some(why)) if why.contains("home"));
            assert!(said, "{error:?}");
            let report = guard.close();
            assert!(report.cause().is_none(), "{report:?}");
            error.outcome()
        });
        // Unknown only if the write was under way just when the end was told, which is rare.
        let is_known = |outcome: &&Outcome| **outcome == Outcome::NotSent;
        let known = outcomes.iter().filter(is_known).count();
        assert!(known >= outcomes.len() / 2, "{outcomes:?}");
        assert!(!outcomes.contains(&Outcome::NotRun), "{outcomes:?}");
    });
}

/// What it has said before it went is why.
#[test]
fn a_program_that_has_said_something_else_and_gone_is_quoted_even_if_a_write_shows_it_first() {
    let said = b"Last login: today\n";
    watched(|| {
        let broken = breaking(Connection::builder().handler(|_| Ok(())), said.to_vec());
        let unsent = broken.guard.submit(ask("unsent")).unwrap();
        let queued = broken.guard.submit(ask("queued")).unwrap();
        broken.arrived.recv().unwrap();
        drop(broken.let_go);
        broken.verdicts.send(false).unwrap();
        let is_quoted = |error: &Error| {
            let quotes = error.to_string().contains("Last login: today");
            quotes && matches!(error, Error::NotPacketstream(_))
        };
        for pending in [unsent, queued] {
            let error = pending.wait().unwrap_err();
            assert!(is_quoted(error.cause()), "{error:?}");
        }
        let report = broken.guard.close();
        assert!(report.cause().is_some_and(is_quoted), "{report:?}");
    });
}

/// The peer has asked for more than is started at once, so that reading pauses, and has gone.
#[test]
fn a_server_that_cannot_answer_reads_what_has_come_to_its_end() {
    for _ in 0..3 {
        watched(|| {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let requests = (0..600_u64).map(|tag| request_packet(0, tag, 0, b"x"));
            let ends = [Packet::END_OF_REQUESTS, Packet::END_OF_STREAM];
            let said: Vec<u8> = requests.chain(ends).flat_map(|p| p.transcribe()).collect();
            theirs.write_all(&said).unwrap();
            drop(theirs);

            // The first answer shows that nobody reads it; the others take long.
            let (go_on, goes_on) = bounded::<()>(0);
            let is_first = AtomicBool::new(true);
            let builder = Connection::builder()
                .handler_threads(1)
                .max_inbound_requests(4)
                .handler(move |_| {
                    if !is_first.swap(false, Ordering::Relaxed) {
                        let _ = goes_on.recv();
                    }
                    Ok("answer")
                });
            let guard = builder.open(Transport::try_from(ours).unwrap()).unwrap();
            let _ = guard.wait_end_of_stream();
            drop(go_on);
            let report = guard.close();
            assert!(report.peer_said_goodbye(), "{report:?}");
        });
    }
}

#[test]
fn a_write_error_frees_submitters_that_wait_for_the_cap() {
    watched(|| {
        let broken = breaking(
            Connection::builder().max_outstanding_requests(1),
            Vec::new(),
        );
        let _stuck = broken.guard.submit(ask("stuck in the writer")).unwrap();
        broken.arrived.recv().unwrap();
        let connection = Connection::clone(&broken.guard);
        let blocked = scripted::spawn("blocked", move || connection.call(ask("blocked")));
        broken.verdicts.send(false).unwrap();
        let error = blocked.join().unwrap().unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotSent, "{error:?}");
        drop(broken.let_go);
    });
}

/// The same over a socket: the peer closes its reading side, and goes on to answer.
#[test]
fn a_peer_that_closes_its_reading_side_may_still_answer() {
    watched(|| {
        let (guard, mut peer) = Peer::open(Connection::builder());
        let answered = submit_and_see(&guard, &mut peer, "answered");
        let forgotten = submit_and_see(&guard, &mut peer, "forgotten");
        peer.close_read();
        peer.answer(0, 2, "yes");
        let lost = guard.call(ask("lost")).unwrap_err();
        assert!(is_broken_pipe(&lost), "{lost:?}");
        assert_eq!(answered.wait().unwrap().payload(), b"yes");
        let error = forgotten.wait().unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert!(is_broken_pipe(&error), "{error:?}");
        let refused = guard.call(ask("refused")).unwrap_err();
        assert_eq!(refused.outcome(), Outcome::NotSent, "{refused:?}");
        let report = guard.close();
        assert!(report.cause().is_some_and(is_broken_pipe), "{report:?}");
    });
}

#[test]
fn answers_to_a_peer_that_does_not_read_are_dropped_and_counted() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let builder = Connection::builder().handler_threads(1).handler(handler);
        let (guard, mut peer) = Peer::open(builder);
        for tag in 0..3 {
            peer.request(tag, "accepted");
        }
        gate.entered();
        // What is read after the write error is dropped, which is not the same.
        while guard.stats().serving < 3 {
            std::thread::yield_now();
        }
        peer.close_read();
        (0..3).for_each(|_| gate.release());
        let report = guard.close();
        assert!(report.cause().is_some_and(is_broken_pipe), "{report:?}");
        assert_eq!(report.answers_lost(), 3);
    });
}

#[test]
fn a_handler_learns_when_its_answer_can_no_longer_be_sent() {
    watched(|| {
        let (ask_again, asked) = bounded::<()>(0);
        let (tell, told) = unbounded();
        let (guard, mut peer) =
            Peer::open(Connection::builder().handler(move |incoming: Incoming| {
                while asked.recv().is_ok() {
                    tell.send(incoming.peer_gone())?;
                }
                Ok(())
            }));
        let pending = submit_and_see(&guard, &mut peer, "ours");
        peer.request(5, "");
        ask_again.send(()).unwrap();
        assert!(!told.recv().unwrap());
        peer.close_write();
        // A peer that merely ended its stream may still read the answer.
        assert!(matches!(pending.wait(), Err(error) if error.is_closed()));
        ask_again.send(()).unwrap();
        assert!(!told.recv().unwrap());
        guard.abort().into_result().unwrap_err();
        ask_again.send(()).unwrap();
        assert!(told.recv().unwrap());
    });
}
