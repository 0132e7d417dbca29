//! Sockets: one descriptor, shared by reader, writer and shutdown hook.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Weak};

use super::Transport;
use super::buffer::LazyBufReader;
use super::patience::{Interest, Patience};

/// Makes a transport of a TCP connection, with `TCP_NODELAY` set.
///
/// A connection gathers its packets itself before it writes them, so that Nagle's algorithm could
/// only delay them.
///
/// # Errors
///
/// The error of [`TcpStream::set_nodelay`].
///
/// # Examples
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use packetstream::Transport;
///
/// # fn main() -> std::io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = Transport::try_from(TcpStream::connect(listener.local_addr()?)?)?;
/// let server = Transport::try_from(listener.accept()?.0)?;
/// # Ok(())
/// # }
/// ```
impl TryFrom<TcpStream> for Transport {
    type Error = io::Error;

    fn try_from(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(SharedSocket::new(stream).into_transport())
    }
}

/// A connected stream socket of any family.
///
/// `TcpStream` stands for all families: on every platform it does nothing but receive, send and
/// shut down, which work the same for all. And unlike `UnixStream` it passes `MSG_NOSIGNAL` in all
/// versions of `std` that we support, so that a host which lets `SIGPIPE` kill it survives a peer
/// that is gone. For the same reason there is no `write_vectored`: that one sends without the flag.
#[derive(Clone)]
pub(super) struct SharedSocket {
    socket: Arc<Socket>,
}

struct Socket {
    stream: TcpStream,
    patience: Patience,
}

impl SharedSocket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            socket: Arc::new(Socket {
                stream,
                patience: Patience::default(),
            }),
        }
    }

    pub(super) fn into_transport(self) -> Transport {
        let (shutdown, free_reader) = (self.shutdown_hook(), self.free_reader_hook());
        Transport::new(LazyBufReader::new(self.clone()), self)
            .with_shutdown(shutdown)
            .freeing_reader(free_reader)
            .buffered()
    }

    /// Returns what frees the threads that read and write this socket.
    ///
    /// It holds no share of the socket: that closes with reader and writer, however long the hook
    /// is kept.
    pub(super) fn shutdown_hook(&self) -> impl Fn() + Send + Sync + use<> {
        let socket = Arc::downgrade(&self.socket);
        move || {
            if let Some(socket) = Weak::upgrade(&socket) {
                // It fails only if the connection is gone, and then nobody is stuck in it.
                let _ = socket.stream.shutdown(Shutdown::Both);
                socket.patience.end();
            }
        }
    }

    /// Returns what frees the thread that reads this socket, and lets the other write. It holds no
    /// share of the socket either.
    fn free_reader_hook(&self) -> impl Fn() + Send + Sync + use<> {
        // Elsewhere a read that has begun may not notice that its direction is shut.
        let direction = if cfg!(target_os = "linux") {
            Shutdown::Read
        } else {
            Shutdown::Both
        };
        let socket = Arc::downgrade(&self.socket);
        move || {
            if let Some(socket) = Weak::upgrade(&socket) {
                // As above.
                let _ = socket.stream.shutdown(direction);
            }
        }
    }
}

impl Read for SharedSocket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Socket { stream, patience } = &*self.socket;
        patience.retry(stream, Interest::Read, || (&*stream).read(buf))
    }
}

impl Write for SharedSocket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let Socket { stream, patience } = &*self.socket;
        patience.retry(stream, Interest::Write, || (&*stream).write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;
    use std::net::TcpListener;

    #[cfg(target_os = "linux")]
    use super::super::testing::assert_frees_reader_alone;
    use super::super::testing::{assert_connected, assert_shutdown_frees, within_deadline};
    use super::*;

    fn tcp_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn tcp_carries_octets_both_ways() {
        let (one, other) = tcp_pair();
        assert_connected(one.try_into().unwrap(), other.try_into().unwrap());
    }

    #[test]
    fn tcp_does_not_delay() {
        let (one, _other) = tcp_pair();
        let observer = one.try_clone().unwrap();
        let _transport = Transport::try_from(one).unwrap();
        assert!(observer.nodelay().unwrap());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn reader_is_freed_alone() {
        let (one, other) = tcp_pair();
        assert_frees_reader_alone(one.try_into().unwrap(), other.try_into().unwrap());
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_frees_reader_alone(one.try_into().unwrap(), other.try_into().unwrap());
    }

    #[test]
    fn shutdown_frees_stuck_threads() {
        let (one, other) = tcp_pair();
        assert_shutdown_frees(one.try_into().unwrap(), other);
    }

    #[test]
    fn a_kept_shutdown_hook_does_not_keep_the_socket_open() {
        let (one, other) = tcp_pair();
        let mut parts = Transport::try_from(one).unwrap().split();
        let shutdown = parts.hooks.shutdown.take().unwrap();
        drop(parts);
        let (mut reader, _writer) = Transport::try_from(other).unwrap().into_parts();
        assert!(within_deadline(move || reader
            .fill_buf()
            .unwrap()
            .is_empty()));
        shutdown();
    }

    #[test]
    fn sockets_that_do_not_block_work() {
        let (one, other) = tcp_pair();
        one.set_nonblocking(true).unwrap();
        other.set_nonblocking(true).unwrap();
        assert_connected(one.try_into().unwrap(), other.try_into().unwrap());
    }

    #[test]
    fn shutdown_frees_threads_stuck_in_a_socket_that_does_not_block() {
        let (one, other) = tcp_pair();
        one.set_nonblocking(true).unwrap();
        assert_shutdown_frees(one.try_into().unwrap(), other);
    }

    #[test]
    fn a_read_timeout_of_the_socket_is_waited_out() {
        let (one, other) = tcp_pair();
        one.set_read_timeout(Some(std::time::Duration::from_millis(1)))
            .unwrap();
        assert_shutdown_frees(one.try_into().unwrap(), other);
    }
}
