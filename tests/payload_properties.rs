//! Laws of the payload codecs, on random values. Every case has a seed of its own, which is
//! printed if the case fails.
#![allow(
    clippy::unwrap_used,
    reason = "a failed expectation of a helper fails its test"
)]

use std::borrow::Cow;
use std::fmt::Debug;

use fastrand::Rng;
use packetstream::payload::{
    self, BigEndian, Bytes, DecodeOwned, Encode, LittleEndian, PayloadError, Prefixed, Text,
    Trailing, VarUint,
};

const ROUNDS: u64 = 20;

packetstream::payload! {
    /// A bit of everything, with fields that depend on others.
    #[derive(Clone, Debug, PartialEq)]
    struct Record {
        flags: u8,
        name: Option<Text> if flags & 1 != 0,
        points: Option<Prefixed<Vec<Point>>> if flags & 2 != 0,
        digest: Option<[u8; 4]> if name.is_some() && flags & 4 != 0,
        total: VarUint,
    }

    #[derive(Clone, Debug, PartialEq)]
    struct Point(i16, LittleEndian<u32>, bool);

    #[derive(Clone, Debug, PartialEq)]
    struct Nothing;
}

/// Where the octets of a value end.
#[derive(Clone, Copy, PartialEq)]
enum Extent {
    /// They tell themselves, so a part of them is never a value.
    Own,
    /// At the end of the payload: a part of them may be another value.
    Payload,
}

use Extent::{Own, Payload};

/// Names the seed of a case that panics, wherever it does.
struct Case {
    codec: &'static str,
    seed: u64,
}

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the failing case is {} with seed {}", self.codec, self.seed);
        }
    }
}

/// Checks that an encoding is a fixed point: what it decodes to has it again, and is the same.
///
/// Values are compared by their text, in which a NaN equals itself.
fn assert_stable<T: Encode + DecodeOwned + Debug>(value: &T) {
    let canonical = payload::encode(value);
    let again: T = payload::decode(&canonical).unwrap();
    assert_eq!(format!("{again:?}"), format!("{value:?}"));
    assert_eq!(payload::encode(&again), canonical);
}

/// Decodes octets that may be anything.
fn assert_harmless<T: Encode + DecodeOwned + Debug>(octets: &[u8]) {
    match payload::decode::<T>(octets) {
        Ok(value) => {
            assert!(payload::encode(&value).len() <= octets.len());
            assert_stable(&value);
        }
        Err(error) => assert!(error.offset() <= octets.len(), "{error}"),
    }
    let prefix = payload::decode_prefix::<T>(octets);
    if let Ok((_, rest)) = prefix {
        assert!(octets.ends_with(rest));
    }
}

