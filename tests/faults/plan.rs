//! What goes wrong in one run, as a function of some octets.

use std::time::Duration;

/// What happens to a direction when that many octets have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The reader finds the end of input; writes fail.
    End,
    /// Reads and writes fail.
    ReadError,
    /// Writes fail; the reader waits.
    WriteError,
    /// Nothing more passes, in silence.
    Stall,
    /// One octet is changed.
    Garbage,
}

/// How one direction behaves.
#[derive(Clone, Copy, Debug)]
pub struct Direction {
    /// How much waits between the writer and the network, and between that and the reader.
    pub capacity: usize,
    /// The most that a read, a write, or a step of the network moves.
    pub piece: usize,
    /// One in so many reads and writes is interrupted.
    pub interrupted: u32,
    pub fault: Fault,
    pub fault_at: u64,
}

/// How one end is configured, and what it does.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    pub handler_threads: usize,
    pub is_inline: bool,
    pub flush_grace: Duration,
    pub max_outstanding: usize,
    pub clients: usize,
    pub requests: usize,
    pub largest: usize,
}

/// Everything about a run but the order in which the system runs its threads.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub directions: [Direction; 2],
    pub ends: [Behaviour; 2],
}

/// Octets that are asked for one after the other; zeros follow the last.
struct Octets<'a>(&'a [u8]);

impl Octets<'_> {
    fn next(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        usize::from(*first)
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.next() % choices.len()]
    }
}

impl Plan {
    /// How many octets say everything.
    pub const OCTETS: usize = 40;

    pub fn from_seed(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut octets = [0; Self::OCTETS];
        random.fill(&mut octets);
        Self::from_octets(&octets)
    }

    pub fn from_octets(octets: &[u8]) -> Self {
        let mut octets = Octets(octets);
        let seed = (0..8).fold(0, |seed, _| seed << 8 | octets.next() as u64);
        // A stalled stream costs the time that the close lingers: few of them.
        let faults = [
            Fault::None,
            Fault::None,
            Fault::None,
            Fault::End,
            Fault::End,
            Fault::ReadError,
            Fault::WriteError,
            Fault::Garbage,
        ];
        let mut direction = || {
            let fault = match octets.next() {
                0..=7 => Fault::Stall,
                other => faults[other % faults.len()],
            };
            Direction {
                capacity: octets.pick(&[1, 16, 256, 4096, 65_536]),
                piece: octets.pick(&[1, 2, 7, 64, 1024, 65_536]),
                interrupted: octets.pick(&[2, 5, 50, u32::MAX]),
                fault,
                fault_at: (octets.next() as u64) << octets.pick(&[0, 2, 5, 9]),
            }
        };
        let directions = [direction(), direction()];
        // A stream that moves single octets is not for large payloads.
        let is_slow = directions.iter().any(|d| d.piece.min(d.capacity) < 64);
        let mut behaviour = || {
            let requests = 1 + octets.next() % 16;
            let largest = octets.pick(&[0, 20, 300, 5_000, 100_000]);
            Behaviour {
                handler_threads: 1 + octets.next() % 3,
                is_inline: octets.next() % 8 == 7,
                flush_grace: octets.pick(&[Duration::ZERO, Duration::from_millis(10)]),
                max_outstanding: octets.pick(&[1, 2, 5, 1000]),
                clients: octets.next() % 4,
                requests,
                largest: if is_slow { largest.min(300) } else { largest },
            }
        };
        Self {
            seed,
            ends: [behaviour(), behaviour()],
            directions,
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.directions
            .iter()
            .any(|direction| direction.fault == fault)
    }

    /// Nothing goes wrong that is not to be repaired.
    pub fn is_harmless(&self) -> bool {
        self.directions
            .iter()
            .all(|direction| direction.fault == Fault::None)
    }

    /// Some wait would last for ever.
    pub fn stalls(&self) -> bool {
        self.has(Fault::Stall)
    }

    /// What arrives may not be what was sent.
    pub fn lies(&self) -> bool {
        self.has(Fault::Garbage)
    }
}
