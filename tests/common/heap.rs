//! What this process has allocated. For tests that are alone in their binary.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "test helpers; each test binary uses a part of them, and tells what it measured"
)]

use std::panic;
use std::time::Duration;

use peak_alloc::PeakAlloc;

use super::measure::{pause, until};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * 1024;

/// What one request or answer may cost beside its payload.
pub const PER_REQUEST: usize = 300;

/// What the test's tools may leave: channels, the names of threads, thread locals.
pub const DUST: usize = 64 * KIB;

/// What is allocated now.
pub fn allocated() -> usize {
    HEAP.current_usage()
}

/// Waits until nothing is allocated or freed any more, and returns what is allocated.
pub fn quiet() -> usize {
    let mut last = allocated();
    loop {
        pause(Duration::from_millis(30));
        let now = allocated();
        if now == last {
            return now;
        }
        last = now;
    }
}

/// Growth since it was made.
///
/// This allocator moves a block that grows, and counts both places for a moment. So the most that
/// was allocated may be a block more than with an allocator that extends it where it is.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    start: usize,
}

impl Growth {
    pub fn start() -> Self {
        let start = quiet();
        HEAP.reset_peak_usage();
        Self { start }
    }

    /// What is allocated more than at the start.
    pub fn now(self) -> usize {
        allocated().saturating_sub(self.start)
    }

    /// The same once nothing moves any more.
    pub fn settled(self) -> usize {
        quiet().saturating_sub(self.start)
    }

    /// The most that was allocated since the start.
    pub fn most(self) -> usize {
        HEAP.peak_usage().saturating_sub(self.start)
    }

    #[track_caller]
    pub fn assert_at_most(self, bound: usize, what: &str) {
        let most = self.most();
        eprintln!("    {what}: at most {} KiB of {}", most / KIB, bound / KIB);
        assert!(most <= bound, "{what}: {most} octets, more than {bound}");
    }
}

/// Runs the cases one after the other, each of which must leave nothing behind; fails after the
/// last if any did.
pub fn run_in_sequence(cases: &[(&str, fn())]) {
    let failed: Vec<_> = cases
        .iter()
        .filter(|(name, case)| {
            eprintln!("--- {name}");
            let start = quiet();
            let outcome = panic::catch_unwind(|| {
                case();
                until(
                    || (allocated() <= start + DUST).then_some(()),
                    || format!("{name}: {} octets stay", allocated() - start),
                );
            });
            outcome.is_err()
        })
        .map(|(name, _)| name)
        .collect();
    assert!(failed.is_empty(), "failed: {failed:?}");
}
