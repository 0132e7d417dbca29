//! Blocks of 64 KiB in one direction, of which 32 are under way.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::thread::Builder;

use packetstream::{BoxError, Connection, PendingResponse, Request};

use crate::ends::{Ends, Socket, sockets};
use crate::measure::side_by_side;
use crate::options::Options;
use crate::results::{Comparison, Work};

pub(crate) const BLOCK: usize = 64 * 1024;
const WINDOW: usize = 32;
const STAMP: usize = 8;

/// The crate's requests have empty answers; the floor answers each block with one octet.
pub(crate) fn stream(options: &Options) -> Result<Comparison, BoxError> {
    let blocks = options.calls(4_000);
    let floor = Floor::start()?;
    let server = Connection::builder().handler(|incoming| check(incoming.payload()));
    let ends = Ends::open_with(Connection::builder(), server)?;
    let [floor, ours] = side_by_side(
        options.rounds(),
        blocks,
        [&mut || floor.send(blocks), &mut || {
            send(&ends.client, blocks)
        }],
    )?;
    ends.close()?;
    Ok(Comparison::new(Work::Stream, floor, ours))
}

/// A connection takes its payloads over, so every block is a new one; the floor may send the same
/// memory again and again. That is a cost of the interface, and is meant to be seen.
fn send(client: &Connection, blocks: usize) -> Result<(), BoxError> {
    let block = vec![7; BLOCK];
    let mut under_way: VecDeque<PendingResponse> = VecDeque::with_capacity(WINDOW);
    for number in 0..blocks {
        if under_way.len() == WINDOW {
            under_way
                .pop_front()
                .map(PendingResponse::wait)
                .transpose()?;
        }
        let mut payload = block.clone();
        stamp(&mut payload, number);
        under_way.push_back(client.submit(Request::new(0).with_payload(payload))?);
    }
    for pending in under_way {
        pending.wait()?;
    }
    Ok(())
}

/// Writes the number at both ends of a block.
fn stamp(block: &mut [u8], number: usize) {
    let number = (number as u64).to_be_bytes();
    block[..STAMP].copy_from_slice(&number);
    block[BLOCK - STAMP..].copy_from_slice(&number);
}

/// Checks that a block is whole, by its ends.
fn check(block: &[u8]) -> Result<(), BoxError> {
    let is_whole = block.len() == BLOCK && block[..STAMP] == block[BLOCK - STAMP..];
    is_whole.then_some(()).ok_or_else(|| "a wrong block".into())
}

struct Floor {
    socket: Socket,
}

impl Floor {
    /// Starts the reader, which ends when this is dropped.
    fn start() -> io::Result<Self> {
        let (socket, mut there) = sockets()?;
        Builder::new().name("floor".to_owned()).spawn(move || {
            let mut block = vec![0; BLOCK];
            while there.read_exact(&mut block).is_ok() && check(&block).is_ok() {
                if there.write_all(&[1]).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { socket })
    }

    fn send(&self, blocks: usize) -> Result<(), BoxError> {
        let mut socket = &self.socket;
        let mut block = vec![7; BLOCK];
        let mut under_way = 0;
        for number in 0..blocks {
            if under_way == WINDOW {
                under_way -= self.answers()?;
            }
            stamp(&mut block, number);
            socket.write_all(&block)?;
            under_way += 1;
        }
        while under_way > 0 {
            under_way -= self.answers()?;
        }
        Ok(())
    }

    /// Waits for answers, and returns how many came.
    fn answers(&self) -> Result<usize, BoxError> {
        match (&self.socket).read(&mut [0; WINDOW])? {
            0 => Err("the reader is gone".into()),
            count => Ok(count),
        }
    }
}
