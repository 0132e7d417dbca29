//! Numbers of fixed width, big-endian unless another order is asked for; sequences of them are
//! converted in bulk.

use byteorder::{BigEndian, ByteOrder};

use super::{Decode, Encode, Input, PayloadError};

/// A number whose sequences can be converted in either order at once.
pub(super) trait Number: Copy + Default {
    /// Both are equally long, measured in octets.
    fn read_all<O: ByteOrder>(octets: &[u8], numbers: &mut [Self]);

    /// Both are equally long, measured in octets.
    fn write_all<O: ByteOrder>(numbers: &[Self], octets: &mut [u8]);
}

pub(super) fn encode_numbers<O: ByteOrder, N: Number>(numbers: &[N], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start.saturating_add(size_of_val(numbers)), 0);
    N::write_all::<O>(numbers, out.get_mut(start..).unwrap_or_default());
}

pub(super) fn decode_numbers<O: ByteOrder, N: Number>(
    input: &mut Input<'_>,
) -> Result<Vec<N>, PayloadError> {
    let width = size_of::<N>();
    let whole = input.remaining().chunks_exact(width);
    let (count, cut_off) = (whole.len(), whole.remainder().len());
    let octets = input.take(input.remaining().len().saturating_sub(cut_off))?;
    if cut_off != 0 {
        // Of the last number there are octets, and not all.
        input.take(width)?;
    }
    let mut numbers = vec![N::default(); count];
    N::read_all::<O>(octets, &mut numbers);
    Ok(numbers)
}

macro_rules! numbers {
    ($($number:ident)*) => {$(
        impl Encode for $number {
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn encode_slice(items: &[Self], out: &mut Vec<u8>) {
                encode_numbers::<BigEndian, Self>(items, out);
            }
        }

        impl<'a> Decode<'a> for $number {
            #[inline]
            fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
                input.take_array().map(|octets| Self::from_be_bytes(*octets))
            }

            fn decode_rest(input: &mut Input<'a>) -> Result<Vec<Self>, PayloadError> {
                decode_numbers::<BigEndian, Self>(input)
            }
        }
    )*};
}

numbers!(i8 u16 u32 u64 u128 i16 i32 i64 i128 f32 f64);

macro_rules! read_and_write {
    ($($number:ident $read_into:ident $write_into:ident;)*) => {$(
        impl Number for $number {
            fn read_all<O: ByteOrder>(octets: &[u8], numbers: &mut [Self]) {
                O::$read_into(octets, numbers);
            }

            fn write_all<O: ByteOrder>(numbers: &[Self], octets: &mut [u8]) {
                O::$write_into(numbers, octets);
            }
        }
    )*};
}

read_and_write! {
    u16 read_u16_into write_u16_into;
    u32 read_u32_into write_u32_into;
    u64 read_u64_into write_u64_into;
    u128 read_u128_into write_u128_into;
    i16 read_i16_into write_i16_into;
    i32 read_i32_into write_i32_into;
    i64 read_i64_into write_i64_into;
    i128 read_i128_into write_i128_into;
    f32 read_f32_into write_f32_into;
    f64 read_f64_into write_f64_into;
}

impl Number for i8 {
    fn read_all<O: ByteOrder>(octets: &[u8], numbers: &mut [Self]) {
        for (number, octet) in numbers.iter_mut().zip(octets) {
            *number = octet.cast_signed();
        }
    }

    fn write_all<O: ByteOrder>(numbers: &[Self], octets: &mut [u8]) {
        O::write_i8_into(numbers, octets);
    }
}

// An octet is what it is in any order, and so are many.

impl Number for u8 {
    fn read_all<O: ByteOrder>(octets: &[u8], numbers: &mut [Self]) {
        numbers.copy_from_slice(octets);
    }

    fn write_all<O: ByteOrder>(numbers: &[Self], octets: &mut [u8]) {
        octets.copy_from_slice(numbers);
    }
}

impl Encode for u8 {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }

    fn encode_slice(items: &[Self], out: &mut Vec<u8>) {
        out.extend_from_slice(items);
    }
}

impl<'a> Decode<'a> for u8 {
    #[inline]
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        input.take_array().map(|&[octet]| octet)
    }

    fn decode_rest(input: &mut Input<'a>) -> Result<Vec<Self>, PayloadError> {
        Ok(input.take_rest().to_vec())
    }
}
