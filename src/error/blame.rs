//! Whose fault an error is, and whether it is the end of the connection.

use super::Error;
use crate::wire::DecodeError;

/// Whose fault an error is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    Transport,
    Peer,
    Caller,
}

impl Error {
    /// Returns `true` if there is no connection any more, whatever ended it, or if it was never
    /// open: another request on it would fail too.
    pub fn is_closed(&self) -> bool {
        matches!(
            self.cause(),
            Self::Aborted
                | Self::Closed
                | Self::Connect(_)
                | Self::Decode(_)
                | Self::DuplicateTag { .. }
                | Self::EndOfInput(_)
                | Self::LingerExpired
                | Self::NotPacketstream(_)
                | Self::OtherProcess(_)
                | Self::Panicked(_)
                | Self::PeerClosed
                | Self::PeerNotReading { .. }
                | Self::Read(_)
                | Self::RequestsFinished
                | Self::UnknownResponse { .. }
                | Self::Write(_)
        )
    }

    /// Returns `true` if the byte stream is to blame: it could not be made, read or written, or
    /// it ended without a goodbye, between two packets or inside one.
    pub fn is_transport(&self) -> bool {
        self.blame() == Some(Blame::Transport)
    }

    /// Returns `true` if the peer is to blame: what it sent is not the protocol, or its answer is
    /// not what was agreed on ([`Error::Payload`]).
    pub fn is_peer(&self) -> bool {
        self.blame() == Some(Blame::Peer)
    }

    /// Returns `true` if the caller is to blame: the call cannot succeed as it was made.
    pub fn is_caller(&self) -> bool {
        self.blame() == Some(Blame::Caller)
    }

    fn blame(&self) -> Option<Blame> {
        match self.cause() {
            Self::Connect(_)
            | Self::Decode(DecodeError::Truncated { .. })
            | Self::EndOfInput(_)
            | Self::Read(_)
            | Self::Write(_) => Some(Blame::Transport),
            Self::Decode(_)
            | Self::DuplicateTag { .. }
            | Self::NotPacketstream(_)
            | Self::Payload(_)
            | Self::PeerNotReading { .. }
            | Self::UnknownResponse { .. } => Some(Blame::Peer),
            Self::Closed
            | Self::OtherProcess(_)
            | Self::RequestsFinished
            | Self::ResponseTooLong { .. }
            | Self::StillOpen
            | Self::Taken
            | Self::TooLong { .. }
            | Self::UnknownRequestType(_)
            | Self::WouldDeadlock(_) => Some(Blame::Caller),
            // What one end has decided, or what takes its time.
            Self::Aborted
            | Self::Cancelled(_)
            | Self::Full
            | Self::LingerExpired
            | Self::PeerClosed
            | Self::Rejected(_)
            | Self::TimedOut(_)
            // A bug, and a system without room for a thread.
            | Self::Panicked(_)
            | Self::Spawn { .. }
            // Its cause is never one itself.
            | Self::Unanswered { .. } => None,
        }
    }
}
