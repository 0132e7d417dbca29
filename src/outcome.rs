//! Whether a request that failed may have been run.

use std::fmt;

/// Whether the peer may have run a request that failed.
///
/// Returned by [`Error::outcome`](crate::Error::outcome).
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

/// An outcome, as a part of a message.
pub(crate) struct Fate(pub(crate) Outcome);

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Outcome::NotSent => "the request was not sent",
            Outcome::NotRun => "the request was not run",
            Outcome::Unknown => "the request may have been run",
        })
    }
}
