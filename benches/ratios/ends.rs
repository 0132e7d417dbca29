//! The two ends of a connection in this process, and the small payloads that they exchange.

use std::collections::VecDeque;
use std::io;

use packetstream::{
    BoxError, Connection, ConnectionBuilder, OpenGuard, PendingResponse, Request, Transport,
};

#[cfg(not(unix))]
pub(crate) use std::net::TcpStream as Socket;
#[cfg(unix)]
pub(crate) use std::os::unix::net::UnixStream as Socket;

/// The size of the payloads of small calls, in octets.
pub(crate) const SMALL: usize = 16;

/// A pair of connected sockets.
#[cfg(unix)]
pub(crate) fn sockets() -> io::Result<(Socket, Socket)> {
    Socket::pair()
}

/// The same where there are no Unix sockets.
#[cfg(not(unix))]
pub(crate) fn sockets() -> io::Result<(Socket, Socket)> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let ours = Socket::connect(listener.local_addr()?)?;
    let (theirs, _) = listener.accept()?;
    ours.set_nodelay(true)?;
    theirs.set_nodelay(true)?;
    Ok((ours, theirs))
}

/// Both ends of an open connection.
pub(crate) struct Ends {
    pub(crate) client: OpenGuard,
    pub(crate) server: OpenGuard,
}

impl Ends {
    /// Opens a connection with default settings whose server reverses the octets.
    pub(crate) fn open() -> Result<Self, BoxError> {
        Self::open_with(Connection::builder(), reversing())
    }

    pub(crate) fn open_with(
        client: ConnectionBuilder,
        server: ConnectionBuilder,
    ) -> Result<Self, BoxError> {
        let (ours, theirs) = sockets()?;
        Ok(Self {
            server: server.name("server").open(Transport::try_from(theirs)?)?,
            client: client.name("client").open(Transport::try_from(ours)?)?,
        })
    }

    /// How often the ends have called `write`.
    pub(crate) fn writes(&self) -> u64 {
        self.client.stats().writes + self.server.stats().writes
    }

    pub(crate) fn close(self) -> Result<(), BoxError> {
        self.client.close().into_result()?;
        self.server.close().into_result()?;
        Ok(())
    }
}

/// The settings of a server that reverses the octets.
pub(crate) fn reversing() -> ConnectionBuilder {
    Connection::builder().handler(|incoming| {
        let mut payload = incoming.into_payload();
        payload.reverse();
        Ok(payload)
    })
}

/// The payload of a call, different for every number.
pub(crate) fn payload(number: usize) -> [u8; SMALL] {
    (number as u128 + (7 << 64)).to_be_bytes()
}

/// Checks that `answer` is the payload of the call with that number, reversed.
pub(crate) fn check(answer: &[u8], number: usize) -> Result<(), BoxError> {
    let mut expected = payload(number);
    expected.reverse();
    if *answer == expected {
        Ok(())
    } else {
        Err("a wrong answer".into())
    }
}

/// Makes calls of which `window` are outstanding, once there are as many.
pub(crate) fn pipelined_calls(
    client: &Connection,
    calls: usize,
    window: usize,
) -> Result<(), BoxError> {
    let mut outstanding: VecDeque<(usize, PendingResponse)> = VecDeque::with_capacity(window);
    for number in 0..calls {
        if outstanding.len() == window {
            outstanding.pop_front().map_or(Ok(()), collect)?;
        }
        let pending = client.submit(Request::new(0).with_payload(payload(number)))?;
        outstanding.push_back((number, pending));
    }
    outstanding.into_iter().try_for_each(collect)
}

fn collect((number, pending): (usize, PendingResponse)) -> Result<(), BoxError> {
    check(pending.wait()?.payload(), number)
}
