//! The fuzz targets on inputs from fixed seeds: the recorded vectors and sessions with some damage.
//!
//! In release, a million inputs for the codec and ten thousand live connections; less without
//! optimization. The state machine has its million beside itself, in the unit tests.
//! `PACKETSTREAM_TEST_SIZE=large` takes ten times as many.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a failed expectation of a helper fails its test"
)]

mod common;
mod faults;
mod fuzzing;
#[path = "common/sizes.rs"]
mod sizes;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use faults::plan::Plan;
use fuzzing::{codec, inputs, payloads, script};
use sizes::Size;

/// The whole run, also on a loaded machine; each connection has its own limits.
const PATIENCE: Duration = Duration::from_secs(1800);

fn size(debug: u64, release: u64) -> u64 {
    let size = if cfg!(debug_assertions) {
        debug
    } else {
        release
    };
    match sizes::size() {
        Size::Small => size.div_ceil(10),
        Size::Usual => size,
        Size::Large => 10 * size,
    }
}

/// Names the input of a run that panics, wherever it does.
struct Named<'a>(u64, &'a [u8]);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the failing input has seed {}: {:02x?}", self.0, self.1);
        }
    }
}

fn run(count: u64, check: impl Fn(&[u8]) + Send + 'static) {
    common::watched_for(PATIENCE, move || {
        let recorded = inputs::recorded();
        for seed in 0..count {
            let input = inputs::mutated(&mut fastrand::Rng::with_seed(seed), &recorded);
            let _named = Named(seed, &input);
            check(&input);
        }
    });
}

#[test]
fn codec_reads_the_same_however_octets_come_and_writes_what_it_reads() {
    run(size(10_000, 1_000_000), codec::check);
}

#[test]
fn payload_codecs_decode_what_they_encode() {
    run(size(5_000, 500_000), payloads::check);
}

#[test]
fn live_connection_ends_in_order_whatever_it_hears() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    // A panic on a thread of the connection would only be logged.
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        before(info);
    }));
    run(size(200, 10_000), |input| {
        // The recorded octets say nothing of how the connection behaves.
        let behaviour = input.iter().fold(input.len() as u8, |sum, octet| {
            sum.wrapping_mul(31).wrapping_add(*octet)
        });
        script::check(&[&[behaviour], input].concat());
        assert_eq!(PANICS.load(Ordering::Relaxed), 0);
    });
}

/// What the fuzz target makes of short or odd inputs is a plan, too.
#[test]
fn any_octets_are_a_plan() {
    for len in 0..2 * Plan::OCTETS {
        Plan::from_octets(&vec![0xff; len]);
    }
}
