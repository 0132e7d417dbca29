//! How much of what was written the peer may not have read yet, as pure data.
//!
//! A thread that waits for an answer must not be stuck in a write when its wait ends otherwise, so
//! it only writes what cannot block: while what the peer may not have read fits the smallest
//! buffer between here and there. What the peer has read is known by its answers: who answers a
//! request has read all up to it.
//!
//! Room comes back when everything has been read, and not piece by piece: a buffer that is read in
//! part may stay as full as before. A pipe of one page takes more at its end only, and a socket
//! keeps what one write has brought until all of that has been read.

/// What may be under way for a write that must not block, in the measure of [`cost`]: the smallest
/// send buffer that Linux gives a socket.
const LIMIT: u64 = 4608;

/// What packets take up in a buffer at most, if each is written by itself.
///
/// Linux counts a write of `n` bytes to a Unix socket as `n + 320`, rounded up to a power of two,
/// and 256 more. Rounding up at most doubles; what is above that is for the head of the packet.
/// That is more than the same write takes up in a pipe of one page, or in a TCP connection with the
/// smallest buffers at both ends, which takes 2304 bytes.
fn cost(packets: usize, payload: u64) -> u64 {
    const OVERHEAD: u64 = 1024;
    (packets as u64)
        .saturating_mul(OVERHEAD)
        .saturating_add(payload.saturating_mul(2))
}

#[derive(Debug, Default)]
pub(super) struct Unread {
    /// The cost of all that was written since everything was last known to have been read.
    written: u64,
    /// The number of the last packet that was written.
    last: u64,
}

impl Unread {
    /// Takes note of packets that are written, with so many bytes of payload; `last` is the number
    /// of the last of them, `answered` that of the last request that has been answered.
    pub(super) fn note(&mut self, answered: u64, last: u64, packets: usize, payload: u64) {
        self.look_at(answered);
        self.written = self.written.saturating_add(cost(packets, payload));
        self.last = last;
    }

    /// Says whether so much more can be written without blocking.
    pub(super) fn has_room(&mut self, answered: u64, packets: usize, payload: u64) -> bool {
        self.look_at(answered);
        self.written.saturating_add(cost(packets, payload)) <= LIMIT
    }

    fn look_at(&mut self, answered: u64) {
        if self.last <= answered {
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux counts for a write to a Unix socket.
    fn counted(bytes: u64) -> u64 {
        (bytes + 320).next_power_of_two().max(512) + 256
    }

    #[test]
    fn cost_is_never_below_what_the_kernel_counts() {
        /// Five numbers of one to ten bytes.
        const LONGEST_HEAD: u64 = 50;
        for payload in 0..=LIMIT {
            let counted = counted(payload + LONGEST_HEAD);
            assert!(cost(1, payload) >= counted, "{payload}: {counted}");
        }
    }

    #[test]
    fn what_was_written_counts_until_a_later_request_is_answered() {
        let mut unread = Unread::default();
        assert!(unread.has_room(0, 1, 1700));
        unread.note(0, 5, 1, 1700);
        assert!(!unread.has_room(0, 1, 0));
        assert!(!unread.has_room(4, 1, 0));
        assert!(unread.has_room(5, 1, 1700));
        unread.note(5, 6, 1, 1700);
        assert!(!unread.has_room(5, 1, 0));
        assert!(unread.has_room(9, 1, 1700));
    }

    #[test]
    fn room_comes_back_only_when_everything_has_been_read() {
        let mut unread = Unread::default();
        unread.note(0, 1, 1, 1000);
        unread.note(0, 2, 1, 200);
        assert!(!unread.has_room(1, 1, 200), "a page is full to its end");
        assert!(unread.has_room(2, 1, 200));
    }

    #[test]
    fn what_is_read_before_more_is_written_does_not_count_later() {
        let mut unread = Unread::default();
        for number in 1..=1000 {
            unread.note(number - 1, number, 1, 1000);
        }
        assert!(!unread.has_room(999, 1, 1000));
        unread.note(1000, 1001, 1, 0);
        assert!(unread.has_room(1000, 1, 1000));
    }

    #[test]
    fn many_small_packets_count_too() {
        let mut unread = Unread::default();
        assert!(unread.has_room(0, 4, 4 * 20));
        assert!(!unread.has_room(0, 5, 5 * 20));
    }

    #[test]
    fn no_sum_overflows() {
        let mut unread = Unread::default();
        unread.note(0, 1, usize::MAX, u64::MAX);
        unread.note(0, 2, 1, 1);
        assert!(!unread.has_room(0, usize::MAX, u64::MAX));
    }
}
