//! Memory in which payloads have lain, for those that come.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use super::payload::FIRST_RESERVATION;

/// Payloads from this length on, in octets, may lie in memory that has been used before.
///
/// Shorter ones are found in memory that the process has at hand anyway.
pub(crate) const LEAST_REUSED: usize = 16 * 1024;

/// Payloads up to this length may: the memory is taken for a claim, which is believed no further.
pub(crate) const MOST_REUSED: usize = FIRST_RESERVATION;

/// Memory that has been used before.
pub(crate) trait Memory: Send + Sync + UnwindSafe + RefUnwindSafe {
    /// Returns some that is at least as long, whatever is in it; never blocks.
    fn take(&self, len: usize) -> Option<Vec<u8>>;
}

/// Where the memory of payloads comes from: from the allocator, unless that is set.
#[derive(Clone, Default)]
pub(super) struct Source(pub(super) Option<Arc<dyn Memory>>);

impl Source {
    pub(super) fn take(&self, len: usize) -> Option<Vec<u8>> {
        let Some(memory) = &self.0 else { return None };
        if !(LEAST_REUSED..=MOST_REUSED).contains(&len) {
            return None;
        }
        let mut octets = memory.take(len)?;
        octets.truncate(len);
        (octets.len() == len).then_some(octets)
    }

    /// Returns a payload that has come whole.
    pub(super) fn copy(&self, payload: &[u8]) -> Vec<u8> {
        match self.take(payload.len()) {
            Some(mut octets) => {
                octets.copy_from_slice(payload);
                octets
            }
            None => payload.to_vec(),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.0.is_some()).finish()
    }
}

/// Up to which length, in octets, the memory of payloads is kept as [`Used`].
const SHORT: usize = 64;
/// How much of it is kept at most, on its way from who writes to who reads.
const MOST_USED: usize = 256;
/// How much of it who reads takes at once: about what is dealt out together.
const BATCH: usize = 128;

/// Memory of short payloads that have been written, for those that are read.
///
/// To take it from the allocator takes as long as all the rest of decoding, and as long again to
/// give it back, above all on another thread than the one that took it.
#[derive(Debug, Default)]
pub(crate) struct Used {
    pieces: Vec<Vec<u8>>,
}

impl Used {
    /// Keeps the memory of a payload, or frees it if there is enough.
    #[inline]
    pub(crate) fn keep(&mut self, octets: Vec<u8>) {
        if (1..=SHORT).contains(&octets.capacity()) && self.pieces.len() < MOST_USED {
            self.pieces.push(octets);
        }
    }

    /// Moves all that there is room for; the rest stays.
    pub(crate) fn append(&mut self, from: &mut Self) {
        if self.pieces.is_empty() {
            std::mem::swap(self, from);
            return;
        }
        let room = MOST_USED.saturating_sub(self.pieces.len());
        let stay = from.pieces.len().saturating_sub(room);
        self.pieces.extend(from.pieces.drain(stay..));
    }

    /// Moves a batch here, where nothing is left.
    pub(crate) fn refill(&mut self, from: &mut Self) {
        if from.pieces.len() <= BATCH {
            std::mem::swap(self, from);
        } else {
            let start = from.pieces.len().saturating_sub(BATCH);
            self.pieces.extend(from.pieces.drain(start..));
        }
    }

    /// Frees all of it.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.pieces.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Returns a payload with these octets.
    #[inline]
    pub(super) fn copy(&mut self, payload: &[u8]) -> Vec<u8> {
        if payload.len() <= SHORT
            && !payload.is_empty()
            && let Some(mut octets) = self.pieces.pop()
        {
            octets.clear();
            octets.extend_from_slice(payload);
            return octets;
        }
        payload.to_vec()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Memory of one length, all nines.
    struct Nines(usize);

    impl Memory for Nines {
        fn take(&self, _: usize) -> Option<Vec<u8>> {
            Some(vec![9; self.0])
        }
    }

    pub(in crate::wire) fn nines(len: usize) -> Source {
        Source(Some(Arc::new(Nines(len))))
    }

    #[test]
    fn payload_that_has_come_whole_lies_in_memory_that_is_at_hand() {
        let whole = vec![5; LEAST_REUSED];
        for source in [Source::default(), nines(3), nines(LEAST_REUSED + 3)] {
            assert_eq!(source.copy(&whole), whole);
        }
    }

    #[test]
    fn short_payload_lies_in_memory_that_was_used() {
        let mut used = Used::default();
        let first = vec![1; 20];
        let place = first.as_ptr();
        used.keep(first);
        assert_eq!(used.copy(b"").capacity(), 0);
        assert_eq!(used.copy(&[2; SHORT + 1]), [2; SHORT + 1]);
        let second = used.copy(b"second");
        assert_eq!((&second[..], second.as_ptr()), (&b"second"[..], place));
        assert_eq!(used.copy(b"third"), b"third");
        used.keep(vec![3; 2]);
        assert_eq!(used.copy(b"longer than it"), b"longer than it");
    }

    #[test]
    fn little_memory_is_kept_and_no_long_one() {
        let mut used = Used::default();
        used.keep(Vec::new());
        used.keep(vec![1; SHORT + 1]);
        assert!(used.pieces.is_empty());
        for _ in 0..2 * MOST_USED {
            used.keep(vec![1; SHORT]);
        }
        assert_eq!(used.pieces.len(), MOST_USED);
        let mut more = Used::default();
        (0..10).for_each(|_| more.keep(vec![1]));
        used.append(&mut more);
        assert_eq!((used.len(), more.len()), (MOST_USED, 10));
        let mut reading = Used::default();
        reading.refill(&mut used);
        assert_eq!((reading.len(), used.len()), (BATCH, MOST_USED - BATCH));
        used.append(&mut more);
        assert_eq!((used.len(), more.len()), (MOST_USED - BATCH + 10, 0));
    }
}
