//! How a connection ended.

use std::sync::Arc;

use super::state::Losses;
use crate::error::{Error, Result};
use crate::outcome::Outcome;
use crate::transport::Transport;

/// How a connection ended, and what was lost.
///
/// Returned by [`OpenGuard::close`](crate::OpenGuard::close) and the other ways to end one.
///
/// # Examples
///
/// ```
/// use packetstream::{Connection, Transport};
///
/// # fn main() -> packetstream::Result<()> {
/// let (ours, theirs) = Transport::pair();
/// let client = Connection::builder().open(ours)?;
/// let server = Connection::builder().open(theirs)?;
///
/// let report = client.close();
/// assert!(report.is_last() && report.peer_said_goodbye());
/// let transport = report.into_transport().expect("both directions ended in order");
///
/// // The same streams carry another connection.
/// let transport_of_server = server.close().into_transport().expect("here too");
/// let _client = Connection::builder().open(transport)?;
/// let _server = Connection::builder().open(transport_of_server)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "it says whether anything was lost"]
pub struct CloseReport {
    summary: Summary,
    is_last: bool,
    in_progress: bool,
    transport: Option<Transport>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    pub(super) cause: Option<Arc<Error>>,
    pub(super) losses: Losses,
    pub(super) peer_said_goodbye: bool,
    pub(super) diagnosis: Option<Arc<str>>,
}

impl CloseReport {
    pub(super) fn finished(summary: Summary, transport: Option<Transport>) -> Self {
        Self {
            summary,
            is_last: true,
            in_progress: false,
            transport,
        }
    }

    /// Of a close that goes on, or is not due because others hold the connection open.
    pub(super) fn unfinished(summary: Summary, is_last: bool) -> Self {
        Self {
            summary,
            is_last,
            in_progress: is_last,
            transport: None,
        }
    }

    /// Of a connection of another process, of which this is a fork: nothing was done here.
    pub(super) fn of_other_process() -> Self {
        let summary = Summary {
            cause: Some(Arc::new(Error::OtherProcess(Outcome::Unknown))),
            ..Summary::default()
        };
        Self::unfinished(summary, false)
    }

    /// Returns what ended the connection out of order: a transport that failed, a peer that broke
    /// the protocol, a forced end. `None` if it ended in order.
    ///
    /// In a fork of the process that opened it, it is [`Error::OtherProcess`] and nothing was closed.
    ///
    /// The end of the input between two packets counts as order, see
    /// [`peer_said_goodbye`](Self::peer_said_goodbye).
    pub fn cause(&self) -> Option<&Error> {
        self.summary.cause.as_deref()
    }

    /// Turns the report into a result, for `?`.
    ///
    /// # Errors
    ///
    /// - The [`cause`](Self::cause), if there is one.
    /// - [`Error::StillOpen`] if nothing was closed, because other guards hold the connection open
    ///   ([`is_last`](Self::is_last)).
    pub fn into_result(self) -> Result<()> {
        match self.cause() {
            Some(cause) => Err(cause.clone()),
            None if !self.is_last => Err(Error::StillOpen),
            None => Ok(()),
        }
    }

    /// Returns `false` if other guards hold the connection open, so that nothing was closed.
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// Returns `true` if the close goes on in the background, because it was started on a thread
    /// that a connection needs for it.
    ///
    /// The report shows the state at its start. For the end see
    /// [`Connection::wait_closed`](crate::Connection::wait_closed).
    pub fn in_progress(&self) -> bool {
        self.in_progress
    }

    /// Returns `true` if the peer's stream ended with its `END_OF_STREAM`.
    pub fn peer_said_goodbye(&self) -> bool {
        self.summary.peer_said_goodbye
    }

    /// Returns the number of our requests that failed without having been sent.
    pub fn requests_not_sent(&self) -> u64 {
        self.summary.losses.requests_not_sent
    }

    /// Returns the number of our requests that failed after they were, or may have been, sent.
    pub fn requests_unknown(&self) -> u64 {
        self.summary.losses.requests_unknown
    }

    /// Returns the number of requests that were accepted from the peer and whose answers were
    /// not, or perhaps not, delivered.
    pub fn answers_lost(&self) -> u64 {
        self.summary.losses.answers_lost
    }

    /// Returns the number of the peer's requests that came after our `END_OF_STREAM` and were
    /// dropped.
    pub fn requests_dropped(&self) -> u64 {
        self.summary.losses.requests_dropped
    }

    /// Returns the number of responses that nobody was waiting for: late ones to requests that
    /// had been cancelled, and ones to no request.
    pub fn late_responses(&self) -> u64 {
        self.summary.losses.late_responses
    }

    /// Returns what else is known of the end, if there was no goodbye: of a child process the
    /// exit status and its last words; of a peer whose last packet is still incomplete, what has
    /// come of that, if it is the first packet or looks like text. (Text that something writes into
    /// the middle of a stream is mostly taken for the start of a packet, and waited for in vain.)
    pub fn diagnosis(&self) -> Option<&str> {
        self.summary.diagnosis.as_deref()
    }

    /// Returns the transport, if both directions ended with `END_OF_STREAM`, so that it can carry
    /// another connection; its reader still holds what it may have read beyond.
    ///
    /// `None` for an on-demand connection, whose transport is shut, and for one whose writer was
    /// ended, such as that of a child process.
    pub fn into_transport(self) -> Option<Transport> {
        self.transport
    }
}
