//! The integer of the wire as a value.

use std::fmt;

use crate::wire::varint;

use super::{Decode, Encode, Input, PayloadError};

/// An unsigned integer of up to 64 bits in 1 to 10 octets, as the packets themselves use it.
///
/// Its octets are explained at [`varint`]. It is written in its shortest form; longer ones are
/// accepted.
///
/// # Examples
///
/// ```
/// use packetstream::payload::{self, PayloadError, VarUint};
///
/// # fn main() -> Result<(), PayloadError> {
/// assert_eq!(payload::encode(&VarUint(300)), [0x82, 0x2c]);
/// assert_eq!(payload::decode::<VarUint>(&[0x82, 0x2c])?, VarUint(300));
///
/// let error = payload::decode::<VarUint>(&[0xff; 10]).unwrap_err();
/// assert_eq!(error, PayloadError::IntegerTooLarge { offset: 0 });
///
/// let count = VarUint::from([1, 2, 3].len());
/// assert_eq!(u64::from(count), 3);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "BSUInt")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VarUint(pub u64);

impl Encode for VarUint {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        varint::encode(self.0, out);
    }
}

impl<'a> Decode<'a> for VarUint {
    #[inline]
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        input.varint().map(Self)
    }
}

impl fmt::Display for VarUint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! from_unsigned {
    ($($unsigned:ident)*) => {$(
        impl From<$unsigned> for VarUint {
            fn from(value: $unsigned) -> Self {
                Self(value.into())
            }
        }
    )*};
}

from_unsigned!(u8 u16 u32 u64);

impl From<usize> for VarUint {
    fn from(value: usize) -> Self {
        // Rust has no platform where this does not fit.
        Self(u64::try_from(value).unwrap_or(u64::MAX))
    }
}

impl From<VarUint> for u64 {
    fn from(value: VarUint) -> Self {
        value.0
    }
}
