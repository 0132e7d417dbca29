//! Payloads whose octets are known: those of a block store that speaks this protocol, and the
//! integers of the packets that the reference implementation was seen to make.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation of a helper fails its test"
)]

#[path = "common/scripted.rs"]
mod scripted;
#[path = "common/vectors.rs"]
mod vectors;

use std::fmt::Debug;

use packetstream::payload::{
    self, Bytes, Decode, Encode, Input, PayloadError, Prefixed, Text, Trailing, VarUint,
};
use scripted::{hex, unhex};
use vectors::vectors;

packetstream::payload! {
    /// What precedes the payload of a packet.
    #[derive(Debug, PartialEq)]
    struct Head {
        length: VarUint,
        tag: VarUint,
        word: VarUint,
        channel: Option<VarUint> if word.0 & 1 != 0,
        request_type: Option<VarUint> if word.0 & 2 != 0,
    }

    /// The payload of a request for hashcodes, when it has no start.
    #[derive(Debug, PartialEq)]
    struct FirstHashCodes<'a> {
        hash_name: Text<&'a str>,
        limit: VarUint,
    }

    /// A payload of the same request with a start.
    #[derive(Debug, PartialEq)]
    struct HashCodesFrom<'a> {
        hash_name: Text<&'a str>,
        start: HashCode<'a>,
        limit: VarUint,
    }

    #[derive(Debug, PartialEq)]
    struct Add<'a>(VarUint, Bytes<&'a [u8]>);

    #[derive(Debug, PartialEq)]
    struct Reference<'a> {
        flags: VarUint,
        span: VarUint,
        kind: Option<VarUint> if flags.0 & 2 != 0,
        kind_flags: Option<VarUint> if flags.0 & 4 != 0,
        hash: Option<HashCode<'a>> if flags.0 & 1 != 0 || kind.is_none_or(|kind| kind.0 == 0),
        repeated: Option<u8> if kind == Some(VarUint(1)),
        literal: Option<&'a [u8]> if kind == Some(VarUint(2)),
        part: Option<Part<'a>> if kind == Some(VarUint(3)),
    }

    #[derive(Debug, PartialEq)]
    struct Part<'a> {
        offset: VarUint,
        whole: Prefixed<Box<Reference<'a>>>,
    }

    #[derive(Debug, PartialEq)]
    struct Entry<'a> {
        when: Text<&'a str>,
        kind: VarUint,
        flags: VarUint,
        name: Option<Text<&'a str>> if flags.0 & 2 != 0,
        meta: Option<Text<&'a str>> if flags.0 & 1 != 0,
        uuid: Option<&'a [u8; 16]> if flags.0 & 8 != 0,
        block: Option<Prefixed<Reference<'a>>> if flags.0 & 4 == 0,
        previous: Option<Prefixed<Reference<'a>>> if flags.0 & 0x10 != 0,
        extended: Option<Bytes<&'a [u8]>> if flags.0 & 0x20 != 0,
    }
}

/// The hash's number, then a digest as long as that hash makes it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum HashCode<'a> {
    Sha1(&'a [u8; 20]),
    Blake3(&'a [u8; 32]),
}

impl Encode for HashCode<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sha1(digest) => (VarUint(0), *digest).encode(out),
            Self::Blake3(digest) => (VarUint(2), *digest).encode(out),
        }
    }
}

impl<'a> Decode<'a> for HashCode<'a> {
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        let unknown = input.invalid("an unknown hash");
        match input.varint()? {
            0 => input.decode().map(Self::Sha1),
            2 => input.decode().map(Self::Blake3),
            _ => Err(unknown),
        }
    }
}

const DIGEST: [u8; 32] = [0xd1; 32];
const DIGEST_HEX: &str = "d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1";

/// Checks both directions, and that no part of the octets is taken for the whole.
#[track_caller]
fn golden<'a, T: Encode + Decode<'a> + Debug + PartialEq>(octets: &'a [u8], value: &T) {
    assert_eq!(hex(&payload::encode(value)), hex(octets));
    assert_eq!(payload::decode::<T>(octets).as_ref(), Ok(value));
    for len in 0..octets.len() {
        let error = payload::decode::<T>(&octets[..len]).unwrap_err();
        assert!(error.offset() <= len, "{error}");
    }
}

