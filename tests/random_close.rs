//! Connections that end at any moment, in any way, at either end, while both ends ask: what the
//! handlers did is compared with what the callers were told.
//!
//! Nothing that ran is lost in an orderly end, nothing ever runs twice or reaches somebody else,
//! and a request that failed as not sent or not run did not run.
//!
//! A failure prints the seed of its life. `PACKETSTREAM_TEST_SEED` plays that life alone, again
//! and again, since the same seed gives the same plan and not the same interleaving of threads;
//! `PACKETSTREAM_TEST_ROUNDS` says how often.
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
use std::thread;

use common::watched;
use ledger::Counts;
use lives::{Ended, Over, Plan, play};
use pairs::start;
use sizes::{Size, number_of, size};

/// How many lives pass before the books of one are looked at again, for what a handler did after
/// its connection had ended.
const AFTERLIFE: usize = 50;

/// How many lives go on at once: most of the time each waits for something.
const LANES: usize = 3;

fn lives(over: Over, usual: u64) {
    let rounds = number_of("PACKETSTREAM_TEST_ROUNDS");
    let rounds = rounds.unwrap_or(match size() {
        Size::Small => usual / 10,
        Size::Usual => usual,
        Size::Large => 10 * usual,
    });
    let given = number_of("PACKETSTREAM_TEST_SEED");
    let first = fastrand::u64(..);
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            start(move || {
                let seeds = (0..rounds)
                    .skip(lane)
                    .step_by(LANES)
                    .map(|round| given.unwrap_or(first.wrapping_add(round)));
                lives_in_turn(over, seeds)
            })
        })
        .collect();
    let mut counts = Counts::default();
    for lane in lanes {
        counts += lane.join().unwrap();
    }
    println!("{over:?}: {rounds} lives, {counts:?}");
    // Each kind of fate has been met, or these lives prove little.
    if given.is_none() && rounds >= 500 {
        let Counts {
            answered,
            not_sent,
            not_run,
            unknown,
            given_up,
            forgotten,
            ..
        } = counts;
        let fates = [answered, not_sent, not_run, unknown, given_up, forgotten];
        assert!(fates.iter().all(|fate| *fate > 0), "{counts:?}");
    }
}

fn lives_in_turn(over: Over, seeds: impl Iterator<Item = u64>) -> Counts {
    let plan = Plan {
        over,
        callers: 2,
        requests: 6,
    };
    let mut counts = Counts::default();
    let mut ended = VecDeque::new();
    for seed in seeds {
        let life = watched_life(seed, plan);
        checked(&life);
        ended.push_back(life);
        if ended.len() > AFTERLIFE
            && let Some(life) = ended.pop_front()
        {
            counts += checked(&life);
        }
    }
    for life in ended {
        counts += checked(&life);
    }
    counts
}

fn checked(life: &Ended) -> Counts {
    life.audit()
        .unwrap_or_else(|complaints| panic!("{complaints}"))
}

/// Where it hangs, the watchdog names the threads and this the life.
fn watched_life(seed: u64, plan: Plan) -> Ended {
    struct Told(u64);
    impl Drop for Told {
        fn drop(&mut self) {
            if thread::panicking() {
                println!("failed: PACKETSTREAM_TEST_SEED={}", self.0);
            }
        }
    }
    let _told = Told(seed);
    watched(move || play(seed, plan))
}

#[test]
fn every_failure_is_classed_truly_and_nothing_is_lost_or_doubled_in_memory() {
    lives(Over::Memory, 3000);
}

#[test]
fn every_failure_is_classed_truly_and_nothing_is_lost_or_doubled_over_torn_streams() {
    lives(Over::Torn, 3000);
}

#[test]
fn every_failure_is_classed_truly_and_nothing_is_lost_or_doubled_over_sockets() {
    lives(Over::Sockets, 3000);
}

#[test]
fn every_failure_is_classed_truly_and_nothing_is_lost_or_doubled_over_pipes() {
    lives(Over::Pipes, 1000);
}
