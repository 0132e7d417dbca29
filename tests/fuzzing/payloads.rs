//! The payload codecs: whatever decodes has an encoding that decodes to the same.

use std::fmt::Debug;

use packetstream::payload::{
    self, BigEndian, Bytes, DecodeOwned, Encode, LittleEndian, Prefixed, Text, Trailing, VarUint,
};

packetstream::payload! {
    /// A bit of everything, with fields that depend on others.
    #[derive(Debug)]
    struct Record {
        flags: u8,
        name: Option<Text> if flags & 1 != 0,
        points: Option<Prefixed<Vec<Point>>> if flags & 2 != 0,
        digest: Option<[u8; 4]> if name.is_some() && flags & 4 != 0,
        total: VarUint,
    }

    #[derive(Debug)]
    struct Point(i16, LittleEndian<u32>, bool);
}

pub fn check(octets: &[u8]) {
    check_one::<u8>(octets);
    check_one::<i64>(octets);
    check_one::<f64>(octets);
    check_one::<BigEndian<u128>>(octets);
    check_one::<LittleEndian<Vec<u16>>>(octets);
    check_one::<Vec<bool>>(octets);
    check_one::<VarUint>(octets);
    check_one::<Vec<VarUint>>(octets);
    check_one::<Bytes>(octets);
    check_one::<Text>(octets);
    check_one::<Vec<Text>>(octets);
    check_one::<String>(octets);
    check_one::<Vec<u8>>(octets);
    check_one::<Prefixed<Vec<Prefixed<String>>>>(octets);
    check_one::<Trailing<Text>>(octets);
    check_one::<(u8, Text, Vec<u8>)>(octets);
    check_one::<Record>(octets);
    check_one::<Prefixed<Record>>(octets);
    check_one::<Vec<Record>>(octets);
}

fn check_one<T: Encode + DecodeOwned + Debug>(octets: &[u8]) {
    match payload::decode::<T>(octets) {
        Ok(value) => {
            let canonical = payload::encode(&value);
            assert!(canonical.len() <= octets.len());
            let again: T = payload::decode(&canonical).unwrap();
            // By their text, in which a NaN equals itself.
            assert_eq!(format!("{again:?}"), format!("{value:?}"));
            assert_eq!(payload::encode(&again), canonical);
        }
        Err(error) => assert!(error.offset() <= octets.len(), "{error}"),
    }
    if let Ok((value, rest)) = payload::decode_prefix::<T>(octets) {
        assert!(octets.ends_with(rest));
        assert!(payload::encode(&value).len() <= octets.len() - rest.len());
    }
}