#[test]
fn integers_have_their_octets() {
    for (value, octets) in [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8100"),
        (300, "822c"),
        (500, "8374"),
        (2603, "942b"),
        (16_383, "ff7f"),
        (16_384, "818000"),
        (u64::MAX, "81ffffffffffffffff7f"),
    ] {
        golden(&unhex(octets), &VarUint(value));
    }
}

/// The head of a packet is a payload like any other, so every recorded packet is a test of it.
#[test]
fn the_recorded_packets_have_heads_of_integers() {
    let mut checked = 0;
    for vector in vectors("packet") {
        if vector["u64"] != true {
            continue;
        }
        let number = |name: &str| vector[name].as_u64().unwrap();
        let is_request = vector["is_request"] == true;
        let octets = unhex(vector["head_hex"].as_str().unwrap());
        let head: Head = payload::decode(&octets).unwrap();

        let length = number("wire_len") - payload::encode(&head.length).len() as u64;
        assert_eq!(head.length, VarUint(length), "{vector}");
        assert_eq!(head.tag, VarUint(number("tag")), "{vector}");
        assert_eq!(head.word.0 >> 2, number("flags"), "{vector}");
        assert_eq!(head.word.0 >> 1 & 1, u64::from(is_request), "{vector}");
        assert_eq!(
            head.channel.unwrap_or_default().0,
            number("channel"),
            "{vector}"
        );
        assert_eq!(
            head.request_type,
            is_request.then(|| VarUint(number("rq_type"))),
            "{vector}"
        );
        golden(&octets, &head);
        checked += 1;
    }
    assert!(checked > 200, "only {checked}");
}

#[test]
fn data_and_text_have_their_octets() {
    golden(&unhex("00"), &Bytes::<Vec<u8>>::default());
    golden(&unhex("00"), &Text(""));
    golden(&unhex("06626c616b6533"), &Text("blake3"));
    golden(&unhex("06626c616b6533"), &Text("blake3".to_owned()));
    golden(&unhex("0473686131"), &Text("sha1"));
    golden(&unhex("0c313233343536373839302e35"), &Text("1234567890.5"));
    golden(&unhex("05ffc3a9e282"), &Bytes(unhex("ffc3a9e282")));
    golden(&unhex("05c3a9e282ac"), &Text("é€"));

    let long = vec![0xab; 300];
    let octets = [&unhex("822c")[..], &long].concat();
    golden(&octets, &Bytes(&long[..]));
    golden(&octets, &Prefixed(long.clone()));
}

#[test]
fn requests_for_hashcodes_have_their_octets() {
    let hash_name = Text("blake3");
    for (limit, octets) in [(0, "06626c616b653300"), (2, "06626c616b653302")] {
        let limit = VarUint(limit);
        golden(&unhex(octets), &FirstHashCodes { hash_name, limit });
        golden(&unhex(octets), &(hash_name, limit));
    }
    let start = HashCode::Blake3(&DIGEST);
    let limit = VarUint(2);
    let octets = unhex(&format!("06626c616b653302{DIGEST_HEX}02"));
    golden(
        &octets,
        &HashCodesFrom {
            hash_name,
            start,
            limit,
        },
    );
}

#[test]
fn hashcodes_have_the_length_of_their_hash() {
    let octets = unhex(&format!("02{DIGEST_HEX}"));
    assert_eq!(octets.len(), 33);
    golden(&octets, &HashCode::Blake3(&DIGEST));
    let octets = unhex(&format!("00{}", &DIGEST_HEX[..40]));
    assert_eq!(octets.len(), 21);
    golden(&octets, &HashCode::Sha1(&[0xd1; 20]));

    let answer = unhex(&format!("02{DIGEST_HEX}02{DIGEST_HEX}"));
    let hash_codes = payload::decode::<Vec<HashCode<'_>>>(&answer).unwrap();
    assert_eq!(hash_codes, [HashCode::Blake3(&DIGEST); 2]);
    assert_eq!(payload::encode(&hash_codes), answer);
    type HashAndLast<'a> = (HashCode<'a>, Trailing<HashCode<'a>>);
    let (_, Trailing(last)) = payload::decode::<HashAndLast<'_>>(&answer).unwrap();
    assert!(last.is_some());
    let (_, Trailing(last)) = payload::decode::<HashAndLast<'_>>(&answer[..33]).unwrap();
    assert!(last.is_none());

    let error = payload::decode::<Vec<HashCode<'_>>>(&[&answer[..], &[3]].concat()).unwrap_err();
    assert_eq!(error.to_string(), "an unknown hash at octet 66");
}

