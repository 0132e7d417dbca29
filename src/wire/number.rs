//! The numbers of a packet, each a type of its own: tag, channel, flags and request type.

use std::fmt;
use std::ops::{BitAnd, BitOr};

use super::error::OutOfRange;

/// The number that matches a response to its request, per channel and direction.
///
/// # Examples
///
/// ```
/// use packetstream::Tag;
///
/// assert_eq!(Tag::from(7), Tag::new(7));
/// assert_eq!(Tag::new(7).to_string(), "7");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(u64);

impl Tag {
    /// Creates a tag from its number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the tag's number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for Tag {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A channel: requests on different channels are numbered apart.
///
/// Channel 0 is the usual one and costs no octets on the wire. A Python peer refuses requests on
/// any other.
///
/// # Examples
///
/// ```
/// use packetstream::ChannelId;
///
/// assert_eq!(ChannelId::default(), ChannelId::DEFAULT);
/// assert_eq!(ChannelId::from(3).get(), 3);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(u64);

impl ChannelId {
    /// Channel 0.
    pub const DEFAULT: Self = Self(0);

    /// Creates a channel from its number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the channel's number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for ChannelId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The flags of a request or a response: 62 bits whose meaning is the application's.
///
/// A response carries 61 bits only ([`MAX_RESPONSE`](Self::MAX_RESPONSE)): one says "ok" on the
/// wire.
///
/// # Examples
///
/// ```
/// use packetstream::Flags;
///
/// const URGENT: u32 = 0x1;
/// const LAST: u32 = 0x10;
///
/// let flags = Flags::from(URGENT) | Flags::from(LAST);
/// assert!(flags.contains(Flags::from(LAST)));
/// assert_eq!(flags.to_string(), "0x11");
/// assert_eq!(Flags::new(u64::MAX), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flags(u64);

impl Flags {
    /// No flags.
    pub const NONE: Self = Self(0);

    /// All the bits that a request can carry: 62.
    pub const MAX: Self = Self(u64::MAX >> 2);

    /// All the bits that a response can carry: 61.
    pub const MAX_RESPONSE: Self = Self(u64::MAX >> 3);

    /// Creates flags from their bits, unless a bit above the 62nd is set.
    pub const fn new(bits: u64) -> Option<Self> {
        if bits <= Self::MAX.0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// Creates flags from bits that were shifted out of the word of a packet.
    pub(super) const fn from_word(bits: u64) -> Self {
        Self(bits & Self::MAX.0)
    }

    /// Returns the flags as a number.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Returns `true` if all the bits of `other` are set here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns `true` if no bit is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The only conversion from an integer that cannot fail, so that `Flags::from(1)` needs no type.
impl From<u32> for Flags {
    fn from(bits: u32) -> Self {
        Self(u64::from(bits))
    }
}

impl TryFrom<u64> for Flags {
    type Error = OutOfRange;

    fn try_from(bits: u64) -> Result<Self, OutOfRange> {
        Self::new(bits).ok_or_else(|| OutOfRange::flags(bits, Self::MAX.0))
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Flags {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::LowerHex for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// What a request asks for: a number whose meaning is the application's.
///
/// The wire carries it plus one, so `u64::MAX` is not available.
///
/// # Examples
///
/// ```
/// use packetstream::RequestType;
///
/// assert_eq!(RequestType::from(7).get(), 7);
/// assert_eq!(RequestType::new(u64::MAX), None);
/// assert!(RequestType::try_from(u64::MAX).is_err());
/// ```
#[doc(alias = "rq_type")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestType(u64);

impl RequestType {
    /// The largest request type, `u64::MAX - 1`.
    pub const MAX: Self = Self(u64::MAX - 1);

    /// Creates a request type from its number, unless that is `u64::MAX`.
    pub const fn new(number: u64) -> Option<Self> {
        if number <= Self::MAX.0 {
            Some(Self(number))
        } else {
            None
        }
    }

    /// Reads a number as it stands on the wire; 0 is not a request's.
    pub(super) const fn from_wire(number: u64) -> Option<Self> {
        match number.checked_sub(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns the number as it stands on the wire.
    pub(super) const fn to_wire(self) -> u64 {
        self.0.saturating_add(1)
    }

    /// Returns the request type's number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The only conversion from an integer that cannot fail, so that `RequestType::from(1)` needs no
/// type.
impl From<u32> for RequestType {
    fn from(number: u32) -> Self {
        Self(u64::from(number))
    }
}

impl TryFrom<u64> for RequestType {
    type Error = OutOfRange;

    fn try_from(number: u64) -> Result<Self, OutOfRange> {
        Self::new(number).ok_or_else(|| OutOfRange::request_type(number, Self::MAX.0))
    }
}

impl fmt::Display for RequestType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_end_at_62_bits() {
        assert_eq!(Flags::new(Flags::MAX.bits()), Some(Flags::MAX));
        assert_eq!(Flags::new(Flags::MAX.bits() + 1), None);
        assert_eq!(Flags::MAX.bits(), (1 << 62) - 1);
        assert_eq!(Flags::MAX_RESPONSE.bits(), (1 << 61) - 1);
    }

    #[test]
    fn flags_combine_as_bits() {
        let (one, six) = (Flags::from(1), Flags::from(6));
        assert_eq!(one | six, Flags::from(7));
        assert_eq!((one | six) & six, six);
        assert!(!one.contains(six) && six.contains(Flags::NONE));
        assert!((one & six).is_empty());
        assert_eq!(format!("{six:x} {six:#x} {six}"), "6 0x6 0x6");
    }

    #[test]
    fn request_types_are_one_more_on_the_wire() {
        assert_eq!(RequestType::from_wire(0), None);
        assert_eq!(RequestType::from_wire(1), Some(RequestType::from(0)));
        assert_eq!(RequestType::from_wire(u64::MAX), Some(RequestType::MAX));
        assert_eq!(RequestType::MAX.to_wire(), u64::MAX);
    }
}
