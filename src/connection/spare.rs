//! Memory of long payloads that are not needed any more, for the next ones that are read.
//!
//! A long payload costs as much in fresh memory, whose pages the operating system has to find and
//! to clear, as in all the rest that is done about it. So the memory of one that has been written,
//! or that a handler has looked at and left, is that of the next one that comes. An idle
//! connection keeps nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::sync::Mutex;
use crate::wire::payload::{LEAST_REUSED, Memory};

/// How many payloads' memory is kept at most: some come together.
const PIECES: usize = 4;
/// How much, in octets, by each connection that is in use.
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
    /// The oldest first.
    pieces: Vec<Vec<u8>>,
    /// When the last of them came.
    since: Option<Instant>,
    /// The sender looks again when the time is over.
    is_watched: bool,
    is_closed: bool,
}

impl Kept {
    fn capacity(&self) -> usize {
        self.pieces.iter().map(Vec::capacity).sum()
    }

    fn clear(&mut self) -> Vec<Vec<u8>> {
        self.since = None;
        std::mem::take(&mut self.pieces)
    }
}

impl Spare {
    /// Keeps the memory of a payload that is not needed any more, or frees it; `true` if the sender
    /// is to be rung, so that it sees to the end of that.
    pub(super) fn keep(&self, octets: Vec<u8>) -> bool {
        if octets.len() < LEAST_REUSED || octets.capacity() > MOST {
            return false;
        }
        let mut replaced = Vec::new();
        let mut kept = self.kept.lock();
        let is_full = kept.pieces.len() >= PIECES;
        if kept.is_closed || is_full && kept.pieces.iter().all(|piece| fits(piece, octets.len())) {
            // Where nothing is taken, the older memory may as well stay.
            drop(kept);
            return false;
        }
        while kept.pieces.len() >= PIECES || kept.capacity() > MOST - octets.capacity() {
            replaced.push(kept.pieces.remove(0));
        }
        kept.pieces.push(octets);
        kept.since = Some(Instant::now());
        self.is_there.store(true, Ordering::Relaxed);
        let rings = !kept.is_watched;
        drop(kept);
        drop(replaced);
        rings
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
        let freed = kept.clear();
        self.is_there.store(false, Ordering::Relaxed);
        drop(kept);
        drop(freed);
        None
    }

    /// Frees everything, and keeps nothing from now on: the sender ends.
    pub(super) fn close(&self) {
        let mut kept = self.kept.lock();
        kept.is_closed = true;
        let freed = kept.clear();
        drop(kept);
        drop(freed);
    }
}

impl Memory for Spare {
    /// The last that came and is as long, and not much longer.
    fn take(&self, len: usize) -> Option<Vec<u8>> {
        if !self.is_there.load(Ordering::Relaxed) {
            return None;
        }
        let mut kept = self.kept.lock();
        let at = kept.pieces.iter().rposition(|piece| fits(piece, len))?;
        let piece = kept.pieces.remove(at);
        if kept.pieces.is_empty() {
            kept.since = None;
            self.is_there.store(false, Ordering::Relaxed);
        }
        Some(piece)
    }
}

fn fits(piece: &Vec<u8>, len: usize) -> bool {
    piece.len() >= len && piece.capacity() <= len.saturating_add(len / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: usize = 4 * LEAST_REUSED;

    #[test]
    fn memory_is_taken_once_and_by_what_fits() {
        let spare = Spare::default();
        assert!(spare.keep(vec![1; 2 * LONG]), "nobody sees to it yet");
        assert_eq!(spare.take(LONG), None, "much longer");
        assert_eq!(spare.take(2 * LONG + 1), None, "shorter");
        assert_eq!(spare.take(2 * LONG - 1), Some(vec![1; 2 * LONG]));
        assert_eq!(spare.take(2 * LONG - 1), None);
    }

    #[test]
    fn only_long_payloads_are_kept_and_not_the_longest() {
        let spare = Spare::default();
        assert!(!spare.keep(vec![1; LEAST_REUSED - 1]));
        assert!(!spare.keep(vec![1; MOST + 1]));
        let mut roomy = Vec::with_capacity(MOST + 1);
        roomy.resize(LONG, 1);
        assert!(!spare.keep(roomy));
        assert_eq!(spare.expire(), None);
    }

    #[test]
    fn as_much_is_kept_as_is_allowed() {
        let spare = Spare::default();
        for number in 0..20 {
            spare.keep(vec![number; LONG]);
        }
        assert_eq!(spare.kept.lock().pieces.len(), PIECES);
        for size in [MOST / 2, MOST / 3, MOST, MOST / 5, MOST / 2] {
            spare.keep(vec![1; size]);
            let kept = spare.kept.lock();
            assert!(kept.pieces.len() <= PIECES && kept.capacity() <= MOST);
            assert!(kept.pieces.iter().any(|piece| piece.len() == size));
        }
    }

    #[test]
    fn memory_that_fits_is_not_replaced_by_more_of_it() {
        let spare = Spare::default();
        for number in 0..10 {
            spare.keep(vec![number; LONG]);
        }
        assert_eq!(spare.take(LONG), Some(vec![3; LONG]), "the last one kept");
        assert!(spare.keep(vec![11; LONG]));
        assert_eq!(spare.take(LONG), Some(vec![11; LONG]));
        for number in 20..30 {
            spare.keep(vec![number; 2 * LONG]);
        }
        assert_eq!(spare.take(LONG), None, "none is of that length any more");
    }

    #[test]
    fn sender_that_watches_is_not_rung() {
        let spare = Spare::default();
        assert!(spare.keep(vec![1; LONG]));
        assert!(spare.expire().is_some());
        assert!(!spare.keep(vec![2; LONG]));
        assert_eq!(spare.take(LONG), Some(vec![2; LONG]));
        assert_eq!(spare.take(LONG), Some(vec![1; LONG]));
        assert_eq!(spare.expire(), None, "there is nothing to see to");
        assert!(spare.keep(vec![3; LONG]));
    }

    #[test]
    fn memory_is_freed_when_its_time_is_over() {
        let spare = Spare::default();
        spare.keep(vec![1; LONG]);
        spare.kept.lock().since = Instant::now().checked_sub(KEPT);
        assert_eq!(spare.expire(), None);
        assert_eq!(spare.take(LONG), None);
        assert_eq!(spare.kept.lock().pieces.capacity(), 0);
    }

    #[test]
    fn nothing_is_kept_once_the_sender_has_ended() {
        let spare = Spare::default();
        spare.keep(vec![1; LONG]);
        spare.close();
        assert!(!spare.keep(vec![2; LONG]));
        assert_eq!(spare.take(LONG), None);
    }
}
