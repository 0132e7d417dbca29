//! The engine's primitives under every interleaving of a few threads: the one-shot, the table with
//! its closed mark, the open count, the slots of the handlers, and the sender that rests.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib loom -- --nocapture` runs them and tells how
//! many executions each took. A wake-up that is lost shows as a deadlock, which loom reports.
//!
//! What surrounds the primitives in a session is repeated here in as few lines as it allows: the
//! send queue is a list, and the streams are whoever calls.
#![allow(
    clippy::unwrap_used,
    clippy::unnecessary_wraps,
    reason = "helpers of tests, in which a failed expectation fails the test"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::thread::{self, JoinHandle};

use super::one_shot::{Answer, OneShot};

mod awaited_flush;
mod handover;
mod one_shot;
mod outbox;
mod reading;
mod references;
mod slots;
mod table;

/// Runs `model` once for each interleaving; none is left out.
fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) {
    explore_within(name, None, model);
}

/// Runs `model` once for each interleaving in which at most that many threads are interrupted
/// where they could go on.
fn explore_within(
    name: &str,
    interruptions: impl Into<Option<usize>>,
    model: impl Fn() + Send + Sync + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = interruptions.into();
    builder.max_branches = 10_000;
    let executions = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&executions);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let executions = executions.load(Ordering::Relaxed);
    assert!(executions > 1, "nothing was interleaved");
    eprintln!("{name}: {executions} executions");
}

/// Settles as a session does.
fn settle(one_shot: &OneShot, answer: Answer) {
    let told = one_shot.settle(answer);
    if let Some((callback, answer)) = one_shot.tell(told) {
        callback(answer);
    }
}

/// Starts a thread that shares a value with others.
fn spawn<S: Send + Sync + 'static, T: Send + 'static>(
    shared: &Arc<S>,
    body: impl FnOnce(&Arc<S>) -> T + Send + 'static,
) -> JoinHandle<T> {
    let shared = Arc::clone(shared);
    thread::spawn(move || body(&shared))
}
