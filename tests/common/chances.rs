//! What the lives of connections are made of: links, ends, places to ask from, ways to answer.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::time::Duration;

use fastrand::Rng;
use packetstream::{BoxError, Rejection, Responder};

use super::super::narrow::{Harm, Link, nonblocking_sockets, small_sockets, sockets, torn};
use super::super::pairs::{memory, os_pipes, start, tcp};
use super::relay::relayed;

/// What joins the ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Memory,
    Torn,
    Sockets,
    NonblockingSockets,
    /// With the smallest buffers that there are.
    SmallSockets,
    Tcp,
    Pipes,
    /// Kinds of descriptors at chance, behind a relay that cuts, stalls or dawdles.
    Relayed,
}

impl Over {
    pub fn link(self, rng: &mut Rng) -> Link {
        match self {
            Self::Memory => memory().into(),
            Self::Torn => torn(rng),
            Self::Sockets => sockets(),
            Self::NonblockingSockets => nonblocking_sockets(),
            Self::SmallSockets => small_sockets(),
            Self::Tcp => tcp().into(),
            Self::Pipes => os_pipes().into(),
            Self::Relayed => relayed(rng),
        }
    }

    /// What can be done to it.
    pub fn harms(self) -> &'static [fn(usize) -> Harm] {
        match self {
            Self::Memory | Self::Pipes | Self::Tcp => &[],
            Self::Sockets | Self::NonblockingSockets | Self::SmallSockets => {
                &[|_| Harm::Cut, Harm::CutWrite, Harm::CutRead]
            }
            Self::Torn => &[
                |_| Harm::Cut,
                Harm::CutWrite,
                Harm::CutRead,
                |_| Harm::Stall,
            ],
            Self::Relayed => &[|_| Harm::Stall, |_| Harm::Stall],
        }
    }
}

/// What ends a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    CloseGuard,
    DropGuard,
    FinishRequests,
    EndStream,
    Shutdown,
    ShutdownNow,
    ShutdownSoon(Duration),
    Abort,
    Harm(Harm),
}

impl Ending {
    /// Any way to end this end, or with one of the harms.
    pub fn any(rng: &mut Rng, end: usize, harms: &[fn(usize) -> Harm]) -> Self {
        match rng.usize(..11 + harms.len()) {
            0 | 1 => Self::CloseGuard,
            2 | 3 => Self::DropGuard,
            4 => Self::FinishRequests,
            5 => Self::EndStream,
            6 | 7 => Self::Shutdown,
            8 => Self::ShutdownNow,
            9 => Self::Abort,
            10 => Self::ShutdownSoon(Duration::from_micros(rng.u64(..5000))),
            harm => Self::Harm(harms[harm - 11](end)),
        }
    }

    pub fn is_orderly(self) -> bool {
        !matches!(
            self,
            Self::ShutdownNow | Self::ShutdownSoon(_) | Self::Abort | Self::Harm(_)
        )
    }
}

/// Where a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Caller,
    Handler,
    /// A handler that has lent its slot.
    Lent,
    /// A handler on the receiver.
    Inline,
    /// A thread that works on a request of the peer after its handler has returned, and holds the
    /// responder.
    Beside,
    /// A callback or a waker: a thread of the connection, or any.
    Told,
}

/// Answers as handlers do: mostly well.
pub fn answer(answer: Vec<u8>, rng: &mut Rng) -> Result<Vec<u8>, BoxError> {
    match rng.u8(..16) {
        0 => Err(Rejection::new(answer).into()),
        1 => Err("fails".into()),
        _ => Ok(answer),
    }
}

/// Starts a thread that answers what it is sent, in any order, until nobody can send any more.
pub fn answer_later(mut rng: Rng) -> crossbeam_channel::Sender<(Vec<u8>, Responder)> {
    let (answering, sent) = crossbeam_channel::unbounded::<(Vec<u8>, Responder)>();
    start(move || {
        while let Ok(first) = sent.recv() {
            let mut waiting: Vec<_> = [first].into_iter().chain(sent.try_iter()).collect();
            rng.shuffle(&mut waiting);
            for (octets, responder) in waiting {
                match answer(octets, &mut rng) {
                    Ok(_) if rng.u8(..16) == 0 => drop(responder),
                    Ok(answer) => responder.respond(answer),
                    Err(error) => responder.fail(error),
                }
            }
        }
    });
    answering
}
