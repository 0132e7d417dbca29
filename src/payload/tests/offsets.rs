//! Errors say where, counted from the start of the payload, however deep.

use std::borrow::Cow;
use std::fmt::Debug;

use crate::payload::PayloadError::{
    Bool, EmptyItem, IntegerTooLarge, Invalid, Length, Short, Text as NotText, Trailing as LeftOver,
};
use crate::payload::{
    self, BigEndian, Bytes, Decode, Input, LittleEndian, PayloadError, Prefixed, Text, Trailing,
    VarUint,
};

#[track_caller]
fn fails<'a, T: Decode<'a> + Debug>(octets: &'a [u8], expected: PayloadError) {
    let error = payload::decode::<T>(octets).unwrap_err();
    assert_eq!(error, expected);
    assert_eq!(error.offset(), expected.offset());
    assert!(error.offset() <= octets.len());
}

/// The same error, seen from behind octets that a nested value does not own.
fn moved(error: PayloadError, by: usize) -> PayloadError {
    let mut moved = error;
    match &mut moved {
        Bool { offset, .. }
        | EmptyItem { offset }
        | IntegerTooLarge { offset }
        | Invalid { offset, .. }
        | Length { offset, .. }
        | Short { offset, .. }
        | NotText { offset }
        | PayloadError::TooDeep { offset }
        | LeftOver { offset, .. } => *offset += by,
    }
    moved
}

/// Checks an error at the front of a payload, behind another value, and within nested ones.
#[track_caller]
fn fails_anywhere<T>(octets: &[u8], expected: PayloadError)
where
    T: for<'a> Decode<'a> + Debug,
{
    fails::<T>(octets, expected);

    let behind = payload::encode(&(0x0102_0304_u32, octets));
    fails::<(u32, T)>(&behind, moved(expected, 4));

    let nested = payload::encode(&(7_u8, Bytes(octets), 9_u8));
    fails::<(u8, Prefixed<T>, u8)>(&nested, moved(expected, 2));

    let inner = payload::encode(&(7_u8, Bytes(octets), 9_u8));
    let outer = payload::encode(&(7_u16, Bytes(inner)));
    fails::<(u16, Prefixed<(u8, Prefixed<T>, u8)>)>(&outer, moved(expected, 5));
}

#[test]
fn a_short_number_is_reported_at_its_start_with_what_it_lacks() {
    let short = |missing| Short { offset: 0, missing };
    fails_anywhere::<u8>(&[], short(1));
    fails_anywhere::<u16>(&[1], short(1));
    fails_anywhere::<i32>(&[1], short(3));
    fails_anywhere::<f64>(&[1, 2, 3], short(5));
    fails_anywhere::<u128>(&[], short(16));
    fails_anywhere::<LittleEndian<u32>>(&[1, 2, 3], short(1));
    fails_anywhere::<BigEndian<i64>>(&[1, 2, 3], short(5));
    fails_anywhere::<[u8; 20]>(&[0; 19], short(1));
    fails_anywhere::<VarUint>(&[], short(1));
    fails_anywhere::<VarUint>(&[0x81, 0x80], short(1));
    fails_anywhere::<bool>(&[], short(1));
    fails::<&[u8; 4]>(&[1], short(3));
}

#[test]
fn a_sequence_that_does_not_divide_is_reported_at_its_last_number() {
    let last = Short {
        offset: 4,
        missing: 1,
    };
    fails_anywhere::<Vec<u16>>(&[0, 1, 2, 3, 4], last);
    fails_anywhere::<Box<[i16]>>(&[0, 1, 2, 3, 4], last);
    fails_anywhere::<LittleEndian<Vec<u16>>>(&[0, 1, 2, 3, 4], last);
    fails_anywhere::<BigEndian<Vec<i16>>>(&[0, 1, 2, 3, 4], last);
    fails_anywhere::<Vec<[u8; 2]>>(&[0, 1, 2, 3, 4], last);
    let second_part = Short {
        offset: 5,
        missing: 1,
    };
    fails_anywhere::<Vec<(u8, u8)>>(&[0, 1, 2, 3, 4], second_part);
    let short = Short {
        offset: 8,
        missing: 5,
    };
    fails_anywhere::<Vec<f64>>(&[0; 11], short);
    let short = Short {
        offset: 0,
        missing: 1,
    };
    fails_anywhere::<Vec<u128>>(&[0; 15], short);
}

