//! Codecs.

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
