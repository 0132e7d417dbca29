//! Pairs of joined transports, a peer that follows a script, and a few small tools of the tests
//! that are written from the specification.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use packetstream::{
    BoxError, ChannelId, Connection, Flags, Incoming, OpenGuard, Packet, PacketKind, PacketReader,
    Request, RequestType, Tag, Transport,
};

/// How long a test listens before it believes that nothing comes. A longer time can only find
/// more, a shorter one never fails a correct library.
pub const SILENCE: Duration = Duration::from_millis(150);

pub fn os_pipes() -> (Transport, Transport) {
    let (there_reader, here_writer) = std::io::pipe().unwrap();
    let (here_reader, there_writer) = std::io::pipe().unwrap();
    (
        Transport::try_from((OwnedFd::from(here_reader), OwnedFd::from(here_writer))).unwrap(),
        Transport::try_from((OwnedFd::from(there_reader), OwnedFd::from(there_writer))).unwrap(),
    )
}

pub fn unix_sockets() -> (Transport, Transport) {
    let (here, there) = UnixStream::pair().unwrap();
    (
        Transport::try_from(here).unwrap(),
        Transport::try_from(there).unwrap(),
    )
}

pub fn tcp() -> (Transport, Transport) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (there, _) = listener.accept().unwrap();
    (
        Transport::try_from(here).unwrap(),
        Transport::try_from(there).unwrap(),
    )
}

pub fn memory() -> (Transport, Transport) {
    Transport::pair()
}

/// A handler that answers with the request's payload.
pub fn echo(incoming: Incoming) -> Result<Vec<u8>, BoxError> {
    Ok(incoming.into_payload())
}

/// A connected client and a server with the given handler, in memory.
pub fn client_and_server<R>(
    handler: impl Fn(Incoming) -> Result<R, BoxError> + Send + Sync + 'static,
) -> (OpenGuard, OpenGuard)
where
    R: Into<packetstream::Response> + 'static,
{
    let (ours, theirs) = Transport::pair();
    let server = Connection::builder().handler(handler).open(theirs).unwrap();
    let client = Connection::builder().open(ours).unwrap();
    (client, server)
}

/// A request of type 1 with this payload.
pub fn asking(payload: impl Into<Vec<u8>>) -> Request {
    Request::new(1).with_payload(payload)
}

/// Starts a named thread.
pub fn start<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new()
        .name("test helper".to_owned())
        .spawn(body)
        .unwrap()
}

/// Receives, or fails the test when the sender is gone or too late.
pub fn take<T>(receiver: &Receiver<T>) -> T {
    receiver
        .recv_timeout(super::common::PATIENCE)
        .expect("what the test waits for did not happen")
}

/// Asserts that nothing is received for a while.
pub fn assert_quiet<T>(receiver: &Receiver<T>, what: &str) {
    assert!(
        matches!(
            receiver.recv_timeout(SILENCE),
            Err(RecvTimeoutError::Timeout)
        ),
        "{what}"
    );
}

/// A handler's door: each handler that arrives says so and waits until it is let go.
pub struct Gate {
    arrivals: Receiver<Vec<u8>>,
    release: Sender<()>,
}

impl Gate {
    /// Returns a gate and the handler that waits at it, then echoes; a `probe` it answers at once.
    pub fn new() -> (
        Self,
        impl Fn(Incoming) -> Result<Vec<u8>, BoxError> + Send + Sync + 'static,
    ) {
        let (arrive, arrivals) = crossbeam_channel::unbounded();
        let (release, released) = crossbeam_channel::unbounded();
        let handler = move |incoming: Incoming| {
            if incoming.payload() == b"probe" {
                return Ok(Vec::new());
            }
            // A test that has ended needs no arrivals any more, and its gate stands open.
            let _ = arrive.send(incoming.payload().to_vec());
            let _ = released.recv();
            Ok(incoming.into_payload())
        };
        (Self { arrivals, release }, handler)
    }

    /// Blocks until a handler has arrived, and returns its request's payload.
    pub fn arrived(&self) -> Vec<u8> {
        take(&self.arrivals)
    }

    /// Asserts that no further handler arrives.
    pub fn assert_nobody_arrives(&self) {
        assert_quiet(
            &self.arrivals,
            "a handler ran that should not have been started",
        );
    }

    /// Lets one handler go.
    pub fn release_one(&self) {
        self.release.send(()).unwrap();
    }
}

/// The far end of a connection, moved by hand: it reads packets and writes octets.
pub struct ScriptedPeer {
    reader: PacketReader<BufReader<UnixStream>>,
    stream: UnixStream,
}

