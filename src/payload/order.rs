//! Numbers whose order of octets is said.

use super::numbers::{decode_numbers, encode_numbers};
use super::{Decode, Encode, Input, PayloadError};

/// A number, or a `Vec` of numbers to the end of the payload, least significant octet first.
///
/// # Examples
///
/// ```
/// use packetstream::payload::{self, LittleEndian, PayloadError};
///
/// # fn main() -> Result<(), PayloadError> {
/// assert_eq!(payload::encode(&LittleEndian(0x102_u32)), [2, 1, 0, 0]);
///
/// let LittleEndian(numbers) = payload::decode::<LittleEndian<Vec<u16>>>(&[1, 0, 2, 0])?;
/// assert_eq!(numbers, [1, 2]);
///
/// let error = payload::decode::<LittleEndian<Vec<u16>>>(&[1, 0, 2]).unwrap_err();
/// assert_eq!(error, PayloadError::Short { offset: 2, missing: 1 });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LittleEndian<T>(pub T);

/// A number, or a `Vec` of numbers to the end of the payload, most significant octet first.
///
/// That is how numbers are encoded anyway; this type says so.
///
/// # Examples
///
/// ```
/// use packetstream::payload::{self, BigEndian, PayloadError};
///
/// # fn main() -> Result<(), PayloadError> {
/// assert_eq!(payload::encode(&BigEndian(0x102_u32)), [0, 0, 1, 2]);
///
/// let BigEndian(numbers) = payload::decode::<BigEndian<Vec<u16>>>(&[0, 1, 0, 2])?;
/// assert_eq!(numbers, [1, 2]);
///
/// let error = payload::decode::<BigEndian<u64>>(&[0; 5]).unwrap_err();
/// assert_eq!(error, PayloadError::Short { offset: 0, missing: 3 });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BigEndian<T>(pub T);

macro_rules! in_order {
    ($order:ident $to_bytes:ident $from_bytes:ident: $($number:ident)*) => {$(
        impl Encode for $order<$number> {
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.0.$to_bytes());
            }
        }

        impl<'a> Decode<'a> for $order<$number> {
            #[inline]
            fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
                let octets = input.take_array()?;
                Ok(Self($number::$from_bytes(*octets)))
            }
        }

        impl Encode for $order<Vec<$number>> {
            fn encode(&self, out: &mut Vec<u8>) {
                encode_numbers::<byteorder::$order, _>(&self.0, out);
            }
        }

        impl<'a> Decode<'a> for $order<Vec<$number>> {
            fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
                decode_numbers::<byteorder::$order, _>(input).map(Self)
            }
        }
    )*};
}

in_order! {
    LittleEndian to_le_bytes from_le_bytes:
    u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64
}
in_order! {
    BigEndian to_be_bytes from_be_bytes:
    u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64
}
