//! What can be wrong with the octets of a packet, and with the numbers that are to become one.

use std::fmt;

use super::varint::IntegerTooLarge;

/// What is wrong with octets that should be a packet.
///
/// It is the peer's fault, except where the input [ends](Self::Truncated) inside a packet. There is no
/// way to go on: where the next packet would start is not known.
///
/// # Examples
///
/// ```
/// use packetstream::wire::{DecodeError, Field, Packet};
///
/// let error = Packet::parse(&[1, 5]).unwrap_err(); // a tag and nothing else
/// assert_eq!(error, DecodeError::FieldsBeyondEnd { field: Field::Word });
/// assert_eq!(error.to_string(), "the length of the packet leaves no room for its flags");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The packet's length ends before this field does; a packet of length 0 ends before its tag.
    #[error("the length of the packet leaves no room for its {field}")]
    FieldsBeyondEnd {
        /// The field that is cut off.
        field: Field,
    },

    /// An integer is longer than 64 bits, or than 10 octets.
    #[error("the {field} of a packet cannot exceed 64 bits or 10 octets")]
    IntegerTooLarge {
        /// The field that the integer was read for.
        field: Field,
    },

    /// A request of type 0 that is neither of the two end packets, for which that type is reserved.
    #[error("a request of type 0 is neither of the two end packets")]
    MalformedEndPacket,

    /// The packet is longer than this end accepts.
    #[error("a packet of {len} octets is longer than the limit of {limit}")]
    PacketTooLong {
        /// The length that the packet announces, in octets after its length prefix.
        len: u64,
        /// The limit that is in force, in the same measure.
        limit: u64,
    },

    /// The input ends inside a packet.
    #[error("the input ends inside a packet, after {received} {}", Expected(*.expected))]
    Truncated {
        /// How many octets of the packet there are, with its length prefix.
        received: u64,
        /// How many there should be, with the length prefix; `None` if the input ends inside that
        /// prefix.
        expected: Option<u64>,
    },
}

/// A field of a packet that precedes its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Field {
    /// The length prefix.
    Length,
    /// The tag, which matches a response to its request.
    Tag,
    /// The flags, with the two bits that say which fields follow.
    Word,
    /// The channel, absent when it is 0.
    Channel,
    /// The type of a request.
    RequestType,
}

impl Field {
    pub(super) fn too_large(self) -> impl FnOnce(IntegerTooLarge) -> DecodeError {
        move |IntegerTooLarge| DecodeError::IntegerTooLarge { field: self }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "length",
            Self::Tag => "tag",
            Self::Word => "flags",
            Self::Channel => "channel",
            Self::RequestType => "request type",
        })
    }
}

/// A number is above what its place in a packet can carry.
///
/// # Examples
///
/// ```
/// use packetstream::{Flags, OutOfRange};
///
/// # fn main() -> Result<(), OutOfRange> {
/// assert_eq!(Flags::try_from(3_u64)?, Flags::from(3));
///
/// let error = Flags::try_from(1_u64 << 62).unwrap_err();
/// assert_eq!(error.value(), 1 << 62);
/// assert_eq!(error.max(), Flags::MAX.bits());
/// assert_eq!(
///     error.to_string(),
///     "flags 0x4000000000000000 are above the largest value 0x3fffffffffffffff"
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OutOfRange {
    what: What,
    value: u64,
    max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    Flags,
    RequestType,
}

impl OutOfRange {
    pub(super) fn flags(value: u64, max: u64) -> Self {
        Self {
            what: What::Flags,
            value,
            max,
        }
    }

    pub(super) fn request_type(value: u64, max: u64) -> Self {
        Self {
            what: What::RequestType,
            value,
            max,
        }
    }

    /// Returns the number that was refused.
    pub const fn value(self) -> u64 {
        self.value
    }

    /// Returns the largest number that would have been accepted.
    pub const fn max(self) -> u64 {
        self.max
    }
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, value, max } = self;
        match what {
            What::Flags => write!(f, "flags {value:#x} are above the largest value {max:#x}"),
            What::RequestType => write!(f, "request type {value} is above the largest value {max}"),
        }
    }
}

impl std::error::Error for OutOfRange {}

struct Expected(Option<u64>);

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(expected) => write!(f, "of its {expected} octets"),
            None => f.write_str("octets of its length"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_well() {
        let cases = [
            (
                DecodeError::FieldsBeyondEnd { field: Field::Tag },
                "the length of the packet leaves no room for its tag",
            ),
            (
                DecodeError::IntegerTooLarge {
                    field: Field::Length,
                },
                "the length of a packet cannot exceed 64 bits or 10 octets",
            ),
            (
                DecodeError::PacketTooLong { len: 11, limit: 10 },
                "a packet of 11 octets is longer than the limit of 10",
            ),
            (
                DecodeError::Truncated {
                    received: 7,
                    expected: Some(9),
                },
                "the input ends inside a packet, after 7 of its 9 octets",
            ),
            (
                DecodeError::Truncated {
                    received: 1,
                    expected: None,
                },
                "the input ends inside a packet, after 1 octets of its length",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }
}
