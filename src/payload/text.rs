//! Text: behind its length, or as the rest of the payload.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use super::data::encode_data;
use super::{Decode, Encode, Input, PayloadError};

/// UTF-8 text behind its length in octets, which is a [`VarUint`](super::VarUint).
///
/// Whatever is `AsRef<str>` can be encoded, and whatever is `From<&str>` can be decoded: a
/// `String`, and without copying a `&str` or a [`Cow`].
///
/// # Examples
///
/// ```
/// use packetstream::payload::{self, PayloadError, Text};
///
/// # fn main() -> Result<(), PayloadError> {
/// let octets = payload::encode(&Text("blake3"));
/// assert_eq!(octets, b"\x06blake3");
///
/// let owned: Text = payload::decode(&octets)?;
/// let borrowed: Text<&str> = payload::decode(&octets)?;
/// assert_eq!((owned, borrowed), (Text::from("blake3"), Text("blake3")));
///
/// let error = payload::decode::<Text>(b"\x02h\xff").unwrap_err();
/// assert_eq!(error, PayloadError::Text { offset: 2 });
/// # Ok(())
/// # }
/// ```
#[doc(alias = "BSString")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<S = String>(pub S);

impl<S> Text<S> {
    /// Returns the text without the wrapper.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::payload::Text;
    ///
    /// assert_eq!(Text("hi").into_inner(), "hi");
    /// ```
    pub fn into_inner(self) -> S {
        self.0
    }
}

impl<S: AsRef<str>> Encode for Text<S> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_data(self.0.as_ref().as_bytes(), out);
    }
}

impl<'a, S: From<&'a str>> Decode<'a> for Text<S> {
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        let octets = input.take_data()?;
        checked(octets, input.offset()).map(|text| Self(text.into()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl<S> Deref for Text<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S: fmt::Display> fmt::Display for Text<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Encode for str {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl Encode for String {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_str().encode(out);
    }
}

impl<'a> Decode<'a> for &'a str {
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        let octets = input.take_rest();
        checked(octets, input.offset())
    }
}

macro_rules! the_rest_as_text {
    ($($text:ty)*) => {$(
        impl<'a> Decode<'a> for $text {
            fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
                input.decode::<&str>().map(Self::from)
            }
        }
    )*};
}

the_rest_as_text!(String Box<str> Cow<'a, str>);

/// Checks octets that end at the offset `end`.
fn checked(octets: &[u8], end: usize) -> Result<&str, PayloadError> {
    str::from_utf8(octets).map_err(|error| {
        let unchecked = octets.len().saturating_sub(error.valid_up_to());
        PayloadError::Text {
            offset: end.saturating_sub(unchecked),
        }
    })
}
