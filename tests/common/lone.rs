//! A connection with one caller, whose peer follows a script, and ways to see which thread reads.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use packetstream::{
    CloseReport, Connection, ConnectionBuilder, OpenGuard, Packet, Request, Response, Result,
    Transport,
};
use parking_lot::Mutex;

use super::common::PATIENCE;
use super::measure::{pause, until};
use super::pairs::{ScriptedPeer, asking, start, take};

// ---- threads, as the system sees them --------------------------------------------------------

/// A thread of this process.
#[derive(Clone, Debug)]
pub struct Task(PathBuf);

impl Task {
    pub fn current() -> Self {
        let own = fs::read_link("/proc/thread-self").expect("these tests need /proc");
        Self(PathBuf::from("/proc").join(own))
    }

    /// Those whose name begins so, as far as the system keeps it (15 octets).
    pub fn named(name: &str) -> Vec<Self> {
        let tasks = fs::read_dir("/proc/self/task").expect("these tests need /proc");
        tasks
            .map(|task| Self(task.unwrap().path()))
            .filter(|task| task.tell("comm").starts_with(name))
            .collect()
    }

    /// Whether it is stuck in reading from a Unix socket.
    pub fn reads(&self) -> bool {
        self.tell("wchan").starts_with("unix_stream")
    }

    /// How often it has begun to wait.
    pub fn waits(&self) -> u64 {
        let status = self.tell("status");
        let count = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.map_or(0, |count| count.trim().parse().unwrap())
    }

    /// Empty for a thread that has ended.
    fn tell(&self, what: &str) -> String {
        fs::read_to_string(self.0.join(what)).unwrap_or_default()
    }
}

/// How often the threads whose names begin so have begun to wait.
pub fn waits(name: &str) -> u64 {
    Task::named(name).iter().map(Task::waits).sum()
}

// ---- streams that tell who reads -------------------------------------------------------------

/// Who has read from a stream.
#[derive(Debug, Default)]
pub struct Readers(Mutex<HashSet<ThreadId>>);

impl Readers {
    /// Whether this thread has ever read.
    pub fn include(&self, thread: ThreadId) -> bool {
        self.0.lock().contains(&thread)
    }
}

/// A stream that tells who reads from it.
struct Witnessed {
    inner: BufReader<UnixStream>,
    readers: Arc<Readers>,
}

impl Read for Witnessed {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        self.readers.0.lock().insert(thread::current().id());
        self.inner.read(octets)
    }
}

impl BufRead for Witnessed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.readers.0.lock().insert(thread::current().id());
        self.inner.fill_buf()
    }

    fn consume(&mut self, octets: usize) {
        self.inner.consume(octets);
    }
}

/// A transport that tells who reads from it, with a hook that frees both directions.
pub fn witnessed(stream: UnixStream) -> (Transport, Arc<Readers>) {
    let readers = Arc::new(Readers::default());
    let reader = Witnessed {
        inner: BufReader::new(stream.try_clone().unwrap()),
        readers: Arc::clone(&readers),
    };
    let transport = Transport::new(reader, stream.try_clone().unwrap()).with_shutdown(move || {
        // It fails only when the socket is shut already.
        let _ = stream.shutdown(Shutdown::Both);
    });
    (transport, readers)
}

// ---- the scene -------------------------------------------------------------------------------

/// A connection, its peer, and a thread that calls.
pub struct Scene {
    guard: Option<OpenGuard>,
    pub connection: Connection,
    pub peer: ScriptedPeer,
    pub caller: ThreadId,
    calling: Task,
    receiving: Task,
    calls: Sender<Vec<Request>>,
    answers: Receiver<Result<Response>>,
    number: u64,
}

