//! Everything at once for as long as one likes: all kinds of links with odd pieces, interruptions
//! and descriptors that do not block, faults and ends of all kinds, cancelling, timeouts,
//! connecting on demand, nested calls, handlers on the receiver and answers given later.
//!
//! `PACKETSTREAM_SOAK_SECONDS=1800 cargo test --release --test soak -- --ignored --nocapture`
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod common;
#[path = "common/ledger.rs"]
mod ledger;
#[path = "common/lives.rs"]
mod lives;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/narrow.rs"]
mod narrow;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "common/sizes.rs"]
mod sizes;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use common::watched_for;
use fastrand::Rng;
use ledger::Counts;
use lives::reconnecting_lives::play_reconnecting;
use lives::{Ended, Over, Plan, play};
use pairs::start;
use sizes::number_of;

const LANES: usize = 6;

/// How many lives pass before the books of one are looked at again.
const AFTERLIFE: usize = 20;

/// Far more than any life takes.
const PATIENCE_OF_A_LIFE: Duration = Duration::from_secs(180);

#[derive(Debug, Default)]
struct Tally {
    lives: u64,
    counts: Counts,
    mismatches: u64,
}

impl Tally {
    fn enter(&mut self, life: &Ended) {
        match life.audit() {
            Ok(counts) => self.counts += counts,
            Err(complaints) => {
                self.mismatches += 1;
                eprintln!("{complaints}");
            }
        }
    }
}

fn any_life(rng: &mut Rng) -> Ended {
    let seed = rng.u64(..);
    // Mostly short ones, which have more ends; a long one has more load.
    let (callers, requests) = match rng.u8(..8) {
        0 => (8, 400),
        1 | 2 => (4, 60),
        _ => (2, 8),
    };
    let over = match rng.u8(..11) {
        0 | 1 => Over::Memory,
        2 | 3 => Over::Sockets,
        4 => Over::NonblockingSockets,
        5 | 6 => Over::Pipes,
        7 | 8 => Over::Torn,
        _ => {
            return watched_for(PATIENCE_OF_A_LIFE, move || {
                play_reconnecting(seed, callers, requests)
            });
        }
    };
    let plan = Plan {
        over,
        callers,
        requests,
    };
    watched_for(PATIENCE_OF_A_LIFE, move || play(seed, plan))
}

fn lives_until(deadline: Instant, mut rng: Rng) -> Tally {
    let mut tally = Tally::default();
    let mut ended = VecDeque::new();
    while Instant::now() < deadline {
        ended.push_back(any_life(&mut rng));
        tally.lives += 1;
        if ended.len() > AFTERLIFE
            && let Some(life) = ended.pop_front()
        {
            tally.enter(&life);
        }
    }
    for life in ended {
        tally.enter(&life);
    }
    tally
}

#[test]
#[ignore = "runs for PACKETSTREAM_SOAK_SECONDS"]
fn mixed_faults_and_loads_leave_no_mismatch() {
    let seconds = number_of("PACKETSTREAM_SOAK_SECONDS").unwrap_or(60);
    let seed = sizes::seed();
    eprintln!("{seconds} seconds with PACKETSTREAM_TEST_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let lanes: Vec<_> = (0..LANES)
        .map(|_| {
            let rng = rng.fork();
            start(move || lives_until(deadline, rng))
        })
        .collect();
    let mut all = Tally::default();
    for lane in lanes {
        // One that has hung or panicked is a mismatch; the others still count.
        match lane.join() {
            Ok(tally) => {
                all.lives += tally.lives;
                all.counts += tally.counts;
                all.mismatches += tally.mismatches;
            }
            Err(_) => all.mismatches += 1,
        }
    }
    let Tally {
        lives,
        counts,
        mismatches,
    } = &all;
    println!("{seconds} s, {lives} lives, {mismatches} mismatches, {counts:?}");
    assert_eq!(*mismatches, 0);
}
