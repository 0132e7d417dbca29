//! Two streams in memory, between which a network moves the octets as a seed says: in what pieces,
//! in what order between the directions, and up to what fault.

use std::collections::VecDeque;
use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use packetstream::Transport;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::plan::{Direction, Fault, Plan};

/// How long the network holds a direction back at most, for the other one to come first.
const HOLD: Duration = Duration::from_millis(1);

/// Makes the transports of two ends, and the thread that joins them.
pub fn network(plan: &Plan) -> (Transport, Transport, JoinHandle<()>) {
    let wires = Arc::new(Wires {
        state: Mutex::new([Wire::default(), Wire::default()]),
        changed: Condvar::new(),
        directions: plan.directions,
    });
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut end = |number: usize| {
        let reader = Reader(End::new(&wires, 1 - number, random.u64(..)));
        let writer = Writer(End::new(&wires, number, random.u64(..)));
        let shut = Arc::clone(&wires);
        let buffer = [1, 16, 8192][random.usize(0..3)];
        Transport::new(BufReader::with_capacity(buffer, reader), writer).with_shutdown(move || {
            let mut state = shut.state.lock();
            state[number].writer_gone = true;
            state[1 - number].reader_gone = true;
            shut.changed.notify_all();
        })
    };
    let (ours, theirs) = (end(0), end(1));
    let seed = random.u64(..);
    let thread = thread::Builder::new()
        .name("network".into())
        .spawn(move || wires.run(fastrand::Rng::with_seed(seed)))
        .unwrap();
    (ours, theirs, thread)
}

/// One direction on its way.
#[derive(Default)]
struct Wire {
    sent: VecDeque<u8>,
    arrived: VecDeque<u8>,
    /// How many octets have been written, and moved.
    written: u64,
    moved: u64,
    writer_gone: bool,
    reader_gone: bool,
    /// Nothing more arrives.
    has_ended: bool,
}

struct Wires {
    /// The one that end 0 writes, then the one that end 1 writes.
    state: Mutex<[Wire; 2]>,
    changed: Condvar,
    directions: [Direction; 2],
}

impl Wires {
    fn run(&self, mut random: fastrand::Rng) {
        let mut state = self.state.lock();
        loop {
            let ready = [0, 1].map(|number| self.is_ready(&state[number], number));
            if state.iter().all(|wire| wire.has_ended || wire.reader_gone) {
                return;
            }
            let chosen = random.usize(0..2);
            if ready == [false; 2] {
                self.changed.wait(&mut state);
                continue;
            }
            // One that has nothing to move is waited for now and then: perhaps it comes first
            // after all.
            let is_held = !ready[chosen] && random.u8(0..16) == 0;
            if is_held && self.waits_for(&mut state, chosen) {
                continue;
            }
            let number = if ready[chosen] { chosen } else { 1 - chosen };
            // While that one was waited for, the other end may have gone.
            if self.is_ready(&state[number], number) {
                self.step(&mut state, number, &mut random);
            }
            self.changed.notify_all();
            // Others may run between two steps.
            MutexGuard::bump(&mut state);
        }
    }

    fn waits_for(&self, state: &mut MutexGuard<'_, [Wire; 2]>, number: usize) -> bool {
        !self.changed.wait_for(state, HOLD).timed_out() && self.is_ready(&state[number], number)
    }

    /// Whether the network can do something for a direction.
    fn is_ready(&self, wire: &Wire, number: usize) -> bool {
        let direction = &self.directions[number];
        if wire.has_ended || wire.reader_gone {
            return false;
        }
        let is_at_fault = wire.moved >= direction.fault_at;
        match direction.fault {
            Fault::End | Fault::ReadError if is_at_fault => true,
            Fault::Stall if is_at_fault && wire.writer_gone => true,
            Fault::Stall if is_at_fault => false,
            _ if wire.sent.is_empty() => wire.writer_gone,
            _ => wire.arrived.len() < direction.capacity,
        }
    }

    fn step(&self, state: &mut [Wire; 2], number: usize, random: &mut fastrand::Rng) {
        let direction = &self.directions[number];
        let wire = &mut state[number];
        let left = direction.fault_at.saturating_sub(wire.moved);
        let stops = !matches!(
            direction.fault,
            Fault::None | Fault::Garbage | Fault::WriteError
        );
        if stops && left == 0 || wire.sent.is_empty() {
            wire.has_ended = true;
            return;
        }
        let most = direction
            .piece
            .min(wire.sent.len())
            .min(direction.capacity - wire.arrived.len())
            .min(if stops { left as usize } else { usize::MAX });
        let amount = random.usize(1..=most);
        for octet in wire.sent.drain(..amount) {
            let is_bad = direction.fault == Fault::Garbage && wire.moved == direction.fault_at;
            wire.arrived
                .push_back(if is_bad { octet ^ 0x41 } else { octet });
            wire.moved += 1;
        }
    }
}

/// One end's place at a direction.
struct End {
    wires: Arc<Wires>,
    number: usize,
    random: fastrand::Rng,
}

impl End {
    fn new(wires: &Arc<Wires>, number: usize, seed: u64) -> Self {
        Self {
            wires: Arc::clone(wires),
            number,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    fn direction(&self) -> Direction {
        self.wires.directions[self.number]
    }

    /// How much this call moves, unless it is interrupted.
    fn piece(&mut self, len: usize) -> io::Result<usize> {
        let direction = self.direction();
        if self.random.u32(0..direction.interrupted) == 0 && direction.interrupted != u32::MAX {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(self.random.usize(1..=direction.piece.min(len).max(1)))
    }
}

struct Reader(End);

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.0.piece(buffer.len())?;
        let direction = self.0.direction();
        let wires = &self.0.wires;
        let mut state = wires.state.lock();
        loop {
            let wire = &mut state[self.0.number];
            if wire.reader_gone {
                return Ok(0);
            }
            if !wire.arrived.is_empty() {
                let amount = piece.min(buffer.len()).min(wire.arrived.len());
                for (place, octet) in buffer.iter_mut().zip(wire.arrived.drain(..amount)) {
                    *place = octet;
                }
                wires.changed.notify_all();
                return Ok(amount);
            }
            if wire.has_ended {
                let is_at_fault = wire.moved >= direction.fault_at;
                return if direction.fault == Fault::ReadError && is_at_fault {
                    Err(io::ErrorKind::ConnectionReset.into())
                } else {
                    Ok(0)
                };
            }
            wires.changed.wait(&mut state);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.wires.state.lock()[self.0.number].reader_gone = true;
        self.0.wires.changed.notify_all();
    }
}

struct Writer(End);

impl Write for Writer {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let piece = self.0.piece(octets.len())?;
        let direction = self.0.direction();
        let wires = &self.0.wires;
        let mut state = wires.state.lock();
        loop {
            let wire = &mut state[self.0.number];
            let left = match direction.fault {
                Fault::WriteError => direction.fault_at.saturating_sub(wire.written),
                _ => u64::MAX,
            };
            if wire.reader_gone || wire.writer_gone || wire.has_ended || left == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let room = direction.capacity.saturating_sub(wire.sent.len());
            let amount = piece.min(octets.len()).min(room).min(left as usize);
            if amount > 0 || octets.is_empty() {
                wire.sent.extend(&octets[..amount]);
                wire.written += amount as u64;
                wires.changed.notify_all();
                return Ok(amount);
            }
            wires.changed.wait(&mut state);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.wires.state.lock()[self.0.number].writer_gone = true;
        self.0.wires.changed.notify_all();
    }
}
