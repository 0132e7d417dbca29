//! Sequences: of fixed length, or to the end of the payload.

use std::borrow::Cow;

use super::{Decode, Encode, Input, PayloadError};

impl<T: Encode> Encode for [T] {
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode_slice(self, out);
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode_slice(self, out);
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Vec<T> {
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        T::decode_rest(input)
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Box<[T]> {
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        T::decode_rest(input).map(Self::from)
    }
}

impl<'a> Decode<'a> for &'a [u8] {
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        Ok(input.take_rest())
    }
}

impl<'a> Decode<'a> for Cow<'a, [u8]> {
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        Ok(Self::Borrowed(input.take_rest()))
    }
}

impl<const N: usize> Encode for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn encode_slice(items: &[Self], out: &mut Vec<u8>) {
        out.extend_from_slice(items.as_flattened());
    }
}

impl<'a, const N: usize> Decode<'a> for [u8; N] {
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        input.take_array().copied()
    }
}

impl<'a, const N: usize> Decode<'a> for &'a [u8; N] {
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        input.take_array()
    }
}