fn check<T>(codec: &'static str, extent: Extent, make: impl Fn(&mut Rng) -> T)
where
    T: Encode + DecodeOwned + Debug,
{
    for seed in 0..ROUNDS {
        let _case = Case { codec, seed };
        let mut rng = Rng::with_seed(seed);
        let value = make(&mut rng);
        let octets = payload::encode(&value);
        assert_stable(&value);

        let mut appended = vec![0xa5; 3];
        value.encode(&mut appended);
        assert_eq!(appended, [&[0xa5; 3], &octets[..]].concat());

        if extent == Own {
            let garbage = random_octets(&mut rng, 5);
            let followed = [&octets[..], &garbage].concat();
            let (decoded, rest) = payload::decode_prefix::<T>(&followed).unwrap();
            assert_eq!(format!("{decoded:?}"), format!("{value:?}"));
            assert_eq!(rest, garbage);
        }
        for len in 0..octets.len() {
            assert_harmless::<T>(&octets[..len]);
            if extent == Own {
                let error = payload::decode::<T>(&octets[..len]).unwrap_err();
                assert!(
                    matches!(
                        error,
                        PayloadError::Short { .. } | PayloadError::Length { .. }
                    ),
                    "{error} for {len} of {octets:02x?}"
                );
            }
        }
        let mut damaged = octets.clone();
        for at in 0..octets.len() {
            let flips = (0..8).map(|bit| octets[at] ^ 1 << bit);
            for octet in flips.chain([!octets[at], 0, 0x7f, 0x80, 0xff]) {
                damaged[at] = octet;
                assert_harmless::<T>(&damaged);
            }
            damaged[at] = octets[at];
        }
        assert_harmless::<T>(&random_octets(&mut rng, 40));
    }
}

fn random_octets(rng: &mut Rng, max: usize) -> Vec<u8> {
    let high_bits = rng.u8(..);
    (0..rng.usize(0..=max))
        .map(|_| match rng.u8(..) {
            octet if octet < high_bits => octet,
            _ => rng.u8(0..8),
        })
        .collect()
}

/// Small ones and large ones are equally frequent, so that every length of encoding is met.
fn random_uint(rng: &mut Rng) -> u64 {
    rng.u64(..) >> rng.u32(0..64)
}

fn random_text(rng: &mut Rng) -> String {
    (0..rng.usize(0..20))
        .map(|_| match rng.u8(0..4) {
            0 => rng.char(..),
            _ => rng.alphanumeric(),
        })
        .collect()
}

fn several<T>(rng: &mut Rng, make: impl Fn(&mut Rng) -> T) -> Vec<T> {
    (0..rng.usize(0..12)).map(|_| make(rng)).collect()
}

fn random_point(rng: &mut Rng) -> Point {
    Point(rng.i16(..), LittleEndian(rng.u32(..)), rng.bool())
}

fn random_record(rng: &mut Rng) -> Record {
    let flags = rng.u8(0..8);
    Record {
        flags,
        name: (flags & 1 != 0).then(|| Text(random_text(rng))),
        points: (flags & 2 != 0).then(|| Prefixed(several(rng, random_point))),
        digest: (flags & 5 == 5).then(|| [rng.u8(..); 4]),
        total: VarUint(random_uint(rng)),
    }
}

macro_rules! check_numbers {
    ($($number:ident)*) => {$({
        let random = |rng: &mut Rng| {
            let octets: Vec<u8> = (0..size_of::<$number>()).map(|_| rng.u8(..)).collect();
            $number::from_ne_bytes(octets.try_into().unwrap())
        };
        let name = stringify!($number);
        check(name, Own, random);
        check(name, Own, |rng| BigEndian(random(rng)));
        check(name, Own, |rng| LittleEndian(random(rng)));
        check(name, Payload, |rng| several(rng, random));
        check(name, Payload, |rng| BigEndian(several(rng, random)));
        check(name, Payload, |rng| LittleEndian(several(rng, random)));
        check(name, Own, |rng| Prefixed(several(rng, random)));
    })*};
}

#[test]
fn numbers_keep_the_laws() {
    check_numbers!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64);
    check("bool", Own, Rng::bool);
    check("Vec<bool>", Payload, |rng| several(rng, Rng::bool));
}

#[test]
fn integers_keep_the_laws() {
    check("VarUint", Own, |rng| VarUint(random_uint(rng)));
    check("Vec<VarUint>", Payload, |rng| {
        several(rng, |rng| VarUint(random_uint(rng)))
    });
}

#[test]
fn octets_and_text_keep_the_laws() {
    check("Bytes", Own, |rng| Bytes(random_octets(rng, 30)));
    check("Bytes of 200", Own, |rng| Bytes(vec![rng.u8(..); 200]));
    check("Bytes<Box<[u8]>>", Own, |rng| {
        Bytes(random_octets(rng, 30).into_boxed_slice())
    });
    check("Vec<Bytes>", Payload, |rng| {
        several(rng, |rng| Bytes(random_octets(rng, 5)))
    });
    check("[u8; 7]", Own, |rng| [rng.u8(..); 7]);
    check("[u8; 0]", Own, |_| [0_u8; 0]);
    check("Vec<[u8; 3]>", Payload, |rng| {
        several(rng, |rng| [rng.u8(..); 3])
    });
    check("Box<[u8]>", Payload, |rng| {
        random_octets(rng, 30).into_boxed_slice()
    });
    check("Text", Own, |rng| Text(random_text(rng)));
    check("Text<Box<str>>", Own, |rng| {
        Text(random_text(rng).into_boxed_str())
    });
    check("String", Payload, random_text);
    check("Box<str>", Payload, |rng| random_text(rng).into_boxed_str());
}

