//! What can be wrong with the octets of a payload, and where.

use std::fmt;

/// What is wrong with octets that should be a value, and where.
///
/// Offsets count octets from the start of the payload, from 0, also within a nested part of it.
///
/// # Examples
///
/// ```
/// use packetstream::payload::{self, Bytes, PayloadError, VarUint};
///
/// // After the number 1 comes a length of 5, and 2 octets.
/// let error = payload::decode::<(VarUint, Bytes)>(&[1, 5, 0xaa, 0xbb]).unwrap_err();
/// assert_eq!(error, PayloadError::Length { offset: 1, len: 5, left: 2 });
/// assert_eq!(error.offset(), 1);
/// assert_eq!(error.to_string(), "the length at octet 1 is 5 where 2 octets are left");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// A `bool` is neither 0 nor 1.
    #[error("octet {offset} is {octet:#04x} where only 0 and 1 have a meaning")]
    Bool {
        /// Where the octet is.
        offset: usize,
        /// What it is.
        octet: u8,
    },

    /// An item of a sequence took no octets, while some were left that it should have taken.
    #[error("the items from octet {offset} on take no octets, so they would never end")]
    EmptyItem {
        /// Where the item is.
        offset: usize,
    },

    /// An integer is longer than 64 bits, or than 10 octets.
    #[error("the integer at octet {offset} exceeds 64 bits or 10 octets")]
    IntegerTooLarge {
        /// Where the integer starts.
        offset: usize,
    },

    /// The octets are in order and mean nothing: the complaint of a type of the application.
    #[error("{what} at octet {offset}")]
    Invalid {
        /// Where the value is.
        offset: usize,
        /// What is wrong, such as `an unknown hash`.
        what: &'static str,
    },

    /// The length of something within the payload is greater than what is left.
    #[error("the length at octet {offset} is {len} where {} left", AreOctets(*.left))]
    Length {
        /// Where the length starts.
        offset: usize,
        /// What it says, in octets.
        len: u64,
        /// How many octets follow it.
        left: usize,
    },

    /// The payload, or the part of it that is set aside for this, ends inside a number, an array
    /// or an integer.
    #[error("what starts at octet {offset} lacks {} at its end", Octets(*.missing))]
    Short {
        /// Where the value starts.
        offset: usize,
        /// How many octets it lacks; 1 for an integer, whose length is not known.
        missing: usize,
    },

    /// A text is not UTF-8.
    #[error("the text is not UTF-8 at octet {offset}")]
    Text {
        /// Where the first octet is that does not belong to a character.
        offset: usize,
    },

    /// Values are nested in values deeper than
    /// [`Input::MAX_NESTING`](super::Input::MAX_NESTING).
    #[error("the value at octet {offset} is nested too deep")]
    TooDeep {
        /// Where the value is that is too deep.
        offset: usize,
    },

    /// The value ends before the payload does, or before the part of it that is set aside for it.
    #[error("the value ends at octet {offset}, and {} left over", AreOctets(*.octets))]
    Trailing {
        /// Where the value ends.
        offset: usize,
        /// How many octets are left over.
        octets: usize,
    },
}

impl PayloadError {
    /// Returns where it is, in octets from the start of the payload.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload;
    ///
    /// let error = payload::decode::<(u8, bool)>(&[7, 7]).unwrap_err();
    /// assert_eq!(error.offset(), 1);
    /// ```
    pub const fn offset(&self) -> usize {
        match *self {
            Self::Bool { offset, .. }
            | Self::EmptyItem { offset }
            | Self::IntegerTooLarge { offset }
            | Self::Invalid { offset, .. }
            | Self::Length { offset, .. }
            | Self::Short { offset, .. }
            | Self::Text { offset }
            | Self::TooDeep { offset }
            | Self::Trailing { offset, .. } => offset,
        }
    }
}

struct Octets(usize);

impl fmt::Display for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 octet"),
            count => write!(f, "{count} octets"),
        }
    }
}

struct AreOctets(usize);

impl fmt::Display for AreOctets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.0 == 1 { "is" } else { "are" };
        write!(f, "{} {verb}", Octets(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_well_and_name_the_offset() {
        let offset = 7;
        let what = "an unknown hash";
        let cases = [
            (
                PayloadError::Bool { offset, octet: 2 },
                "octet 7 is 0x02 where only 0 and 1 have a meaning",
            ),
            (
                PayloadError::EmptyItem { offset },
                "the items from octet 7 on take no octets, so they would never end",
            ),
            (
                PayloadError::IntegerTooLarge { offset },
                "the integer at octet 7 exceeds 64 bits or 10 octets",
            ),
            (
                PayloadError::Invalid { offset, what },
                "an unknown hash at octet 7",
            ),
            (
                PayloadError::Length {
                    offset,
                    len: 300,
                    left: 1,
                },
                "the length at octet 7 is 300 where 1 octet is left",
            ),
            (
                PayloadError::Short { offset, missing: 1 },
                "what starts at octet 7 lacks 1 octet at its end",
            ),
            (
                PayloadError::Text { offset },
                "the text is not UTF-8 at octet 7",
            ),
            (
                PayloadError::TooDeep { offset },
                "the value at octet 7 is nested too deep",
            ),
            (
                PayloadError::Trailing { offset, octets: 2 },
                "the value ends at octet 7, and 2 octets are left over",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
            assert_eq!(error.offset(), offset, "{text}");
        }
    }
}
