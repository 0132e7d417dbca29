//! What payloads are made of: values to octets and back, without threads or connections.
//!
//! [`encode()`] and [`decode()`] convert a value that is [`Encode`] or [`Decode`]: numbers, octets,
//! text, sequences and tuples of such values, and the structs that
//! [`payload!`](crate::payload!) defines. Decoding borrows from the payload where the type does.
//!
//! | type | layout |
//! |---|---|
//! | [`VarUint`] | an integer of up to 64 bits in 1 to 10 octets |
//! | [`Bytes`], [`Text`] | a length, then as many octets or octets of UTF-8 |
//! | [`Prefixed<T>`](Prefixed) | a length, then a value that takes exactly as many octets |
//! | `u8` … `u128`, `i8` … `i128`, `f32`, `f64` | fixed width, big-endian |
//! | [`LittleEndian<T>`](LittleEndian), [`BigEndian<T>`](BigEndian) | the same in the order of octets that the name says, also a `Vec` of them |
//! | `bool` | one octet, 0 or 1 |
//! | `[u8; N]`, `&[u8; N]` | as it is |
//! | `Vec<T>`, `Box<[T]>`, `&[T]` | one value after the other, to the end |
//! | `Vec<u8>`, `&[u8]`, `Cow<[u8]>` | all that is left |
//! | `String`, `&str`, `Cow<str>`, `Box<str>` | all that is left, UTF-8 |
//! | [`Trailing<T>`](Trailing) | a value if anything is left, else nothing |
//! | `Option<T>` | nothing or the value, as something before it tells ([`Decode`]) |
//! | tuples of up to 8 parts | one part after the other |
//! | `Box<T>`, `&T` | the value |
//!
//! Where a type is decoded "to the end", or takes "all that is left", it must be the last thing of
//! the payload, or of the [`Prefixed`] that it is in. `&[T]` and `&T` are for encoding only.
//!
//! # Example
//!
//! A block store refers to a piece of data behind a length, since not every reader understands
//! every kind of reference. This one holds the three octets `lit` themselves:
//!
//! ```text
//! 06      02     03    02    6c 69 74
//! length  flags  span  kind  content
//! 6       typed  3     2     "lit"
//! ```
//!
//! ```
//! use packetstream::payload; // the module and the macro
//! use packetstream::payload::{PayloadError, Prefixed, VarUint};
//!
//! payload! {
//!     /// Refers to a piece of data.
//!     #[derive(Debug, PartialEq)]
//!     struct Reference<'a> {
//!         flags: VarUint,
//!         span: VarUint,
//!         kind: Option<VarUint> if flags.0 & 2 != 0,
//!         content: &'a [u8],
//!     }
//! }
//!
//! # fn main() -> Result<(), PayloadError> {
//! let reference = Reference {
//!     flags: VarUint(2),
//!     span: VarUint(3),
//!     kind: Some(VarUint(2)),
//!     content: b"lit",
//! };
//! let octets = [0x06, 0x02, 0x03, 0x02, b'l', b'i', b't'];
//! assert_eq!(payload::encode(&Prefixed(reference)), octets);
//!
//! let Prefixed(reference) = payload::decode::<Prefixed<Reference>>(&octets)?;
//! assert_eq!((reference.kind, reference.content), (Some(VarUint(2)), &b"lit"[..]));
//!
//! // A peer that claims more than it sends.
//! let error = payload::decode::<Prefixed<Reference>>(&octets[..4]).unwrap_err();
//! assert_eq!(error, PayloadError::Length { offset: 0, len: 6, left: 3 });
//! assert_eq!(error.to_string(), "the length at octet 0 is 6 where 3 octets are left");
//! # Ok(())
//! # }
//! ```
//!
//! # Limits against a hostile peer
//!
//! Nothing is reserved on a claim: a length is compared with what is left before anything is made
//! of it, and a sequence grows with the items that have been decoded. So what a value occupies is
//! in proportion to the octets that came; for a `Vec<T>`, count a `T` for each of its encodings,
//! and as much again for its spare capacity. Values that contain values of their own type are
//! limited to [`Input::MAX_NESTING`] levels, so that no payload can overflow a stack.

// A test that overflows or looks beyond an end fails, which is all it should do.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]
#![allow(
    clippy::exhaustive_structs,
    reason = "a wrapper is a value and the name of its layout, and nothing will be added to it"
)]

mod boolean;
mod data;
mod decode;
mod encode;
mod error;
mod input;
mod integer;
mod macros;
mod numbers;
mod order;
mod prefixed;
mod presence;
mod reference;
mod sequence;
mod text;
mod tuples;

#[cfg(test)]
mod tests;

pub use self::data::Bytes;
pub use self::decode::{Decode, DecodeOwned, decode, decode_prefix};
pub use self::encode::{Encode, encode};
pub use self::error::PayloadError;
pub use self::input::Input;
pub use self::integer::VarUint;
pub use self::order::{BigEndian, LittleEndian};
pub use self::prefixed::Prefixed;
pub use self::presence::Trailing;
pub use self::text::Text;