#[test]
fn a_length_is_reported_at_its_start_with_what_follows_it() {
    let length = Length {
        offset: 0,
        len: 300,
        left: 2,
    };
    let octets = [0x82, 0x2c, 0xaa, 0xbb];
    fails_anywhere::<Bytes>(&octets, length);
    fails_anywhere::<Text>(&octets, length);
    fails_anywhere::<Prefixed<Vec<u8>>>(&octets, length);
    fails_anywhere::<Prefixed<[u8; 2]>>(&octets, length);
    fails::<Bytes<&[u8]>>(&octets, length);
    fails::<Text<Cow<'_, str>>>(&octets, length);
    fails_anywhere::<Bytes>(
        &[],
        Short {
            offset: 0,
            missing: 1,
        },
    );
    fails_anywhere::<Text>(&[0xff; 12], IntegerTooLarge { offset: 0 });
}

#[test]
fn text_is_reported_at_its_first_bad_octet() {
    fails_anywhere::<String>(b"ab\xffcd", NotText { offset: 2 });
    fails_anywhere::<Box<str>>(
        "é".as_bytes().split_last().unwrap().1,
        NotText { offset: 0 },
    );
    fails_anywhere::<Text>(b"\x05\xc3\xa9x\xe2\x82", NotText { offset: 4 });
    fails_anywhere::<Text<Box<str>>>(b"\x01\xed", NotText { offset: 1 });
    fails::<&str>(b"abc\xed\xa0\x80", NotText { offset: 3 }); // a surrogate
    fails::<Cow<'_, str>>(b"\xc0\x80", NotText { offset: 0 }); // not the shortest form
    fails::<Text<&str>>(b"\x02a\x80rest", NotText { offset: 2 });
}

#[test]
fn a_truth_value_is_reported_with_its_octet() {
    for octet in 2..=u8::MAX {
        fails_anywhere::<bool>(&[octet], Bool { offset: 0, octet });
        fails_anywhere::<Vec<bool>>(&[0, 1, octet], Bool { offset: 2, octet });
    }
}

#[test]
fn items_without_octets_are_reported_where_they_would_start() {
    let empty = |offset| EmptyItem { offset };
    fails_anywhere::<Vec<()>>(&[1], empty(0));
    fails_anywhere::<Vec<[u8; 0]>>(&[1, 2], empty(0));
    fails_anywhere::<(u8, Vec<((), ())>)>(&[1, 2], empty(1));
    assert_eq!(payload::decode::<Vec<()>>(&[]), Ok(Vec::new()));
    assert_eq!(payload::decode::<Vec<[u8; 0]>>(&[]), Ok(Vec::new()));
}

#[test]
fn octets_left_over_are_reported_where_the_value_ends() {
    let left = |offset, octets| LeftOver { offset, octets };
    fails::<()>(&[1, 2], left(0, 2));
    fails::<u16>(&[1, 2, 3], left(2, 1));
    fails::<Bytes>(&[1, 0xaa, 1, 2, 3], left(2, 3));
    fails_anywhere::<Prefixed<u8>>(&[3, 1, 2, 3], left(2, 2));
    fails_anywhere::<Prefixed<Trailing<u8>>>(&[2, 1, 2], left(2, 1));
    fails::<Prefixed<u8>>(&[1, 2, 3], left(2, 1));
}

#[test]
fn a_complaint_of_an_application_is_reported_where_it_was_made() {
    #[derive(Debug)]
    struct Even;

    impl<'a> Decode<'a> for Even {
        fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
            let odd = input.invalid("an odd number");
            let VarUint(number) = input.decode()?;
            if number % 2 == 0 { Ok(Self) } else { Err(odd) }
        }
    }

    let odd = |offset| Invalid {
        offset,
        what: "an odd number",
    };
    fails_anywhere::<Even>(&[0x82, 0x2d], odd(0));
    fails_anywhere::<Vec<Even>>(&[2, 0x82, 0x2c, 4, 5], odd(4));
}