#[test]
fn combinations_keep_the_laws() {
    check("()", Own, |_| ());
    check("(VarUint, Bytes)", Own, |rng| {
        (VarUint(random_uint(rng)), Bytes(random_octets(rng, 9)))
    });
    check("(u8, Text, Vec<u32>)", Payload, |rng| {
        (
            rng.u8(..),
            Text(random_text(rng)),
            several(rng, |rng| rng.u32(..)),
        )
    });
    check("a tuple of 8", Own, |rng| {
        let digest = [rng.u8(..); 2];
        let text = Text(random_text(rng));
        let number = rng.f32();
        (
            digest,
            text,
            number,
            (),
            true,
            (rng.i8(..),),
            7_u16,
            VarUint(1),
        )
    });
    check("Trailing", Payload, |rng| {
        (rng.u8(..), Trailing(rng.bool().then(|| rng.u64(..))))
    });
    check("Prefixed", Own, |rng| {
        Prefixed((random_point(rng), Prefixed(random_text(rng))))
    });
    check("Prefixed of 200", Own, |rng| {
        Prefixed(vec![rng.u8(..); 200])
    });
    check("Box<Point>", Own, |rng| Box::new(random_point(rng)));
}

#[test]
fn structs_of_the_macro_keep_the_laws() {
    check("Nothing", Own, |_| Nothing);
    check("Point", Own, random_point);
    check("Vec<Point>", Payload, |rng| several(rng, random_point));
    check("Record", Own, random_record);
    check("Vec<Record>", Payload, |rng| several(rng, random_record));
}

/// Whatever the octets are, a borrowing type decodes to what its owning counterpart does.
#[test]
fn borrowing_types_agree_with_owning_ones_and_copy_nothing() {
    for seed in 0..ROUNDS * 50 {
        let _case = Case {
            codec: "borrowed",
            seed,
        };
        let mut rng = Rng::with_seed(seed);
        let octets = if rng.bool() {
            random_octets(&mut rng, 12)
        } else {
            payload::encode(&Text(random_text(&mut rng)))
        };
        let octets = &octets[..];

        let owned = payload::decode::<Bytes>(octets);
        let slice = payload::decode::<Bytes<&[u8]>>(octets);
        let cow = payload::decode::<Bytes<Cow<'_, [u8]>>>(octets);
        assert_eq!(
            slice.map(|slice| slice.to_vec()),
            owned.clone().map(Bytes::into_inner)
        );
        assert_eq!(
            cow.clone().map(|cow| cow.0.into_owned()),
            owned.map(Bytes::into_inner)
        );
        if let (Ok(slice), Ok(cow)) = (slice, cow) {
            assert!(octets.as_ptr_range().contains(&slice.as_ptr()) || slice.is_empty());
            assert!(matches!(cow.0, Cow::Borrowed(_)));
        }

        let owned = payload::decode::<Text>(octets);
        let slice = payload::decode::<Text<&str>>(octets);
        let cow = payload::decode::<Text<Cow<'_, str>>>(octets);
        assert_eq!(
            slice.map(|slice| slice.to_string()),
            owned.clone().map(Text::into_inner)
        );
        assert_eq!(
            cow.clone().map(|cow| cow.0.into_owned()),
            owned.map(Text::into_inner)
        );
        if let (Ok(slice), Ok(cow)) = (slice, cow) {
            assert!(octets.as_ptr_range().contains(&slice.as_ptr()) || slice.is_empty());
            assert!(matches!(cow.0, Cow::Borrowed(_)));
        }

        let owned = payload::decode::<String>(octets);
        assert_eq!(payload::decode::<&str>(octets).map(str::to_owned), owned);
        assert_eq!(
            payload::decode::<Cow<'_, str>>(octets).map(Cow::into_owned),
            owned
        );
        assert_eq!(payload::decode::<&[u8]>(octets), Ok(octets));
        assert_eq!(payload::decode::<Vec<u8>>(octets).as_deref(), Ok(octets));
        let cow = payload::decode::<Cow<'_, [u8]>>(octets);
        assert!(matches!(cow, Ok(Cow::Borrowed(all)) if all == octets));
        let array = payload::decode::<&[u8; 5]>(octets);
        assert_eq!(array.copied(), payload::decode::<[u8; 5]>(octets));
    }
}

