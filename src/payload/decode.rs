//! Octets to values.

use super::{Input, PayloadError};

/// A value that can be had from octets, borrowing from them if it likes.
///
/// `'a` is the lifetime of the octets. A type that borrows nothing is a `Decode<'a>` for every
/// `'a`, which has the name [`DecodeOwned`].
///
/// An [`Option`] is no `Decode`, since its octets do not say whether it is there. That has to
/// follow from something else: from an earlier field ([`Input::optional`], or an `if` in
/// [`payload!`](crate::payload!)) or from whether anything is left
/// ([`Trailing`](super::Trailing)).
///
/// # Examples
///
/// A decoder takes what it needs off the front of an [`Input`]; there is an example with both
/// directions at [`Encode`](super::Encode).
///
/// ```
/// use packetstream::payload::{self, Decode, Input, PayloadError};
///
/// /// A line of text, up to and without its line feed.
/// #[derive(Debug, PartialEq)]
/// struct Line<'a>(&'a [u8]);
///
/// impl<'a> Decode<'a> for Line<'a> {
///     fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
///         let feed = input.remaining().iter().position(|&octet| octet == b'\n');
///         let feed = feed.ok_or_else(|| input.invalid("a line without an end"))?;
///         let line = Line(input.take(feed)?);
///         input.take(1)?;
///         Ok(line)
///     }
/// }
///
/// # fn main() -> Result<(), PayloadError> {
/// let lines: Vec<Line<'_>> = payload::decode(b"one\ntwo\n")?;
/// assert_eq!(lines, [Line(b"one"), Line(b"two")]);
///
/// let error = payload::decode::<Vec<Line<'_>>>(b"one\ntw").unwrap_err();
/// assert_eq!(error.to_string(), "a line without an end at octet 4");
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be decoded from octets",
    label = "not `Decode`",
    note = "structs can if they are made with the macro `packetstream::payload!`",
    note = "an `Option` cannot say by itself whether it is there: use `if` in `payload!`, \
            `Input::optional` or `Trailing`"
)]
pub trait Decode<'a>: Sized {
    /// Takes the octets of a value off the front of the input.
    ///
    /// After an error the position of the input is unspecified.
    ///
    /// # Errors
    ///
    /// Any [`PayloadError`]: the octets are not those of such a value.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::{Decode, Input, PayloadError, VarUint};
    ///
    /// # fn main() -> Result<(), PayloadError> {
    /// let mut input = Input::new(&[0x82, 0x2c, 0xff]);
    /// assert_eq!(VarUint::decode(&mut input)?, VarUint(300));
    /// assert_eq!(input.remaining(), [0xff]);
    /// assert!(VarUint::decode(&mut input).is_err());
    /// # Ok(())
    /// # }
    /// ```
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError>;

    /// Takes values until the input is empty.
    ///
    /// The numbers do it in bulk, and so may any other type. Unless it is overridden, this
    /// function makes one [`decode`](Self::decode) after the other, and counts as a level of
    /// nesting ([`Input::MAX_NESTING`]).
    ///
    /// # Errors
    ///
    /// - [`PayloadError::EmptyItem`] if a value takes no octets while some are left, so that it
    ///   would go on for ever.
    /// - Any error of [`decode`](Self::decode).
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::{Decode, Input, PayloadError};
    ///
    /// # fn main() -> Result<(), PayloadError> {
    /// let mut input = Input::new(&[0, 1, 2, 3]);
    /// assert_eq!(u16::decode_rest(&mut input)?, [1, 0x203]);
    ///
    /// let mut input = Input::new(&[0, 1, 2, 3]);
    /// let error = <()>::decode_rest(&mut input).unwrap_err();
    /// assert_eq!(error, PayloadError::EmptyItem { offset: 0 });
    /// # Ok(())
    /// # }
    /// ```
    fn decode_rest(input: &mut Input<'a>) -> Result<Vec<Self>, PayloadError> {
        input.one_level_down(|input| {
            let mut items = Vec::new();
            while !input.is_empty() {
                let offset = input.offset();
                items.push(Self::decode(input)?);
                if input.offset() == offset {
                    return Err(PayloadError::EmptyItem { offset });
                }
            }
            Ok(items)
        })
    }
}

/// A value that borrows nothing from the octets that it is decoded from.
///
/// Every type that is [`Decode<'a>`](Decode) whatever `'a` is, is one.
///
/// # Examples
///
/// ```
/// use packetstream::payload::{self, DecodeOwned, PayloadError, Text};
///
/// fn decode_and_drop<T: DecodeOwned>(octets: Vec<u8>) -> Result<T, PayloadError> {
///     payload::decode(&octets)
/// }
///
/// # fn main() -> Result<(), PayloadError> {
/// let text: Text = decode_and_drop(vec![2, b'h', b'i'])?;
/// assert_eq!(text.0, "hi");
/// # Ok(())
/// # }
/// ```
pub trait DecodeOwned: for<'a> Decode<'a> {}

impl<T> DecodeOwned for T where T: for<'a> Decode<'a> {}

/// Decodes a whole payload.
///
/// # Errors
///
/// - [`PayloadError::Trailing`] if the value ends before the payload does.
/// - Any other [`PayloadError`]: the octets are not those of a `T`.
///
/// # Examples
///
/// ```
/// use packetstream::payload::{self, PayloadError, Text, VarUint};
///
/// # fn main() -> Result<(), PayloadError> {
/// let (name, limit): (Text<&str>, VarUint) = payload::decode(b"\x06blake3\x02")?;
/// assert_eq!((name.0, limit.0), ("blake3", 2));
///
/// let error = payload::decode::<VarUint>(&[1, 2, 3]).unwrap_err();
/// assert_eq!(error, PayloadError::Trailing { offset: 1, octets: 2 });
/// # Ok(())
/// # }
/// ```
#[doc(alias = "from_bytes")]
pub fn decode<'a, T: Decode<'a>>(payload: &'a [u8]) -> Result<T, PayloadError> {
    let mut input = Input::new(payload);
    let value = T::decode(&mut input)?;
    input.finish()?;
    Ok(value)
}

/// Decodes the value at the front of a payload, and returns with it the octets that follow.
///
/// # Errors
///
/// Any [`PayloadError`] but that of octets left over: the front is not a `T`.
///
/// # Examples
///
/// ```
/// use packetstream::payload::{self, PayloadError, VarUint};
///
/// # fn main() -> Result<(), PayloadError> {
/// let (number, rest) = payload::decode_prefix::<VarUint>(&[1, 2, 3])?;
/// assert_eq!((number.0, rest), (1, &[2, 3][..]));
///
/// let error = payload::decode_prefix::<VarUint>(&[]).unwrap_err();
/// assert_eq!(error, PayloadError::Short { offset: 0, missing: 1 });
/// # Ok(())
/// # }
/// ```
pub fn decode_prefix<'a, T: Decode<'a>>(payload: &'a [u8]) -> Result<(T, &'a [u8]), PayloadError> {
    let mut input = Input::new(payload);
    let value = T::decode(&mut input)?;
    Ok((value, input.take_rest()))
}
