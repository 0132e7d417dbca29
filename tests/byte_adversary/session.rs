//! One session of a connection with the adversary, and the rules that hold whatever it hears.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use packetstream::{
    BoxError, Connection, Error, Incoming, OpenGuard, Outcome, Packet, PendingResponse, PendingSet,
    Request, Response, Transport,
};

use super::common::PATIENCE;
use super::heard::Heard;
use super::measure::pause;
use super::pairs::{block_on, start};
use super::sent::check_sent;
use super::stream::{LIMIT, Role, Stream};

/// How the adversary ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It says no more, and reads to the end.
    HalfClosed,
    /// It is gone.
    Gone,
    /// It keeps the stream open, reads, and says nothing.
    Silent,
    /// It never reads: whatever is written to it fails.
    Deaf,
}

impl Ending {
    pub const ALL: [Self; 4] = [Self::HalfClosed, Self::Gone, Self::Silent, Self::Deaf];
}

/// How it goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub role: Role,
    pub ending: Ending,
    /// Before it has read what it answers.
    pub is_eager: bool,
    /// Reads and writes one byte at a time.
    pub is_dribbling: bool,
    /// Pipes rather than a socket: nothing frees who is stuck in one.
    pub is_piped: bool,
}

type Told = (usize, Result<Response, Error>);

/// The adversary's end of the streams.
struct Theirs {
    reader: Box<dyn Read + Send>,
    writer: Box<dyn Write + Send>,
    /// Whose directions end one by one, and not as the halves are dropped.
    socket: Option<UnixStream>,
}

