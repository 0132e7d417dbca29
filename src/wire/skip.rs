//! The payload of a packet that is too long, which is skipped as it comes.

use super::error::DecodeError;
use super::head::Parsed;
use super::packet::{Packet, to_u64};

/// What was read of a packet that is longer than the limit.
#[derive(Debug)]
pub(crate) struct TooLong {
    /// The packet, without its payload.
    pub(crate) head: Packet,
    /// How long it is, in bytes after its length prefix.
    pub(crate) len: u64,
}

/// How much of a payload that is skipped has come. Nothing of it is kept.
#[derive(Debug)]
pub(super) struct PartialSkip {
    /// Of the whole packet, with its length prefix.
    received: u64,
    expected: u64,
}

impl PartialSkip {
    pub(super) fn new(parsed: &Parsed) -> Self {
        Self {
            received: to_u64(parsed.head_len),
            expected: parsed.packet_len(),
        }
    }

    /// Drops what belongs to this payload from the front of `input`; `true` if that was the end of
    /// it.
    pub(super) fn take_from(&mut self, input: &mut &[u8]) -> bool {
        let missing = self.expected.saturating_sub(self.received);
        let count =
            usize::try_from(missing).map_or(input.len(), |missing| missing.min(input.len()));
        *input = input.get(count..).unwrap_or_default();
        self.received = self.received.saturating_add(to_u64(count));
        self.received >= self.expected
    }

    /// The error of an input that ends here.
    pub(super) fn truncated(&self) -> DecodeError {
        DecodeError::Truncated {
            received: self.received,
            expected: Some(self.expected),
        }
    }
}
