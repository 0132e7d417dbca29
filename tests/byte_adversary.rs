//! A peer at the level of bytes, which says everything that nobody should say, at every place: the
//! session never hangs and nothing panics, every request is told what is true, everything that was
//! accepted is answered, and no more memory is used than the limits say.
//!
//! One test in a binary of its own, because it counts what the whole process allocates.
//! `PACKETSTREAM_TEST_SIZE=large` plays every session in every manner.
#![cfg(unix)]
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    reason = "helpers of tests fail the test and tell what they measured"
)]

mod common;
#[path = "byte_adversary/floods.rs"]
mod floods;
#[path = "common/heap.rs"]
mod heap;
#[path = "byte_adversary/heard.rs"]
mod heard;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "fuzzing/sent.rs"]
mod sent;
#[path = "byte_adversary/session.rs"]
mod session;
#[path = "common/sizes.rs"]
mod sizes;
#[path = "byte_adversary/stream.rs"]
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use common::{watched, watched_for};
use heap::run_in_sequence;
use pairs::start;
use session::{Ending, Manner, play};
use sizes::{Size, is_large, size};
use stream::{Role, Stream};

/// How many sessions go on at once: each waits for the other side most of the time.
const LANES: usize = 6;

/// Panics, on whatever thread: one of a connection's would only be logged.
static PANICS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn connections_hold_their_own_against_a_peer_that_says_anything() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Relaxed);
        before(info);
    }));
    watched_for(Duration::from_secs(1800), || {
        run_in_sequence(&[
            ("cut anywhere", || all(stream::cut_anywhere)),
            ("paused anywhere", || all(stream::paused_anywhere)),
            ("changed bytes", || all(stream::changed_bytes)),
            ("changed packets", || all(stream::changed_packets)),
            ("strange packets", || all(stream::strange_packets)),
            ("answers to nobody", floods::answers_to_nobody),
            ("ends of requests", floods::ends_of_requests),
            ("callbacks, unread", floods::requests_that_call_back_unread),
            (
                "long answers, unread",
                floods::requests_for_long_answers_unread,
            ),
            ("refusals, unread", floods::requests_that_are_refused_unread),
            ("own requests, unread", floods::own_requests_unread),
            ("claims", floods::claims_without_bytes),
            ("sipped", floods::answers_are_sipped_under_a_flood),
        ]);
    });
}

/// Plays sessions in all roles: each stream in one manner, or in all; or one stream of ten.
fn all(streams: fn(Role) -> Vec<Stream>) {
    let every = if size() == Size::Small { 10 } else { 1 };
    let mut sessions = Vec::new();
    // Another sample, and other manners, each time.
    let first = fastrand::usize(..every);
    let shift = fastrand::usize(..30);
    for role in Role::ALL {
        for (number, stream) in streams(role)
            .into_iter()
            .enumerate()
            .skip(first)
            .step_by(every)
        {
            let manner = |number: usize| Manner {
                role,
                ending: Ending::ALL[[0, 0, 0, 1, 2, 3][number % 6]],
                is_eager: number.is_multiple_of(5),
                is_dribbling: number.is_multiple_of(7),
                is_piped: number.is_multiple_of(4),
            };
            // No period in common with those of the places.
            let mixed = (number + shift).wrapping_mul(0x9e37_79b9) >> 8;
            let manners = if is_large() { 0..60 } else { mixed..mixed + 1 };
            sessions.extend(manners.map(|number| (stream.clone(), manner(number))));
        }
    }
    let count = sessions.len();
    let sessions = Arc::new((sessions, AtomicUsize::new(0)));
    let lanes = [(); LANES].map(|()| {
        let sessions = Arc::clone(&sessions);
        start(move || {
            while let Some((stream, manner)) = sessions.0.get(sessions.1.fetch_add(1, Relaxed)) {
                named(stream.clone(), *manner);
            }
        })
    });
    let failed = lanes.map(|lane| lane.join().is_err());
    eprintln!("    {count} sessions");
    assert_eq!(failed, [false; LANES]);
    assert_eq!(PANICS.load(Relaxed), 0);
}

/// Plays a session under the watchdog, and names it if it fails.
fn named(stream: Stream, manner: Manner) {
    struct Told(String);
    impl Drop for Told {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed: {}", self.0);
            }
        }
    }
    let _told = Told(format!(
        "{manner:?}, {}: {:02x?}",
        stream.what, stream.bytes
    ));
    watched(move || play(&stream, manner));
}
