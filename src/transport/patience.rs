//! Waiting out descriptors that are set not to block.

use std::io;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

const SHORTEST_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_millis(10);

/// Makes a blocking operation of one that fails with `WouldBlock`.
///
/// `O_NONBLOCK` belongs to the open file, which may be shared with other processes, so it is not
/// ours to change; and `std` has no way to wait until a descriptor is ready. Without the feature
/// `unix`, what remains is to try again after growing timed waits. This is one of the two places
/// where the library polls.
#[derive(Default)]
pub(super) struct Patience {
    ended: Mutex<bool>,
    woken: Condvar,
    #[cfg(all(unix, feature = "unix"))]
    bell: std::sync::OnceLock<Option<bell::Bell>>,
}

/// What an operation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    Read,
    Write,
}

/// What can be waited for.
#[cfg(unix)]
pub(super) trait Source: std::os::fd::AsFd {}

#[cfg(unix)]
impl<T: std::os::fd::AsFd> Source for T {}

#[cfg(not(unix))]
pub(super) trait Source {}

#[cfg(not(unix))]
impl<T> Source for T {}

impl Patience {
    /// Repeats the operation until it succeeds, fails for another reason, or [`end`](Self::end)
    /// was called.
    pub(super) fn retry<T>(
        &self,
        source: &impl Source,
        interest: Interest,
        mut operation: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut wait = SHORTEST_WAIT;
        loop {
            match operation() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.has_ended_before(source, interest, wait) {
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
        #[cfg(all(unix, feature = "unix"))]
        if let Some(Some(bell)) = self.bell.get() {
            bell.ring();
        }
    }

    /// Waits until the source may be ready; `true` if the patience has ended.
    #[cfg(all(unix, feature = "unix"))]
    fn has_ended_before(&self, source: &impl Source, interest: Interest, wait: Duration) -> bool {
        // Made before the look at the mark, so that who sets that finds it.
        let bell = self.bell.get_or_init(bell::Bell::new);
        if *self.ended.lock() {
            return true;
        }
        match bell {
            Some(bell) if bell.wait(source, interest).is_ok() => *self.ended.lock(),
            // Without descriptors to spare.
            _ => self.has_ended_after(wait),
        }
    }

    #[cfg(not(all(unix, feature = "unix")))]
    fn has_ended_before(&self, _source: &impl Source, _interest: Interest, wait: Duration) -> bool {
        self.has_ended_after(wait)
    }

    fn has_ended_after(&self, wait: Duration) -> bool {
        let mut ended = self.ended.lock();
        if !*ended {
            self.woken.wait_for(&mut ended, wait);
        }
        *ended
    }
}

#[cfg(all(unix, feature = "unix"))]
mod bell {
    use std::io::{self, PipeReader, PipeWriter, Write};

    use rustix::event::{PollFd, PollFlags, poll};

    use super::{Interest, Source};

    /// A descriptor that becomes ready when a wait is to end.
    pub(super) struct Bell {
        reader: PipeReader,
        writer: PipeWriter,
    }

    impl Bell {
        pub(super) fn new() -> Option<Self> {
            let (reader, writer) = io::pipe().ok()?;
            Some(Self { reader, writer })
        }

        /// Makes it ready for ever.
        pub(super) fn ring(&self) {
            // The pipe is empty, or it has been rung before.
            let _ = (&self.writer).write(&[0]);
        }

        pub(super) fn wait(&self, source: &impl Source, interest: Interest) -> io::Result<()> {
            let flags = match interest {
                Interest::Read => PollFlags::IN,
                Interest::Write => PollFlags::OUT,
            };
            let mut descriptors = [
                PollFd::new(source, flags),
                PollFd::new(&self.reader, PollFlags::IN),
            ];
            match poll(&mut descriptors, None) {
                // An interruption is a reason to look again.
                Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> io::PipeReader {
        // Without a writer it is always ready.
        io::pipe().unwrap().0
    }

    #[test]
    fn would_block_is_retried_and_others_are_not() {
        let patience = Patience::default();
        let mut results = vec![
            Err(io::ErrorKind::Interrupted.into()),
            Ok(7),
            Err(io::ErrorKind::WouldBlock.into()),
            Err(io::ErrorKind::WouldBlock.into()),
        ];
        assert_eq!(
            patience
                .retry(&source(), Interest::Read, || results.pop().unwrap())
                .unwrap(),
            7
        );
        let error = patience
            .retry(&source(), Interest::Read, || results.pop().unwrap())
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
    }

    #[test]
    fn end_stops_the_retries() {
        let patience = Patience::default();
        let mut tries = 0;
        let error = patience
            .retry(&source(), Interest::Read, || {
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
