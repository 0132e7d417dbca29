//! What the integration tests share: a watchdog that fails a test that hangs, and names its
//! threads.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::any::Any;
use std::panic;
use std::thread;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;

/// Longer than anything takes on a loaded machine, shorter than anybody's patience.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `body` on a thread of its own and returns what it returns; panics with the names of the
/// process' threads if that takes longer than [`PATIENCE`].
pub fn watched<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    watched_for(PATIENCE, body)
}

/// The same with another limit.
pub fn watched_for<T: Send + 'static>(
    limit: Duration,
    body: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, finished) = crossbeam_channel::bounded::<()>(1);
    let worker = thread::Builder::new()
        .name(thread::current().name().unwrap_or("test").to_owned())
        .spawn(move || {
            let result = body();
            drop(done);
            result
        })
        .unwrap();
    // The sender is dropped at the end of the body, and by its panic too.
    match finished.recv_timeout(limit) {
        Err(RecvTimeoutError::Timeout) => {
            panic!("not finished in {limit:?}; threads: {:?}", thread_names())
        }
        _ => match worker.join() {
            Ok(result) => result,
            Err(payload) => resume(payload),
        },
    }
}

fn resume(payload: Box<dyn Any + Send>) -> ! {
    panic::resume_unwind(payload)
}

/// The names of this process' threads, as far as the system tells them (15 octets on Linux).
pub fn thread_names() -> Vec<String> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect()
}
