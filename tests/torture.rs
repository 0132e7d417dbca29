//! Worlds of chance: two ends over any link, in one process or two, that ask each other in every
//! way there is, until one is closed, aborted, dropped, cut off, stalled, stopped or killed.
//!
//! In each of them the books are true: what was told as not sent or not run has not run, nothing
//! runs twice or reaches somebody else, everything that was accepted before an orderly end is
//! answered, and every wait ends. After them no thread, no descriptor and no child is left.
//!
//! A failure prints the seed of its world, which `PACKETSTREAM_TEST_SEED` plays again and again,
//! `PACKETSTREAM_TEST_ROUNDS` times. For half an hour of it:
//! `PACKETSTREAM_SOAK_SECONDS=1800 cargo test --release --test torture -- --ignored --nocapture`
#![cfg(target_os = "linux")]
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

use std::thread;
use std::time::{Duration, Instant};

use common::watched_for;
use fastrand::Rng;
use ledger::Counts;
use lives::process_lives::{play_part, play_with_child, roles::role};
use lives::reconnecting_lives::play_reconnecting;
use lives::{Ended, Over, Plan, play};
use measure::{Census, assert_back_to};
use pairs::start;
use sizes::{Size, number_of, size};

/// How many worlds go on at once: most of the time each waits for something.
const LANES: usize = 4;

/// How long worlds are played before it is counted what they have left.
const ROUND: Duration = Duration::from_secs(2);

/// Far more than any world takes.
const PATIENCE_OF_A_WORLD: Duration = Duration::from_secs(120);

/// Plays the world of this seed, with children that run the named test.
fn world(seed: u64, test: &'static str) -> Ended {
    struct Told(u64);
    impl Drop for Told {
        fn drop(&mut self) {
            if thread::panicking() {
                println!("failed: PACKETSTREAM_TEST_SEED={}", self.0);
            }
        }
    }
    let _told = Told(seed);
    watched_for(PATIENCE_OF_A_WORLD, move || {
        // The world draws the same numbers again, which does no harm.
        let mut rng = Rng::with_seed(!seed);
        let (callers, requests) = match rng.u8(..8) {
            0 => (6, 60),
            1 | 2 => (4, 20),
            _ => (2, 8),
        };
        let overs = [
            Over::Memory,
            Over::Torn,
            Over::Sockets,
            Over::NonblockingSockets,
            Over::SmallSockets,
            Over::Tcp,
            Over::Pipes,
            Over::Relayed,
            Over::Relayed,
        ];
        match rng.usize(..16) {
            0..5 => play_with_child(seed, test),
            5 | 6 => play_reconnecting(seed, callers, requests),
            _ => {
                let over = overs[rng.usize(..overs.len())];
                let plan = Plan {
                    over,
                    callers,
                    requests,
                };
                play(seed, plan)
            }
        }
    })
}

/// Plays worlds until the deadline, and looks at their books when all have ended.
fn lane(deadline: Instant, mut rng: Rng, test: &'static str) -> (u64, Counts) {
    let mut ended = Vec::new();
    while Instant::now() < deadline {
        ended.push(world(rng.u64(..), test));
    }
    let mut counts = Counts::default();
    for world in &ended {
        counts += checked(world);
    }
    (ended.len() as u64, counts)
}

fn checked(world: &Ended) -> Counts {
    world
        .audit()
        .unwrap_or_else(|complaints| panic!("{complaints}"))
}

fn torture(seconds: u64, test: &'static str) {
    let start_of_all = Census::take();
    if let Some(seed) = number_of("PACKETSTREAM_TEST_SEED") {
        for _ in 0..number_of("PACKETSTREAM_TEST_ROUNDS").unwrap_or(100) {
            checked(&world(seed, test));
        }
        return assert_back_to(start_of_all, "the world");
    }
    let seed = fastrand::u64(..);
    let mut rng = Rng::with_seed(seed);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let (mut worlds, mut counts) = (0, Counts::default());
    while Instant::now() < deadline {
        let round = deadline.min(Instant::now() + ROUND);
        let lanes = [(); LANES].map(|()| {
            let rng = rng.fork();
            start(move || lane(round, rng, test))
        });
        for lane in lanes {
            let (played, counted) = lane.join().unwrap();
            worlds += played;
            counts += counted;
        }
        assert_back_to(start_of_all, "a round of worlds");
    }
    println!("{seconds} s, {worlds} worlds, {counts:?}");
}

#[test]
fn books_are_true_and_nothing_is_left_in_worlds_of_chance() {
    if let Some(role) = role() {
        return play_part(&role);
    }
    let seconds = if size() == Size::Small { 2 } else { 10 };
    torture(
        seconds,
        "books_are_true_and_nothing_is_left_in_worlds_of_chance",
    );
}

#[test]
#[ignore = "runs for PACKETSTREAM_SOAK_SECONDS"]
fn books_stay_true_and_nothing_is_left_for_long() {
    let seconds = number_of("PACKETSTREAM_SOAK_SECONDS").unwrap_or(60);
    torture(
        seconds,
        "books_are_true_and_nothing_is_left_in_worlds_of_chance",
    );
}