#[test]
fn added_chunks_have_their_octets() {
    golden(&unhex("0203616263"), &Add(VarUint(2), Bytes(b"abc")));
    golden(&unhex("0200"), &Add(VarUint(2), Bytes(b"")));
}

fn reference<'a>(flags: u64, span: u64) -> Reference<'a> {
    Reference {
        flags: VarUint(flags),
        span: VarUint(span),
        kind: None,
        kind_flags: None,
        hash: None,
        repeated: None,
        literal: None,
        part: None,
    }
}

#[test]
fn block_references_have_their_octets() {
    let hash = || Some(HashCode::Blake3(&DIGEST));
    let hashed = Reference {
        hash: hash(),
        ..reference(0, 500)
    };
    let octets = unhex(&format!("2400837402{DIGEST_HEX}"));
    golden(&octets, &Prefixed(hashed));

    let indirect = Reference {
        hash: hash(),
        ..reference(1, 2603)
    };
    let octets = unhex(&format!("2401942b02{DIGEST_HEX}"));
    golden(&octets, &Prefixed(indirect));

    let zeros = Reference {
        kind: Some(VarUint(1)),
        repeated: Some(0),
        ..reference(2, 100)
    };
    golden(&unhex("0402640100"), &Prefixed(zeros));

    let literal = || Reference {
        kind: Some(VarUint(2)),
        literal: Some(b"lit"),
        ..reference(2, 3)
    };
    golden(&unhex("060203026c6974"), &Prefixed(literal()));

    let part = Reference {
        kind: Some(VarUint(3)),
        part: Some(Part {
            offset: VarUint(1),
            whole: Prefixed(Box::new(literal())),
        }),
        ..reference(2, 2)
    };
    golden(&unhex("0b02020301060203026c6974"), &Prefixed(part));
}

#[test]
fn archive_entries_have_their_octets() {
    let block = || {
        Some(Prefixed(Reference {
            kind: Some(VarUint(2)),
            literal: Some(b"lit"),
            ..reference(2, 3)
        }))
    };
    let entry = Entry {
        when: Text("1234567890.5"),
        kind: VarUint(1),
        flags: VarUint(0x3b),
        name: Some(Text("top")),
        meta: Some(Text("{}")),
        uuid: Some(&[0x77; 16]),
        block: block(),
        previous: block(),
        extended: Some(Bytes(&[1, 2])),
    };
    let octets = "0c313233343536373839302e35 01 3b 03746f70 027b7d \
                  77777777777777777777777777777777 060203026c6974 060203026c6974 020102";
    golden(&unhex(&octets.replace(' ', "")), &entry);

    let bare = Entry {
        when: Text("0"),
        kind: VarUint(0),
        flags: VarUint(4),
        name: None,
        meta: None,
        uuid: None,
        block: None,
        previous: None,
        extended: None,
    };
    golden(&unhex("01300004"), &bare);
}

#[test]
fn numbers_of_fixed_width_are_big_endian() {
    golden(&unhex("07"), &7_u8);
    golden(&unhex("fe"), &-2_i8);
    golden(&unhex("0102"), &0x102_u16);
    golden(&unhex("fffe"), &-2_i16);
    golden(&unhex("00000102"), &0x102_i32);
    golden(&unhex("0102030405060708"), &0x0102_0304_0506_0708_u64);
    golden(&unhex("00000000000000000000000000000100"), &256_u128);
    golden(&unhex("3fc00000"), &1.5_f32);
    golden(&unhex("3ff8000000000000"), &1.5_f64);
    golden(&unhex("00"), &false);
    golden(&unhex("01"), &true);
}
