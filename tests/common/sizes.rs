//! How much a test does, and the seed of what it does at random.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::env;
use std::time::Duration;

/// Whether the large sizes are asked for: `PACKETSTREAM_TEST_SIZE=large`.
pub fn is_large() -> bool {
    match env::var("PACKETSTREAM_TEST_SIZE").as_deref() {
        Ok("large") => true,
        Err(env::VarError::NotPresent) => false,
        other => panic!("PACKETSTREAM_TEST_SIZE is {other:?}; it may be large"),
    }
}

/// `usual` in a debug build, unless the large sizes are asked for.
pub fn sized(usual: usize, large: usize) -> usize {
    if is_large() || !cfg!(debug_assertions) {
        large
    } else {
        usual
    }
}

/// The watchdog's limit for tests that take long in their large sizes, on a loaded machine.
pub const LONG: Duration = Duration::from_secs(600);

/// The number in the environment variable, if it is set.
pub fn number_of(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().expect("a number in the environment variable"))
}

/// The seed in `PACKETSTREAM_TEST_SEED`, else a new one.
pub fn seed() -> u64 {
    number_of("PACKETSTREAM_TEST_SEED").unwrap_or_else(|| fastrand::u64(..))
}
