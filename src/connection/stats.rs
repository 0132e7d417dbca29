//! Counters of a connection.

/// A snapshot of a connection's counters, since it was last opened.
///
/// Made by [`Connection::stats`](crate::Connection::stats). All fields only grow, but
/// [`outstanding`](Self::outstanding) and [`serving`](Self::serving).
#[doc(alias = "progress")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// Requests that were handed to the transport.
    pub requests_sent: u64,
    /// Answers to them that somebody was waiting for.
    pub responses_received: u64,
    /// Requests of the peer, those that were rejected included.
    pub requests_received: u64,
    /// Good answers that were handed to the transport.
    pub responses_sent: u64,
    /// "Not ok" answers that were handed to the transport.
    pub rejections_sent: u64,
    /// Responses to no request, or to one that had been cancelled.
    pub late_responses: u64,
    /// Requests of ours that the peer owes an answer to now.
    pub outstanding: u64,
    /// Requests of the peer that have been accepted and not answered now.
    pub serving: u64,
    /// Octets that were read from the transport.
    pub bytes_received: u64,
    /// Octets that were written to the transport.
    pub bytes_sent: u64,
    /// Calls of the transport's `write`.
    pub writes: u64,
    /// Calls of the transport's `flush`.
    pub flushes: u64,
}
