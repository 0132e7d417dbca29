//! Thousands of random chunks in a block store, compared with a sorted map.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod vt;

use std::collections::BTreeMap;

use common::watched;
use packetstream::PendingSet;
use vt::{ADD, AFTER, CONTAINS, GET, HAS_START, HASH_OF_HASHCODES, HASHCODES, Hash, Server, data};

const CHUNKS: usize = 2_000;
const LARGEST: usize = 1 << 20;

/// Chunks by digest.
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Mostly small, some of any size up to the largest, and those at the edges.
fn random_chunk(random: &mut fastrand::Rng, n: usize) -> Vec<u8> {
    const EDGES: [usize; 9] = [0, 1, 127, 128, 16_383, 16_384, 65_536, LARGEST - 1, LARGEST];
    let len = match EDGES.get(n) {
        Some(len) => *len,
        None if random.u8(..50) == 0 => random.usize(..=LARGEST),
        None => random.usize(..4_096),
    };
    let mut chunk = vec![0; len];
    random.fill(&mut chunk);
    chunk
}

fn add_all(server: &Server, hash: Hash, random: &mut fastrand::Rng) -> Model {
    let mut model = Model::new();
    let mut adds = PendingSet::new();
    let mut codes = Vec::new();
    for n in 0..CHUNKS {
        let chunk = random_chunk(random, n);
        let times = if random.u8(..10) == 0 { 2 } else { 1 };
        for _ in 0..times {
            adds.insert(server.submit(ADD, [vec![hash.number()], data(&chunk)].concat()));
            codes.push(hash.code_of(&chunk));
        }
        model.insert(hash.digest(&chunk), chunk);
    }
    for (number, answer) in adds {
        let answer = answer.unwrap();
        assert!(answer.flags().is_empty());
        assert_eq!(answer.payload(), codes[number]);
    }
    server.flush();
    model
}

fn get_all(server: &Server, hash: Hash, model: &Model, random: &mut fastrand::Rng) {
    let mut digests: Vec<_> = model.keys().collect();
    random.shuffle(&mut digests);
    for part in digests.chunks(100) {
        let gets: PendingSet<_> = part
            .iter()
            .map(|digest| server.submit(GET, hash.code(digest)))
            .collect();
        for (number, answer) in gets {
            let answer = answer.unwrap();
            assert_eq!(answer.flags().bits(), 1);
            assert!(answer.payload() == model[part[number]], "another chunk");
        }
        for digest in part {
            assert!(server.says(CONTAINS, hash.code(digest)));
            let mut missing = (*digest).clone();
            missing[0] ^= 0x10;
            assert_eq!(
                server.says(CONTAINS, hash.code(&missing)),
                model.contains_key(&missing)
            );
        }
    }
}

/// Reads all digests, page by page.
fn page(server: &Server, hash: Hash, length: u64) -> Vec<Vec<u8>> {
    let mut digests: Vec<Vec<u8>> = Vec::new();
    loop {
        let start = digests.last().map(|digest| &digest[..]);
        let flags = start.map_or(0, |_| HAS_START | AFTER);
        let (_, codes) = server.ask_with(HASHCODES, flags, hash.select(start, length));
        if codes.is_empty() {
            return digests;
        }
        let size = hash.digest(b"").len() + 1;
        assert!(codes.len() % size == 0 && codes.len() as u64 <= length * size as u64);
        for code in codes.chunks(size) {
            assert_eq!(code[0], hash.number());
            assert!(digests.last().is_none_or(|last| **last < code[1..]));
            digests.push(code[1..].to_vec());
        }
    }
}

#[test]
fn thousands_of_random_chunks_are_stored_as_in_a_sorted_map() {
    watched(|| {
        for hash in Hash::ALL {
            let mut random = fastrand::Rng::with_seed(u64::from(hash.number()) + 20_240_630);
            let server = Server::hashing(hash);
            let model = add_all(&server, hash, &mut random);
            assert_eq!(server.length(), model.len() as u64);
            get_all(&server, hash, &model, &mut random);

            let digests: Vec<_> = model.keys().cloned().collect();
            for length in [97, 1_000] {
                assert!(page(&server, hash, length) == digests, "pages of {length}");
            }
            for _ in 0..50 {
                let mut start = random.choice(&digests).unwrap().clone();
                if random.bool() {
                    *start.last_mut().unwrap() ^= 1;
                }
                let length = random.usize(1..CHUNKS);
                let after = random.bool();
                let flags = if after { HAS_START | AFTER } else { HAS_START };
                let selected: Vec<_> = digests
                    .iter()
                    .filter(|digest| **digest > start || (!after && **digest == start))
                    .take(length)
                    .collect();
                let payload = hash.select(Some(&start), length as u64);
                let codes: Vec<_> = selected.iter().flat_map(|d| hash.code(d)).collect();
                let answer = server.ask_with(HASHCODES, flags, payload.clone());
                assert!(answer == (0, codes), "{flags} {payload:?}");
                let whole: Vec<u8> = selected.iter().copied().flatten().copied().collect();
                let mut expected = hash.code_of(&hash.digest(&whole));
                expected.extend(selected.last().iter().flat_map(|digest| hash.code(digest)));
                assert_eq!(
                    server.ask_with(HASH_OF_HASHCODES, flags, payload),
                    (0, expected)
                );
            }
            server.finish();
        }
    });
}
