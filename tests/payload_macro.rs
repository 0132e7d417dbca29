//! `payload!` in all its forms, from another crate, with every warning an error.
#![deny(
    warnings,
    clippy::pedantic,
    missing_docs,
    unused_qualifications,
    unused_lifetimes,
    single_use_lifetimes,
    elided_lifetimes_in_paths,
    non_local_definitions
)]
#![allow(
    clippy::exhaustive_structs,
    reason = "that is about the structs that are written here"
)]

use std::borrow::Cow;
use std::fmt::Debug;

use packetstream::payload;
use packetstream::payload::{
    Bytes, Decode, Encode, LittleEndian, PayloadError, Prefixed, Text, Trailing, VarUint,
};

payload! {}

payload! {
    /// Has no octets.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct Unit;

    /// Neither has this, nor the next.
    #[derive(Debug, PartialEq)]
    pub struct NoNamedFields {}

    #[derive(Debug, PartialEq)]
    pub(crate) struct NoFields();

    /// Without a comma at the end.
    #[derive(Debug, PartialEq)]
    struct Pair(VarUint, u8);

    /** With one, and with every kind of comment. */
    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Clone)]
    #[must_use = "it was paid for"]
    pub struct HashCode(
        /// The number of the hash.
        pub VarUint,
        #[allow(dead_code, reason = "an attribute of a field")] pub(crate) [u8; 16 + 4],
        (u8, Vec<u8>),
    );

    #[derive(Debug, PartialEq)]
    struct Borrowed<'a>(&'a [u8; 2], Cow<'a, str>);

    #[derive(Debug, PartialEq)]
    struct Named {
        number: u16,
        text: Text,
        pairs: Prefixed<Vec<Pair>>,
        little: LittleEndian<i32>,
        unit: Unit
    }

    /// A struct with everything.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Select<'payload,> {
        /// Which of the parts there are.
        pub which: u8,
        /// The octets to start from.
        pub start: Option<Bytes<&'payload [u8]>> if which == 2,
        pub(crate) name: std::option::Option<Text<Cow<'payload, str>>>
            if matches!(which, 1 | 2) && start.is_none(),
        #[doc = "The hash, where the name is that of one."]
        hash: ::core::option::Option<HashCode>
            if name.as_ref().is_some_and(|name| is_hash(name)),
        borrowed: Trailing<Inner<'payload>>,
    }

    #[derive(Clone, Debug, PartialEq)]
    struct Inner<'a> { rest: &'a str }
}

fn is_hash(name: &str) -> bool {
    name.starts_with("sha")
}

/// Checks both directions.
#[track_caller]
fn same<'a, T: Encode + Decode<'a> + Debug + PartialEq>(octets: &'a [u8], value: &T) {
    assert_eq!(payload::encode(value), octets);
    assert_eq!(payload::decode::<T>(octets).as_ref(), Ok(value));
}

#[test]
fn structs_without_fields_have_no_octets() {
    same(b"", &Unit);
    same(b"", &NoNamedFields {});
    same(b"", &NoFields());
}

#[test]
fn fields_follow_each_other_in_the_order_they_are_written_in() {
    same(&[0x82, 0x2c, 7], &Pair(VarUint(300), 7));
    same(
        b"\x01\xd1\xd1\xd1\xd1\xd1\xd1\xd1\xd1\xd1\xd1\xd1\xd1\xd1\xd1\xd1\xd1\xd1\xd1\xd1\xd1\x09\x08\x07",
        &HashCode(VarUint(1), [0xd1; 20], (9, vec![8, 7])),
    );
    same(b"abcd", &Borrowed(b"ab", "cd".into()));
    same(
        b"\x01\x02\x02hi\x04\x01\x02\x03\x04\x05\0\0\0",
        &Named {
            number: 0x102,
            text: "hi".into(),
            pairs: Prefixed(vec![Pair(VarUint(1), 2), Pair(VarUint(3), 4)]),
            little: LittleEndian(5),
            unit: Unit,
        },
    );
}

