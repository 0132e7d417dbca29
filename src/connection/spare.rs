//! Memory of a long payload that has been written, for the next one that is read.
//!
//! A long payload costs as much in fresh memory, whose pages the operating system has to find and
//! to clear, as in all the rest that is done about it. Where long ones go both ways, each can lie
//! where one of the other direction has lain. An idle connection keeps nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// What is worth keeping. Shorter ones are found in memory that the process has at hand anyway.
const LEAST: usize = 64 * 1024;
/// What is kept at most, by each connection that is in use.
const MOST: usize = 4 * 1024 * 1024;
/// For how long it is kept.
const KEPT: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(super) struct Spare {
    kept: Mutex<Kept>,
    /// Saves looking in vain.
    is_there: AtomicBool,
}

#[derive(Default)]
struct Kept {
    octets: Vec<u8>,
    since: Option<Instant>,
    /// The sender looks again when the time is over.
    is_watched: bool,
}

impl Spare {
    /// Keeps the memory of a payload that is not needed any more; `true` if the sender is to be
    /// rung, so that it sees to the end of that.
    pub(super) fn keep(&self, octets: Vec<u8>) -> bool {
        if octets.len() < LEAST || octets.capacity() > MOST {
            return false;
        }
        let mut kept = self.kept.lock();
        let replaced = std::mem::replace(&mut kept.octets, octets);
        kept.since = Some(Instant::now());
        self.is_there.store(true, Ordering::Relaxed);
        let rings = !kept.is_watched;
        drop(kept);
        drop(replaced);
        rings
    }

    /// Takes memory for a payload of that length, if what is kept is as long and not much longer.
    pub(super) fn take(&self, len: usize) -> Option<Vec<u8>> {
        if len < LEAST || !self.is_there.load(Ordering::Relaxed) {
            return None;
        }
        let mut kept = self.kept.lock();
        let fits =
            kept.octets.len() >= len && kept.octets.capacity() <= len.saturating_add(len / 4);
        if !fits {
            return None;
        }
        kept.since = None;
        self.is_there.store(false, Ordering::Relaxed);
        Some(std::mem::take(&mut kept.octets))
    }

    /// Frees what has been kept for long enough, or says when that will be. For the sender, before
    /// it rests.
    pub(super) fn expire(&self) -> Option<Instant> {
        let mut kept = self.kept.lock();
        let until = kept.since.map(|since| since + KEPT);
        let is_over = until.is_none_or(|until| until <= Instant::now());
        kept.is_watched = !is_over;
        if !is_over {
            return until;
        }
        kept.since = None;
        self.is_there.store(false, Ordering::Relaxed);
        let octets = std::mem::take(&mut kept.octets);
        drop(kept);
        drop(octets);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_taken_once_and_by_what_fits() {
        let spare = Spare::default();
        assert!(spare.keep(vec![1; 2 * LEAST]), "nobody sees to it yet");
        assert_eq!(spare.take(LEAST), None, "much longer");
        assert_eq!(spare.take(2 * LEAST + 1), None, "shorter");
        assert_eq!(spare.take(2 * LEAST - 1), Some(vec![1; 2 * LEAST]));
        assert_eq!(spare.take(2 * LEAST - 1), None);
    }

    #[test]
    fn only_long_payloads_are_kept_and_not_the_longest() {
        let spare = Spare::default();
        assert!(!spare.keep(vec![1; LEAST - 1]));
        assert!(!spare.keep(vec![1; MOST + 1]));
        let mut roomy = Vec::with_capacity(MOST + 1);
        roomy.resize(LEAST, 1);
        assert!(!spare.keep(roomy));
        assert_eq!(spare.expire(), None);
    }

    #[test]
    fn sender_that_watches_is_not_rung() {
        let spare = Spare::default();
        assert!(spare.keep(vec![1; LEAST]));
        assert!(spare.expire().is_some());
        assert!(!spare.keep(vec![2; LEAST]));
        assert_eq!(spare.take(LEAST), Some(vec![2; LEAST]));
        assert_eq!(spare.expire(), None, "there is nothing to see to");
        assert!(spare.keep(vec![3; LEAST]));
    }

    #[test]
    fn memory_is_freed_when_its_time_is_over() {
        let spare = Spare::default();
        spare.keep(vec![1; LEAST]);
        spare.kept.lock().since = Instant::now().checked_sub(KEPT);
        assert_eq!(spare.expire(), None);
        assert_eq!(spare.take(LEAST), None);
        assert_eq!(spare.kept.lock().octets.capacity(), 0);
    }
}
