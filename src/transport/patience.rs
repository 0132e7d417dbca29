//! Waiting out descriptors that are set not to block.

use std::io;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

const SHORTEST_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_millis(10);

/// Makes a blocking operation of one that fails with `WouldBlock`.
///
/// `O_NONBLOCK` belongs to the open file, which may be shared with other processes, so it is not
/// ours to change; and `std` has no way to wait until a descriptor is ready. What remains is to
/// try again after growing timed waits. This is one of the two places where the library polls.
#[derive(Default)]
pub(super) struct Patience {
    ended: Mutex<bool>,
    woken: Condvar,
}

impl Patience {
    /// Repeats the operation until it succeeds, fails for another reason, or [`end`](Self::end)
    /// was called.
    pub(super) fn retry<T>(&self, mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut wait = SHORTEST_WAIT;
        loop {
            match operation() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.has_ended_after(wait) {
                        return Err(error);
                    }
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                result => return result,
            }
        }
    }

    /// Ends all waits, the present and the future ones.
    pub(super) fn end(&self) {
        *self.ended.lock() = true;
        self.woken.notify_all();
    }

    fn has_ended_after(&self, wait: Duration) -> bool {
        let mut ended = self.ended.lock();
        if !*ended {
            self.woken.wait_for(&mut ended, wait);
        }
        *ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn would_block_is_retried_and_others_are_not() {
        let patience = Patience::default();
        let mut results = vec![
            Err(io::ErrorKind::Interrupted.into()),
            Ok(7),
            Err(io::ErrorKind::WouldBlock.into()),
            Err(io::ErrorKind::WouldBlock.into()),
        ];
        assert_eq!(patience.retry(|| results.pop().unwrap()).unwrap(), 7);
        let error = patience.retry(|| results.pop().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
    }

    #[test]
    fn end_stops_the_retries() {
        let patience = Patience::default();
        let mut tries = 0;
        let error = patience
            .retry(|| {
                tries += 1;
                if tries == 3 {
                    patience.end();
                }
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            })
            .unwrap_err();
        assert_eq!((error.kind(), tries), (io::ErrorKind::WouldBlock, 3));
    }
}
