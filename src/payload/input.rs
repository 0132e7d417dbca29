//! The cursor that decoders take octets from.

use crate::wire::varint::{self, IntegerTooLarge};

use super::{Decode, PayloadError};

/// A payload, or a part of one, that octets are taken off the front of.
///
/// Offsets count from the start of the payload, also in the [`nested`](Self::nested) input of a
/// part of it, so that an error tells its place in what the peer sent. What is taken borrows from
/// the payload (`'a`) and not from the input.
///
/// A method that fails takes nothing, except for those that decode values.
///
/// # Examples
///
/// ```
/// use packetstream::payload::{Input, PayloadError};
///
/// # fn main() -> Result<(), PayloadError> {
/// let mut input = Input::new(&[0x82, 0x2c, 2, b'h', b'i', 0xff]);
/// assert_eq!(input.varint()?, 300);
/// assert_eq!(input.take_data()?, b"hi");
/// assert_eq!((input.offset(), input.remaining()), (5, &[0xff][..]));
///
/// let error = input.take(3).unwrap_err();
/// assert_eq!(error, PayloadError::Short { offset: 5, missing: 2 });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
    /// The offset of the end of `rest`, which reading does not change.
    end: usize,
    levels_left: usize,
}

impl<'a> Input<'a> {
    /// How deep values may be nested in values: 128 levels.
    ///
    /// Only the types of an application that contain themselves can get so deep, and without this
    /// limit the payload of a hostile peer could have them decoded until the stack overflows. A
    /// level is a [`Box`], a sequence of anything but numbers, or a [`nested`](Self::nested) input
    /// (and so a [`Prefixed`](super::Prefixed)): a type cannot contain itself without one of them.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::{self, Input, PayloadError, Prefixed};
    ///
    /// packetstream::payload! {
    ///     struct Tree {
    ///         children: Prefixed<Vec<Tree>>,
    ///     }
    /// }
    ///
    /// let mut octets = Vec::new();
    /// for _ in 0..10_000 {
    ///     octets = payload::encode(&Prefixed(octets)); // the only child of its parent
    /// }
    /// let error = payload::decode::<Tree>(&octets).err();
    /// assert!(matches!(error, Some(PayloadError::TooDeep { .. })));
    /// ```
    pub const MAX_NESTING: usize = 128;

    /// Starts at the front of a payload.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::Input;
    ///
    /// assert_eq!(Input::new(b"hi").offset(), 0);
    /// ```
    #[inline]
    pub const fn new(payload: &'a [u8]) -> Self {
        Self {
            rest: payload,
            end: payload.len(),
            levels_left: Self::MAX_NESTING,
        }
    }