impl Theirs {
    fn pair(is_piped: bool) -> (Transport, Self) {
        if is_piped {
            let (there_reader, here_writer) = io::pipe().unwrap();
            let (here_reader, there_writer) = io::pipe().unwrap();
            let ours = (OwnedFd::from(here_reader), OwnedFd::from(here_writer));
            let theirs = Self {
                reader: Box::new(there_reader),
                writer: Box::new(there_writer),
                socket: None,
            };
            return (ours.try_into().unwrap(), theirs);
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        let theirs = Self {
            reader: Box::new(theirs.try_clone().unwrap()),
            writer: Box::new(theirs.try_clone().unwrap()),
            socket: Some(theirs),
        };
        (ours.try_into().unwrap(), theirs)
    }
}

/// Plays a session; panics with what is wrong.
pub fn play(stream: &Stream, manner: Manner) {
    let Manner { role, ending, .. } = manner;
    let (ours, mut theirs) = Theirs::pair(manner.is_piped);
    let guard = open(role, ours);
    let (tell, told) = crossbeam_channel::unbounded();
    ask(&guard, role, &tell);
    drop(tell);
    let mut sent = Vec::new();
    if ending == Ending::Deaf {
        theirs.reader = Box::new(io::empty());
        if let Some(socket) = &theirs.socket {
            socket.shutdown(Shutdown::Read).unwrap();
        }
    } else if !manner.is_eager {
        read_requests(&mut theirs.reader, role.asks(), &mut sent);
    }
    let reading = matches!(ending, Ending::HalfClosed | Ending::Silent).then(|| {
        let reader = std::mem::replace(&mut theirs.reader, Box::new(io::empty()));
        start(move || read_to_end(reader, sent, manner.is_dribbling))
    });
    let saying = say(theirs, stream.clone(), manner);
    let (told, report) = if ending == Ending::Silent {
        // What it says may never be read, if it has broken the protocol.
        let _said = saying.said.recv_timeout(Duration::from_millis(20));
        let report = guard.shutdown(Some(Duration::from_millis(10)));
        drop(guard);
        (all_told(&told, role), report)
    } else {
        let told = all_told(&told, role);
        (told, guard.serve())
    };
    assert!(report.is_last() && !report.in_progress(), "{report:?}");
    let cause = format!("{:?}", report.cause());
    let is_foreign = matches!(report.cause(), Some(Error::NotPacketstream(_)));
    // It may hold the streams, whose end the reader waits for.
    drop(report);
    drop(saying.rest.join().unwrap());
    let sent = reading.map(|reading| reading.join().unwrap());
    let heard = Heard::new(&stream.bytes);
    let verdict = Verdict {
        heard: &heard,
        sent: sent.as_deref(),
        manner,
        is_foreign,
    };
    for (number, result) in told {
        verdict.request(2 + number as u64, &result, &cause);
    }
    verdict.answers(&cause);
}

fn open(role: Role, ours: Transport) -> OpenGuard {
    let builder = Connection::builder()
        .linger(Some(PATIENCE))
        .max_packet_len(LIMIT)
        .handler_threads(1);
    let builder = match role {
        Role::Both | Role::Server => builder.handler(handle),
        Role::Client | Role::LoneCaller => builder,
    };
    builder.open(ours).unwrap()
}

fn handle(incoming: Incoming) -> Result<Vec<u8>, BoxError> {
    match incoming.request_type().get() {
        2 => Ok(incoming.connection().call(Request::new(7))?.into_payload()),
        3 => Err("fails".into()),
        _ => Ok(incoming.into_payload()),
    }
}

/// Asks in all ways, each of which tells what came of it.
fn ask(guard: &OpenGuard, role: Role, tell: &Sender<Told>) {
    let connection = Connection::clone(guard);
    if role == Role::LoneCaller {
        let tell = tell.clone();
        start(move || tell.send((0, connection.call(Request::new(1)))));
        return;
    }
    for number in 0..role.asks() {
        let tell = tell.clone();
        // It ends at any moment.
        let pending = match connection.submit(Request::new(1)) {
            Ok(pending) => pending,
            Err(error) => {
                let _ = tell.send((number, Err(error)));
                continue;
            }
        };
        match number {
            0 => drop(start(move || tell.send((number, pending.wait())))),
            1 => pending.on_complete(move |result| drop(tell.send((number, result)))),
            2 => drop(start(move || tell.send((number, block_on(pending))))),
            _ => drop(start(move || tell.send((number, in_pieces(pending))))),
        }
    }
}

fn in_pieces(pending: PendingResponse) -> Result<Response, Error> {
    let mut set = PendingSet::from_iter([pending]);
    loop {
        if let Some((_, result)) = set.next_timeout(Duration::from_millis(1)) {
            return result;
        }
    }
}

fn read_requests(theirs: &mut impl Read, count: usize, sent: &mut Vec<u8>) {
    let mut left = count;
    let mut at = 0;
    let mut byte = [0];
    while left > 0 {
        theirs.read_exact(&mut byte).unwrap();
        sent.extend(byte);
        if let Ok((_, len)) = Packet::parse(&sent[at..]) {
            at += len;
            left -= 1;
        }
    }
}

fn read_to_end(mut theirs: impl Read, mut sent: Vec<u8>, is_dribbling: bool) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let most = if is_dribbling { 1 } else { buffer.len() };
    while let Ok(amount @ 1..) = theirs.read(&mut buffer[..most]) {
        sent.extend(&buffer[..amount]);
    }
    sent
}

/// The thread that says everything, and tells when it has.
struct Saying {
    said: Receiver<()>,
    /// What is left of the adversary's end.
    rest: JoinHandle<Option<Theirs>>,
}

fn say(mut theirs: Theirs, stream: Stream, manner: Manner) -> Saying {
    let (done, said) = crossbeam_channel::bounded(1);
    let rest = start(move || {
        // A violation may have ended the connection, or the end of what is said.
        let _ = say_all(&mut theirs.writer, &stream, manner.is_dribbling);
        let how = match manner.ending {
            Ending::HalfClosed | Ending::Deaf => Shutdown::Write,
            Ending::Gone => Shutdown::Both,
            Ending::Silent => {
                let _ = done.send(());
                return Some(theirs);
            }
        };
        if let Some(socket) = &theirs.socket {
            let _ = socket.shutdown(how);
        }
        None
    });
    Saying { said, rest }
}

