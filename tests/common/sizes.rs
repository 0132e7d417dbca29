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

/// What `PACKETSTREAM_TEST_SIZE` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// About a tenth, for running a test hundreds of times.
    Small,
    Usual,
    Large,
}

pub fn size() -> Size {
    match env::var("PACKETSTREAM_TEST_SIZE").as_deref() {
        Ok("small") => Size::Small,
        Ok("large") => Size::Large,
        Err(env::VarError::NotPresent) => Size::Usual,
        other => panic!("PACKETSTREAM_TEST_SIZE is {other:?}; it may be small or large"),
    }
}

pub fn is_large() -> bool {
    size() == Size::Large
}

/// `large` in an optimised build, or if the large sizes are asked for; else `usual`, or a tenth.
pub fn sized(usual: usize, large: usize) -> usize {
    match size() {
        Size::Small => usual.div_ceil(10),
        Size::Usual if cfg!(debug_assertions) => usual,
        Size::Usual | Size::Large => large,
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
