//! The bulk conversion of the rest of a payload is nothing but a faster loop.

use std::fmt::Debug;

use fastrand::Rng;

use crate::payload::{self, BigEndian, Decode, Input, LittleEndian, PayloadError};

macro_rules! sequences {
    ($($number:ident)*) => {$(
        #[test]
        fn $number() {
            for seed in 0..200 {
                let mut random = Rng::with_seed(seed);
                let octets: Vec<u8> = (0..random.usize(0..80)).map(|_| random.u8(..)).collect();
                decode_as_one_by_one::<Vec<$number>, $number>(&octets, seed);
                decode_as_one_by_one::<BigEndian<Vec<$number>>, BigEndian<$number>>(&octets, seed);
                decode_as_one_by_one::<LittleEndian<Vec<$number>>, LittleEndian<$number>>(
                    &octets, seed,
                );

                let whole = octets.len() - octets.len() % size_of::<$number>();
                let whole = &octets[..whole];
                let numbers: Vec<$number> = payload::decode(whole).unwrap();
                let singly: Vec<u8> = numbers.iter().flat_map(payload::encode).collect();
                assert_eq!(singly, whole, "seed {seed}");
                assert_eq!(payload::encode(&numbers), whole, "seed {seed}");
                assert_eq!(payload::encode(&numbers[..]), whole, "seed {seed}");
                assert_eq!(payload::encode(&BigEndian(numbers)), whole, "seed {seed}");

                let LittleEndian::<Vec<$number>>(numbers) = payload::decode(whole).unwrap();
                let little = |&number: &$number| payload::encode(&LittleEndian(number));
                let singly: Vec<u8> = numbers.iter().flat_map(little).collect();
                assert_eq!(singly, whole, "seed {seed}");
                assert_eq!(payload::encode(&LittleEndian(numbers)), whole, "seed {seed}");
            }
        }
    )*};
}

mod sequences_convert_as_one_number_after_the_other {
    use super::*;

    sequences!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64);
}

/// Compares the text of a sequence with that of its numbers: a NaN equals itself there.
fn decode_as_one_by_one<'a, S, N>(octets: &'a [u8], seed: u64)
where
    S: Decode<'a> + Debug,
    N: Decode<'a> + Debug,
{
    let numbers_only = |text: String| {
        let text = text.replace("BigEndian(", "").replace("LittleEndian(", "");
        text.replace(')', "")
    };
    let at_once = payload::decode::<S>(octets).map(|all| format!("{all:?}"));
    let singly = one_by_one::<N>(octets).map(|all| format!("{all:?}"));
    assert_eq!(
        at_once.map(numbers_only),
        singly.map(numbers_only),
        "seed {seed}"
    );
}

fn one_by_one<'a, N: Decode<'a>>(octets: &'a [u8]) -> Result<Vec<N>, PayloadError> {
    let mut input = Input::new(octets);
    let mut numbers = Vec::new();
    while !input.is_empty() {
        numbers.push(input.decode()?);
    }
    Ok(numbers)
}
