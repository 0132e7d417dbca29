//! How many references hold a session open, and which of them was the last.

use super::session::Closing;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// What holds a session open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// A guard: while there is none, an explicit close ends the session whatever else there is.
    Guard,
    /// The result of a request. It keeps a session open whose last guard was merely dropped.
    Result,
    /// A result that a handler of this very session has made: its request is part of what an end of
    /// the session waits for anyway, and must not keep that from beginning.
    Nothing,
}

/// The number of references to a session. What is due when the last one goes stands under the
/// session's lock, so letting go of any other takes no lock.
#[derive(Debug)]
pub(super) struct OpenCount {
    /// Guards in the upper half, results in the lower one, so that one step tells of both.
    references: AtomicU64,
}

const GUARD: u64 = 1 << 32;

impl Hold {
    fn weight(self) -> u64 {
        match self {
            Self::Guard => GUARD,
            Self::Result => 1,
            Self::Nothing => 0,
        }
    }
}

impl OpenCount {
    /// A session starts with one reference.
    pub(super) fn one(hold: Hold) -> Self {
        Self {
            references: AtomicU64::new(hold.weight()),
        }
    }

    /// Counts one more; the caller holds one, or the lock.
    pub(super) fn refer(&self, hold: Hold) {
        if hold != Hold::Nothing {
            self.references.fetch_add(hold.weight(), Ordering::Relaxed);
        }
    }

    /// Counts one more unless `is_open` says that it is too late for that.
    pub(super) fn try_refer<S>(
        &self,
        hold: Hold,
        shared: &Mutex<S>,
        is_open: impl FnOnce(&S) -> bool,
    ) -> bool {
        let shared = shared.lock();
        let is_open = is_open(&shared);
        if is_open {
            self.refer(hold);
        }
        is_open
    }

    /// Counts one less; `true` if none is left and the caller has to close the session. `may_close` is
    /// asked before the lock is taken, and only if this was the last one.
    pub(super) fn release<S>(
        &self,
        hold: Hold,
        may_close: impl FnOnce() -> bool,
        shared: &Mutex<S>,
        closing: impl FnOnce(&mut S) -> &mut Closing,
    ) -> bool {
        let weight = hold.weight();
        if weight == 0
            || self.references.fetch_sub(weight, Ordering::AcqRel) != weight
            || !may_close()
        {
            return false;
        }
        // Somebody may have opened it again in between, under this lock.
        let mut shared = shared.lock();
        let is_unused = self.references.load(Ordering::Acquire) == 0;
        is_unused && is_due(closing(&mut shared))
    }

    /// Counts one guard less, to close; `false` if others are left, so that nothing is closed.
    /// Otherwise no guard can be had any more, and the caller has to close the session or to wait
    /// for whoever does.
    pub(super) fn close<S>(
        &self,
        shared: &Mutex<S>,
        closing: impl FnOnce(&mut S) -> &mut Closing,
    ) -> bool {
        if self.references.fetch_sub(GUARD, Ordering::AcqRel) >= 2 * GUARD {
            return false;
        }
        // As above.
        let mut shared = shared.lock();
        let is_last = self.references.load(Ordering::Acquire) < GUARD;
        if is_last {
            is_due(closing(&mut shared));
        }
        is_last
    }
}

/// Has nobody else close what is not being closed yet.
fn is_due(closing: &mut Closing) -> bool {
    let is_due = *closing == Closing::No;
    if is_due {
        *closing = Closing::Due;
    }
    is_due
}
