//! A payload that arrives in pieces, in the buffer in which it is delivered.

use super::memory::Source;

/// What is reserved for a payload that has only been announced, in octets.
///
/// One reservation is enough for nearly every payload, and a claim of 64 MiB without a single
/// octet behind it does not cost more.
pub(super) const FIRST_RESERVATION: usize = 1024 * 1024;

/// How many octets are zeroed ahead of a read into them.
///
/// Safe code can only read into initialised memory. In pieces of this size it is still in the
/// processor's cache when the octets arrive, which makes the zeroing all but free.
const ROOM: usize = 256 * 1024;

/// The least room that is offered while at least that much is missing, in octets, so that no
/// read is wasted on the end of a room.
pub(super) const LEAST_ROOM: usize = 8 * 1024;

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
    use crate::wire::memory::tests::nines;
    use crate::wire::memory::{LEAST_REUSED, MOST_REUSED};

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
