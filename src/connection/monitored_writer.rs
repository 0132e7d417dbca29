//! The writer of the transport, watched from other threads: whether its writes return.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::transport::BoxedWriter;

/// The most that is handed over at once, so that the write that is under way when somebody begins to
/// watch is one that a line of 200 KiB a second takes in five.
const MOST: usize = 1024 * 1024;

/// The same while somebody waits for writes to return: so little that a slow line takes it in time.
const MOST_WATCHED: usize = 4096;

/// What others know of the writer.
#[derive(Debug, Default)]
pub(super) struct WriteMonitor {
    /// Counts the calls of the writer and their returns: odd inside of one.
    steps: AtomicU64,
    is_watched: AtomicBool,
}

impl WriteMonitor {
    /// Returns what is different after each call of the writer has begun or returned.
    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Acquire)
    }

    /// Whether [`steps`](Self::steps) were read inside of a call.
    pub(super) fn is_inside(steps: u64) -> bool {
        steps % 2 == 1
    }

    /// Has less handed over at once as long as somebody watches.
    pub(super) fn watch(&self, is_watched: bool) {
        self.is_watched.store(is_watched, Ordering::Relaxed);
    }

    fn step(&self) {
        // Only the writer's thread does.
        let next = self.steps.load(Ordering::Relaxed).wrapping_add(1);
        self.steps.store(next, Ordering::Release);
    }

    fn call<T>(&self, call: impl FnOnce() -> T) -> T {
        /// Also if the call panics.
        struct Return<'a>(&'a WriteMonitor);
        impl Drop for Return<'_> {
            fn drop(&mut self) {
                self.0.step();
            }
        }

        self.step();
        let _return = Return(self);
        call()
    }
}

pub(super) struct MonitoredWriter {
    writer: BoxedWriter,
    monitor: Arc<WriteMonitor>,
}

impl MonitoredWriter {
    pub(super) fn new(writer: BoxedWriter, monitor: Arc<WriteMonitor>) -> Self {
        Self { writer, monitor }
    }

    pub(super) fn into_inner(self) -> BoxedWriter {
        self.writer
    }
}

impl Write for MonitoredWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = if self.monitor.is_watched.load(Ordering::Relaxed) {
            MOST_WATCHED
        } else {
            MOST
        };
        let bytes = bytes.get(..most).unwrap_or(bytes);
        self.monitor.call(|| self.writer.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.monitor.call(|| self.writer.flush())
    }
}
