//! A scripted peer: the far end of a socket pair, spoken to in raw octets and packets.
//!
//! The connection under test holds one end; the test plays the other by hand, so that it can say
//! what no well behaved end says, and sees exactly what is put on the wire.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use packetstream::wire::{ChannelId, DecodeError, Flags, Packet, RequestType, Tag};
use packetstream::{
    BoxError, ConnectionBuilder, Incoming, OpenGuard, PendingResponse, Request, Response, Transport,
};

/// The longest one read of the peer waits: well below the watchdog, so that a test that waits in
/// vain tells what it had received.
const DEADLINE: Duration = Duration::from_secs(20);

/// The packet that ends a stream, as it must look.
pub const EOF: &str = "03000200";
/// The packet that ends the requests, as it must look.
pub const ERQ: &str = "03010200";

/// The far end of a connection.
#[derive(Debug)]
pub struct Peer {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Peer {
    /// Makes a transport and the peer at its other end.
    pub fn pair() -> (Transport, Self) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(DEADLINE)).unwrap();
        theirs.set_write_timeout(Some(DEADLINE)).unwrap();
        let peer = Self {
            stream: theirs,
            received: Vec::new(),
        };
        (Transport::try_from(ours).unwrap(), peer)
    }

    /// Opens a connection whose other end is the peer.
    pub fn open(builder: ConnectionBuilder) -> (OpenGuard, Self) {
        let (transport, peer) = Self::pair();
        (builder.open(transport).unwrap(), peer)
    }

    /// A second end of the same stream, for a thread that only sends.
    pub fn sender(&self) -> Self {
        Self {
            stream: self.stream.try_clone().unwrap(),
            received: Vec::new(),
        }
    }

    pub fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.stream.write_all(octets.as_ref()).unwrap();
    }

    /// As `send`, for streams that the connection may have ended already.
    pub fn try_send(&mut self, octets: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(octets.as_ref())
    }

    pub fn send_hex(&mut self, hex: &str) {
        self.send(unhex(hex));
    }

    pub fn send_packet(&mut self, packet: &Packet) {
        self.send(packet.transcribe());
    }

    /// Sends a request of application type 0 on channel 0.
    pub fn request(&mut self, tag: u64, payload: impl AsRef<[u8]>) {
        self.send_packet(&request_packet(0, tag, 0, payload.as_ref()));
    }

    /// Answers ok, with flags 0.
    pub fn answer(&mut self, channel: u64, tag: u64, payload: impl AsRef<[u8]>) {
        self.send_packet(&ok_packet(channel, tag, 0, payload.as_ref()));
    }

    /// Says goodbye: no more requests, end of the stream.
    pub fn goodbye(&mut self) {
        self.send_hex(ERQ);
        self.send_hex(EOF);
    }

    /// The next packet; panics at the end of the transport.
    pub fn next_packet(&mut self) -> Packet {
        match self.packet_or_end() {
            Some(packet) => packet,
            None => panic!(
                "a packet was expected, the transport ended after {}",
                hex(&self.received)
            ),
        }
    }

    /// The next packet, `None` at the end of the transport between packets.
    pub fn packet_or_end(&mut self) -> Option<Packet> {
        loop {
            match Packet::parse(&self.received) {
                Ok((packet, len)) => {
                    self.received.drain(..len);
                    return Some(packet);
                }
                Err(DecodeError::Truncated { .. }) => {}
                Err(error) => panic!("we sent what does not decode: {error}"),
            }
            if self.fill() == 0 {
                assert!(
                    self.received.is_empty(),
                    "our stream ended inside a packet: {}",
                    hex(&self.received)
                );
                return None;
            }
        }
    }

    /// All packets up to and with the one that ends the stream.
    pub fn packets_to_end_of_stream(&mut self) -> Vec<Packet> {
        let mut packets = vec![self.next_packet()];
        while packets.last() != Some(&Packet::END_OF_STREAM) {
            packets.push(self.next_packet());
        }
        packets
    }

    /// All packets up to the end of the transport, said goodbye or not.
    pub fn packets_to_end(&mut self) -> Vec<Packet> {
        std::iter::from_fn(|| self.packet_or_end()).collect()
    }

    pub fn expect_packet(&mut self, expected: &Packet) {
        assert_eq!(&self.next_packet(), expected);
    }

    /// Expects exactly these octets next.
    pub fn expect_hex(&mut self, expected: &str) {
        let expected: String = expected.split_whitespace().collect();
        let len = expected.len() / 2;
        while self.received.len() < len && self.fill() != 0 {}
        let len = len.min(self.received.len());
        let got: Vec<u8> = self.received.drain(..len).collect();
        assert_eq!(hex(&got), expected);
    }

    /// Asks until it is told that the connection shuts down, which shows that a close has begun.
    pub fn probe_until_refused(&mut self, first_tag: u64) {
        for tag in first_tag.. {
            self.request(tag, PROBE);
            let response = self.next_packet();
            assert_eq!(response.tag(), Tag::new(tag));
            if response.is_ok() == Some(false) {
                assert_eq!(response.payload(), b"rejecting request: shutting down");
                return;
            }
        }
    }

    /// Expects our ERQ and EOF, and nothing between them.
    pub fn expect_goodbye(&mut self) {
        self.expect_hex(ERQ);
        self.expect_hex(EOF);
    }

    /// Expects the end of the transport, and not one octet before it.
    pub fn expect_end(&mut self) {
        let rest = self.octets_to_end();
        assert_eq!(hex(&rest), "", "octets where the end should be");
    }

    /// Everything up to the end of the transport. A reset is an end too.
    pub fn octets_to_end(&mut self) -> Vec<u8> {
        while self.fill() != 0 {}
        std::mem::take(&mut self.received)
    }

    /// Ends our direction towards the connection, without a goodbye.
    pub fn close_write(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Stops reading: what the connection writes from now on fails.
    pub fn close_read(&self) {
        self.stream.shutdown(Shutdown::Read).unwrap();
    }

    fn fill(&mut self) -> usize {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(len) => {
                self.received.extend_from_slice(&buffer[..len]);
                len
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            Err(error) => panic!(
                "nothing came for {DEADLINE:?} ({error}); unread: {}",
                hex(&self.received)
            ),
        }
    }
}

