//! The process in which something was made: a fork of it has a copy.

use std::process;

/// The process in which something was made.
///
/// A fork copies all memory and shares all descriptors, but of the threads only the one that forks
/// goes on: locks stay as they were, nobody answers, and what is shut is shut for the parent too.
///
/// Asking is a system call, so nobody asks on the way of a request or of its answer.
#[derive(Debug)]
pub(crate) struct Home(u32);

impl Home {
    /// The process that this thread runs in.
    pub(crate) fn here() -> Self {
        Self(process::id())
    }

    /// Whether this thread runs in another process.
    pub(crate) fn is_left(&self) -> bool {
        self.0 != process::id()
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::here()
    }
}
