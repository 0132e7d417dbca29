//! Memory of payloads that are not needed any more, for the next ones that are read.
//!
//! A long payload costs as much in fresh memory, whose pages the operating system has to find and
//! to clear, as in all the rest that is done about it. So the memory of one that has been written,
//! or that a handler has looked at and left, is that of the next one that comes. The memory of
//! short ones goes from who writes to who reads by the batch: what either has at hand it keeps, which
//! is little, and what is on its way is freed like that of long ones.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::sync::Mutex;
use crate::wire::payload::{LEAST_REUSED, Memory, Used};

/// How many long payloads' memory is kept at most: some come together.
const PIECES: usize = 4;
/// How much, in octets, by each connection that is in use.
const MOST: usize = 4 * 1024 * 1024;
/// For how long it is kept after the last that came.
const KEPT: Duration = Duration::from_millis(100);
/// For fewer short ones nothing is done.
const FEW: usize = 8;

#[derive(Default)]
pub(super) struct Spare {
    kept: Mutex<Kept>,
    /// Save looking in vain.
    has_long: AtomicBool,
    has_short: AtomicBool,
}

#[derive(Default)]
struct Kept {
    /// The oldest first.
    pieces: Vec<Vec<u8>>,
    short: Used,
    /// How often something has come, and how often it had when the sender looked last.
    arrivals: u64,
    seen: u64,
    /// The sender looks again when the time is over.
    until: Option<Instant>,
    is_closed: bool,
}

impl Kept {
    fn capacity(&self) -> usize {
        self.pieces.iter().map(Vec::capacity).sum()
    }

    /// Takes note that something has come; `true` if the sender is to look to its end.
    fn arrive(&mut self) -> bool {
        self.arrivals = self.arrivals.wrapping_add(1);
        self.until.is_none()
    }

    fn clear(&mut self) -> (Vec<Vec<u8>>, Used) {
        self.until = None;
        (
            std::mem::take(&mut self.pieces),
            std::mem::take(&mut self.short),
        )
    }
}

impl Spare {
    /// Keeps the memory of a long payload that is not needed any more, or frees it; `true` if the
    /// sender is to be rung, so that it sees to the end of that.
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
        let rings = kept.arrive();
        self.has_long.store(true, Ordering::Relaxed);
        drop(kept);
        drop(replaced);
        rings
    }

    /// Keeps the memory of short payloads, if there is more than a little, or frees it; `true` if
    /// the sender is to be rung.
    #[inline]
    pub(super) fn keep_short(&self, used: &mut Used) -> bool {
        if used.len() < FEW {
            return false;
        }
        let mut kept = self.kept.lock();
        if !kept.is_closed {
            kept.short.append(used);
        }
        self.has_short
            .store(!kept.short.is_empty(), Ordering::Relaxed);
        let rings = kept.arrive() && !kept.is_closed;
        drop(kept);
        // Nobody fetches as much.
        used.clear();
        rings
    }

    /// Has short payloads go on with what is kept, once nothing is left.
    #[inline]
    pub(super) fn refill(&self, used: &mut Used) {
        if used.is_empty() && self.has_short.load(Ordering::Relaxed) {
            let mut kept = self.kept.lock();
            used.refill(&mut kept.short);
            self.has_short
                .store(!kept.short.is_empty(), Ordering::Relaxed);
        }
    }

    /// Frees what has been kept for long enough, or says when that will be. For the sender, before
    /// it rests.
    pub(super) fn expire(&self) -> Option<Instant> {
        let mut kept = self.kept.lock();
        if kept.pieces.is_empty() && kept.short.is_empty() {
            kept.until = None;
            return None;
        }
        let now = Instant::now();
        match kept.until {
            Some(until) if kept.seen == kept.arrivals => {
                if until > now {
                    return Some(until);
                }
            }
            _ => {
                kept.seen = kept.arrivals;
                kept.until = Some(now + KEPT);
                return kept.until;
            }
        }
        let freed = kept.clear();
        self.forget();
        drop(kept);
        drop(freed);
        None
    }

    /// Frees everything, and keeps nothing from now on: the sender ends.
    pub(super) fn close(&self) {
        let mut kept = self.kept.lock();
        kept.is_closed = true;
        let freed = kept.clear();
        self.forget();
        drop(kept);
        drop(freed);
    }

    fn forget(&self) {
        self.has_long.store(false, Ordering::Relaxed);
        self.has_short.store(false, Ordering::Relaxed);
    }
}

impl Memory for Spare {
    /// The last that came and is as long, and not much longer.
    fn take(&self, len: usize) -> Option<Vec<u8>> {
        if !self.has_long.load(Ordering::Relaxed) {
            return None;
        }
        let mut kept = self.kept.lock();
        let at = kept.pieces.iter().rposition(|piece| fits(piece, len))?;
        let piece = kept.pieces.remove(at);
        self.has_long
            .store(!kept.pieces.is_empty(), Ordering::Relaxed);
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

    fn short(count: usize) -> Used {
        let mut used = Used::default();
        for _ in 0..count {
            used.keep(vec![1; 16]);
        }
        used
    }

    /// The time that the sender waits for passes.
    fn pass(spare: &Spare) {
        let mut kept = spare.kept.lock();
        kept.until = kept.until.and_then(|until| until.checked_sub(KEPT));
    }

    #[test]
    fn memory_is_freed_when_its_time_is_over() {
        let spare = Spare::default();
        spare.keep(vec![1; LONG]);
        spare.keep_short(&mut short(FEW));
        assert!(spare.expire().is_some());
        assert!(spare.expire().is_some());
        pass(&spare);
        assert_eq!(spare.expire(), None);
        assert_eq!(spare.take(LONG), None);
        let mut used = Used::default();
        spare.refill(&mut used);
        assert!(used.is_empty());
        assert_eq!(spare.kept.lock().pieces.capacity(), 0);
    }

    #[test]
    fn memory_is_kept_while_more_comes() {
        let spare = Spare::default();
        spare.keep(vec![1; LONG]);
        spare.expire();
        spare.keep(vec![2; LONG]);
        pass(&spare);
        assert!(spare.expire().is_some());
        pass(&spare);
        assert_eq!(spare.expire(), None);
    }

    #[test]
    fn short_memory_goes_on_by_the_batch() {
        let spare = Spare::default();
        let mut written = short(FEW - 1);
        assert!(
            !spare.keep_short(&mut written),
            "few are left where they are"
        );
        assert_eq!(written.len(), FEW - 1);
        let mut written = short(20);
        assert!(spare.keep_short(&mut written), "nobody sees to it yet");
        assert!(written.is_empty());
        spare.keep_short(&mut short(30));
        let mut reading = short(1);
        spare.refill(&mut reading);
        assert_eq!(reading.len(), 1, "there is some left");
        let mut reading = Used::default();
        spare.refill(&mut reading);
        assert_eq!(reading.len(), 50);
        spare.refill(&mut Used::default());
        assert!(!spare.has_short.load(Ordering::Relaxed));
    }

    #[test]
    fn nothing_is_kept_once_the_sender_has_ended() {
        let spare = Spare::default();
        spare.keep(vec![1; LONG]);
        spare.close();
        assert!(!spare.keep(vec![2; LONG]));
        assert!(!spare.keep_short(&mut short(FEW)));
        assert_eq!(spare.take(LONG), None);
    }
}
