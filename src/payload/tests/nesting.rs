//! The limit of values that contain values.

use crate::payload::{
    self, Bytes, Decode, Encode, Input, PayloadError, Prefixed, Trailing, VarUint,
};

const LIMIT: usize = Input::MAX_NESTING;

crate::payload! {
    #[derive(Debug)]
    struct List {
        value: u8,
        next: Trailing<Box<List>>,
    }

    #[derive(Debug)]
    struct Tree(Vec<Child>);

    #[derive(Debug)]
    struct Child(Prefixed<Tree>);
}

fn depth_of<T: for<'a> Decode<'a> + Encode>(octets: &[u8]) -> Result<(), PayloadError> {
    let value: T = payload::decode(octets)?;
    assert_eq!(payload::encode(&value), octets);
    Ok(())
}

#[test]
fn a_box_is_a_level() {
    assert_eq!(depth_of::<List>(&[7; LIMIT + 1]), Ok(()));
    assert_eq!(
        depth_of::<List>(&[7; LIMIT + 2]),
        Err(PayloadError::TooDeep { offset: LIMIT + 1 })
    );
    assert!(depth_of::<List>(&vec![7; 10_000_000]).is_err());
}

#[test]
fn a_sequence_and_a_nested_input_are_a_level_each() {
    let chain = |levels| (0..levels).fold(Vec::new(), |octets, _| payload::encode(&Bytes(octets)));
    // The sequence of the root, and two levels for each child.
    assert_eq!(depth_of::<Tree>(&chain(LIMIT / 2 - 1)), Ok(()));
    let error = depth_of::<Tree>(&chain(LIMIT / 2)).unwrap_err();
    assert!(matches!(error, PayloadError::TooDeep { .. }), "{error}");
}

#[test]
fn a_level_is_left_again_after_success_and_failure() {
    let octets = [1; 1000];
    let mut input = Input::new(&octets);
    for _ in 0..=LIMIT {
        assert_eq!(input.decode(), Ok(Box::new(1_u8)));
        assert_eq!(input.nested().unwrap().decode(), Ok(1_u8));
        let mut short = input.nested().unwrap();
        assert!(short.decode::<Box<u16>>().is_err());
        assert_eq!(short.decode(), Ok(Box::new(1_u8)));
    }
}

/// Only what can contain a value of its own type is counted.
#[test]
fn data_text_and_numbers_are_no_level() {
    let mut octets = vec![1, b'x', 0, 7];
    for _ in 0..LIMIT {
        octets = payload::encode(&Bytes(octets));
    }
    let mut input = Input::new(&octets);
    for _ in 0..LIMIT {
        input = input.nested().unwrap();
    }
    type Flat = (payload::Text, VarUint, Vec<u8>);
    assert_eq!(
        input.clone().decode::<Flat>(),
        Ok(("x".into(), VarUint(0), vec![7]))
    );
    assert_eq!(
        input.decode::<Prefixed<u8>>(),
        Err(PayloadError::TooDeep {
            offset: input.offset()
        })
    );
}
