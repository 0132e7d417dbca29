//! Payloads of 1 MiB, there and back.

use std::io::{self, Read, Write};
use std::thread::Builder;

use packetstream::{BoxError, Connection, Request};

use crate::child::Figures;
use crate::ends::{Ends, Socket, sockets};
use crate::measure::{Cost, side_by_side};
use crate::options::Options;
use crate::results::{Comparison, Work};

pub(crate) const LARGE: usize = 1024 * 1024;

/// The floor twice, with buffers that it keeps and with new ones for every message, and the crate.
pub(crate) struct Large {
    floor: Cost,
    fresh_floor: Cost,
    ours: Cost,
}

impl Large {
    pub(crate) fn measure(options: &Options) -> Result<Self, BoxError> {
        let calls = options.calls(200);
        let mut echo = Echo::new();
        let mut floor = Floor::start(Buffers::Kept)?;
        let mut fresh_floor = Floor::start(Buffers::Fresh)?;
        let ends = Ends::open()?;
        let [floor, fresh_floor, ours] = side_by_side(
            options.rounds(),
            calls,
            [
                &mut || floor.calls(calls),
                &mut || fresh_floor.calls(calls),
                &mut || echo.calls(&ends.client, calls),
            ],
        )?;
        ends.close()?;
        Ok(Self {
            floor,
            fresh_floor,
            ours,
        })
    }

    pub(crate) fn comparisons(&self) -> [Comparison; 2] {
        [
            Comparison::new(Work::Large, self.floor, self.ours),
            Comparison::new(Work::LargeFresh, self.fresh_floor, self.ours),
        ]
    }

    pub(crate) fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        figures.add("floor", Some(self.floor.seconds));
        figures.add("crate", Some(self.ours.seconds));
        figures
    }
}

/// The comparison that a child process has made.
pub(crate) fn warm(figures: &Figures) -> Option<Comparison> {
    let cost = |name| {
        Some(Cost {
            seconds: figures.of(name)?,
            processor: None,
            switches: None,
        })
    };
    Some(Comparison::new(
        Work::LargeWarm,
        cost("floor")?,
        cost("crate")?,
    ))
}

/// Octets that travel, and what they have to be when they are back.
///
/// The answer to one call is the payload of the next: nothing is copied that the socket does not
/// ask for, neither on the floor nor with the crate.
struct Echo {
    octets: Vec<u8>,
    backward: Vec<u8>,
    forward: Vec<u8>,
}

impl Echo {
    fn new() -> Self {
        let forward: Vec<u8> = (0..LARGE).map(|at| (at % 251) as u8).collect();
        let mut backward = forward.clone();
        backward.reverse();
        Self {
            octets: forward.clone(),
            backward,
            forward,
        }
    }

    fn calls(&mut self, client: &Connection, calls: usize) -> Result<(), BoxError> {
        for _ in 0..calls {
            let request = Request::new(0).with_payload(std::mem::take(&mut self.octets));
            self.octets = client.call(request)?.into_payload();
            self.check()?;
        }
        Ok(())
    }

    /// Checks that the octets have been reversed since the last time.
    fn check(&mut self) -> Result<(), BoxError> {
        if self.octets != self.backward {
            return Err("a wrong answer".into());
        }
        std::mem::swap(&mut self.forward, &mut self.backward);
        Ok(())
    }
}

/// What a bare program reads into.
#[derive(Clone, Copy)]
enum Buffers {
    /// The same buffer for every message.
    Kept,
    /// A new one for every message, like a program that gives messages away.
    Fresh,
}

impl Buffers {
    fn read(self, mut socket: &Socket, octets: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Kept => socket.read_exact(octets),
            Self::Fresh => {
                *octets = Vec::with_capacity(LARGE);
                if socket.take(LARGE as u64).read_to_end(octets)? < LARGE {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(())
            }
        }
    }
}

struct Floor {
    socket: Socket,
    buffers: Buffers,
    echo: Echo,
}

impl Floor {
    /// Starts the server, which ends when this is dropped.
    fn start(buffers: Buffers) -> io::Result<Self> {
        let (socket, mut there) = sockets()?;
        Builder::new().name("floor".to_owned()).spawn(move || {
            let mut octets = vec![0; LARGE];
            while buffers.read(&there, &mut octets).is_ok() {
                octets.reverse();
                if there.write_all(&octets).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self {
            socket,
            buffers,
            echo: Echo::new(),
        })
    }

    fn calls(&mut self, calls: usize) -> Result<(), BoxError> {
        for _ in 0..calls {
            self.socket.write_all(&self.echo.octets)?;
            self.buffers.read(&self.socket, &mut self.echo.octets)?;
            self.echo.check()?;
        }
        Ok(())
    }
}
