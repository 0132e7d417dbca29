//! Calls of 16 octets of which 256 are outstanding.

use std::io::{self, Read, Write};
use std::thread::Builder;

use packetstream::{BoxError, Connection};

use crate::ends::{Ends, SMALL, Socket, check, payload, pipelined_calls, reversing, sockets};
use crate::measure::side_by_side;
use crate::options::Options;
use crate::results::{Comparison, Work};

/// How many calls are outstanding.
pub(crate) const WINDOW: usize = 256;

/// The floor writes and reads half a window at a time, so that neither end waits for the other.
const HALF: usize = WINDOW / 2;
const BUFFER: usize = 64 * 1024;
const PREFIX: usize = 4;

/// With handler threads, and with handlers on the receiver.
pub(crate) fn both(options: &Options) -> Result<[Comparison; 2], BoxError> {
    let calls = options.calls(2_000) * HALF;
    let mut floor = Floor::start()?;
    let threads = Ends::open()?;
    let inline = Ends::open_with(Connection::builder(), reversing().inline_handler(true))?;
    let [floor, with_threads, with_inline] = side_by_side(
        options.rounds(),
        calls,
        [
            &mut || floor.calls(calls),
            &mut || pipelined_calls(&threads.client, calls, WINDOW),
            &mut || pipelined_calls(&inline.client, calls, WINDOW),
        ],
    )?;
    let all_calls = (options.rounds() * calls) as f64;
    let comparisons = [
        Comparison::new(Work::Pipelined, floor, with_threads)
            .with_writes(threads.writes() as f64 / all_calls),
        Comparison::new(Work::PipelinedInline, floor, with_inline)
            .with_writes(inline.writes() as f64 / all_calls),
    ];
    threads.close()?;
    inline.close()?;
    Ok(comparisons)
}

/// The client of a server that takes messages and reverses them.
struct Floor {
    messages: Messages,
    out: Vec<u8>,
}

impl Floor {
    /// Starts the server, which ends when this is dropped.
    fn start() -> io::Result<Self> {
        let (ours, theirs) = sockets()?;
        Builder::new().name("floor".to_owned()).spawn(move || {
            let (mut messages, mut out) = (Messages::new(theirs), Vec::with_capacity(BUFFER));
            loop {
                let received = messages.receive(|message| {
                    push_prefix(message.len(), &mut out);
                    out.extend(message.iter().rev());
                    Ok(())
                });
                if received.is_err() || messages.socket.write_all(&out).is_err() {
                    break;
                }
                out.clear();
            }
        })?;
        Ok(Self {
            messages: Messages::new(ours),
            out: Vec::with_capacity(BUFFER),
        })
    }

    /// Makes `calls` calls, a multiple of half a window.
    fn calls(&mut self, calls: usize) -> Result<(), BoxError> {
        let mut received = 0;
        for first in (0..calls).step_by(HALF) {
            self.out.clear();
            for number in first..first + HALF {
                push_prefix(SMALL, &mut self.out);
                self.out.extend_from_slice(&payload(number));
            }
            self.messages.socket.write_all(&self.out)?;
            self.receive_until(&mut received, first)?;
        }
        self.receive_until(&mut received, calls)
    }

    fn receive_until(&mut self, received: &mut usize, wanted: usize) -> Result<(), BoxError> {
        while *received < wanted {
            self.messages.receive(|message| {
                check(message, *received)?;
                *received += 1;
                Ok(())
            })?;
        }
        Ok(())
    }
}

fn push_prefix(len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(len as u32).to_be_bytes());
}

/// Messages with a length in front, from a socket, through a buffer.
struct Messages {
    socket: Socket,
    buffer: Vec<u8>,
    held: usize,
}

impl Messages {
    fn new(socket: Socket) -> Self {
        Self {
            socket,
            buffer: vec![0; BUFFER],
            held: 0,
        }
    }

    /// Reads once, and hands over every message that is whole then.
    fn receive(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        let count = self.socket.read(&mut self.buffer[self.held..])?;
        if count == 0 {
            return Err("the other end is gone".into());
        }
        let mut rest = &self.buffer[..self.held + count];
        while let Some((prefix, after)) = rest.split_first_chunk::<PREFIX>() {
            let len = u32::from_be_bytes(*prefix) as usize;
            let Some((message, after)) = after.split_at_checked(len) else {
                break;
            };
            take(message)?;
            rest = after;
        }
        let start = self.held + count - rest.len();
        self.held = rest.len();
        self.buffer.copy_within(start..start + self.held, 0);
        Ok(())
    }
}
