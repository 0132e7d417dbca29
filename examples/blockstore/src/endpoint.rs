//! Where a server is, and how it is reached.

use std::fmt;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use packetstream::Transport;

use crate::escape;

/// The least time that an attempt to connect gets.
const SHORTEST: Duration = Duration::from_millis(1);

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A command for `sh -c`, which speaks over its standard input and output.
    Command(String),
    /// A TCP address, `host:port`.
    Tcp(String),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// Connects, or starts the command; an attempt to connect lasts no longer than the timeout.
    pub(crate) fn connect(&self, timeout: Option<Duration>) -> io::Result<Transport> {
        match self {
            Self::Command(command) => Transport::spawn(Command::new("sh").arg("-c").arg(command)),
            Self::Tcp(address) => {
                let address = address.clone();
                within(timeout, move || connect_tcp(&address, timeout))?.try_into()
            }
            #[cfg(unix)]
            Self::Unix(path) => {
                let path = path.clone();
                let connect = move || std::os::unix::net::UnixStream::connect(path);
                within(timeout, connect)?.try_into()
            }
            #[cfg(not(unix))]
            Self::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(command) => write!(f, "`{command}`"),
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => f.write_str(&escape::path(path)),
        }
    }
}

/// Connects on a thread of its own if there is a timeout: what looks up names, and what waits for
/// room in the queue of a Unix socket, takes none. The thread ends when that has ended.
fn within<S: Send + 'static>(
    timeout: Option<Duration>,
    connect: impl FnOnce() -> io::Result<S> + Send + 'static,
) -> io::Result<S> {
    let Some(timeout) = timeout else {
        return connect();
    };
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("connect".to_owned())
        .spawn(move || {
            // Nobody waits any more if it is late.
            let _ = sender.send(connect());
        })?;
    receiver
        .recv_timeout(timeout)
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Tries all addresses of a name; each has its share of the time that is left.
fn connect_tcp(address: &str, timeout: Option<Duration>) -> io::Result<TcpStream> {
    let Some(timeout) = timeout else {
        return TcpStream::connect(address);
    };
    let start = Instant::now();
    let addresses: Vec<_> = address.to_socket_addrs()?.collect();
    let mut outcome = Err(io::ErrorKind::AddrNotAvailable.into());
    for (left, address) in (1..=addresses.len()).rev().zip(&addresses) {
        let share = timeout.saturating_sub(start.elapsed()) / u32::try_from(left).unwrap_or(1);
        // Zero is refused.
        outcome = TcpStream::connect_timeout(address, share.max(SHORTEST));
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}
