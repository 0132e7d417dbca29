//! Transports that are hard to get through: little room, odd pieces, interrupted calls, cut or
//! stalled at will.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::collections::VecDeque;
use std::io::{self, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use fastrand::Rng;
use packetstream::Transport;
use parking_lot::{Condvar, Mutex};

/// The room in a narrow pipe, in octets, unless something else is said.
pub const NARROW: usize = 4096;

/// What is done to a link from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Both directions end, and what is under way is lost if the link can do that.
    Cut,
    /// What this end writes ends behind what is under way.
    CutWrite(usize),
    /// What this end reads ends, and what is under way to it is lost.
    CutRead(usize),
    /// Nothing moves any more, and nobody is told.
    Stall,
}

/// Two joined transports, and what does them harm from outside if there is such a thing.
pub struct Link {
    pub ends: [Transport; 2],
    pub harm: Option<Box<dyn Fn(Harm) + Send + Sync>>,
    /// Whether all goes well as long as nobody does it harm from outside.
    pub is_harmless: bool,
}

impl From<(Transport, Transport)> for Link {
    fn from((here, there): (Transport, Transport)) -> Self {
        Self {
            ends: [here, there],
            harm: None,
            is_harmless: true,
        }
    }
}

/// A pair in memory with room for [`NARROW`] octets in each direction.
pub fn narrow_memory() -> (Transport, Transport) {
    let [here, there] = narrow(NARROW, None).ends;
    (here, there)
}

/// A pair in memory that moves octets in pieces of any size and interrupts calls now and then.
pub fn torn(rng: &mut Rng) -> Link {
    // With less room a large request takes seconds of handing over, and shows nothing more.
    let capacity = rng.usize(64..=NARROW);
    narrow(capacity, Some(rng))
}

fn narrow(capacity: usize, mut rng: Option<&mut Rng>) -> Link {
    let pipes = [Pipe::new(capacity), Pipe::new(capacity)];
    let ends = [0, 1].map(|end| {
        let (inward, outward) = (&pipes[1 - end], &pipes[end]);
        let reader = PipeReader {
            pipe: Arc::clone(inward),
            tear: rng.as_mut().map(|rng| rng.fork()),
        };
        let buffer = rng.as_mut().map_or(8192, |rng| rng.usize(16..=8192));
        let writer = PipeWriter {
            pipe: Arc::clone(outward),
            tear: rng.as_mut().map(|rng| rng.fork()),
        };
        let (inward, outward) = (Arc::clone(inward), Arc::clone(outward));
        Transport::new(BufReader::with_capacity(buffer, reader), writer).with_shutdown(move || {
            inward.change(State::lose);
            outward.change(State::end);
        })
    });
    let harm = move |harm| match harm {
        Harm::Cut => pipes.iter().for_each(|pipe| pipe.change(State::lose)),
        Harm::CutWrite(end) => pipes[end].change(State::end),
        Harm::CutRead(end) => pipes[1 - end].change(State::lose),
        Harm::Stall => pipes
            .iter()
            .for_each(|pipe| pipe.change(|state| state.is_stalled = true)),
    };
    Link {
        ends,
        harm: Some(Box::new(harm)),
        is_harmless: true,
    }
}

/// A pair of Unix sockets that can be cut.
pub fn sockets() -> Link {
    sockets_of(UnixStream::pair().unwrap())
}

/// The same with sockets that do not block.
pub fn nonblocking_sockets() -> Link {
    let pair = UnixStream::pair().unwrap();
    pair.0.set_nonblocking(true).unwrap();
    pair.1.set_nonblocking(true).unwrap();
    sockets_of(pair)
}

fn sockets_of((here, there): (UnixStream, UnixStream)) -> Link {
    let clones = [here.try_clone().unwrap(), there.try_clone().unwrap()];
    let harm = move |harm| {
        // A socket that has been shut already needs no cut.
        let _ = match harm {
            Harm::Cut | Harm::Stall => clones[0].shutdown(Shutdown::Both),
            Harm::CutWrite(end) => clones[end].shutdown(Shutdown::Write),
            Harm::CutRead(end) => clones[end].shutdown(Shutdown::Read),
        };
    };
    Link {
        ends: [here, there].map(|end| Transport::try_from(end).unwrap()),
        harm: Some(Box::new(harm)),
        is_harmless: true,
    }
}

