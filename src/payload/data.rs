//! Octets behind their length.

use std::ops::Deref;

use super::{Decode, Encode, Input, PayloadError, VarUint};

/// Octets behind their length, which is a [`VarUint`].
///
/// Whatever is `AsRef<[u8]>` can be encoded, and whatever is `From<&[u8]>` can be decoded: a
/// `Vec<u8>`, and without copying a `&[u8]` or a [`Cow`](std::borrow::Cow).
///
/// # Examples
///
/// ```
/// use packetstream::payload::{self, Bytes, PayloadError};
///
/// # fn main() -> Result<(), PayloadError> {
/// let octets = payload::encode(&Bytes(b"hi"));
/// assert_eq!(octets, [2, b'h', b'i']);
///
/// let owned: Bytes = payload::decode(&octets)?;
/// let borrowed: Bytes<&[u8]> = payload::decode(&octets)?;
/// assert_eq!((owned.into_inner(), borrowed.0), (b"hi".to_vec(), &b"hi"[..]));
///
/// let error = payload::decode::<Bytes>(&[3, b'h', b'i']).unwrap_err();
/// assert_eq!(error, PayloadError::Length { offset: 0, len: 3, left: 2 });
/// # Ok(())
/// # }
/// ```
#[doc(alias = "BSData")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes<B = Vec<u8>>(pub B);

impl<B> Bytes<B> {
    /// Returns the octets without the wrapper.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::Bytes;
    ///
    /// assert_eq!(Bytes(vec![1, 2]).into_inner(), [1, 2]);
    /// ```
    pub fn into_inner(self) -> B {
        self.0
    }
}

impl<B: AsRef<[u8]>> Encode for Bytes<B> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_data(self.0.as_ref(), out);
    }
}

impl<'a, B: From<&'a [u8]>> Decode<'a> for Bytes<B> {
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        input.take_data().map(|octets| Self(octets.into()))
    }
}

impl<B> From<B> for Bytes<B> {
    fn from(octets: B) -> Self {
        Self(octets)
    }
}

impl<B> Deref for Bytes<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.0
    }
}

pub(super) fn encode_data(octets: &[u8], out: &mut Vec<u8>) {
    VarUint::from(octets.len()).encode(out);
    out.extend_from_slice(octets);
}