#[test]
fn a_condition_sees_the_fields_before_it() {
    let nothing = Select {
        which: 0,
        start: None,
        name: None,
        hash: None,
        borrowed: Trailing(None),
    };
    same(&[0], &nothing);
    let start = Some(Bytes(&[0xaa, 0xbb][..]));
    let with_start = Select {
        which: 2,
        start,
        borrowed: Trailing(Some(Inner { rest: "rest" })),
        ..nothing.clone()
    };
    same(b"\x02\x02\xaa\xbbrest", &with_start);
    let with_name = Select {
        which: 1,
        name: Some(Text("md5".into())),
        borrowed: Trailing(Some(Inner { rest: "!" })),
        ..nothing.clone()
    };
    same(b"\x01\x03md5!", &with_name);
    let with_hash = Select {
        which: 1,
        name: Some(Text("sha1".into())),
        hash: Some(HashCode(VarUint(0), *b"abcdefghijklmnopqrst", (1, vec![2]))),
        ..nothing
    };
    same(b"\x01\x04sha1\0abcdefghijklmnopqrst\x01\x02", &with_hash);
}

/// What is encoded is what is there, also where the conditions of decoding contradict.
#[test]
fn encoding_writes_an_option_as_it_is() {
    let contradicting = Select {
        which: 7,
        start: Some(Bytes(&[0xaa][..])),
        name: None,
        hash: None,
        borrowed: Trailing(None),
    };
    assert_eq!(payload::encode(&contradicting), [7, 1, 0xaa]);
}

#[test]
fn errors_of_fields_have_the_offset_in_the_payload() {
    let error = payload::decode::<Select<'_>>(&[2, 3, 0xaa]).unwrap_err();
    let expected = PayloadError::Length {
        offset: 1,
        len: 3,
        left: 1,
    };
    assert_eq!(error, expected);
    let error = payload::decode::<Named>(b"\x01\x02\x02hi\x03\x01\x02\x03\0\0\0\0").unwrap_err();
    let expected = PayloadError::Short {
        offset: 9,
        missing: 1,
    };
    assert_eq!(error, expected);
}

/// The names of the macro's own variables are no obstacle, nor are keywords.
#[test]
fn fields_may_have_any_name() {
    payload! {
        #[derive(Debug, PartialEq)]
        struct Names<'input> {
            input: u8,
            out: Option<u8> if input == 1,
            field: Option<u8> if input == 1 && out == Some(2),
            r#type: Option<u8> if field.is_some(),
            payload: Option<u8> if r#type.is_some(),
            rest: &'input [u8],
        }
    }

    let names = Names {
        input: 1,
        out: Some(2),
        field: Some(3),
        r#type: Some(4),
        payload: Some(5),
        rest: &[6],
    };
    same(&[1, 2, 3, 4, 5, 6], &names);
}

#[test]
fn a_struct_may_contain_itself() {
    payload! {
        #[derive(Debug, PartialEq)]
        struct List(u8, Trailing<Box<List>>);

        #[derive(Debug, PartialEq)]
        struct Reference<'a> {
            kind: u8,
            data: Option<Bytes<&'a [u8]>> if kind == 0,
            inner: Option<Prefixed<Box<Reference<'a>>>> if kind == 1,
        }
    }

    let list = List(1, Trailing(Some(Box::new(List(2, Trailing(None))))));
    same(&[1, 2], &list);
    let leaf = Reference {
        kind: 0,
        data: Some(Bytes(b"x")),
        inner: None,
    };
    let branch = Reference {
        kind: 1,
        data: None,
        inner: Some(Prefixed(Box::new(leaf))),
    };
    same(b"\x01\x03\x00\x01x", &branch);
}

