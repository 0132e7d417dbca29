//! Runs a test of this binary once more, in a process of its own, where it plays a part.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::env;
use std::process::Command;

const ROLE: &str = "PACKETSTREAM_TEST_ROLE";

/// The part that this process is to play, if it is not the one that runs the tests.
pub fn role() -> Option<String> {
    env::var(ROLE).ok()
}

/// A command that runs the named test of this binary, which must ask for its [`role`].
///
/// Its standard output begins with what the test harness says.
pub fn in_role(test: &str, role: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role);
    command
}
