//! Forks of the process that runs a test.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::fs::{self, DirEntry};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{self, Command};
use std::time::{Duration, Instant};

use fork::{Fork, fork, waitpid, waitpid_nohang};

use super::hostile::signal;
use super::measure::{pause, until};

/// Runs `body` in a fork, and waits until that has ended well, or for as long as `look` does.
///
/// It ends by becoming another program: the standard library's `exit` takes locks.
fn fork_and(body: impl FnOnce(), look: impl FnOnce(i32) -> Option<i32>) -> bool {
    match fork().unwrap() {
        Fork::Parent(child) => {
            if let Some(status) = look(child) {
                assert_eq!(status, 0, "the fork has failed");
                return true;
            }
            signal("KILL", child.unsigned_abs());
            waitpid(child).unwrap();
            false
        }
        Fork::Child => {
            if catch_unwind(AssertUnwindSafe(body)).is_ok() {
                let _not_found = Command::new("true").exec();
            }
            process::abort();
        }
    }
}

/// Runs `body`, which must not wait for any lock, in a fork.
pub fn in_fork(body: impl FnOnce()) {
    let has_ended = fork_and(body, |child| ended_within(child, Duration::from_secs(20)));
    assert!(has_ended, "the fork hangs");
}

/// Runs `body`, which may wait for locks, in a fork of a process in which no thread seems to run. One
/// that wakes at this moment may take a lock with it, so there are a few attempts.
#[cfg(target_os = "linux")]
pub fn in_quiet_fork(body: impl Fn()) {
    let mut attempts = (0..10).map(|_| {
        wait_until_quiet();
        fork_and(&body, |child| ended_within(child, Duration::from_secs(2)))
    });
    assert!(attempts.any(|has_ended| has_ended), "every fork hangs");
}

/// The status with which a fork ends, if it does in that time.
fn ended_within(child: i32, patience: Duration) -> Option<i32> {
    let deadline = Instant::now() + patience;
    loop {
        let status = waitpid_nohang(child).unwrap();
        if status.is_some() || Instant::now() > deadline {
            return status;
        }
        pause(Duration::from_millis(1));
    }
}

/// Waits until no other thread runs: none holds a lock then.
#[cfg(target_os = "linux")]
fn wait_until_quiet() {
    let is_asleep = |task: &DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(')')
            .is_none_or(|(_, state)| state.starts_with(" S"))
    };
    until(
        || {
            let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
            // This one runs.
            (tasks.filter(|task| !is_asleep(task)).count() <= 1).then_some(())
        },
        || "some thread always runs".to_owned(),
    );
}