/// Constants and functions in a condition are those of the place where it is written.
#[test]
fn a_condition_may_be_any_expression() {
    const HAS_LIMIT: u8 = 4;
    fn even(number: VarUint) -> bool {
        number.0.is_multiple_of(2)
    }

    payload! {
        #[derive(Debug, PartialEq)]
        struct Conditions {
            flags: u8,
            limit: Option<VarUint> if flags & HAS_LIMIT != 0,
            half: Option<u8> if { let half = even; limit.is_some_and(half) },
            always: Option<u8> if true,
            never: Option<u8> if false,
        }
    }

    let conditions = Conditions {
        flags: 4,
        limit: Some(VarUint(6)),
        half: Some(3),
        always: Some(1),
        never: None,
    };
    same(&[4, 6, 3, 1], &conditions);
}

mod outer {
    pub(super) mod inner {
        packetstream::payload! {
            /// The visibility of a struct and of its fields is as it is written.
            #[derive(Debug, PartialEq)]
            pub(in crate::outer) struct Restricted {
                pub(super) number: u8,
                hidden: u8,
            }

            #[derive(Debug, PartialEq)]
            pub(crate) struct Tuple(pub(in crate::outer) u8, pub(crate) (u8, u8));
        }

        impl Restricted {
            pub(super) fn new(number: u8, hidden: u8) -> Self {
                Self { number, hidden }
            }
        }
    }

    #[test]
    fn visibility_is_kept() {
        let restricted = inner::Restricted::new(1, 2);
        assert_eq!(restricted.number, 1);
        super::same(&[1, 2], &restricted);
        let mut tuple = inner::Tuple(1, (2, 3));
        tuple.0 = 7;
        super::same(&[7, 2, 3], &tuple);
    }
}

/// Nothing that the macro uses is looked up where it is used.
mod shadowed {
    #![allow(
        dead_code,
        non_camel_case_types,
        reason = "they are here to be in the way"
    )]

    pub(super) struct Result;
    pub(super) struct Option;
    pub(super) struct Vec;
    pub(super) struct Ok;
    pub(super) struct Err;
    pub(super) struct Some;
    pub(super) struct None;
    pub(super) struct Box;
    pub(super) struct String;
    pub(super) struct Input;
    pub(super) struct PayloadError;
    pub(super) struct u8;
    pub(super) struct bool;
    pub(super) trait Encode {}
    pub(super) trait Decode {}
    pub(super) trait From {}
    pub(super) mod core {}
    pub(super) mod std {}
    pub(super) mod alloc {}
    pub(super) mod packetstream {}
    pub(super) mod payload {}

    macro_rules! __payload_struct {
        ($($anything:tt)*) => {};
    }
    macro_rules! __payload_impls {
        ($($anything:tt)*) => {};
    }
    macro_rules! __payload_named {
        ($($anything:tt)*) => {};
    }
    #[allow(unused_imports, reason = "they are here to be in the way")]
    use {__payload_impls, __payload_named, __payload_struct};

    ::packetstream::payload! {
        pub(super) struct Unit;
        pub(super) struct Tuple(pub(super) u16, pub(super) ::std::primitive::u8);
        pub(super) struct Named<'a> {
            pub(super) which: ::core::primitive::u8,
            pub(super) start: ::core::option::Option<u16> if which == 2,
            pub(super) rest: &'a [::core::primitive::u8],
        }
    }
}

/// Not even the prelude is needed.
mod bare {
    #![no_implicit_prelude]

    ::packetstream::payload! {
        pub(super) struct Unit;
        pub(super) struct Tuple<'a>(pub(super) u16, pub(super) &'a str);
        pub(super) struct Named {
            pub(super) which: u8,
            pub(super) start: ::std::option::Option<u16> if which == 2,
        }
    }
}

#[test]
fn shadowed_and_missing_names_are_no_obstacle() {
    assert_eq!(payload::encode(&shadowed::Unit), []);
    assert_eq!(payload::encode(&shadowed::Tuple(1, 2)), [0, 1, 2]);
    let named: shadowed::Named<'_> = payload::decode(&[2, 0, 7, 9]).unwrap();
    assert_eq!(
        (named.which, named.start, named.rest),
        (2, Some(7), &[9][..])
    );

    assert_eq!(payload::encode(&bare::Unit), []);
    assert_eq!(payload::encode(&bare::Tuple(1, "x")), b"\0\x01x");
    let named: bare::Named = payload::decode(&[2, 0, 7]).unwrap();
    assert_eq!((named.which, named.start), (2, Some(7)));
}

