//! What can go wrong with a connection or with one of its requests, and whose fault it is.

mod blame;

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::outcome::{Fate, Outcome};
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
/// At most one of the three is to blame. Nobody is where one end has decided so
/// ([`Aborted`](Self::Aborted), [`Cancelled`](Self::Cancelled), [`PeerClosed`](Self::PeerClosed),
/// [`Rejected`](Self::Rejected)), where time or room ran out ([`Full`](Self::Full),
/// [`LingerExpired`](Self::LingerExpired), [`TimedOut`](Self::TimedOut), [`Spawn`](Self::Spawn)), and
/// after a bug ([`Panicked`](Self::Panicked)).
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

    /// There is no transport: the connector of an on-demand connection failed, or the program that
    /// was to be the peer could not be started ([`ConnectionBuilder::spawn`](crate::ConnectionBuilder::spawn)).
    #[error("cannot connect")]
    Connect(#[source] Arc<io::Error>),

    /// The peer sent bytes that are not a packet, or the input ended inside one
    /// ([`DecodeError::Truncated`]).
    ///
    /// The first is the peer's fault. The second is the transport's, like an end between two packets
    /// ([`EndOfInput`](Self::EndOfInput)): whoever cuts a stream does not look where.
    #[error("{}", Undecodable(*.0))]
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

    /// What the peer sent is not a stream of packets but, nearly always, text: it is some other
    /// program, or some other program has written into the stream.
    ///
    /// The error says what came, up to the end of the line or 256 bytes, as far as it was there:
    /// `peer is not speaking packetstream; it said: "bash: server: command not found"`. The start of
    /// a TLS record is named as such, and so is an echo as terminals make it, of which `^B^@` is an
    /// example.
    ///
    /// The first packet is judged as soon as its length, tag and flags are there, and is never acted
    /// on then: it is not one of ours if it is a response to no request, or a request whose tag and
    /// flags are printable characters, white space or ESC, or if it begins with UTF-8 text. Nothing
    /// that this crate or the Python original sends looks so. A peer of another make may begin with
    /// a tag of 9, 10, 13, 27 or 32 to 126 and flags of 2, 3, 6 or 8 and more: for those,
    /// [`refuse_text`](crate::ConnectionBuilder::refuse_text) turns the judging off. Later packets
    /// are not judged, but text is quoted in the place of an error about bytes that are no packet, and
    /// of [`UnknownResponse`](Self::UnknownResponse).
    #[error("{0}")]
    NotPacketstream(Arc<str>),

    /// The connection was opened by another process, of which this one is a fork: none of its threads
    /// are here, and its streams are not ours to touch, see [`Connection`](crate::Connection#fork).
    #[error("the connection belongs to the process that opened it, of which this is a fork")]
    OtherProcess(Outcome),

    /// A thread of the connection panicked. This is a bug in this crate, or a panic in the
    /// `Read`, `BufRead` or `Write` of the transport.
    #[error("a thread of the connection panicked: {0}")]
    Panicked(Arc<str>),

    /// The peer answered, and the decode function that was given for the answer refused it.
    ///
    /// The request was run, whatever its answer says; the outcome is [`Outcome::Unknown`], since it
    /// must not be made again without thought. It counts as the peer's fault: the two ends do not
    /// agree on what the answer looks like, and the connection goes on.
    #[error("the response does not decode")]
    Payload(#[source] Arc<dyn std::error::Error + Send + Sync>),

    /// The peer ended its stream in order: it sends nothing more.
    #[error("the peer has closed the connection")]
    PeerClosed,

    /// The peer sends requests and does not read the answers: four times as many as the inbound budget
    /// allows ([`max_inbound_requests`](crate::ConnectionBuilder::max_inbound_requests); but 32,768
    /// answers at least) wait to be sent, and meanwhile no write returned for 5 s. A peer that reads
    /// slowly is no such, as long as 4 KiB go out in that time, and before them what was being
    /// written when it began, which is at most 1 MiB.
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

    /// The response is longer than this end's limit
    /// ([`max_packet_len`](crate::ConnectionBuilder::max_packet_len)), so it was not read. The
    /// request has been run, and the connection goes on.
    #[error("a response of {len} bytes is longer than the limit of {limit}")]
    ResponseTooLong {
        /// The length of the response in bytes, without its length prefix.
        len: u64,
        /// The limit that is in force, in the same measure.
        limit: u64,
    },

    /// A thread could not be started: one of a connection, which has not been opened then, or the
    /// one for the callback or the time limit of a request, which has been given up for that.
    #[error("cannot start a thread{}", Spawned(*outcome))]
    Spawn {
        /// Whether the peer may have run the request.
        outcome: Outcome,
        /// Why the system has refused the thread.
        source: Arc<io::Error>,
    },

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

    /// The peer sent the start of a response of more than 1 MiB that answers no request. (A shorter
    /// one is counted and dropped.)
    #[error(
        "the peer sends a response of {len} bytes to no request: tag {tag} on channel {channel}"
    )]
    UnknownResponse {
        /// The channel of the response.
        channel: ChannelId,
        /// Its tag.
        tag: Tag,
        /// The length that it announces, in bytes after its length prefix.
        len: u64,
    },

    /// The service of the typed connection has no number for requests of this type, so it was not
    /// sent: register it with [`ServiceBuilder::call`](crate::typed::ServiceBuilder::call).
    #[error("the service does not call requests of type {0}")]
    UnknownRequestType(&'static str),

    /// The calling thread is one that must not wait here, because it is the thread that would end
    /// the wait.
    ///
    /// A request whose answer was to be waited for is cancelled; the outcome says whether the peer
    /// may have it. If none had been submitted, it is [`Outcome::NotSent`].
    #[error("waiting here would block the thread that has to end the wait")]
    WouldDeadlock(Outcome),

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
    ///
    /// An error that is about the connection and not about a request, such as the
    /// [cause](crate::CloseReport::cause) in a report, is [`Outcome::Unknown`].
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Unanswered { outcome, .. }
            | Self::Spawn { outcome, .. }
            | Self::Cancelled(outcome)
            | Self::OtherProcess(outcome)
            | Self::TimedOut(outcome)
            | Self::WouldDeadlock(outcome) => *outcome,
            Self::Rejected(rejection) => rejection.outcome(),
            Self::Closed
            | Self::Connect(_)
            | Self::Full
            | Self::RequestsFinished
            | Self::TooLong { .. }
            | Self::UnknownRequestType(_) => Outcome::NotSent,
            Self::Aborted
            | Self::Decode(_)
            | Self::DuplicateTag { .. }
            | Self::EndOfInput(_)
            | Self::LingerExpired
            | Self::NotPacketstream(_)
            | Self::Panicked(_)
            | Self::Payload(_)
            | Self::PeerClosed
            | Self::PeerNotReading { .. }
            | Self::Read(_)
            | Self::ResponseTooLong { .. }
            | Self::StillOpen
            | Self::Taken
            | Self::UnknownResponse { .. }
            | Self::Write(_) => Outcome::Unknown,
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

    /// Has an error about a missing thread say what became of a request.
    pub(crate) fn about(&self, outcome: Outcome) -> Self {
        match self {
            Self::Spawn { source, .. } => Self::Spawn {
                outcome,
                source: Arc::clone(source),
            },
            error => error.clone(),
        }
    }

    /// Wraps what ended a connection for one request that it left unanswered.
    pub(crate) fn unanswered(outcome: Outcome, cause: &Arc<Self>) -> Self {
        Self::Unanswered {
            outcome,
            cause: Arc::clone(cause),
        }
    }
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

struct Undecodable(DecodeError);

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            DecodeError::Truncated { .. } => "the peer's stream was cut off",
            _ => "the peer broke the protocol",
        })
    }
}

struct Spawned(Outcome);

impl fmt::Display for Spawned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            // There may have been no request at all.
            Outcome::NotSent => Ok(()),
            outcome => write!(f, "; {}", Fate(outcome)),
        }
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
mod tests;
