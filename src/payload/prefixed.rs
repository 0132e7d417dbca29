//! A value behind its length.

use super::{Decode, Encode, Input, PayloadError, VarUint};

/// A value behind its length in octets, which is a [`VarUint`]; the value has to take exactly
/// those.
///
/// So a value that would go to the end of the payload goes to the end of its part of it, and a
/// reader that does not know the value can pass over it.
///
/// # Examples
///
/// ```
/// use packetstream::payload::{self, PayloadError, Prefixed};
///
/// # fn main() -> Result<(), PayloadError> {
/// let value = (Prefixed(vec![1_u16, 2]), "the rest");
/// let octets = payload::encode(&value);
/// assert_eq!(octets, b"\x04\0\x01\0\x02the rest");
/// assert_eq!(payload::decode::<(Prefixed<Vec<u16>>, &str)>(&octets)?, value);
///
/// let error = payload::decode::<Prefixed<u8>>(&[2, 7, 7]).unwrap_err();
/// assert_eq!(error, PayloadError::Trailing { offset: 2, octets: 1 });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefixed<T>(pub T);

impl<T: Encode> Encode for Prefixed<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        self.0.encode(out);
        // The length is known only now; turning it to the front needs no second buffer.
        let end = out.len();
        VarUint::from(end.saturating_sub(start)).encode(out);
        let len_of_length = out.len().saturating_sub(end);
        out.get_mut(start..)
            .unwrap_or_default()
            .rotate_right(len_of_length);
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Prefixed<T> {
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        let mut nested = input.nested()?;
        let value = nested.decode()?;
        nested.finish()?;
        Ok(Self(value))
    }
}
