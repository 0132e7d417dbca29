//! What can be done with a transport besides reading and writing.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::{BoxedReader, BoxedWriter};

/// What a transport's origin can do with it; each hook may be missing.
#[derive(Default)]
pub(crate) struct Hooks {
    /// Frees a thread that is stuck in the reader or the writer.
    pub(crate) shutdown: Option<ShutdownHook>,
    /// Frees whoever is stuck in the reader, for certain. Writing goes on, if the system can do one
    /// without the other.
    pub(crate) free_reader: Option<ShutdownHook>,
    /// Whether `shutdown` frees whoever is stuck in the writer for certain.
    pub(crate) frees_writer: bool,
    /// Whether the writer has a buffer of the operating system, or one that is no smaller, behind
    /// it: then a little that the peer has not read can be written without blocking.
    pub(crate) is_buffered: bool,
    /// Tells the peer that nothing more will be written.
    pub(crate) end_of_write: Option<EndOfWriteHook>,
    /// Tells how the transport ended.
    pub(crate) diagnosis: Option<DiagnosisHook>,
    /// Ends what the transport came from, waiting for it until the deadline (`None`: without
    /// limit) before it is forced. Dropping the hook uncalled does the same with a short deadline.
    pub(crate) finish: Option<FinishHook>,
    /// Has `finish` wait no longer than until that moment, also while it runs on another thread.
    pub(crate) hasten: Option<HastenHook>,
}

pub(crate) type ShutdownHook = Arc<dyn Fn() + Send + Sync>;
pub(crate) type EndOfWriteHook = Box<dyn FnOnce() + Send>;
pub(crate) type DiagnosisHook = Arc<dyn Fn() -> Option<String> + Send + Sync>;
pub(crate) type FinishHook = Box<dyn FnOnce(Option<Instant>) + Send>;
pub(crate) type HastenHook = Arc<dyn Fn(Instant) + Send + Sync>;

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("shutdown", &self.shutdown.is_some())
            .field("free_reader", &self.free_reader.is_some())
            .field("frees_writer", &self.frees_writer)
            .field("is_buffered", &self.is_buffered)
            .field("end_of_write", &self.end_of_write.is_some())
            .field("diagnosis", &self.diagnosis.is_some())
            .field("finish", &self.finish.is_some())
            .field("hasten", &self.hasten.is_some())
            .finish()
    }
}

/// Binds the origin of a transport to its two halves: the second of them to be dropped ends it.
pub(super) fn bind(
    reader: BoxedReader,
    writer: BoxedWriter,
    finish: FinishHook,
) -> (BoxedReader, BoxedWriter) {
    let origin = Arc::new(Mutex::new(finish));
    let reader = Half {
        stream: reader,
        _origin: Arc::clone(&origin),
    };
    let writer = Half {
        stream: writer,
        _origin: origin,
    };
    (Box::new(reader), Box::new(writer))
}

/// One half of a transport, and a share of what it came from.
struct Half<S> {
    // Dropped before the share: the origin may be waiting for this stream to close.
    stream: S,
    // Never locked: the mutex only makes a closure that is `Send` shareable between two threads.
    _origin: Arc<Mutex<FinishHook>>,
}

impl Read for Half<BoxedReader> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buf)
    }
}

impl BufRead for Half<BoxedReader> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.stream.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.stream.consume(amount);
    }
}

impl Write for Half<BoxedWriter> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::{Transport, TransportParts};
    use super::*;

    fn with_finish(finish: FinishHook) -> Transport {
        let mut parts = Transport::new(&b"read"[..], Vec::new()).split();
        parts.hooks.finish = Some(finish);
        Transport::from_parts(parts)
    }

    struct CountDrops(Arc<AtomicUsize>);

    impl Drop for CountDrops {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn second_half_to_go_ends_the_origin() {
        let drops = Arc::new(AtomicUsize::new(0));
        let counted = CountDrops(Arc::clone(&drops));
        let transport = with_finish(Box::new(move |_| drop(counted)));

        let (mut reader, mut writer) = transport.into_parts();
        assert_eq!(reader.fill_buf().unwrap(), b"read");
        writer.write_all(b"written").unwrap();
        drop(writer);
        assert_eq!(drops.load(Ordering::SeqCst), 0);
        drop(reader);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn split_and_from_parts_keep_every_hook() {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = |by| {
            let calls = Arc::clone(&calls);
            move || {
                calls.fetch_add(by, Ordering::SeqCst);
            }
        };
        let (finish, hasten) = (count(100), count(10_000));
        let mut parts = with_finish(Box::new(move |_| finish())).split();
        parts.hooks.hasten = Some(Arc::new(move |_| hasten()));
        let transport = Transport::from_parts(parts)
            .with_shutdown(count(1))
            .with_end_of_write(count(10))
            .with_diagnosis(|| Some("why".to_owned()))
            .freeing_reader(count(1000))
            .buffered();
        let shown = format!("{transport:?}");

        let TransportParts { hooks, .. } = Transport::from_parts(transport.split()).split();
        assert_eq!(shown, format!("Transport {{ hooks: {hooks:?}, .. }}"));
        assert!(!shown.contains("false"), "{shown}");
        hooks.shutdown.unwrap()();
        hooks.free_reader.unwrap()();
        hooks.end_of_write.unwrap()();
        hooks.finish.unwrap()(None);
        hooks.hasten.unwrap()(Instant::now());
        assert_eq!(calls.load(Ordering::SeqCst), 11_111);
        assert_eq!(hooks.diagnosis.unwrap()().as_deref(), Some("why"));
    }
}