/// A macro of a program may make the structs, with types and conditions of its own arguments.
#[test]
fn the_macro_may_be_used_by_another_macro() {
    macro_rules! numbered {
        ($($(#[$note:meta])* $name:ident $field:ident $type:ty, $number:expr;)*) => {
            payload! {$(
                $(#[$note])*
                #[derive(Debug, PartialEq)]
                struct $name {
                    which: u8,
                    $field: Option<$type> if which == $number,
                    last: $type,
                }
            )*}
        };
    }

    numbered! {
        /// The first.
        First count VarUint, 1;
        Second text Text, 1 + 1;
    }

    let (count, last) = (Some(VarUint(300)), VarUint(5));
    let which = 1;
    same(&[1, 0x82, 0x2c, 5], &First { which, count, last });
    let (text, last) = (Some("a".into()), "b".into());
    let which = 2;
    same(b"\x02\x01a\x01b", &Second { which, text, last });
}

/// The steps of the macro are limited for each struct; without conditions it needs only one.
#[test]
fn a_struct_may_have_more_fields_than_a_macro_has_steps() {
    payload! {
        #[derive(Debug, Default, PartialEq)]
        struct Many {
            a0: u8, a1: u8, a2: u8, a3: u8, a4: u8, a5: u8, a6: u8, a7: u8, a8: u8, a9: u8,
            b0: u8, b1: u8, b2: u8, b3: u8, b4: u8, b5: u8, b6: u8, b7: u8, b8: u8, b9: u8,
            c0: u8, c1: u8, c2: u8, c3: u8, c4: u8, c5: u8, c6: u8, c7: u8, c8: u8, c9: u8,
            d0: u8, d1: u8, d2: u8, d3: u8, d4: u8, d5: u8, d6: u8, d7: u8, d8: u8, d9: u8,
            e0: u8, e1: u8, e2: u8, e3: u8, e4: u8, e5: u8, e6: u8, e7: u8, e8: u8, e9: u8,
            f0: u8, f1: u8, f2: u8, f3: u8, f4: u8, f5: u8, f6: u8, f7: u8, f8: u8, f9: u8,
            g0: u8, g1: u8, g2: u8, g3: u8, g4: u8, g5: u8, g6: u8, g7: u8, g8: u8, g9: u8,
            h0: u8, h1: u8, h2: u8, h3: u8, h4: u8, h5: u8, h6: u8, h7: u8, h8: u8, h9: u8,
            i0: u8, i1: u8, i2: u8, i3: u8, i4: u8, i5: u8, i6: u8, i7: u8, i8: u8, i9: u8,
            j0: u8, j1: u8, j2: u8, j3: u8, j4: u8, j5: u8, j6: u8, j7: u8, j8: u8, j9: u8,
            k0: u8, k1: u8, k2: u8, k3: u8, k4: u8, k5: u8, k6: u8, k7: u8, k8: u8, k9: u8,
            l0: u8, l1: u8, l2: u8, l3: u8, l4: u8, l5: u8, l6: u8, l7: u8, l8: u8, l9: u8,
            m0: u8, m1: u8, m2: u8, m3: u8, m4: u8, m5: u8, m6: u8, m7: u8, m8: u8, m9: u8,
        }

        struct AndAnother;
    }

    let many = Many {
        m9: 1,
        ..Many::default()
    };
    let octets = payload::encode(&(many, AndAnother));
    assert_eq!((octets.len(), octets.last()), (130, Some(&1)));
    assert_eq!(payload::decode::<Many>(&octets).map(|many| many.m9), Ok(1));
}
