//! A payload that arrives in pieces, in the buffer in which it is delivered.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

/// What is reserved for a payload that has only been announced, in octets.
///
/// One reservation is enough for nearly every payload, and a claim of 64 MiB without a single
/// octet behind it does not cost more.
const FIRST_RESERVATION: usize = 1024 * 1024;

/// How many octets are zeroed ahead of a read into them.
///
/// Safe code can only read into initialised memory. In pieces of this size it is still in the
/// processor's cache when the octets arrive, which makes the zeroing all but free.
const ROOM: usize = 256 * 1024;

/// The least room that is offered while at least that much is missing, in octets, so that no
/// read is wasted on the end of a room.
pub(super) const LEAST_ROOM: usize = 8 * 1024;

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
    fn take(&self, len: usize) -> Option<Vec<u8>> {
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

/// The part of a payload that has arrived.
///
/// Memory grows with what arrives: what is reserved is at most [`FIRST_RESERVATION`], or twice what
/// was received and the room for the next read, and never more than the payload needs.
#[derive(Debug)]
pub(super) struct PartialPayload {
    /// The octets that were received, and then room that is initialised but not received.
    octets: Vec<u8>,
    received: usize,
    len: usize,
}

impl PartialPayload {
    pub(super) fn new(len: usize, source: &Source) -> Self {
        Self {
            octets: source.take(len).unwrap_or_default(),
            received: 0,
            len,
        }
    }

    pub(super) fn received(&self) -> usize {
        self.received
    }

    pub(super) fn missing(&self) -> usize {
        self.len.saturating_sub(self.received)
    }

    /// Takes what belongs to this payload from the front of `input`.
    pub(super) fn take_from(&mut self, input: &mut &[u8]) {
        let (ours, rest) = input
            .split_at_checked(self.missing())
            .unwrap_or((*input, &[]));
        let end = self.received.saturating_add(ours.len());
        if let Some(room) = self.octets.get_mut(self.received..end) {
            room.copy_from_slice(ours);
        } else {
            self.octets.truncate(self.received);
            self.reserve(ours.len());
            self.octets.extend_from_slice(ours);
        }
        self.received = end;
        *input = rest;
    }

    /// Returns room for octets that are missing; it is empty only if none is.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let room = self.octets.len().saturating_sub(self.received);
        if room < LEAST_ROOM.min(self.missing()) {
            self.reserve(LEAST_ROOM.min(self.missing()));
            let end = self.received.saturating_add(ROOM.min(self.missing()));
            self.octets.resize(end.min(self.octets.capacity()), 0);
        }
        self.octets.get_mut(self.received..).unwrap_or_default()
    }

    /// Counts octets that were read into the front of the [`room`](Self::room).
    pub(super) fn advance(&mut self, count: usize) {
        self.received = self.received.saturating_add(count).min(self.octets.len());
    }

    /// Returns the payload, which must be complete.
    pub(super) fn into_octets(self) -> Vec<u8> {
        debug_assert_eq!(self.octets.len(), self.len, "the payload is incomplete");
        self.octets
    }

    /// Makes sure that `count` octets fit behind those that were received.
    fn reserve(&mut self, count: usize) {
        let needed = self.received.saturating_add(count);
        let capacity = self.octets.capacity();
        if needed > capacity {
            let target = capacity
                .saturating_mul(2)
                .max(FIRST_RESERVATION)
                .max(needed)
                .min(self.len);
            self.octets
                .reserve_exact(target.saturating_sub(self.octets.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_what_arrives_and_not_with_the_claim() {
        let len = 40 * FIRST_RESERVATION + 1;
        let mut payload = PartialPayload::new(len, &Source::default());
        let mut random = fastrand::Rng::with_seed(2);
        while payload.missing() > 0 {
            let bound = FIRST_RESERVATION.max(2 * (payload.received() + LEAST_ROOM));
            let room = payload.room();
            assert!(!room.is_empty() && room.len() <= ROOM);
            let count = random.usize(1..=room.len());
            room[..count].fill(7);
            payload.advance(count);
            assert!(payload.octets.capacity() <= bound.min(len));
        }
        let octets = payload.into_octets();
        assert_eq!((octets.len(), octets.capacity()), (len, len));
        assert!(octets.iter().all(|&octet| octet == 7));
    }

    /// Memory of one length, all nines.
    struct Nines(usize);

    impl Memory for Nines {
        fn take(&self, _: usize) -> Option<Vec<u8>> {
            Some(vec![9; self.0])
        }
    }

    fn nines(len: usize) -> Source {
        Source(Some(Arc::new(Nines(len))))
    }

    #[test]
    fn payload_lies_in_memory_that_is_at_hand() {
        let len = LEAST_REUSED;
        for (len_at_hand, is_used) in [(len - 1, false), (len, true), (len + 7, true)] {
            let mut payload = PartialPayload::new(len, &nines(len_at_hand));
            assert_eq!(payload.octets.len() == len, is_used);
            payload.take_from(&mut &vec![1; 10][..]);
            let room = payload.room();
            assert!(room.len() == len - 10);
            room.fill(2);
            payload.advance(len - 20);
            payload.take_from(&mut &vec![3; 11][..]);
            let octets = payload.into_octets();
            assert_eq!(octets.len(), len);
            assert!(octets[..10] == [1; 10] && octets[len - 10..] == [3; 10]);
            assert!(octets[10..len - 10].iter().all(|&octet| octet == 2));
        }
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

    #[test]
    fn short_payload_asks_for_no_memory_nor_does_one_that_is_only_claimed_to_be_very_long() {
        for len in [LEAST_REUSED - 1, MOST_REUSED + 1] {
            let payload = PartialPayload::new(len, &nines(len));
            assert!(payload.octets.is_empty());
        }
        let payload = PartialPayload::new(MOST_REUSED, &nines(MOST_REUSED));
        assert_eq!(payload.octets.len(), MOST_REUSED);
    }

    #[test]
    fn a_small_payload_is_reserved_exactly() {
        let mut payload = PartialPayload::new(5, &Source::default());
        let mut input: &[u8] = b"abc";
        payload.take_from(&mut input);
        assert_eq!((payload.octets.capacity(), payload.missing()), (5, 2));
        let mut input: &[u8] = b"defg";
        payload.take_from(&mut input);
        assert_eq!((input, payload.missing()), (&b"fg"[..], 0));
        assert!(payload.room().is_empty());
        assert_eq!(payload.into_octets(), b"abcde");
    }

    #[test]
    fn octets_taken_and_octets_read_may_alternate() {
        let expected: Vec<u8> = (0..=250_u8).cycle().take(3 * ROOM).collect();
        let mut random = fastrand::Rng::with_seed(3);
        let mut payload = PartialPayload::new(expected.len(), &Source::default());
        let mut input = &expected[..];
        while payload.missing() > 0 {
            let piece = random.usize(1..50_000).min(input.len());
            if random.bool() {
                let mut front = &input[..piece];
                payload.take_from(&mut front);
                assert!(front.is_empty());
                input = &input[piece..];
            } else {
                let room = payload.room();
                let piece = piece.min(room.len());
                room[..piece].copy_from_slice(&input[..piece]);
                payload.advance(piece);
                input = &input[piece..];
            }
        }
        assert_eq!(payload.into_octets(), expected);
    }
}