/// A pair of pipes of 4 KiB, one page, which is the least that Linux gives.
#[cfg(target_os = "linux")]
pub fn narrow_pipes() -> (Transport, Transport) {
    use std::os::fd::OwnedFd;

    let pipe = || {
        let (reader, writer) = io::pipe().unwrap();
        assert_eq!(
            rustix::pipe::fcntl_setpipe_size(&writer, NARROW).unwrap(),
            NARROW
        );
        (OwnedFd::from(reader), OwnedFd::from(writer))
    };
    let ((there_reads, here_writes), (here_reads, there_writes)) = (pipe(), pipe());
    (
        Transport::try_from((here_reads, here_writes)).unwrap(),
        Transport::try_from((there_reads, there_writes)).unwrap(),
    )
}

/// A pair of Unix sockets with the smallest buffers that the kernel gives, somewhat above 4 KiB
/// with its own bookkeeping in it.
#[cfg(target_os = "linux")]
pub fn narrow_sockets() -> (Transport, Transport) {
    let (here, there) = with_small_buffers(UnixStream::pair().unwrap());
    (
        Transport::try_from(here).unwrap(),
        Transport::try_from(there).unwrap(),
    )
}

/// The same, and it can be cut. Where the kernel offers no choice the buffers are the usual ones.
pub fn small_sockets() -> Link {
    sockets_of(with_small_buffers(UnixStream::pair().unwrap()))
}

#[cfg(not(target_os = "linux"))]
fn with_small_buffers(pair: (UnixStream, UnixStream)) -> (UnixStream, UnixStream) {
    pair
}

#[cfg(target_os = "linux")]
fn with_small_buffers((here, there): (UnixStream, UnixStream)) -> (UnixStream, UnixStream) {
    use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};

    for end in [&here, &there] {
        // The kernel doubles what it is asked for.
        set_socket_send_buffer_size(end, NARROW / 2).unwrap();
        set_socket_recv_buffer_size(end, NARROW / 2).unwrap();
    }
    (here, there)
}

/// One direction.
struct Pipe {
    state: Mutex<State>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<u8>,
    is_ended: bool,
    is_stalled: bool,
}

impl State {
    fn end(&mut self) {
        self.is_ended = true;
        self.is_stalled = false;
    }

    fn lose(&mut self) {
        self.end();
        self.waiting.clear();
    }
}

impl Pipe {
    fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            capacity,
        })
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }
}

/// Returns how many octets of `len` this call may move, or that it is interrupted.
fn tear(rng: &mut Option<Rng>, len: usize) -> io::Result<usize> {
    let Some(rng) = rng else { return Ok(len) };
    match rng.u8(..16) {
        0 => Err(io::ErrorKind::Interrupted.into()),
        1 => Ok(len.min(1)),
        2..6 => Ok(rng.usize(len.min(1)..=len)),
        _ => Ok(len),
    }
}

struct PipeReader {
    pipe: Arc<Pipe>,
    tear: Option<Rng>,
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = tear(&mut self.tear, buffer.len())?;
        let mut state = self.pipe.state.lock();
        while state.is_stalled || (state.waiting.is_empty() && !state.is_ended) {
            self.pipe.changed.wait(&mut state);
        }
        let amount = state.waiting.read(&mut buffer[..most])?;
        drop(state);
        self.pipe.changed.notify_all();
        Ok(amount)
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        self.pipe.change(State::lose);
    }
}

struct PipeWriter {
    pipe: Arc<Pipe>,
    tear: Option<Rng>,
}

impl Write for PipeWriter {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let most = tear(&mut self.tear, octets.len())?;
        let mut state = self.pipe.state.lock();
        loop {
            if state.is_ended {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let room = self.pipe.capacity - state.waiting.len();
            if room > 0 && !state.is_stalled {
                let amount = most.min(room);
                state.waiting.extend(&octets[..amount]);
                drop(state);
                self.pipe.changed.notify_all();
                return Ok(amount);
            }
            self.pipe.changed.wait(&mut state);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.pipe.change(State::end);
    }
}
