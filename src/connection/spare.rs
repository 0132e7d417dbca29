//! Memory of payloads that are not needed any more, for the next ones that are read.
//!
//! A long payload costs as much in fresh memory, whose pages the operating system has to find and
//! to clear, as in all the rest that is done about it. So the memory of one that has been written,
//! or that a handler has looked at and left, is that of the next one that comes. The memory of
//! short ones goes from who writes to who reads by the batch: what either has at hand it keeps, which
//! is little, and what is on its way is freed like that of long ones.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::sync::Mutex;
use crate::wire::memory::{LEAST_REUSED, MOST_REUSED, Memory, Used};

/// How many long payloads' memory is kept at most: some come together.
const PIECES: usize = 4;
/// How long it may be, in octets: no longer than what it may serve, which may be a mere claim.
const LONGEST: usize = MOST_REUSED;
/// For how long it is kept, at least; and at most twice as long.
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
    /// With the number of their arrival, the oldest first.
    pieces: Vec<(u64, Vec<u8>)>,
    short: Used,
    /// The last arrival of short ones.
    short_arrival: u64,
    /// How often something has come, and how often it had when the sender looked last.
    arrivals: u64,
    seen: u64,
    /// The sender looks again when the time is over.
    until: Option<Instant>,
    is_closed: bool,
}

impl Kept {
    /// Takes note that something has come; `true` if the sender is to look to its end.
    fn arrive(&mut self) -> bool {
        self.arrivals = self.arrivals.wrapping_add(1);
        self.until.is_none()
    }

    /// Takes out what was there already when the sender looked last. What it is to free outside the
    /// lock.
    fn take_old(&mut self) -> (Vec<Vec<u8>>, Used) {
        let seen = self.seen;
        let is_old = |(arrival, _): &(u64, Vec<u8>)| *arrival <= seen;
        let count = self.pieces.partition_point(is_old);
        let old = self.pieces.drain(..count).map(|(_, piece)| piece);
        let old = old.collect();
        let old_short = if self.short_arrival <= seen {
            std::mem::take(&mut self.short)
        } else {
            Used::default()
        };
        (old, old_short)
    }
}

impl Spare {
    /// Keeps the memory of a long payload that is not needed any more, or frees it; `true` if the
    /// sender is to be rung, so that it sees to the end of that.
    pub(super) fn keep(&self, octets: Vec<u8>) -> bool {
        if octets.len() < LEAST_REUSED || octets.capacity() > LONGEST {
            return false;
        }
        let mut kept = self.kept.lock();
        let is_full = kept.pieces.len() >= PIECES;
        let all_fit = || {
            let mut pieces = kept.pieces.iter();
            pieces.all(|(_, piece)| fits(piece, octets.len()))
        };
        if kept.is_closed || is_full && all_fit() {
            // Where nothing is taken, the older memory may as well stay.
            drop(kept);
            return false;
        }
        let replaced = is_full.then(|| kept.pieces.remove(0));
        let rings = kept.arrive();
        let arrival = kept.arrivals;
        kept.pieces.push((arrival, octets));
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
        self.note(&kept);
        let rings = kept.arrive() && !kept.is_closed;
        kept.short_arrival = kept.arrivals;
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
            self.note(&kept);
        }
    }

    /// Frees what has been kept for long enough, or says when that will be. For the sender, before
    /// it rests.
    pub(super) fn expire(&self) -> Option<Instant> {
        let mut kept = self.kept.lock();
        let mut freed = None;
        let is_empty = |kept: &Kept| kept.pieces.is_empty() && kept.short.is_empty();
        if is_empty(&kept) {
            kept.until = None;
            return None;
        }
        let now = Instant::now();
        if kept.until.is_none_or(|until| until <= now) {
            if kept.until.is_some() {
                freed = Some(kept.take_old());
                self.note(&kept);
            }
            kept.seen = kept.arrivals;
            kept.until = (!is_empty(&kept)).then(|| now + KEPT);
        }
        let until = kept.until;
        drop(kept);
        drop(freed);
        until
    }

    /// Frees everything, and keeps nothing from now on: the sender ends.
    pub(super) fn close(&self) {
        let mut kept = self.kept.lock();
        kept.is_closed = true;
        kept.seen = kept.arrivals;
        let freed = kept.take_old();
        self.note(&kept);
        drop(kept);
        drop(freed);
    }

    fn note(&self, kept: &Kept) {
        self.has_long
            .store(!kept.pieces.is_empty(), Ordering::Relaxed);
        self.has_short
            .store(!kept.short.is_empty(), Ordering::Relaxed);
    }
}

// A lock that a panic leaves is unlocked, and what it guards is whole at every moment.
impl UnwindSafe for Spare {}
impl RefUnwindSafe for Spare {}

impl Memory for Spare {
    /// The last that came and is as long, and not much longer.
    fn take(&self, len: usize) -> Option<Vec<u8>> {
        if !self.has_long.load(Ordering::Relaxed) {
            return None;
        }
        let mut kept = self.kept.lock();
        let mut pieces = kept.pieces.iter();
        let at = pieces.rposition(|(_, piece)| fits(piece, len))?;
        let (_, piece) = kept.pieces.remove(at);
        self.note(&kept);
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
        assert!(!spare.keep(vec![1; LONGEST + 1]));
        let mut roomy = Vec::with_capacity(LONGEST + 1);
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
        for size in [LONGEST, LONGEST / 2, LONGEST / 3, LONGEST, LONGEST / 5] {
            spare.keep(vec![1; size]);
            let kept = spare.kept.lock();
            assert_eq!(kept.pieces.len(), PIECES);
            assert!(kept.pieces.iter().any(|(_, piece)| piece.len() == size));
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

    /// The time that the sender waits for passes, and it looks.
    fn pass(spare: &Spare) -> Option<Instant> {
        let mut kept = spare.kept.lock();
        kept.until = kept.until.and_then(|until| until.checked_sub(KEPT));
        drop(kept);
        spare.expire()
    }

    #[test]
    fn memory_is_freed_when_its_time_is_over() {
        let spare = Spare::default();
        spare.keep(vec![1; LONG]);
        spare.keep_short(&mut short(FEW));
        assert!(spare.expire().is_some());
        assert!(spare.expire().is_some(), "not yet");
        assert_eq!(pass(&spare), None);
        assert_eq!(spare.take(LONG), None);
        let mut used = Used::default();
        spare.refill(&mut used);
        assert!(used.is_empty());
    }

    #[test]
    fn memory_that_is_not_used_goes_though_more_comes() {
        let spare = Spare::default();
        spare.keep(vec![1; MOST_REUSED]);
        spare.keep_short(&mut short(FEW));
        spare.expire();
        spare.keep(vec![2; LONG]);
        assert!(pass(&spare).is_some(), "the last has just come");
        assert_eq!(spare.take(MOST_REUSED), None);
        assert!(spare.kept.lock().short.is_empty());
        spare.keep_short(&mut short(FEW));
        assert!(pass(&spare).is_some());
        assert_eq!(spare.take(LONG), None);
        assert_eq!(spare.kept.lock().short.len(), FEW);
        assert_eq!(pass(&spare), None);
        assert!(spare.keep(vec![3; LONG]), "nobody sees to it any more");
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
