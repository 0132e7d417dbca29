//! The place where one thread rests until others wake it.

use std::sync::OnceLock;
use std::thread::{self, Thread};
use std::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Parker {
    thread: OnceLock<Thread>,
}

impl Parker {
    /// From now on it is this thread that is woken.
    pub(crate) fn enter(&self) {
        let _ = self.thread.set(thread::current());
    }

    /// Blocks the thread that has entered until it is woken, also if that was before, or until the
    /// deadline; or less long, for no reason.
    #[expect(
        clippy::unused_self,
        reason = "what it rests on under loom lies in here"
    )]
    pub(crate) fn park(&self, deadline: Option<Instant>) {
        match deadline {
            None => thread::park(),
            Some(deadline) => {
                thread::park_timeout(deadline.saturating_duration_since(Instant::now()));
            }
        }
    }

    /// Wakes the thread that has entered.
    pub(crate) fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}
