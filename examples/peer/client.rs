//! The connection under test as the tests see it: every wait has a limit, and an answer is an
//! answer whether it is ok or not.

use std::fmt;
use std::io;
use std::time::Duration;

use packetstream::{Connection, Error, Flags, PendingResponse, Request, Response};

use crate::requests::{ECHO_FLAGS, reversed};

/// The connection under test, with a limit to every wait.
pub(crate) struct Client {
    connection: Connection,
    timeout: Duration,
}

impl Client {
    pub(crate) fn new(connection: Connection, timeout: Duration) -> Self {
        Self {
            connection,
            timeout,
        }
    }

    pub(crate) fn submit(&self, request: Request) -> Result<PendingResponse, Failure> {
        Ok(self.connection.submit(request)?)
    }

    /// Waits until the request is settled, one way or the other.
    pub(crate) fn wait(
        &self,
        pending: PendingResponse,
    ) -> Result<packetstream::Result<Response>, Failure> {
        pending
            .wait_timeout(self.timeout)
            .map_err(|_unanswered| Failure::Hang(self.timeout))
    }

    pub(crate) fn collect(&self, pending: PendingResponse) -> Result<Answer, Failure> {
        Answer::of(self.wait(pending)?)
    }

    pub(crate) fn call(&self, request: Request) -> Result<Answer, Failure> {
        self.collect(self.submit(request)?)
    }

    pub(crate) fn expect(&self, request: Request, wanted: &Answer) -> Result<(), Failure> {
        same(&self.call(request)?, wanted)
    }

    /// How many requests the server has made of this end.
    pub(crate) fn calls_back(&self) -> u64 {
        self.connection.stats().requests_received
    }
}

/// An answer, whether it is ok or a rejection.
#[derive(PartialEq)]
pub(crate) struct Answer {
    ok: bool,
    flags: Flags,
    payload: Vec<u8>,
}

impl Answer {
    pub(crate) fn of(result: Result<Response, Error>) -> Result<Self, Failure> {
        match result {
            Ok(response) => Ok(Self {
                ok: true,
                flags: response.flags(),
                payload: response.into_payload(),
            }),
            Err(Error::Rejected(rejection)) => Ok(Self {
                ok: false,
                flags: rejection.flags(),
                payload: rejection.payload().to_vec(),
            }),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn ok(flags: impl Into<Flags>, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            ok: true,
            flags: flags.into(),
            payload: payload.into(),
        }
    }

    pub(crate) fn echo(payload: &[u8]) -> Self {
        Self::ok(ECHO_FLAGS, reversed(payload))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ok = if self.ok { "ok" } else { "not ok" };
        let (len, beginning) = (
            self.payload.len(),
            &self.payload[..self.payload.len().min(60)],
        );
        write!(
            f,
            "{ok}, flags {}, {len} octets: {}",
            self.flags,
            beginning.escape_ascii()
        )
    }
}

/// Why a test failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Wrong(String),
    #[error("no answer in {0:?}")]
    Hang(Duration),
    #[error(transparent)]
    Lost(#[from] Error),
    #[error("a thread cannot be started")]
    Thread(#[from] io::Error),
}

pub(crate) fn same(got: &Answer, wanted: &Answer) -> Result<(), Failure> {
    ensure(got == wanted, || format!("got {got}; wanted {wanted}"))
}

/// Any payload will do for a failure, but nothing else.
pub(crate) fn not_ok(got: &Answer) -> Result<(), Failure> {
    ensure(!got.ok && got.flags.is_empty(), || {
        format!("got {got}; wanted a failure")
    })
}

pub(crate) fn ensure(condition: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if condition {
        Ok(())
    } else {
        Err(Failure::Wrong(otherwise()))
    }
}

pub(crate) fn flags(bits: u64) -> Result<Flags, Failure> {
    Flags::try_from(bits).map_err(|error| Failure::Wrong(error.to_string()))
}