pub fn request_packet(channel: u64, tag: u64, request_type: u32, payload: &[u8]) -> Packet {
    Packet::request(
        ChannelId::new(channel),
        Tag::new(tag),
        RequestType::from(request_type),
        Flags::NONE,
        payload,
    )
}

pub fn ok_packet(channel: u64, tag: u64, flags: u32, payload: &[u8]) -> Packet {
    response_packet(channel, tag, true, flags, payload)
}

/// The refusal of a request on channel 0.
pub fn not_ok_packet(tag: u64, payload: &str) -> Packet {
    response_packet(0, tag, false, 0, payload.as_bytes())
}

fn response_packet(channel: u64, tag: u64, ok: bool, flags: u32, payload: &[u8]) -> Packet {
    Packet::response(
        ChannelId::new(channel),
        Tag::new(tag),
        ok,
        Flags::from(flags),
        payload,
    )
    .unwrap()
}

/// What a [`Gate`] lets pass.
pub const PROBE: &str = "probe";

/// A request of ours, of type 0.
pub fn ask(payload: &str) -> Request {
    Request::new(0).with_payload(payload)
}

/// Submits and waits until the peer has read the request, so that it counts as sent.
pub fn submit_and_see(guard: &OpenGuard, peer: &mut Peer, payload: &str) -> PendingResponse {
    let pending = guard.submit(ask(payload)).unwrap();
    let packet = peer.next_packet();
    assert_eq!(packet.payload(), payload.as_bytes());
    assert_eq!(Some(packet.tag()), Some(pending.tag()));
    pending
}

/// A handler that holds its requests until the test lets them go, and tells of each it got.
#[derive(Debug)]
pub struct Gate {
    started: Receiver<Vec<u8>>,
    release: Sender<()>,
}

impl Gate {
    /// The gate, and a handler that echoes the payload once per `release`; it answers a
    /// [`PROBE`] at once.
    #[allow(clippy::type_complexity, reason = "the handler has no name of its own")]
    pub fn new() -> (
        Self,
        impl Fn(Incoming) -> Result<Response, BoxError> + Send + Sync + 'static,
    ) {
        let (tell, started) = crossbeam_channel::unbounded();
        let (release, released) = crossbeam_channel::unbounded();
        let handler = move |incoming: Incoming| {
            if incoming.payload() == PROBE.as_bytes() {
                return Ok(().into());
            }
            // The test may have seen enough and be gone.
            drop(tell.send(incoming.payload().to_vec()));
            match released.recv_timeout(DEADLINE) {
                Ok(()) => Ok(Response::from(incoming.into_payload())),
                Err(error) => Err(error.into()),
            }
        };
        (Self { started, release }, handler)
    }

    /// Waits until a handler runs, and tells the payload it was given.
    pub fn entered(&self) -> Vec<u8> {
        self.started.recv_timeout(DEADLINE).unwrap()
    }

    /// Lets one handler finish.
    pub fn release(&self) {
        self.release.send(()).unwrap();
    }

    /// How many handlers have begun and were not told by `entered`.
    pub fn waiting(&self) -> usize {
        self.started.len()
    }
}

/// A writer that keeps what it is given.
#[derive(Debug, Clone, Default)]
pub struct Sink(Arc<parking_lot::Mutex<Vec<u8>>>);

impl Sink {
    pub fn octets(&self) -> Vec<u8> {
        self.0.lock().clone()
    }
}

impl Write for Sink {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .unwrap()
}

pub fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap())
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

pub fn hex(octets: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    octets
        .iter()
        .flat_map(|octet| [digit(octet >> 4), digit(octet & 15)])
        .collect()
}
