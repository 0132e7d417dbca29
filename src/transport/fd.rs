//! File descriptors: owned, lent and borrowed ones, alone or as a pair.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::Transport;
use super::buffer::LazyBufReader;
use super::patience::{Interest, Patience};
use super::socket::SharedSocket;

impl Transport {
    /// Makes a transport of a descriptor that is borrowed for both directions.
    ///
    /// The descriptor is duplicated; the duplicate is not inherited by child processes, and the
    /// lender's own stays open. If it is a socket, the shutdown hook ends the lender's connection
    /// too, since both are the same.
    ///
    /// # Errors
    ///
    /// The descriptor cannot be duplicated, or is a socket that has failed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::os::fd::AsFd;
    /// use std::os::unix::net::UnixStream;
    /// use packetstream::Transport;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (mut lent, mut peer) = UnixStream::pair()?;
    /// drop(Transport::from_borrowed_fd(lent.as_fd())?);
    ///
    /// lent.write_all(b"!")?; // still open
    /// peer.read_exact(&mut [0])?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_borrowed_fd(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        descriptor.try_clone_to_owned()?.try_into()
    }

    /// Makes a transport of two descriptors that are borrowed, one to read and one to write.
    ///
    /// They are duplicated as in [`from_borrowed_fd`](Self::from_borrowed_fd). They may be the
    /// same.
    ///
    /// # Errors
    ///
    /// A descriptor cannot be duplicated, or is a socket that has failed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use std::os::fd::AsFd;
    /// use packetstream::Transport;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, _peer_writer) = io::pipe()?;
    /// let (_peer_reader, writer) = io::pipe()?;
    /// let transport = Transport::from_borrowed_fds(reader.as_fd(), writer.as_fd())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_borrowed_fds(reader: BorrowedFd<'_>, writer: BorrowedFd<'_>) -> io::Result<Self> {
        (reader.try_clone_to_owned()?, writer.try_clone_to_owned()?).try_into()
    }
}

/// Makes a transport of a Unix stream socket.
///
/// # Errors
///
/// None at present.
///
/// # Examples
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use packetstream::Transport;
///
/// # fn main() -> std::io::Result<()> {
/// let (ours, theirs) = UnixStream::pair()?;
/// let transport = Transport::try_from(ours)?;
/// # Ok(())
/// # }
/// ```
impl TryFrom<UnixStream> for Transport {
    type Error = io::Error;

    fn try_from(stream: UnixStream) -> io::Result<Self> {
        Ok(SharedSocket::new(TcpStream::from(OwnedFd::from(stream))).into_transport())
    }
}

/// Makes a transport of a descriptor for both directions, such as a socket or a terminal.
///
/// # Errors
///
/// The descriptor is a socket that has failed.
impl TryFrom<OwnedFd> for Transport {
    type Error = io::Error;

    fn try_from(descriptor: OwnedFd) -> io::Result<Self> {
        End::owned(descriptor).map(both_directions)
    }
}

/// Makes a transport of two descriptors, one to read and one to write, such as two pipes.
///
/// # Errors
///
/// A descriptor is a socket that has failed.
///
/// # Examples
///
/// ```
/// use std::io;
/// use std::os::fd::OwnedFd;
/// use packetstream::Transport;
///
/// # fn main() -> std::io::Result<()> {
/// let (reader, _peer_writer) = io::pipe()?;
/// let (_peer_reader, writer) = io::pipe()?;
/// let transport = Transport::try_from((OwnedFd::from(reader), OwnedFd::from(writer)))?;
/// # Ok(())
/// # }
/// ```
impl TryFrom<(OwnedFd, OwnedFd)> for Transport {
    type Error = io::Error;

    fn try_from((reader, writer): (OwnedFd, OwnedFd)) -> io::Result<Self> {
        Ok(join(End::owned(reader)?, End::owned(writer)?))
    }
}

/// Makes a transport of a file for both directions.
///
/// # Errors
///
/// The file is a socket that has failed.
impl TryFrom<File> for Transport {
    type Error = io::Error;

    fn try_from(file: File) -> io::Result<Self> {
        OwnedFd::from(file).try_into()
    }
}

