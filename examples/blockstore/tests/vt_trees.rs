//! "Contains indirect": whole trees of block references, hand-made, sound and hostile.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod vt;

use common::watched;
use packetstream::{Flags, Request};
use vt::{CONTAINS_INDIRECT, Hash, Server, data, hex, uint};

const INDIRECT: u8 = 1;
const TYPED: u8 = 2;
const TYPE_FLAGS: u8 = 4;

/// The type of a block whose octets are in the reference.
const LITERAL: u8 = 2;
/// That of a part of another block.
const SUB_BLOCK: u8 = 3;

/// A store and shorthands for what is done to it here.
struct Trees<'a> {
    server: &'a Server,
    hash: Hash,
}

impl Trees<'_> {
    /// A reference to a chunk of data.
    fn leaf(&self, chunk: &[u8]) -> Vec<u8> {
        let span = uint(chunk.len() as u64);
        data([&[0][..], &span, &self.hash.code_of(chunk)].concat())
    }

    /// A reference to a chunk of references.
    fn inner(&self, span: u64, chunk: &[u8]) -> Vec<u8> {
        data([&[INDIRECT][..], &uint(span), &self.hash.code_of(chunk)].concat())
    }

    fn store(&self, chunk: &[u8]) -> Vec<u8> {
        self.server.add(self.hash, chunk);
        chunk.to_vec()
    }

    fn is_whole(&self, chunk: &[u8]) -> bool {
        self.server
            .says(CONTAINS_INDIRECT, self.hash.code_of(chunk))
    }

    /// Stores a chunk of these references and tells whether the tree is whole.
    fn holds(&self, references: &[u8]) -> bool {
        self.is_whole(&self.store(references))
    }

    fn refuses(&self, references: impl AsRef<[u8]>) {
        let chunk = self.store(references.as_ref());
        self.server
            .refuses(CONTAINS_INDIRECT, self.hash.code_of(&chunk));
    }
}

