//! What the tests share that measure the whole process. Each of them has a binary of its own.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::fs;
use std::process;
use std::time::{Duration, Instant};

/// Lets time pass, where there is nothing that could tell when it is enough.
pub fn pause(time: Duration) {
    // Nobody ever sends on this channel.
    let (_keep, never) = crossbeam_channel::bounded::<()>(0);
    let _ = never.recv_timeout(time);
}

/// Looks again and again until `look` has found what it looks for, or patience is over: then
/// panics with what `tell` says.
pub fn until<T>(look: impl Fn() -> Option<T>, tell: impl Fn() -> String) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{}", tell());
        pause(Duration::from_millis(5));
    }
}

/// What the process has: threads, descriptors and children, zombies included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    pub threads: usize,
    pub descriptors: usize,
    pub children: usize,
}

impl Census {
    pub fn take() -> Self {
        Self {
            threads: fs::read_dir("/proc/self/task").unwrap().count(),
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
            children: fs::read_dir("/proc")
                .unwrap()
                .flatten()
                .filter(|entry| is_our_child(&entry.file_name().to_string_lossy()))
                .count(),
        }
    }

    fn exceeds(self, start: Self) -> bool {
        self.threads > start.threads
            || self.descriptors > start.descriptors
            || self.children > start.children
    }
}

/// Counts threads until none has a name that contains `name`: those that a forced end has freed
/// take a moment to end.
pub fn assert_no_thread_is_named(name: &str) {
    let names = || {
        let mut names = super::common::thread_names();
        names.retain(|thread| thread.contains(name));
        names
    };
    until(
        || names().is_empty().then_some(()),
        || format!("still there: {:?}", names()),
    );
}

fn is_our_child(pid: &str) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The parent is the second field after the name, which stands in parentheses.
    let parent = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(1));
    parent == Some(&process::id().to_string())
}

/// Counts again until no more is there than at the start, or patience is over: what ends in the
/// background takes a moment.
pub fn assert_back_to(start: Census, what: &str) {
    until(
        || (!Census::take().exceeds(start)).then_some(()),
        || {
            let now = Census::take();
            let threads = super::common::thread_names();
            format!("{what}: {start:?} at the start, {now:?} left; {threads:?}")
        },
    );
}
