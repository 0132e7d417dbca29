//! Where a server is, and how it is reached.

use std::fmt;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use packetstream::Transport;

use crate::escape;

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
            Self::Tcp(address) => connect_tcp(address, timeout)?.try_into(),
            #[cfg(unix)]
            Self::Unix(path) => std::os::unix::net::UnixStream::connect(path)?.try_into(),
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

/// Tries all addresses of a name, each for so long.
fn connect_tcp(address: &str, timeout: Option<Duration>) -> io::Result<TcpStream> {
    let Some(timeout) = timeout else {
        return TcpStream::connect(address);
    };
    let mut outcome = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in address.to_socket_addrs()? {
        outcome = TcpStream::connect_timeout(&address, timeout);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}