impl ScriptedPeer {
    /// Returns the transport for the connection under test, and its peer.
    pub fn new() -> (Transport, Self) {
        let (here, there) = UnixStream::pair().unwrap();
        (Transport::try_from(here).unwrap(), Self::on(there))
    }

    pub fn on(stream: UnixStream) -> Self {
        let reader = PacketReader::new(BufReader::new(stream.try_clone().unwrap()));
        Self { reader, stream }
    }

    /// Reads one packet; `None` at the end.
    pub fn next(&mut self) -> Option<Packet> {
        self.reader.read_packet().unwrap()
    }

    /// Reads a request.
    pub fn request(&mut self) -> Packet {
        let packet = self.next().expect("a request, not the end");
        assert!(matches!(packet.kind(), PacketKind::Request(_)), "{packet}");
        packet
    }

    /// Reads a response to the given tag on channel 0.
    pub fn response(&mut self, tag: u64) -> Packet {
        let packet = self.next().expect("a response, not the end");
        assert!(packet.is_response(), "{packet}");
        assert_eq!(packet.tag(), Tag::new(tag));
        packet
    }

    pub fn expect(&mut self, kind: &Packet) {
        assert_eq!(self.next().as_ref(), Some(kind));
    }

    /// Reads everything up to `END_OF_STREAM` or the end of the transport.
    pub fn rest(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        while let Some(packet) = self.next() {
            let end = packet.kind() == PacketKind::EndOfStream;
            packets.push(packet);
            if end {
                break;
            }
        }
        packets
    }

    /// Asserts that nothing comes for a while.
    pub fn assert_silence(&mut self) {
        assert!(
            self.reader.get_ref().buffer().is_empty(),
            "packets are waiting"
        );
        self.stream.set_nonblocking(false).unwrap();
        self.stream.set_read_timeout(Some(SILENCE)).unwrap();
        let mut octet = [0];
        let read = std::io::Read::read(&mut &self.stream, &mut octet);
        self.stream.set_read_timeout(None).unwrap();
        let error = read.expect_err("something came where silence was expected");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }

    pub fn send(&mut self, packets: &[Packet]) {
        let mut octets = Vec::new();
        for packet in packets {
            octets.extend(packet.transcribe());
        }
        self.send_octets(&octets);
    }

    pub fn send_octets(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).unwrap();
    }

    /// Answers a request with a payload.
    pub fn answer(&mut self, request: &Packet, payload: impl Into<Vec<u8>>) {
        self.send(&[answer_to(request, payload)]);
    }

    /// Sends both end packets.
    pub fn goodbye(&mut self) {
        self.send(&[Packet::END_OF_REQUESTS, Packet::END_OF_STREAM]);
    }

    /// Reads both end packets and sends them, as a peer does that has nothing left to do.
    pub fn part(&mut self) {
        self.expect(&Packet::END_OF_REQUESTS);
        self.expect(&Packet::END_OF_STREAM);
        self.goodbye();
    }

    /// Ends one direction or both without a word.
    pub fn cut(&self, how: Shutdown) {
        self.stream.shutdown(how).unwrap();
    }
}

/// An "ok" answer.
pub fn answer_to(request: &Packet, payload: impl Into<Vec<u8>>) -> Packet {
    Packet::response(request.channel(), request.tag(), true, Flags::NONE, payload).unwrap()
}

/// A request of type 1 on channel 0.
pub fn request_packet(tag: u64, payload: impl Into<Vec<u8>>) -> Packet {
    Packet::request(
        ChannelId::DEFAULT,
        Tag::new(tag),
        RequestType::from(1),
        Flags::NONE,
        payload,
    )
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest executor: polls a future on this thread, which sleeps until it is woken.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Calls a function when it is woken, once.
pub struct OnWake<F>(parking_lot::Mutex<Option<F>>);

impl<F: FnOnce() + Send + 'static> OnWake<F> {
    pub fn waker(call: F) -> Waker {
        Waker::from(Arc::new(Self(parking_lot::Mutex::new(Some(call)))))
    }
}

impl<F: FnOnce() + Send + 'static> Wake for OnWake<F> {
    fn wake(self: Arc<Self>) {
        let call = self.0.lock().take();
        if let Some(call) = call {
            call();
        }
    }
}

/// The number of this process' threads whose name contains `name` (which must be short: the
/// system keeps 15 octets).
pub fn threads_named(name: &str) -> usize {
    super::common::thread_names()
        .iter()
        .filter(|thread| thread.contains(name))
        .count()
}