/// All ways to write the same thing have the same octets.
#[test]
fn references_boxes_and_slices_encode_as_what_they_refer_to() {
    for seed in 0..ROUNDS {
        let _case = Case {
            codec: "references",
            seed,
        };
        let mut rng = Rng::with_seed(seed);
        let record = random_record(&mut rng);
        let octets = payload::encode(&record);
        assert_eq!(payload::encode(&&record), octets);
        assert_eq!(payload::encode(&Box::new(record.clone())), octets);
        assert_eq!(payload::encode(&(record.clone(),)), octets);
        assert_eq!(payload::encode(&Some(&record)), octets);
        assert_eq!(payload::encode(&Trailing(Some(record.clone()))), octets);
        assert_eq!(
            payload::encode(&Bytes(&octets)),
            payload::encode(&Prefixed(record))
        );
        assert_eq!(payload::encode(&None::<Record>), []);

        let points = several(&mut rng, random_point);
        let octets = payload::encode(&points);
        let boxed: Box<[Point]> = points.clone().into();
        assert_eq!(payload::encode(&points[..]), octets);
        assert_eq!(payload::encode(&boxed), octets);
        assert_eq!(payload::encode(&Cow::Borrowed(&points)), octets);
        assert_eq!(payload::decode::<Box<[Point]>>(&octets), Ok(boxed));

        let text = random_text(&mut rng);
        let octets = text.as_bytes();
        assert_eq!(payload::encode(&text), octets);
        assert_eq!(payload::encode(&text[..]), octets);
        assert_eq!(payload::encode(octets), octets);
        assert_eq!(payload::encode(&Cow::Borrowed(&text[..])), octets);
        assert_eq!(
            payload::encode(&Text(&text)),
            payload::encode(&Bytes(octets))
        );
    }
}

/// A nested length that lies is found out, whatever it says.
#[test]
fn a_wrong_inner_length_is_never_a_value_of_that_length() {
    for seed in 0..ROUNDS * 10 {
        let _case = Case {
            codec: "lengths",
            seed,
        };
        let mut rng = Rng::with_seed(seed);
        let data = random_octets(&mut rng, 20);
        let claim = match rng.u8(0..4) {
            0 => 1 << 63,
            1 => u64::MAX,
            2 => rng.u64(0..40),
            _ => random_uint(&mut rng),
        };
        let octets = payload::encode(&(VarUint(claim), &data[..]));
        let offset = 0;
        let left = data.len();
        let decoded = payload::decode_prefix::<Bytes>(&octets);
        if usize::try_from(claim).is_ok_and(|claim| claim <= left) {
            let (bytes, rest) = decoded.unwrap();
            assert_eq!(VarUint::from(bytes.len()), VarUint(claim));
            assert_eq!([&bytes[..], rest].concat(), data);
        } else {
            let error = PayloadError::Length {
                offset,
                len: claim,
                left,
            };
            assert_eq!(decoded, Err(error));
            assert_eq!(payload::decode::<Text>(&octets), Err(error));
            assert_eq!(payload::decode::<Prefixed<Vec<u64>>>(&octets), Err(error));
            assert_eq!(payload::decode::<Vec<Bytes>>(&octets), Err(error));
        }
    }
}