    /// Returns how many octets of the payload lie before this place.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::{Input, PayloadError};
    ///
    /// # fn main() -> Result<(), PayloadError> {
    /// let mut input = Input::new(b"abc");
    /// input.take(2)?;
    /// assert_eq!(input.offset(), 2);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub const fn offset(&self) -> usize {
        self.end.saturating_sub(self.rest.len())
    }

    /// Returns what is left, without taking it.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::Input;
    ///
    /// let input = Input::new(b"abc");
    /// assert_eq!(input.remaining(), b"abc");
    /// assert!(!input.is_empty());
    /// ```
    #[inline]
    pub const fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    /// Returns `true` if nothing is left.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::Input;
    ///
    /// assert!(Input::new(b"").is_empty());
    /// ```
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes `len` octets.
    ///
    /// # Errors
    ///
    /// [`PayloadError::Short`] if there are fewer.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::{Input, PayloadError};
    ///
    /// # fn main() -> Result<(), PayloadError> {
    /// let mut input = Input::new(b"abc");
    /// assert_eq!(input.take(2)?, b"ab");
    /// let error = input.take(5).unwrap_err();
    /// assert_eq!(error, PayloadError::Short { offset: 2, missing: 4 });
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], PayloadError> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.short(len)),
        }
    }

    /// Takes as many octets as the array has.
    ///
    /// # Errors
    ///
    /// [`PayloadError::Short`] if there are fewer.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::{Input, PayloadError};
    ///
    /// # fn main() -> Result<(), PayloadError> {
    /// let mut input = Input::new(&[1, 2, 3]);
    /// let [high, low] = *input.take_array()?;
    /// assert_eq!((high, low), (1, 2));
    /// assert!(input.take_array::<2>().is_err());
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn take_array<const N: usize>(&mut self) -> Result<&'a [u8; N], PayloadError> {
        match self.rest.split_first_chunk() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.short(N)),
        }
    }

    /// Takes all that is left.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::Input;
    ///
    /// let mut input = Input::new(b"abc");
    /// assert_eq!(input.take_rest(), b"abc");
    /// assert!(input.is_empty());
    /// ```
    #[inline]
    pub const fn take_rest(&mut self) -> &'a [u8] {
        let taken = self.rest;
        self.rest = &[];
        taken
    }

    /// Takes a length, and as many octets as it says.
    ///
    /// # Errors
    ///
    /// - [`PayloadError::Length`] if the length is greater than what is left after it.
    /// - [`PayloadError::Short`] or [`PayloadError::IntegerTooLarge`] if there is no length.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::{Input, PayloadError};
    ///
    /// # fn main() -> Result<(), PayloadError> {
    /// let mut input = Input::new(&[2, b'h', b'i', 9, b'!']);
    /// assert_eq!(input.take_data()?, b"hi");
    /// let error = input.take_data().unwrap_err();
    /// assert_eq!(error, PayloadError::Length { offset: 3, len: 9, left: 1 });
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "BSData")]
    pub fn take_data(&mut self) -> Result<&'a [u8], PayloadError> {
        let mut ahead = self.clone();
        let len = ahead.varint()?;
        // A length that is no `usize` is longer than anything there can be.
        let data = usize::try_from(len).map(|len| ahead.take(len));
        let Ok(Ok(data)) = data else {
            return Err(PayloadError::Length {
                offset: self.offset(),
                len,
                left: ahead.rest.len(),
            });
        };
        *self = ahead;
        Ok(data)
    }

    /// Takes a length, and as many octets as it says, as an input of their own.
    ///
    /// Nothing says that they have to be used up; [`finish`](Self::finish) of the nested input
    /// makes sure of it.
    ///
    /// # Errors
    ///
    /// - [`PayloadError::TooDeep`] if this is nested deeper than [`MAX_NESTING`](Self::MAX_NESTING).
    /// - Those of [`take_data`](Self::take_data).
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::{Input, PayloadError};
    ///
    /// # fn main() -> Result<(), PayloadError> {
    /// let mut input = Input::new(&[3, 0, 1, 0xaa, 0xbb]);
    /// let mut nested = input.nested()?;
    /// assert_eq!(input.remaining(), [0xbb]);
    ///
    /// assert_eq!(nested.decode::<u16>()?, 1);
    /// assert_eq!(nested.offset(), 3);
    /// assert_eq!(nested.finish(), Err(PayloadError::Trailing { offset: 3, octets: 1 }));
    /// # Ok(())
    /// # }
    /// ```
    pub fn nested(&mut self) -> Result<Self, PayloadError> {
        let levels_left = self.one_level_less()?;
        Ok(Self {
            rest: self.take_data()?,
            end: self.offset(),
            levels_left,
        })
    }

    /// Takes an integer of the wire ([`varint`]).
    ///
    /// # Errors
    ///
    /// - [`PayloadError::Short`] if the input ends before the integer does.
    /// - [`PayloadError::IntegerTooLarge`] if it is longer than 64 bits, or than 10 octets.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::{Input, PayloadError};
    ///
    /// # fn main() -> Result<(), PayloadError> {
    /// let mut input = Input::new(&[0x82, 0x2c, 0x82]);
    /// assert_eq!(input.varint()?, 300);
    /// assert_eq!(input.varint(), Err(PayloadError::Short { offset: 2, missing: 1 }));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "BSUInt")]
    #[inline]
    pub fn varint(&mut self) -> Result<u64, PayloadError> {
        let offset = self.offset();
        match varint::decode(self.rest) {
            Ok(Some((value, len))) => {
                self.take(len)?;
                Ok(value)
            }
            Ok(None) => Err(PayloadError::Short { offset, missing: 1 }),
            Err(IntegerTooLarge) => Err(PayloadError::IntegerTooLarge { offset }),
        }
    }

    /// Decodes a value.
    ///
    /// # Errors
    ///
    /// Those of the type.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::{Input, PayloadError, Text};
    ///
    /// # fn main() -> Result<(), PayloadError> {
    /// let mut input = Input::new(&[2, b'h', b'i', 1]);
    /// let text: Text<&str> = input.decode()?;
    /// assert_eq!(text.0, "hi");
    /// assert!(input.decode::<bool>()?);
    /// assert!(input.decode::<bool>().is_err());
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn decode<T: Decode<'a>>(&mut self) -> Result<T, PayloadError> {
        T::decode(self)
    }

    /// Decodes a value if it is `present`, as something decoded earlier may tell.
    ///
    /// # Errors
    ///
    /// Those of the type.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::{Input, PayloadError};
    ///
    /// # fn main() -> Result<(), PayloadError> {
    /// let mut input = Input::new(&[0x02, 7]);
    /// let flags: u8 = input.decode()?;
    /// let first: Option<u8> = input.optional(flags & 1 != 0)?;
    /// let second: Option<u8> = input.optional(flags & 2 != 0)?;
    /// assert_eq!((first, second), (None, Some(7)));
    /// assert!(input.optional::<u8>(true).is_err());
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn optional<T: Decode<'a>>(&mut self, present: bool) -> Result<Option<T>, PayloadError> {
        present.then(|| T::decode(self)).transpose()
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    ///
    /// [`PayloadError::Trailing`] if something is.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::{Input, PayloadError};
    ///
    /// assert_eq!(Input::new(b"").finish(), Ok(()));
    /// assert_eq!(
    ///     Input::new(b"hi").finish(),
    ///     Err(PayloadError::Trailing { offset: 0, octets: 2 })
    /// );
    /// ```
    #[inline]
    pub const fn finish(&self) -> Result<(), PayloadError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(PayloadError::Trailing {
                offset: self.offset(),
                octets: self.rest.len(),
            })
        }
    }

    /// Returns an error that says `what` is wrong at this offset.
    ///
    /// It is for types whose octets can be in order and still mean nothing. The text reads well
    /// if it names the thing without a verb, as in the example. To point at the start of a value,
    /// make the error before the value is taken.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::Input;
    ///
    /// let error = Input::new(&[9]).invalid("an unknown hash");
    /// assert_eq!(error.to_string(), "an unknown hash at octet 0");
    /// ```
    pub const fn invalid(&self, what: &'static str) -> PayloadError {
        PayloadError::Invalid {
            offset: self.offset(),
            what,
        }
    }

    /// Decodes something that may contain values of the type it is itself a part of.
    pub(super) fn one_level_down<T>(
        &mut self,
        decode: impl FnOnce(&mut Self) -> Result<T, PayloadError>,
    ) -> Result<T, PayloadError> {
        let levels_left = self.levels_left;
        self.levels_left = self.one_level_less()?;
        let decoded = decode(self);
        self.levels_left = levels_left;
        decoded
    }

    fn one_level_less(&self) -> Result<usize, PayloadError> {
        let offset = self.offset();
        self.levels_left
            .checked_sub(1)
            .ok_or(PayloadError::TooDeep { offset })
    }

    #[cold]
    fn short(&self, needed: usize) -> PayloadError {
        PayloadError::Short {
            offset: self.offset(),
            missing: needed.saturating_sub(self.rest.len()),
        }
    }
}
