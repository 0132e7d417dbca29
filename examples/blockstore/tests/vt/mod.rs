//! A block store process, asked in raw octets by a plain connection, and the encodings of its
//! protocol, written a second time.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::io::{BufReader, Read};
use std::process::{Child, Command, Stdio};

use packetstream::{Connection, Flags, OpenGuard, PendingResponse, Request, Response, Transport};
use sha1::{Digest, Sha1};
use sha2::Sha256;

pub const ADD: u32 = 0;
pub const GET: u32 = 1;
pub const CONTAINS: u32 = 2;
pub const FLUSH: u32 = 3;
pub const HASHCODES: u32 = 4;
pub const HASH_OF_HASHCODES: u32 = 5;
pub const ARCHIVE_LAST: u32 = 6;
pub const ARCHIVE_UPDATE: u32 = 7;
pub const ARCHIVE_LIST: u32 = 8;
pub const LENGTH: u32 = 9;
pub const CONTAINS_INDIRECT: u32 = 10;

/// The flags of a selection of hashcodes.
pub const AFTER: u32 = 1;
pub const HAS_START: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha1,
    Sha256,
    Blake3,
}

impl Hash {
    pub const ALL: [Self; 3] = [Self::Sha1, Self::Sha256, Self::Blake3];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Blake3 => "blake3",
        }
    }

    pub fn number(self) -> u8 {
        match self {
            Self::Sha1 => 0,
            Self::Sha256 => 1,
            Self::Blake3 => 2,
        }
    }

    pub fn digest(self, octets: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(octets).to_vec(),
            Self::Sha256 => Sha256::digest(octets).to_vec(),
            Self::Blake3 => blake3::hash(octets).as_bytes().to_vec(),
        }
    }

    /// A digest as it is on the wire.
    pub fn code(self, digest: &[u8]) -> Vec<u8> {
        [&[self.number()], digest].concat()
    }

    pub fn code_of(self, chunk: &[u8]) -> Vec<u8> {
        self.code(&self.digest(chunk))
    }

    /// The payload of a selection of hashcodes.
    pub fn select(self, start: Option<&[u8]>, length: u64) -> Vec<u8> {
        let mut payload = data(self.name());
        payload.extend(start.iter().flat_map(|digest| self.code(digest)));
        payload.extend(uint(length));
        payload
    }
}

pub fn uint(number: u64) -> Vec<u8> {
    let mut octets = vec![u8::try_from(number & 0x7f).unwrap()];
    let mut rest = number >> 7;
    while rest > 0 {
        octets.insert(0, u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    octets
}

/// Reads a number that is the whole payload.
pub fn read_uint(octets: &[u8]) -> u64 {
    let number = octets
        .iter()
        .fold(0, |number, octet| number << 7 | u64::from(octet & 0x7f));
    assert_eq!(uint(number), octets);
    number
}

/// Data or text: the length and the octets.
pub fn data(octets: impl AsRef<[u8]>) -> Vec<u8> {
    let octets = octets.as_ref();
    [uint(octets.len() as u64), octets.to_vec()].concat()
}

/// Octets as they are written on paper.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|octet| *octet != b' ').collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// A server in a child process, killed if a test does not come to its end.
pub struct Server {
    connection: Option<OpenGuard>,
    child: Child,
}

impl Server {
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_blockstore"))
            .args(["serve", "--stdio"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let reader = BufReader::new(child.stdout.take().unwrap());
        let writer = child.stdin.take().unwrap();
        let connection = Connection::builder()
            .open(Transport::new(reader, writer))
            .unwrap();
        Self {
            connection: Some(connection),
            child,
        }
    }

    pub fn hashing(hash: Hash) -> Self {
        Self::start(&["--hash", hash.name()])
    }

    pub fn submit(&self, number: u32, payload: impl Into<Vec<u8>>) -> PendingResponse {
        let request = Request::new(number).with_payload(payload);
        self.connection.as_ref().unwrap().submit(request).unwrap()
    }

    pub fn call(&self, request: Request) -> packetstream::Result<Response> {
        self.connection.as_ref().unwrap().call(request)
    }

    /// The good answer: flags and payload.
    pub fn ask(&self, number: u32, payload: impl Into<Vec<u8>>) -> (u64, Vec<u8>) {
        self.ask_with(number, 0, payload)
    }

    pub fn ask_with(&self, number: u32, flags: u32, payload: impl Into<Vec<u8>>) -> (u64, Vec<u8>) {
        let request = Request::new(number).with_flags(flags);
        let answer = self.call(request.with_payload(payload)).unwrap();
        (answer.flags().bits(), answer.into_payload())
    }

    /// Asserts that a request fails, and that it harms no other.
    pub fn refuses(&self, number: u32, payload: impl Into<Vec<u8>>) {
        self.refuses_with(number, Flags::NONE, payload);
    }

    pub fn refuses_with(&self, number: u32, flags: impl Into<Flags>, payload: impl Into<Vec<u8>>) {
        let request = Request::new(number).with_flags(flags).with_payload(payload);
        match self.call(request.clone()) {
            Err(error) if error.is_rejected() => {}
            other => panic!("{request:?}: {other:?}"),
        }
        self.length();
    }

    pub fn add(&self, hash: Hash, chunk: &[u8]) -> Vec<u8> {
        let (flags, code) = self.ask(ADD, [vec![hash.number()], data(chunk)].concat());
        assert_eq!((flags, &code), (0, &hash.code_of(chunk)));
        code
    }

    pub fn flush(&self) {
        assert_eq!(self.ask(FLUSH, ""), (0, vec![]));
    }

    pub fn length(&self) -> u64 {
        let (flags, number) = self.ask(LENGTH, "");
        assert_eq!(flags, 0);
        read_uint(&number)
    }

    /// An answer without payload whose flags say yes or no.
    pub fn says(&self, number: u32, payload: impl Into<Vec<u8>>) -> bool {
        let (flags, payload) = self.ask(number, payload);
        assert!(flags < 2 && payload.is_empty(), "{flags} {payload:?}");
        flags == 1
    }

    /// Ends the process as a crash does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends in order: with a goodbye of both, nothing after it, and status 0.
    pub fn finish(mut self) {
        let report = self.connection.take().unwrap().close();
        assert!(report.is_last() && report.peer_said_goodbye(), "{report:?}");
        assert!(report.cause().is_none(), "{report:?}");
        assert_eq!(report.requests_not_sent() + report.requests_unknown(), 0);
        let (mut reader, writer) = report.into_transport().unwrap().into_parts();
        drop(writer);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "after the goodbye: {rest:?}");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail after it has ended by itself.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
