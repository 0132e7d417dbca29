//! Values that may be absent.

use super::{Decode, Encode, Input, PayloadError};

/// Nothing, or the value.
///
/// Whether it is there has to follow from something else, so this cannot be decoded as it is:
/// see [`Decode`].
impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        if let Some(value) = self {
            value.encode(out);
        }
    }
}

/// A value that is there if any octets are left for it.
///
/// It makes sense as the last part of a payload or of a [`Prefixed`](super::Prefixed). A value
/// that has no octets, such as an empty text, is decoded as absent.
///
/// # Examples
///
/// ```
/// use packetstream::payload::{self, PayloadError, Trailing};
///
/// # fn main() -> Result<(), PayloadError> {
/// type Range = (u8, Trailing<u16>);
/// assert_eq!(payload::decode::<Range>(&[7])?, (7, Trailing(None)));
/// assert_eq!(payload::decode::<Range>(&[7, 1, 0])?, (7, Trailing(Some(256))));
/// assert_eq!(payload::encode(&(7_u8, Trailing(Some(256_u16)))), [7, 1, 0]);
///
/// let error = payload::decode::<Range>(&[7, 1]).unwrap_err();
/// assert_eq!(error, PayloadError::Short { offset: 1, missing: 1 });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Trailing<T>(pub Option<T>);

impl<T> Default for Trailing<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Encode> Encode for Trailing<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Trailing<T> {
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        input.optional(!input.is_empty()).map(Self)
    }
}
