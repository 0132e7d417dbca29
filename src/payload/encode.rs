//! Values to octets.

/// A value that has a layout of octets.
///
/// Encoding cannot fail: what cannot be sent should be a value that cannot be made. The layout
/// is up to the type; the [module](super) lists those that there are.
///
/// Structs get theirs from [`payload!`](crate::payload!). By hand it takes a few lines, as here.
///
/// # Examples
///
/// ```
/// use packetstream::payload::{self, Decode, Encode, Input, PayloadError};
///
/// #[derive(Debug, PartialEq)]
/// enum Direction {
///     Up,
///     Down,
/// }
///
/// impl Encode for Direction {
///     fn encode(&self, out: &mut Vec<u8>) {
///         out.push(match self {
///             Self::Up => b'^',
///             Self::Down => b'v',
///         });
///     }
/// }
///
/// impl<'a> Decode<'a> for Direction {
///     fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
///         let unknown = input.invalid("an unknown direction");
///         match input.decode()? {
///             b'^' => Ok(Self::Up),
///             b'v' => Ok(Self::Down),
///             _ => Err(unknown),
///         }
///     }
/// }
///
/// # fn main() -> Result<(), PayloadError> {
/// let octets = payload::encode(&[Direction::Up, Direction::Down][..]);
/// assert_eq!(octets, b"^v");
/// assert_eq!(payload::decode::<Vec<Direction>>(&octets)?, [Direction::Up, Direction::Down]);
///
/// let error = payload::decode::<Vec<Direction>>(b"^v?").unwrap_err();
/// assert_eq!(error.to_string(), "an unknown direction at octet 2");
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no layout of octets",
    label = "not `Encode`",
    note = "structs get one from the macro `packetstream::payload!`"
)]
pub trait Encode {
    /// Appends the octets of this value and leaves those that are there alone.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::{Encode, VarUint};
    ///
    /// let mut out = vec![0xff];
    /// VarUint(300).encode(&mut out);
    /// "hi".encode(&mut out);
    /// assert_eq!(out, [0xff, 0x82, 0x2c, b'h', b'i']);
    /// ```
    fn encode(&self, out: &mut Vec<u8>);

    /// Appends the octets of several values, one after the other.
    ///
    /// The numbers do it in bulk, and so may any other type. What is appended must be the same as
    /// that of one [`encode`](Self::encode) after the other, which is what this function does
    /// unless it is overridden.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::Encode;
    ///
    /// let mut out = Vec::new();
    /// u16::encode_slice(&[1, 0x203], &mut out);
    /// assert_eq!(out, [0, 1, 2, 3]);
    /// ```
    fn encode_slice(items: &[Self], out: &mut Vec<u8>)
    where
        Self: Sized,
    {
        for item in items {
            item.encode(out);
        }
    }
}

/// Returns the octets of a value.
///
/// # Examples
///
/// ```
/// use packetstream::payload::{self, Bytes};
///
/// assert_eq!(payload::encode(&(7_u16, Bytes(b"hi"))), [0, 7, 2, b'h', b'i']);
/// assert_eq!(payload::encode("as it is"), b"as it is");
/// ```
pub fn encode<T: Encode + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(&mut out);
    out
}