/// Makes a transport of two files, one to read and one to write, such as two named pipes.
///
/// # Errors
///
/// A file is a socket that has failed.
impl TryFrom<(File, File)> for Transport {
    type Error = io::Error;

    fn try_from((reader, writer): (File, File)) -> io::Result<Self> {
        (OwnedFd::from(reader), OwnedFd::from(writer)).try_into()
    }
}

/// Makes a transport of a file that is lent for both directions.
///
/// The file stays open as long as the lender holds it too. If it is a socket, the shutdown hook
/// ends the lender's connection too.
///
/// # Errors
///
/// The descriptor cannot be duplicated, or is a socket that has failed.
impl TryFrom<Arc<File>> for Transport {
    type Error = io::Error;

    fn try_from(file: Arc<File>) -> io::Result<Self> {
        End::lent(file).map(both_directions)
    }
}

/// Makes a transport of two files that are lent, one to read and one to write.
///
/// # Errors
///
/// A descriptor cannot be duplicated, or is a socket that has failed.
impl TryFrom<(Arc<File>, Arc<File>)> for Transport {
    type Error = io::Error;

    fn try_from((reader, writer): (Arc<File>, Arc<File>)) -> io::Result<Self> {
        Ok(join(End::lent(reader)?, End::lent(writer)?))
    }
}

/// One end of a transport.
#[derive(Clone)]
enum End {
    Socket(SharedSocket),
    // Nothing ends its patience: there is no way either to free a thread that is stuck in a pipe.
    File {
        file: Arc<File>,
        patience: Arc<Patience>,
    },
}

impl End {
    fn owned(descriptor: OwnedFd) -> io::Result<Self> {
        Ok(match socket_or_other(descriptor)? {
            Ok(socket) => Self::Socket(SharedSocket::new(socket)),
            Err(other) => Self::file(Arc::new(File::from(other))),
        })
    }

    fn lent(file: Arc<File>) -> io::Result<Self> {
        Ok(match socket_or_other(file.as_fd().try_clone_to_owned()?)? {
            Ok(socket) => Self::Socket(SharedSocket::new(socket)),
            Err(_duplicate) => Self::file(file),
        })
    }

    fn file(file: Arc<File>) -> Self {
        Self::File {
            file,
            patience: Arc::default(),
        }
    }

    fn shutdown_hook(&self) -> Option<impl Fn() + Send + Sync + use<>> {
        match self {
            Self::Socket(socket) => Some(socket.shutdown_hook()),
            Self::File { .. } => None,
        }
    }
}

impl Read for End {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => socket.read(buf),
            Self::File { file, patience } => {
                patience.retry(file, Interest::Read, || (&**file).read(buf))
            }
        }
    }
}

impl Write for End {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => socket.write(buf),
            Self::File { file, patience } => {
                patience.retry(file, Interest::Write, || (&**file).write(buf))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn both_directions(end: End) -> Transport {
    match end {
        End::Socket(socket) => socket.into_transport(),
        End::File { .. } => join(end.clone(), end),
    }
}

fn join(reader: End, writer: End) -> Transport {
    let hooks = (reader.shutdown_hook(), writer.shutdown_hook());
    let transport = Transport::new(LazyBufReader::new(reader), writer);
    match hooks {
        (None, None) => transport,
        (Some(shutdown), None) => transport.with_partial_shutdown(shutdown),
        (None, Some(shutdown)) => transport.with_shutdown(shutdown),
        (Some(reader), Some(writer)) => transport.with_shutdown(move || {
            reader();
            writer();
        }),
    }
}

/// Tells a socket of any family from everything else.
fn socket_or_other(descriptor: OwnedFd) -> io::Result<Result<TcpStream, OwnedFd>> {
    let socket = UnixStream::from(descriptor);
    // It asks for `SO_ERROR`, which every socket has and nothing else does.
    match socket.take_error() {
        Ok(None) => {
            let socket = TcpStream::from(OwnedFd::from(socket));
            // Only TCP has the option, and what it delays without is late, not lost.
            let _ = socket.set_nodelay(true);
            Ok(Ok(socket))
        }
        Ok(Some(pending)) => Err(pending),
        Err(_not_a_socket) => Ok(Err(OwnedFd::from(socket))),
    }
}

#[cfg(test)]
#[path = "fd_tests.rs"]
mod tests;