impl Scene {
    /// Over a pair of Unix sockets.
    pub fn new(builder: ConnectionBuilder) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let transport = Transport::try_from(ours).unwrap();
        Self::over(builder, transport, ScriptedPeer::on(theirs))
    }

    pub fn over(builder: ConnectionBuilder, transport: Transport, peer: ScriptedPeer) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("L{}", NUMBER.fetch_add(1, Relaxed));
        let guard = builder.name(&name).open(transport).unwrap();
        let connection = Connection::clone(&guard);
        let (calls, called) = crossbeam_channel::unbounded();
        let (tell, answers) = crossbeam_channel::unbounded();
        let (tell_task, task) = crossbeam_channel::bounded(1);
        let thread = start({
            let connection = connection.clone();
            move || {
                tell_task.send(Task::current()).unwrap();
                while let Ok(requests) = called.recv() {
                    let requests: Vec<Request> = requests;
                    for request in requests {
                        // The test may be over.
                        let _ = tell.send(connection.call(request));
                    }
                }
            }
        });
        let mut scene = Self {
            guard: Some(guard),
            connection,
            peer,
            caller: thread.thread().id(),
            calling: take(&task),
            receiving: Task::current(),
            calls,
            answers,
            number: 0,
        };
        // A list of threads that is made while others end may lack some.
        let receiver = || Task::named(&format!("{name}:receiver")).pop();
        scene.receiving = until(receiver, || format!("no receiver of {name}"));
        scene
    }

    /// The one guard.
    pub fn guard(&mut self) -> OpenGuard {
        self.guard.take().unwrap()
    }

    /// Lets the caller call.
    pub fn ask(&self, request: Request) {
        self.calls.send(vec![request]).unwrap();
    }

    /// What the caller's call has returned.
    pub fn answered(&self) -> Result<Response> {
        take(&self.answers)
    }

    /// Lets the caller call; returns what has come to the peer.
    pub fn begin(&mut self) -> Packet {
        self.number += 1;
        self.ask(asking(self.number.to_be_bytes()));
        let request = self.peer.request();
        assert_eq!(request.payload(), self.number.to_be_bytes());
        request
    }

    /// Answers the call that is going on, and checks what it returns.
    pub fn finish(&mut self, request: &Packet) {
        self.peer.answer(request, request.payload());
        assert_eq!(self.answered().unwrap().payload(), request.payload());
    }

    /// A call that is alone.
    pub fn call(&mut self) {
        let request = self.begin();
        self.finish(&request);
    }

    /// Calls in a row, with nothing between them that could take long; the last is not answered.
    pub fn warm(&mut self) -> Packet {
        let payloads: Vec<[u8; 8]> = (0..50_u64).map(u64::to_be_bytes).collect();
        let requests = payloads.iter().map(|payload| asking(*payload)).collect();
        self.calls.send(requests).unwrap();
        for payload in &payloads[1..] {
            let request = self.peer.request();
            self.peer.answer(&request, request.payload());
            let answer = self.answered().unwrap();
            assert!(answer.payload() == request.payload() && answer.payload() < &payload[..]);
        }
        self.peer.request()
    }

    /// Leaves a call unanswered whose caller reads.
    pub fn hold(&mut self) -> Packet {
        // On a busy machine the caller may take a while to get there, or the next call to come.
        let mut time = Duration::from_millis(5);
        loop {
            let request = self.warm();
            let deadline = Instant::now() + time;
            while Instant::now() < deadline {
                if self.calling.reads() {
                    return request;
                }
                pause(Duration::from_micros(200));
            }
            self.finish(&request);
            time = (time * 2).min(Duration::from_millis(100));
        }
    }

    /// Calls until a call has left the reading to the next.
    pub fn leave(&mut self) {
        loop {
            let request = self.warm();
            self.finish(&request);
            if !self.receiving.reads() {
                return;
            }
        }
    }

    /// Whether the receiver is in a read.
    pub fn receiver_reads(&self) -> bool {
        self.receiving.reads()
    }

    /// Whether the thread that calls is in a read.
    pub fn caller_reads(&self) -> bool {
        self.calling.reads()
    }
}

// ---- what is seen of it ----------------------------------------------------------------------

/// A connection whose close waits.
pub fn patient() -> ConnectionBuilder {
    Connection::builder().linger(Some(PATIENCE))
}

/// A connection with a call that waits, or between calls; its callers read if it is warm.
pub fn staged(
    builder: ConnectionBuilder,
    is_calling: bool,
    is_warm: bool,
) -> (Scene, Option<Packet>) {
    let mut scene = Scene::new(builder);
    scene.call();
    scene.call();
    let held = match (is_calling, is_warm) {
        (true, true) => Some(scene.hold()),
        (true, false) => Some(scene.begin()),
        (false, true) => {
            scene.leave();
            None
        }
        (false, false) => None,
    };
    assert!(is_warm || !scene.caller_reads());
    (scene, held)
}

pub fn tell(report: &CloseReport) -> String {
    format!(
        "{:?}, goodbye {}, last {}, going on {}, not sent {}, unknown {}, answers lost {}, \
         dropped {}, late {}, {:?}",
        report.cause(),
        report.peer_said_goodbye(),
        report.is_last(),
        report.in_progress(),
        report.requests_not_sent(),
        report.requests_unknown(),
        report.answers_lost(),
        report.requests_dropped(),
        report.late_responses(),
        report.diagnosis(),
    )
}

/// Whose fault it is and what may have happened; which of several ends is named first may differ.
pub fn tell_later(scene: &Scene) -> String {
    scene.ask(asking("later"));
    let error = scene.answered().unwrap_err();
    format!("{}, {:?}", error.is_closed(), error.outcome())
}

pub fn tell_packet(packet: &Packet) -> String {
    let payload = String::from_utf8_lossy(packet.payload());
    format!("{packet} {payload}")
}

pub fn tell_rest(scene: &mut Scene) -> Vec<String> {
    scene.peer.rest().iter().map(tell_packet).collect()
}