fn each_hash(test: fn(&Trees<'_>)) {
    watched(move || {
        for hash in Hash::ALL {
            let server = Server::hashing(hash);
            test(&Trees {
                server: &server,
                hash,
            });
            server.finish();
        }
    });
}

fn run_of_zeros() -> Vec<u8> {
    hex("04 02 64 01 00")
}

fn sub_block(offset: u64, of: &[u8]) -> Vec<u8> {
    data([&[TYPED, 1, SUB_BLOCK][..], &uint(offset), of].concat())
}

#[test]
fn references_of_the_protocols_description_are_understood() {
    watched(|| {
        let hash = Hash::Blake3;
        let server = Server::start(&[]);
        let trees = Trees {
            server: &server,
            hash,
        };
        let chunk = trees.store(&[9; 500]);
        let leaf = [&hex("24 00 8374")[..], &hash.code_of(&chunk)].concat();
        assert_eq!(leaf, trees.leaf(&chunk));
        let literal = hex("06 02 03 02 6c6974");
        let low = trees.store(&[leaf, literal, hex("04 02 64 01 00")].concat());
        let inner = [&hex("24 01 942b")[..], &hash.code_of(&low)].concat();
        assert_eq!(inner, trees.inner(2603, &low));
        assert!(trees.holds(&inner));
        server.finish();
    });
}

#[test]
fn a_missing_chunk_holds_nothing_and_an_empty_one_lacks_nothing() {
    each_hash(|trees| {
        assert!(!trees.is_whole(b"missing"));
        assert!(!trees.is_whole(b""));
        assert!(trees.holds(b""));
    });
}

#[test]
fn a_tree_is_whole_when_all_its_leaves_are_stored() {
    each_hash(|trees| {
        let large = vec![8; 70_000];
        let leaves = [&b"one"[..], b"two", b"", &large];
        let low = leaves.map(|leaf| trees.leaf(leaf)).concat();
        trees.store(&low);
        for leaf in leaves {
            assert!(!trees.is_whole(&low));
            trees.store(leaf);
        }
        assert!(trees.is_whole(&low));
    });
}

#[test]
fn a_missing_inner_chunk_or_a_missing_leaf_below_it_is_found() {
    each_hash(|trees| {
        let low = [trees.leaf(b"a"), trees.leaf(b"b")].concat();
        let middle = [trees.leaf(b"c"), trees.inner(2, &low)].concat();
        let top = [trees.inner(3, &middle), run_of_zeros(), trees.leaf(b"d")].concat();
        trees.store(&top);
        for (name, chunk) in [
            ("c", &b"c"[..]),
            ("d", b"d"),
            ("middle", &middle),
            ("low", &low),
            ("b", b"b"),
            ("a", b"a"),
        ] {
            assert!(!trees.is_whole(&top), "{name} is missing");
            trees.store(chunk);
        }
        assert!(trees.is_whole(&top));
    });
}

#[test]
fn runs_literals_and_sub_blocks_are_always_there_and_nothing_is_stored_for_them() {
    each_hash(|trees| {
        let literal = |text: &str| {
            let span = uint(text.len() as u64);
            data([&[TYPED][..], &span, &[LITERAL], text.as_bytes()].concat())
        };
        let references = [
            run_of_zeros(),
            hex("04 02 00 01 ff"),
            literal("lit"),
            literal(""),
            literal(&"long ".repeat(100)),
            sub_block(0, &literal("nested")),
            // Its block is not looked for.
            sub_block(1 << 40, &trees.leaf(b"missing")),
            sub_block(3, &trees.inner(9, b"missing too")),
            sub_block(3, &sub_block(2, &run_of_zeros())),
        ];
        for reference in &references {
            assert!(trees.holds(reference), "{reference:?}");
        }
        assert!(trees.holds(&references.concat()));
        assert_eq!(trees.server.length(), references.len() as u64 + 1);
    });
}

#[test]
fn a_type_may_be_spelt_out_and_its_flags_are_ignored() {
    each_hash(|trees| {
        let code = trees.hash.code_of(b"leaf");
        let typed = data([&[TYPED, 4, 0][..], &code].concat());
        let flagged = data([&[TYPE_FLAGS, 4, 0x83, 0x74][..], &code].concat());
        let both = data([&[TYPED | TYPE_FLAGS, 4, 0, 1][..], &code].concat());
        let indirect = data([&[INDIRECT | TYPED, 4, 0][..], &trees.hash.code_of(b"")].concat());
        let flagged_run = hex("05 06 64 01 7f 00");
        let all = [&typed[..], &flagged, &both, &indirect, &flagged_run].concat();
        assert!(!trees.holds(&all));
        trees.store(b"leaf");
        assert!(!trees.is_whole(&all));
        trees.store(b"");
        assert!(trees.is_whole(&all));
    });
}

#[test]
fn octets_at_the_end_of_a_reference_are_ignored() {
    each_hash(|trees| {
        let longer = |reference: &[u8]| data([&reference[1..], b"\xff\xffmore"].concat());
        trees.store(b"leaf");
        let references = [
            longer(&trees.leaf(b"leaf")),
            longer(&run_of_zeros()),
            longer(&hex("06 02 03 02 6c6974")),
            longer(&sub_block(0, &longer(&run_of_zeros()))),
        ];
        assert!(trees.holds(&references.concat()));
        assert!(!trees.holds(&longer(&trees.leaf(b"missing"))));
    });
}

#[test]
fn a_chunk_that_is_no_list_of_references_fails() {
    each_hash(|trees| {
        let code = trees.hash.code_of(b"");
        let with_code = |head: &[u8]| data([head, &code].concat());
        // The length goes beyond the chunk.
        trees.refuses("\x05");
        trees.refuses(&run_of_zeros()[..3]);
        trees.refuses([0x80]);
        trees.refuses([0xff; 20]);
        trees.refuses([&[0xff; 8][..], &[0x7f, 0]].concat());
        // A field is missing.
        trees.refuses([0]);
        trees.refuses(hex("01 00"));
        trees.refuses(hex("02 00 05"));
        trees.refuses(data(&with_code(&[0, 5])[1..20]));
        trees.refuses(hex("02 02 64"));
        trees.refuses(hex("03 02 64 01"));
        trees.refuses(hex("05 02 03 02 6c69"));
        trees.refuses(data(
            [&[TYPED][..], &[0xff; 8], &[0x7f, LITERAL, 1]].concat(),
        ));
        trees.refuses(hex("04 02 01 03 00"));
        trees.refuses(sub_block(0, &[9, 0]));
        // An unknown flag, type or hash.
        for flags in [8, 0x10, 0x40, 9, 0x0f] {
            trees.refuses(with_code(&[flags, 5, 0, 0]));
        }
        trees.refuses(with_code(&[0xc0, 0, 5]));
        trees.refuses(with_code(&[TYPED, 5, 4]));
        trees.refuses(with_code(&[TYPED, 5, 0x7f]));
        trees.refuses(data([&[0, 5, 3][..], &code[1..]].concat()));
        trees.refuses(sub_block(0, &with_code(&[8, 5])));
        // After a sound one, and below an indirect one.
        trees.refuses([&run_of_zeros()[..], b"\x05"].concat());
        let unsound = trees.store(b"\x05");
        trees.refuses(trees.inner(5, &unsound));
    });
}

/// A sub-block of a sub-block of … the given reference.
fn nested(innermost: &[u8], levels: usize) -> Vec<u8> {
    // Each level's length counts all below it, so build from the inside, end first.
    let mut reversed: Vec<u8> = innermost.iter().rev().copied().collect();
    for _ in 0..levels {
        reversed.extend([0, SUB_BLOCK, 1, TYPED]);
        reversed.extend(uint(reversed.len() as u64).iter().rev());
    }
    reversed.reverse();
    reversed
}

#[test]
fn sub_blocks_may_be_nested() {
    each_hash(|trees| {
        assert_eq!(nested(&run_of_zeros(), 1), sub_block(0, &run_of_zeros()));
        for levels in 1..=10 {
            assert!(trees.holds(&nested(&run_of_zeros(), levels)));
            trees.refuses(nested(b"\x05", levels));
        }
    });
}

#[test]
fn sub_blocks_nested_without_measure_harm_nobody() {
    each_hash(|trees| {
        for levels in [10_000, 100_000] {
            // Whether so many are followed is the server's choice; that it goes on is not.
            let chunk = trees.store(&nested(&run_of_zeros(), levels));
            let request = Request::new(CONTAINS_INDIRECT);
            match trees
                .server
                .call(request.with_payload(trees.hash.code_of(&chunk)))
            {
                Ok(answer) => assert_eq!(answer, Flags::from(1).into()),
                Err(error) => assert!(error.is_rejected(), "{error:?}"),
            }
            trees.refuses(nested(b"\x05", levels));
        }
        assert!(trees.holds(&run_of_zeros()));
    });
}

#[test]
fn two_thousand_levels_of_indirection_are_followed() {
    each_hash(|trees| {
        let mut top = trees.leaf(b"at the bottom");
        for _ in 0..2_000 {
            trees.store(&top);
            top = trees.inner(13, &top);
        }
        assert!(!trees.holds(&top));
        trees.store(b"at the bottom");
        assert!(trees.is_whole(&top));
    });
}

#[test]
fn shared_parts_are_followed_once() {
    // Each level has the one below it twice: to walk it path by path would never end.
    each_hash(|trees| {
        let mut top = trees.leaf(b"shared");
        for _ in 0..100 {
            trees.store(&top);
            top = [trees.inner(6, &top), trees.inner(6, &top)].concat();
        }
        assert!(!trees.holds(&top));
        trees.store(b"shared");
        assert!(trees.is_whole(&top));
    });
}

#[test]
fn a_broad_tree_is_followed() {
    each_hash(|trees| {
        let mut top = Vec::new();
        for n in 0..40_u32 {
            let mut low = Vec::new();
            for m in 0..40_u32 {
                let leaf = trees.store(format!("{n} {m}").as_bytes());
                low.extend(trees.leaf(&leaf));
            }
            trees.store(&low);
            top.extend(trees.inner(200, &low));
        }
        assert!(trees.holds(&top));
        top.extend(trees.leaf(b"one more"));
        assert!(!trees.holds(&top));
    });
}
