//! How many references hold a session open, and which of them was the last.

use super::session::Closing;
use crate::sync::{AtomicUsize, Mutex, Ordering};

/// The number of references to a session. What is due when the last one goes stands under the
/// session's lock, so letting go of any other takes no lock.
#[derive(Debug)]
pub(super) struct OpenCount {
    references: AtomicUsize,
}

impl OpenCount {
    /// A session starts with one reference.
    pub(super) fn one() -> Self {
        Self {
            references: AtomicUsize::new(1),
        }
    }

    /// Counts one more; the caller holds one, or the lock.
    pub(super) fn refer(&self) {
        self.references.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one more unless `is_open` says that it is too late for that.
    pub(super) fn try_refer<S>(&self, shared: &Mutex<S>, is_open: impl FnOnce(&S) -> bool) -> bool {
        let shared = shared.lock();
        let is_open = is_open(&shared);
        if is_open {
            self.refer();
        }
        is_open
    }

    /// Counts one less; `true` if the caller has to close the session.
    pub(super) fn release<S>(
        &self,
        shared: &Mutex<S>,
        closing: impl FnOnce(&mut S) -> &mut Closing,
    ) -> bool {
        if self.references.fetch_sub(1, Ordering::AcqRel) != 1 {
            return false;
        }
        // Somebody may have opened it again in between, under this lock.
        let mut shared = shared.lock();
        let closing = closing(&mut shared);
        let is_due = self.references.load(Ordering::Acquire) == 0 && *closing == Closing::No;
        if is_due {
            *closing = Closing::Due;
        }
        is_due
    }
}
