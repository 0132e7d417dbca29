//! What the lives of connections are made of: links, ends, places to ask from, ways to answer.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "test helpers; each test binary uses a part of them"
)]

use fastrand::Rng;
use packetstream::{BoxError, Rejection, Responder};

use super::super::narrow::{Harm, Link, nonblocking_sockets, sockets, torn};
use super::super::pairs::{memory, os_pipes, start};

/// What joins the ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Memory,
    Torn,
    Sockets,
    NonblockingSockets,
    Pipes,
}

impl Over {
    pub fn link(self, rng: &mut Rng) -> Link {
        match self {
            Self::Memory => memory().into(),
            Self::Torn => torn(rng),
            Self::Sockets => sockets(),
            Self::NonblockingSockets => nonblocking_sockets(),
            Self::Pipes => os_pipes().into(),
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
    Abort,
    Harm(Harm),
}

impl Ending {
    pub fn any(rng: &mut Rng, end: usize, over: Over) -> Self {
        let harms = match over {
            Over::Memory | Over::Pipes => 0,
            Over::Sockets | Over::NonblockingSockets => 3,
            // Only these can be stalled.
            Over::Torn => 4,
        };
        match rng.u8(..10 + harms) {
            0 | 1 => Self::CloseGuard,
            2 | 3 => Self::DropGuard,
            4 => Self::FinishRequests,
            5 => Self::EndStream,
            6 | 7 => Self::Shutdown,
            8 => Self::ShutdownNow,
            9 => Self::Abort,
            10 => Self::Harm(Harm::Cut),
            11 => Self::Harm(Harm::CutWrite(end)),
            12 => Self::Harm(Harm::CutRead(end)),
            _ => Self::Harm(Harm::Stall),
        }
    }

    pub fn is_orderly(self) -> bool {
        !matches!(self, Self::ShutdownNow | Self::Abort | Self::Harm(_))
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
