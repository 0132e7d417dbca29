//! How much of what was written the peer may not have read yet, as pure data.
//!
//! A thread that waits for an answer must not be stuck in a write when its wait ends otherwise, so
//! it only writes what cannot block: while what the peer may not have read fits the smallest
//! buffer between here and there. What the peer has read is known by its answers: who answers a
//! request has read all up to it.

use std::collections::VecDeque;

/// What may be under way for a write that must not block, in the measure of [`cost`]: a page, the
/// smallest pipe there is.
const LIMIT: u64 = 4096;

/// Into how many parts what has been written is divided, at most.
const CHECKPOINTS: usize = 32;

/// What packets take up in a buffer: an operating system keeps books for each write.
fn cost(packets: usize, octets: u64) -> u64 {
    const OVERHEAD: u64 = 448;
    (packets as u64)
        .saturating_mul(OVERHEAD)
        .saturating_add(octets)
}

#[derive(Debug, Default)]
pub(super) struct Unread {
    /// The cost of all that was written, and of the part of it that has been read for certain.
    written: u64,
    read: u64,
    /// The number of a packet, and the cost of all up to it; the oldest first.
    checkpoints: VecDeque<(u64, u64)>,
}

impl Unread {
    /// Takes note of packets that are written; `last` is the number of the last of them.
    pub(super) fn note(&mut self, last: u64, packets: usize, octets: u64) {
        self.written = self.written.saturating_add(cost(packets, octets));
        if self.checkpoints.len() >= CHECKPOINTS {
            // Coarser from here on: it takes a later answer to know.
            self.checkpoints.pop_back();
        }
        self.checkpoints.push_back((last, self.written));
    }

    /// Says whether so much more can be written without blocking. `answered` is the number of the
    /// last request that has been answered.
    pub(super) fn has_room(&mut self, answered: u64, packets: usize, octets: u64) -> bool {
        while let Some((number, written)) = self.checkpoints.front()
            && *number <= answered
        {
            self.read = *written;
            self.checkpoints.pop_front();
        }
        let unread = self.written.saturating_sub(self.read);
        unread.saturating_add(cost(packets, octets)) <= LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_counts_until_a_later_request_is_answered() {
        let mut unread = Unread::default();
        assert!(unread.has_room(0, 1, 3000));
        unread.note(5, 1, 3000);
        assert!(!unread.has_room(0, 1, 1000));
        assert!(!unread.has_room(4, 1, 1000));
        assert!(unread.has_room(5, 1, 1000));
        unread.note(6, 1, 1000);
        unread.note(7, 1, 3000);
        assert!(!unread.has_room(6, 1, 1000));
        assert!(unread.has_room(9, 1, 3000));
    }

    #[test]
    fn many_small_packets_count_too() {
        let mut unread = Unread::default();
        assert!(unread.has_room(0, 8, 8 * 20));
        assert!(!unread.has_room(0, 10, 10 * 20));
    }

    #[test]
    fn never_more_is_taken_for_read_than_was_however_coarse_the_books() {
        let mut unread = Unread::default();
        for number in 1..=1000 {
            unread.note(number, 1, 0);
        }
        assert!(unread.checkpoints.len() <= CHECKPOINTS);
        assert!(
            !unread.has_room(999, 1, 0),
            "the books do not tell 999 from 32"
        );
        assert!(unread.has_room(1000, 1, 0));
    }
}
