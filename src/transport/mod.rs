//! The byte streams that a connection runs over: descriptors, sockets, child processes, memory.
//!
//! This layer knows nothing of packets. It makes a pair of streams out of something, and knows
//! what is special about its origin: how to free a thread that is stuck in it, how to end it, and
//! what can be said about how it ended.

mod buffer;
mod child;
mod connector;
#[cfg(unix)]
mod fd;
mod hooks;
mod memory;
mod patience;
mod process;
mod socket;
mod stderr;
mod stdio;
#[cfg(test)]
mod testing;

use std::fmt;
use std::io::{BufRead, Write};
use std::sync::Arc;

pub use self::connector::Connector;
pub(crate) use self::hooks::Hooks;

/// A pair of byte streams, one to read and one to write, that a connection can run over.
///
/// Anything that can be read and written is a transport, see [`new`](Self::new). For the usual
/// things there is a ready conversion:
///
/// | made from | what its shutdown hook frees | dropping it |
/// |---|---|---|
/// | [`pair`](Self::pair), in memory | reader and writer | ends the stream for the other half |
/// | `TryFrom<TcpStream>`, `TryFrom<UnixStream>` | reader and writer | closes the socket |
/// | `TryFrom<OwnedFd>`, `TryFrom<File>`, or a pair of them (reader, writer) | the ends that are sockets | closes them |
/// | `TryFrom<Arc<File>>` or a pair of them, [`from_borrowed_fd`], [`from_borrowed_fds`] | the ends that are sockets | leaves the lender's open |
/// | [`stdio`](Self::stdio) | the ends that are sockets | leaves the process's own open |
/// | [`spawn`](Self::spawn), `TryFrom<Child>` | kills the child | closes its stdin, gives it one second, kills and reaps it |
///
/// The conversions from descriptors and Unix sockets exist on Unix only.
///
/// [`from_borrowed_fd`]: Self#method.from_borrowed_fd
/// [`from_borrowed_fds`]: Self#method.from_borrowed_fds
///
/// # Buffers
///
/// The reader is buffered, with 512 octets at the first read, and 4, 64 and 256 KiB as each has been
/// too small. The writer is not: a connection gathers its packets before it writes them, in 208 KiB
/// from the first one on. What is never used of either is never resident on most systems.
///
/// # Descriptors that do not block
///
/// A socket or descriptor with `O_NONBLOCK` or a read or write timeout works, but not well: it is
/// tried again up to a hundred times a second while there is nothing to do. With the feature `unix`
/// it is waited for with `poll` instead. Its mode is never changed, since others may share it.
///
/// # `SIGPIPE`
///
/// Writing to a socket never raises it. Writing to a pipe whose reader is gone does, and a process
/// must ignore the signal before it opens a connection over pipes or a child. Rust's `main` does
/// so. A program that has restored the default, or whose `main` is not Rust's, such as the host of
/// a plugin, has to do it itself: `signal(SIGPIPE, SIG_IGN)`.
///
/// # Drop
///
/// Dropping a transport drops both streams. That of a child process blocks until the child is
/// reaped: for one second if it does not end by itself, and then for as long as it takes to kill it
/// (after a further second, which only one stuck in the kernel needs, a thread goes on waiting).
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use packetstream::Transport;
///
/// # fn main() -> std::io::Result<()> {
/// let (ours, theirs) = Transport::pair();
/// let (_, mut writer) = ours.into_parts();
/// let (mut reader, _) = theirs.into_parts();
///
/// writer.write_all(b"over there")?;
/// drop(writer);
///
/// let mut received = String::new();
/// reader.read_to_string(&mut received)?;
/// assert_eq!(received, "over there");
/// # Ok(())
/// # }
/// ```
#[doc(alias = "recv_send")]
#[must_use = "dropping it closes what it owns of its streams, and ends a child process"]
pub struct Transport {
    // Fields are dropped in this order: a child can only end before its reaping in `hooks` gives
    // up on it once its stdout has nobody to wait for.
    reader: BoxedReader,
    writer: BoxedWriter,
    hooks: Hooks,
}

impl Transport {
    /// Makes a transport of any reader and writer.
    ///
    /// The writer needs no buffer: whole batches of packets are written at once, then flushed. Both
    /// are used by one thread each. Without [`with_shutdown`](Self::with_shutdown) nothing can free
    /// a thread that is stuck in one of them.
    ///
    /// The octets that `reader` says it has read it must have written: it is given memory in which
    /// earlier payloads have lain.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::Transport;
    ///
    /// let requests: &[u8] = b"\x03\x00\x02\x00";
    /// let transport = Transport::new(requests, Vec::new());
    /// assert!(format!("{transport:?}").contains("shutdown: false"));
    /// ```
    pub fn new(reader: impl BufRead + Send + 'static, writer: impl Write + Send + 'static) -> Self {
        Self::from_parts(TransportParts {
            reader: Box::new(reader),
            writer: Box::new(writer),
            hooks: Hooks::default(),
        })
    }