fn say_all(theirs: &mut impl Write, stream: &Stream, is_dribbling: bool) -> io::Result<()> {
    let (first, second) = stream.bytes.split_at(stream.pause.unwrap_or(0));
    for part in [first, second] {
        let piece = if is_dribbling { 1 } else { part.len().max(1) };
        for piece in part.chunks(piece) {
            theirs.write_all(piece)?;
        }
        if stream.pause.is_some() {
            pause(Duration::from_millis(1));
        }
    }
    Ok(())
}

fn all_told(told: &Receiver<Told>, role: Role) -> Vec<Told> {
    let told: Vec<_> = (0..role.asks())
        .map(|_| {
            told.recv_timeout(PATIENCE)
                .expect("a request is never told")
        })
        .collect();
    told
}

struct Verdict<'a> {
    heard: &'a Heard,
    /// What was sent, if somebody has read it.
    sent: Option<&'a [u8]>,
    manner: Manner,
    is_foreign: bool,
}

impl Verdict<'_> {
    /// Whether what has come must have been dealt with: nobody has closed meanwhile, or judged it
    /// to be something else.
    fn is_strict(&self) -> bool {
        self.manner.ending == Ending::HalfClosed && !self.is_foreign
    }

    fn request(&self, tag: u64, result: &Result<Response, Error>, cause: &str) {
        let is_its = |packet: &&Packet| {
            packet.is_response() && packet.channel().get() == 0 && packet.tag().get() == tag
        };
        let is_told = |packet: &Packet| match result {
            Ok(response) => packet.is_ok() == Some(true) && packet.payload() == response.payload(),
            Err(Error::Rejected(rejection)) => {
                packet.is_ok() == Some(false) && packet.payload() == rejection.payload()
            }
            Err(_) => false,
        };
        let first = self.heard.certain.iter().find(is_its);
        if let Some(first) = first
            && self.is_strict()
            && !self.manner.is_eager
        {
            assert!(
                is_told(first),
                "{tag}: {first} came, told {result:?}; {cause}"
            );
        }
        let error = match result {
            Err(error) if !error.is_rejected() => error,
            _ => {
                let all = self.heard.all();
                let was_given = all.iter().filter(is_its).any(is_told);
                assert!(was_given, "{tag}: nobody has answered {result:?}; {cause}");
                return;
            }
        };
        let outcome = error.outcome();
        assert_ne!(outcome, Outcome::NotRun, "{tag}: {error:?}");
        if let Some(sent) = self.sent
            && !matches!(error, Error::Closed)
        {
            let was_sent = packets(sent).iter().any(|packet| {
                packet.is_request() && packet.channel().get() == 0 && packet.tag().get() == tag
            });
            let is_true = outcome == Outcome::Unknown || !was_sent;
            assert!(is_true, "{tag}: sent, and told {error:?}; {cause}");
        }
    }

    fn answers(&self, cause: &str) {
        let Some(sent) = self.sent else { return };
        if self.manner.ending == Ending::HalfClosed {
            check_sent(sent, &self.heard.all());
        }
        if !self.is_strict() {
            return;
        }
        let sent = packets(sent);
        for request in self
            .heard
            .certain
            .iter()
            .filter(|packet| packet.is_request())
        {
            if matches!(request.kind(), packetstream::PacketKind::Request(_)) {
                let is_answered = sent.iter().any(|packet| {
                    packet.is_response()
                        && packet.channel() == request.channel()
                        && packet.tag() == request.tag()
                });
                assert!(is_answered, "{request} is not answered; {cause}");
            }
        }
        let last = sent.last();
        assert_eq!(last, Some(&Packet::END_OF_STREAM), "{cause}");
    }
}

fn packets(mut sent: &[u8]) -> Vec<Packet> {
    let mut packets = Vec::new();
    while let Ok((packet, len)) = Packet::parse(sent) {
        packets.push(packet);
        sent = &sent[len..];
    }
    packets
}
