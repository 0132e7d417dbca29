//! What can go wrong with a connection or with one of its requests, and whose fault it is.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::rejection::Rejection;
use crate::wire::{ChannelId, DecodeError, Tag};

/// A specialised [`Result`](std::result::Result) whose error is this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error, as a request handler or a decode function may return it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong with a connection or with a request.
///
/// An error is cheap to clone, because one failure of a connection settles every request that was
/// waiting for an answer. The cause behind an error is its
/// [`source`](std::error::Error::source) and is not repeated in its own text.
///
/// Two questions have methods of their own: *whose fault is it?* ([`is_transport`](Self::is_transport),
/// [`is_peer`](Self::is_peer), [`is_caller`](Self::is_caller)) and *may the request have been
/// run?* ([`outcome`](Self::outcome)).
///
/// # Examples
///
/// ```
/// use packetstream::{Connection, Error, Outcome, Request, Transport};
///
/// # fn main() -> Result<(), Error> {
/// let (ours, theirs) = Transport::pair();
/// let connection = Connection::builder().open(ours)?;
/// drop(theirs); // the peer vanishes without a word
///
/// let error = connection.call(Request::new(1)).unwrap_err();
/// assert!(error.is_closed());
/// assert!(matches!(error.outcome(), Outcome::NotSent | Outcome::Unknown));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection was ended by [`abort`](crate::Connection::abort).
    #[error("the connection was aborted")]
    Aborted,

    /// The request was cancelled here; the outcome says whether the peer may have it.
    #[error("the request was cancelled")]
    Cancelled(Outcome),

    /// The connection is not open at this end: it was never opened, or it has been closed.
    #[error("the connection is not open")]
    Closed,

    /// The connector of an on-demand connection did not deliver a transport.
    #[error("cannot connect")]
    Connect(#[source] Arc<io::Error>),

    /// The peer sent octets that are not a packet.
    #[error("the peer broke the protocol")]
    Decode(#[from] DecodeError),

    /// The peer sent a request with a tag whose earlier request is still being served.
    #[error("the peer used tag {tag} on channel {channel} again while it was still being served")]
    DuplicateTag {
        /// The channel of the request.
        channel: ChannelId,
        /// The tag that is still in use.
        tag: Tag,
    },

    /// The input ended between two packets, without the peer's `END_OF_STREAM`.
    ///
    /// The text is what the transport knows of the end, such as a child's exit status.
    #[error("the peer's stream ended without a goodbye{}", Diagnosis(.0.as_deref()))]
    EndOfInput(Option<Arc<str>>),

    /// The limit of unanswered requests or the send queue is reached, and the call was one that
    /// does not wait.
    #[error("the limit of unanswered requests is reached")]
    Full,

    /// The connection was closed by force, because it had not ended when its linger time ran out.
    #[error("the connection was closed by force when its linger time ran out")]
    LingerExpired,

    /// What the peer sent first is text, or the start of a TLS record: it is some other program.
    ///
    /// The text says what came, such as
    /// `peer is not speaking packetstream; it said: "bash: server: command not found"`.
    #[error("{0}")]
    NotPacketstream(Arc<str>),

    /// A thread of the connection panicked. This is a bug in this crate, or a panic in the
    /// `Read`, `BufRead` or `Write` of the transport.
    #[error("a thread of the connection panicked: {0}")]
    Panicked(Arc<str>),

    /// The peer answered, and the decode function that was given for the answer refused it.
    #[error("the response does not decode")]
    Payload(#[source] Arc<dyn std::error::Error + Send + Sync>),

    /// The peer ended its stream in order: it sends nothing more.
    #[error("the peer has closed the connection")]
    PeerClosed,

    /// The peer sends requests and does not read the answers, beyond four times the inbound budget
    /// ([`max_inbound_requests`](crate::ConnectionBuilder::max_inbound_requests)).
    #[error("the peer does not read its answers: {answers} with {octets} octets wait to be sent")]
    PeerNotReading {
        /// The number of answers that wait.
        answers: u64,
        /// The octets of their payloads.
        octets: u64,
    },

    /// Reading from the transport failed.
    #[error("cannot read from the peer")]
    Read(#[source] Arc<io::Error>),

    /// The peer answered "not ok".
    #[error("the peer rejected the request: {0}")]
    Rejected(Rejection),

    /// No request may follow: [`finish_requests`](crate::Connection::finish_requests) was called,
    /// or the connection is being closed.
    #[error("no more requests may be made on this connection")]
    RequestsFinished,

    /// A thread could not be started.
    #[error("cannot start a thread")]
    Spawn(#[source] Arc<io::Error>),

    /// Nothing was closed, and nothing has ended: other guards hold the connection open.
    ///
    /// To end it whatever guards there are, use [`shutdown`](crate::Connection::shutdown).
    #[error("the connection is still open: other guards hold it")]
    StillOpen,

    /// The answer was taken before: a pending response gives it once.
    #[error("the answer has been taken already")]
    Taken,

    /// The time given to the request ([`with_timeout`](crate::Request::with_timeout)) passed before
    /// its answer came. If it comes later it is dropped.
    #[error("the request timed out; {}", Fate(*.0))]
    TimedOut(Outcome),

    /// The packet is longer than this end's limit; nothing of it was sent.
    #[error("a packet of {len} octets is longer than the limit of {limit}")]
    TooLong {
        /// The length of the packet in octets, without its length prefix.
        len: u64,
        /// The limit that is in force, in the same measure.
        limit: u64,
    },

    /// The connection ended before the answer came.
    #[error("{}", Unanswered(*outcome))]
    Unanswered {
        /// Whether the peer may have run the request.
        outcome: Outcome,
        /// What ended the connection.
        #[source]
        cause: Arc<Error>,
    },

    /// The service of the typed connection has no number for requests of this type, so it was not
    /// sent: register it with [`ServiceBuilder::call`](crate::typed::ServiceBuilder::call).
    #[error("the service does not call requests of type {0}")]
    UnknownRequestType(&'static str),

    /// The calling thread is one that must not wait here, because it is the thread that would end
    /// the wait.
    #[error("waiting here would block the thread that has to end the wait")]
    WouldDeadlock,

    /// Writing to the transport failed.
    ///
    /// Requests that were not sent fail at once. If the write has shown that the peer is gone (a
    /// broken pipe, a reset connection), they fail when its stream has been read to the end, at most
    /// 100 ms later, with what that end tells: [`NotPacketstream`](Self::NotPacketstream), say, or
    /// [`EndOfInput`](Self::EndOfInput) with the exit status of a child. Requests that were sent may
    /// still be answered within these 100 ms.
    #[error("cannot write to the peer")]
    Write(#[source] Arc<io::Error>),
}

// One failure is cloned into every waiting request.
const _: () = assert!(size_of::<Error>() <= 32);

impl Error {
    /// Returns what ended the connection if this error is about a request that it left
    /// unanswered, else this error itself.
    pub fn cause(&self) -> &Self {
        match self {
            Self::Unanswered { cause, .. } => cause.cause(),
            error => error,
        }
    }

    /// Returns whether the peer may have run the request that this error is about.
    ///
    /// [`Outcome::NotSent`] and [`Outcome::NotRun`] mean that the request can be made again
    /// without the risk of doing its work twice.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Unanswered { outcome, .. }
            | Self::Cancelled(outcome)
            | Self::TimedOut(outcome) => *outcome,
            Self::Rejected(rejection) => rejection.outcome(),
            Self::Closed
            | Self::Connect(_)
            | Self::Full
            | Self::RequestsFinished
            | Self::Spawn(_)
            | Self::TooLong { .. }
            | Self::UnknownRequestType(_) => Outcome::NotSent,
            _ => Outcome::Unknown,
        }
    }

    /// Returns the peer's "not ok" answer, if this error is one.
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }

    /// Returns `true` if the peer answered "not ok".
    pub fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }

    /// Returns `true` if the request was cancelled at this end.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_))
    }

    /// Returns `true` if the time given to the request has passed.
    pub fn is_timed_out(&self) -> bool {
        matches!(self, Self::TimedOut(_))
    }

    /// Returns `true` if there is no connection any more, whatever ended it, or if it was never
    /// open: another request on it would fail too.
    pub fn is_closed(&self) -> bool {
        match self.cause() {
            Self::Aborted
            | Self::Closed
            | Self::EndOfInput(_)
            | Self::LingerExpired
            | Self::PeerClosed
            | Self::RequestsFinished
            | Self::Panicked(_) => true,
            error => error.is_transport() || error.is_peer(),
        }
    }

    /// Returns `true` if the byte stream is to blame: it could not be made, read or written, or
    /// it ended without a goodbye.
    pub fn is_transport(&self) -> bool {
        matches!(
            self.cause(),
            Self::Connect(_) | Self::EndOfInput(_) | Self::Read(_) | Self::Write(_)
        )
    }

    /// Returns `true` if the peer is to blame: what it sent is not the protocol.
    pub fn is_peer(&self) -> bool {
        matches!(
            self.cause(),
            Self::Decode(_)
                | Self::DuplicateTag { .. }
                | Self::NotPacketstream(_)
                | Self::PeerNotReading { .. }
        )
    }

    /// Returns `true` if the caller is to blame: the call cannot succeed as it was made.
    pub fn is_caller(&self) -> bool {
        matches!(
            self.cause(),
            Self::Closed
                | Self::RequestsFinished
                | Self::StillOpen
                | Self::Taken
                | Self::TooLong { .. }
                | Self::UnknownRequestType(_)
                | Self::WouldDeadlock
        )
    }

    /// Wraps what ended a connection for one request that it left unanswered.
    pub(crate) fn unanswered(outcome: Outcome, cause: &Arc<Self>) -> Self {
        Self::Unanswered {
            outcome,
            cause: Arc::clone(cause),
        }
    }
}

/// Whether the peer may have run a request that failed.
///
/// Returned by [`Error::outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// No octet of the request was handed to the transport.
    NotSent,
    /// The peer has received the request and said that it did not run it.
    NotRun,
    /// The request was sent, or may have been, and the peer may have run it.
    Unknown,
}

struct Unanswered(Outcome);

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the connection ended before the answer came; {}",
            Fate(self.0)
        )
    }
}

struct Fate(Outcome);

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Outcome::NotSent => "the request was not sent",
            Outcome::NotRun => "the request was not run",
            Outcome::Unknown => "the request may have been run",
        })
    }
}

struct Diagnosis<'a>(Option<&'a str>);

impl fmt::Display for Diagnosis<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(text) => write!(f, " ({text})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_errors_says_each_cause_once() {
        let io = io::Error::new(io::ErrorKind::BrokenPipe, "pipe burst");
        let cause = Arc::new(Error::Write(Arc::new(io)));
        let error = Error::unanswered(Outcome::NotSent, &cause);
        let mut chain = vec![error.to_string()];
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            chain.push(inner.to_string());
            source = inner.source();
        }
        assert_eq!(
            chain,
            [
                "the connection ended before the answer came; the request was not sent",
                "cannot write to the peer",
                "pipe burst"
            ]
        );
        assert!(error.is_closed() && error.is_transport() && !error.is_peer());
    }
}