    /// Sets what frees a thread that is stuck in the reader or in the writer.
    ///
    /// It is called when a connection has to end by force or writing has failed, from any thread and
    /// possibly more than once. It must not block. Afterwards a read, also one that is waiting already, must return
    /// (end of input or an error), and so must a write (an error). It replaces a hook that was
    /// there before.
    ///
    /// Default: none, except for the origins listed [above](Self).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::BufReader;
    /// use std::net::{Shutdown, TcpListener, TcpStream};
    /// use packetstream::Transport;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let address = listener.local_addr()?;
    /// let stream = TcpStream::connect(address)?;
    /// let reader = BufReader::new(stream.try_clone()?);
    /// let writer = stream.try_clone()?;
    /// let transport = Transport::new(reader, writer).with_shutdown(move || {
    ///     // It fails only when the peer is gone, and then nobody is stuck.
    ///     let _ = stream.shutdown(Shutdown::Both);
    /// });
    /// # assert!(format!("{transport:?}").contains("shutdown: true"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_shutdown(mut self, shutdown: impl Fn() + Send + Sync + 'static) -> Self {
        self.hooks.shutdown = Some(Arc::new(shutdown));
        // Who is wrong about the reader loses no more than its own thread: no caller reads.
        (self.hooks.free_reader, self.hooks.frees_writer) = (None, true);
        self
    }

    /// Says that a little that the peer has not read can always be written without blocking.
    pub(crate) fn buffered(mut self) -> Self {
        self.hooks.is_buffered = true;
        self
    }

    /// Sets what frees whoever is stuck in the reader, which the shutdown hook has to do as well.
    pub(crate) fn freeing_reader(mut self, free: impl Fn() + Send + Sync + 'static) -> Self {
        self.hooks.free_reader = Some(Arc::new(free));
        self
    }

    /// Sets a shutdown hook that may leave a thread stuck in reader or writer.
    pub(crate) fn with_partial_shutdown(
        mut self,
        shutdown: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        self.hooks.shutdown = Some(Arc::new(shutdown));
        (self.hooks.free_reader, self.hooks.frees_writer) = (None, false);
        self
    }

    /// Sets what is done once everything has been written, the end of the stream included.
    ///
    /// It is called at most once, after the last flush. Use it to tell a peer that waits for the
    /// end of its input. It replaces a hook that was there before.
    ///
    /// Default: none, so that the streams can carry a further connection; for a child process it
    /// closes its stdin.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use packetstream::Transport;
    ///
    /// let transport = Transport::new(io::empty(), io::sink())
    ///     .with_end_of_write(|| println!("everything is written"));
    /// assert!(format!("{transport:?}").contains("end_of_write: true"));
    /// ```
    pub fn with_end_of_write(mut self, end_of_write: impl FnOnce() + Send + 'static) -> Self {
        self.hooks.end_of_write = Some(Box::new(end_of_write));
        self
    }

    /// Sets what tells how the transport ended, in words for a person.
    ///
    /// It is asked when the stream has ended without a goodbye, and may block for a moment (that of
    /// a child waits at most 100 ms for its exit, and as long again for the end of its stderr).
    /// `None` says that there is nothing to tell. It replaces a hook that was there before.
    ///
    /// Default: none; for a child process its exit status, and the last lines of its stderr if
    /// that is piped.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use packetstream::Transport;
    ///
    /// let transport = Transport::new(io::empty(), io::sink())
    ///     .with_diagnosis(|| Some("the modem hung up".to_owned()));
    /// assert!(format!("{transport:?}").contains("diagnosis: true"));
    /// ```
    pub fn with_diagnosis(
        mut self,
        diagnosis: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.hooks.diagnosis = Some(Arc::new(diagnosis));
        self
    }

    /// Takes the transport apart into its reader and its writer.
    ///
    /// The reader may hold octets that it has read ahead. The hooks are dropped without being
    /// called, but nothing is left behind: a child process belongs to the two parts from here on.
    /// Dropping the writer closes its stdin; dropping the second of the two ends the child as
    /// dropping the transport would have done (see [above](Self#drop)).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{BufRead, Write};
    /// use packetstream::Transport;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let transport = Transport::new(&b"a line\nmore"[..], Vec::new());
    /// let (mut reader, mut writer) = transport.into_parts();
    /// let mut line = String::new();
    /// reader.read_line(&mut line)?;
    /// assert_eq!(line, "a line\n");
    /// writer.write_all(b"an answer")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_parts(self) -> (Box<dyn BufRead + Send>, Box<dyn Write + Send>) {
        let Self {
            reader,
            writer,
            hooks,
        } = self;
        match hooks.finish {
            None => (reader, writer),
            Some(finish) => hooks::bind(reader, writer, finish),
        }
    }

    /// Takes the transport apart for a connection, which calls the hooks itself.
    ///
    /// The reader is to be dropped before `hooks.finish` is called or dropped: a child that still
    /// writes then fails with a broken pipe instead of waiting to be killed.
    pub(crate) fn split(self) -> TransportParts {
        let Self {
            reader,
            writer,
            hooks,
        } = self;
        TransportParts {
            reader,
            writer,
            hooks,
        }
    }

    /// Puts together what [`split`](Self::split) took apart.
    pub(crate) fn from_parts(parts: TransportParts) -> Self {
        let TransportParts {
            reader,
            writer,
            hooks,
        } = parts;
        Self {
            reader,
            writer,
            hooks,
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("hooks", &self.hooks)
            .finish_non_exhaustive()
    }
}

/// What a connection takes a transport apart into.
///
/// To be dropped in the order of its fields, see [`Transport::split`].
pub(crate) struct TransportParts {
    pub(crate) reader: BoxedReader,
    pub(crate) writer: BoxedWriter,
    pub(crate) hooks: Hooks,
}

/// The reading half of a transport.
pub(crate) type BoxedReader = Box<dyn BufRead + Send>;

/// The writing half of a transport.
pub(crate) type BoxedWriter = Box<dyn Write + Send>;
