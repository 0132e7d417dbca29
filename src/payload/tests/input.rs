//! What the cursor takes, and that it takes nothing when it fails.

use crate::payload::{Input, PayloadError};

/// Runs an operation that must fail, and checks that the cursor stands where it stood.
fn refused<'a, T>(
    octets: &'a [u8],
    skip: usize,
    operation: impl FnOnce(&mut Input<'a>) -> Result<T, PayloadError>,
) -> PayloadError {
    let mut input = Input::new(octets);
    input.take(skip).unwrap();
    let error = operation(&mut input).err().unwrap();
    assert_eq!(input.offset(), skip, "{error}");
    assert_eq!(input.remaining(), &octets[skip..], "{error}");
    error
}

#[test]
fn a_failed_take_takes_nothing_and_counts_what_is_missing() {
    assert_eq!(
        refused(&[1, 2, 3], 1, |input| input.take(5)),
        PayloadError::Short {
            offset: 1,
            missing: 3
        }
    );
    assert_eq!(
        refused(&[1, 2, 3], 3, Input::take_array::<8>),
        PayloadError::Short {
            offset: 3,
            missing: 8
        }
    );
    assert_eq!(
        refused(&[1], 1, |input| input.take(usize::MAX)),
        PayloadError::Short {
            offset: 1,
            missing: usize::MAX
        }
    );
}

#[test]
fn a_failed_integer_takes_nothing() {
    let short = PayloadError::Short {
        offset: 1,
        missing: 1,
    };
    let too_large = PayloadError::IntegerTooLarge { offset: 1 };
    assert_eq!(refused(&[9], 1, Input::varint), short);
    assert_eq!(refused(&[9, 0x80], 1, Input::varint), short);
    assert_eq!(refused(&[9, 0x80, 0x80, 0x80], 1, Input::varint), short);
    assert_eq!(refused(&[0xff; 11], 1, Input::varint), too_large);
    assert_eq!(refused(&[0x80; 11], 1, Input::varint), too_large);
    assert_eq!(refused(&[0xff; 10], 1, Input::varint), short);
}

#[test]
fn failed_data_takes_neither_the_length_nor_the_octets() {
    let octets = [9, 0x80, 3, 0xaa, 0xbb];
    let error = PayloadError::Length {
        offset: 1,
        len: 3,
        left: 2,
    };
    assert_eq!(refused(&octets, 1, Input::take_data), error);
    assert_eq!(refused(&octets, 1, Input::nested), error);
}

/// A reservation on such a claim would panic or abort, and so would adding it to an offset.
#[test]
fn absurd_lengths_are_refused_for_what_is_left() {
    for len in [
        2,
        1 << 31,
        (1 << 32) + 1,
        1 << 62,
        (1 << 63) - 1,
        1 << 63,
        u64::MAX,
    ] {
        let mut octets = vec![9];
        crate::wire::varint::encode(len, &mut octets);
        octets.push(0xaa);
        let error = PayloadError::Length {
            offset: 1,
            len,
            left: 1,
        };
        assert_eq!(refused(&octets, 1, Input::take_data), error);
        assert_eq!(refused(&octets, 1, Input::nested), error);
    }
}

#[test]
fn data_may_take_exactly_what_is_left_and_may_be_empty() {
    let mut input = Input::new(&[0, 2, 0xaa, 0xbb]);
    assert_eq!(input.take_data(), Ok(&[][..]));
    assert_eq!(input.take_data(), Ok(&[0xaa, 0xbb][..]));
    assert_eq!(input.finish(), Ok(()));
    assert_eq!(input.offset(), 4);
}

#[test]
fn a_nested_input_ends_where_its_length_says() {
    let mut input = Input::new(&[2, 1, 2, 3]);
    let mut nested = input.nested().unwrap();
    assert_eq!((nested.offset(), nested.remaining()), (1, &[1, 2][..]));
    assert_eq!((input.offset(), input.remaining()), (3, &[3][..]));
    assert_eq!(
        nested.take(3),
        Err(PayloadError::Short {
            offset: 1,
            missing: 1
        })
    );
    assert_eq!(nested.take_rest(), [1, 2]);
    assert_eq!((nested.offset(), nested.is_empty()), (3, true));
}

#[test]
fn a_clone_looks_ahead_without_moving_the_original() {
    let input = Input::new(&[1, 2, 3]);
    let mut ahead = input.clone();
    assert_eq!(ahead.take(2), Ok(&[1, 2][..]));
    assert_eq!((input.offset(), ahead.offset()), (0, 2));
}

#[test]
fn what_is_taken_outlives_the_input() {
    let octets = [1, b'a', 7];
    let (data, array, rest) = {
        let mut input = Input::new(&octets);
        let data = input.take_data().unwrap();
        (data, input.take_array::<1>().unwrap(), input.take_rest())
    };
    assert_eq!((data, array, rest), (&b"a"[..], &[7], &[][..]));
}
