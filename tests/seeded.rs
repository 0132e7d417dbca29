//! Whole connections over streams that split, merge, delay, interrupt and break what they carry,
//! as a seed says: nobody waits for ever, nothing is lost, doubled or misdelivered, and every
//! failure says truly whether the request may have run.
//!
//! A failing seed is printed; `PACKETSTREAM_SEED=<seed>` runs that one alone, a hundred times, since
//! the order in which the system runs the threads is not the seed's. `PACKETSTREAM_TEST_SIZE=large`
//! tries many more.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a failed expectation of a helper fails its test"
)]

mod common;
mod faults;
#[path = "common/sizes.rs"]
mod sizes;

use faults::plan::Plan;
use faults::traffic::{self, Totals};
use sizes::Size;

const SEEDS: u64 = 400;
const SEEDS_LARGE: u64 = 100_000;

/// Names the seed of a run that panics, wherever it does.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the failing seed is {0}: PACKETSTREAM_SEED={0} cargo test --test seeded\n{1:#?}",
                self.0,
                Plan::from_seed(self.0)
            );
        }
    }
}

fn run(seed: u64) -> Totals {
    let _named = Named(seed);
    let plan = Plan::from_seed(seed);
    common::watched(move || traffic::run(&plan))
}

#[test]
fn every_request_is_settled_once_and_truly_whatever_the_streams_do() {
    let seeds: Vec<u64> = match std::env::var("PACKETSTREAM_SEED") {
        Ok(seed) => vec![seed.parse().unwrap(); 100],
        Err(_) => match sizes::size() {
            Size::Small => (0..SEEDS / 10).collect(),
            Size::Usual => (0..SEEDS).collect(),
            Size::Large => (0..SEEDS_LARGE).collect(),
        },
    };
    let mut totals = Totals::default();
    for &seed in &seeds {
        let Totals { requests, answered } = run(seed);
        totals.requests += requests;
        totals.answered += answered;
    }
    let runs = seeds.len();
    eprintln!("{runs} runs: {totals:?}");
    // Faults come at some time; most of it is to work until then.
    assert!(
        runs < 100 || totals.answered * 4 > totals.requests,
        "{totals:?}"
    );
}
