//! A relay between two ends: real descriptors of any kind, of which bytes pass in odd pieces, late,
//! or no longer, so that a stream is cut inside a packet with real pipes, too.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::Receiver;
use fastrand::Rng;
use packetstream::Transport;

use super::super::narrow::{Harm, Link};
use super::super::pairs::start;

type Halves = (Box<dyn Read + Send>, Box<dyn Write + Send>);

/// How many bytes pass before a cut, at most: beyond that most lives are over.
const FAR: usize = 6000;

/// How often a slow one pauses: it would take minutes over the longest lives.
const SLOW: usize = 300;

/// Two ends of any kind and a relay between them.
pub fn relayed(rng: &mut Rng) -> Link {
    let legs = [leg(rng), leg(rng)];
    let [(here, near), (there, far)] = legs;
    // Nobody ever sends on it: that it is dropped ends the stall.
    let (keep, released) = crossbeam_channel::bounded::<()>(0);
    let is_stalled = Arc::new(AtomicBool::new(false));
    let cut = (rng.u8(..3) > 0).then(|| rng.usize(..2));
    let mut pass = |direction, from, to| {
        let way = Way {
            rng: rng.fork(),
            cut_at: (cut == Some(direction)).then(|| rng.usize(..FAR)),
            pauses: if rng.u8(..4) == 0 { SLOW } else { 0 },
            is_stalled: Arc::clone(&is_stalled),
            released: released.clone(),
        };
        start(move || way.pass(from, to));
    };
    pass(0, near.0, far.1);
    pass(1, far.0, near.1);
    Link {
        ends: [here, there],
        harm: Some(Box::new(move |harm| {
            let _until_dropped = &keep;
            if harm == Harm::Stall {
                is_stalled.store(true, Ordering::Relaxed);
            }
        })),
        is_harmless: cut.is_none(),
    }
}

/// A transport, and the other end of its streams.
fn leg(rng: &mut Rng) -> (Transport, Halves) {
    match rng.u8(..3) {
        0 => {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let reader = Box::new(theirs.try_clone().unwrap());
            (
                Transport::try_from(ours).unwrap(),
                (reader, Half::boxed(theirs)),
            )
        }
        1 => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (theirs, _) = listener.accept().unwrap();
            let reader = Box::new(theirs.try_clone().unwrap());
            (
                Transport::try_from(ours).unwrap(),
                (reader, Half::boxed(theirs)),
            )
        }
        _ => {
            let (there_reader, here_writer) = std::io::pipe().unwrap();
            let (here_reader, there_writer) = std::io::pipe().unwrap();
            let ours = (OwnedFd::from(here_reader), OwnedFd::from(here_writer));
            (
                Transport::try_from(ours).unwrap(),
                (Box::new(there_reader), Box::new(there_writer)),
            )
        }
    }
}

/// The writing half of a socket, which ends the stream when it is dropped, though the other half
/// goes on.
struct Half<S: Shut>(S);

trait Shut: Write + Send + 'static {
    fn shut_write(&self);
}

impl Shut for UnixStream {
    fn shut_write(&self) {
        let _ = self.shutdown(std::net::Shutdown::Write);
    }
}

impl Shut for TcpStream {
    fn shut_write(&self) {
        let _ = self.shutdown(std::net::Shutdown::Write);
    }
}

impl<S: Shut> Half<S> {
    fn boxed(stream: S) -> Box<dyn Write + Send> {
        Box::new(Self(stream))
    }
}

impl<S: Shut> Write for Half<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl<S: Shut> Drop for Half<S> {
    fn drop(&mut self) {
        self.0.shut_write();
    }
}

/// One direction.
struct Way {
    rng: Rng,
    cut_at: Option<usize>,
    pauses: usize,
    is_stalled: Arc<AtomicBool>,
    released: Receiver<()>,
}

impl Way {
    /// Passes bytes on to the end, or to the cut, where both streams are dropped.
    fn pass(mut self, mut from: Box<dyn Read + Send>, mut to: Box<dyn Write + Send>) {
        let mut left = self.cut_at.unwrap_or(usize::MAX);
        let mut buffer = [0; 4096];
        loop {
            let most = match self.rng.u8(..4) {
                0 => 1,
                1 => self.rng.usize(1..64),
                _ => buffer.len(),
            };
            let Ok(amount @ 1..) = from.read(&mut buffer[..most.min(left.max(1))]) else {
                return;
            };
            if self.is_stalled.load(Ordering::Relaxed) {
                let _ = self.released.recv();
                return;
            }
            if self.pauses > 0 {
                self.pauses -= 1;
                let _ = self.released.recv_timeout(Duration::from_micros(200));
            }
            if left == 0 || to.write_all(&buffer[..amount]).is_err() {
                return;
            }
            left -= amount.min(left);
        }
    }
}
