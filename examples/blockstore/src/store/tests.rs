//! Tests of the store, without a connection.

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use packetstream::payload;

use super::overlay::OVERHEAD;
use super::*;
use crate::block::BlockReference;
use crate::common;

const FILE: &str = opening::FILE_NAMES[0];

fn temporary() -> Store {
    Store::temporary(HashKind::Blake3).unwrap()
}

fn chunk(number: u64) -> Vec<u8> {
    format!("chunk {number}").into_bytes()
}

fn selected(store: &Store, selection: &Selection) -> Vec<HashCode> {
    let mut hashes = Vec::new();
    store.visit(selection, |hash| hashes.push(hash)).unwrap();
    hashes
}

/// What is on disk now, as somebody finds it who opens it after a crash.
fn after_a_crash(directory: &Path) -> (tempfile::TempDir, Store) {
    let copy = tempfile::tempdir().unwrap();
    fs::copy(directory.join(FILE), copy.path().join(FILE)).unwrap();
    let store = Store::open(copy.path(), None).unwrap();
    (copy, store)
}

#[test]
fn what_was_added_is_there_at_once_and_once() {
    common::watched(|| {
        for kind in [HashKind::Blake3, HashKind::Sha256, HashKind::Sha1] {
            let store = Store::temporary(kind).unwrap();
            for octets in [Vec::new(), vec![0], vec![7; 1024 * 1024]] {
                let hash = HashCode::of(kind, &octets);
                assert!(!store.contains(&hash).unwrap());
                assert_eq!(store.get(&hash).unwrap(), None);
                for _ in 0..2 {
                    assert_eq!(store.add(octets.clone()).unwrap(), hash);
                    assert!(store.contains(&hash).unwrap());
                    assert_eq!(store.get(&hash).unwrap().as_ref(), Some(&octets));
                    store.flush().unwrap();
                }
            }
            assert_eq!(store.statistics().unwrap(), (3, 1 + 1024 * 1024));
        }
    });
}

#[test]
fn a_hashcode_of_another_function_is_not_there() {
    let store = temporary();
    store.add(chunk(1)).unwrap();
    let other = HashCode::of(HashKind::Sha256, &chunk(1));
    let disguised = HashCode::of(HashKind::Blake3, &chunk(1));
    let disguised = HashCode::from_digest(HashKind::Sha256, disguised.digest()).unwrap();
    for _ in 0..2 {
        for hash in [&other, &disguised] {
            assert!(!store.contains(hash).unwrap());
            assert_eq!(store.get(hash).unwrap(), None);
        }
        store.flush().unwrap();
    }
}

#[test]
fn what_a_flush_covered_survives_a_crash() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), None).unwrap();
        let mut flushed = Vec::new();
        for number in 0..100 {
            flushed.push(store.add(chunk(number)).unwrap());
            // Not each time, so that commits that are not durable come before those that are.
            if number % 7 == 0 {
                store.append("files", &chunk(number)).unwrap();
                store.flush().unwrap();
                let (_copy, copy) = after_a_crash(directory.path());
                assert_eq!(copy.len().unwrap(), number + 1);
                assert!(flushed.iter().all(|hash| copy.contains(hash).unwrap()));
                assert_eq!(copy.last_entry("files").unwrap(), Some(chunk(number)));
            }
        }
    });
}

#[test]
fn a_flush_without_additions_makes_earlier_commits_durable() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), None).unwrap();
        let hash = store.add(chunk(0)).unwrap();
        // Once it has left the overlay it is committed, durably or not.
        let mut state = store.shared.state.lock();
        while !state.overlay.is_empty() {
            store.shared.progress.wait(&mut state);
        }
        drop(state);
        store.flush().unwrap();
        let (_copy, copy) = after_a_crash(directory.path());
        assert!(copy.contains(&hash).unwrap());
    });
}

#[test]
fn a_store_is_as_it_was_when_it_is_opened_again() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let hash = {
            let store = Store::open(directory.path(), Some(HashKind::Sha1)).unwrap();
            store.append("files", b"first").unwrap();
            store.add(chunk(0)).unwrap()
        };
        let store = Store::open(directory.path(), None).unwrap();
        assert_eq!(store.kind(), HashKind::Sha1);
        assert_eq!(store.get(&hash).unwrap(), Some(chunk(0)));
        assert_eq!(store.statistics().unwrap(), (1, chunk(0).len() as u64));
        store.append("files", b"second").unwrap();
        assert_eq!(
            store.entries("files").unwrap(),
            [b"first".as_slice(), b"second"]
        );
        assert!(
            Store::open(directory.path(), None).is_err(),
            "one process at a time"
        );
        drop(store);

        let other = Store::open(directory.path(), Some(HashKind::Sha256)).unwrap_err();
        assert!(matches!(other, StoreError::OtherHash { .. }), "{other}");
    });
}

#[test]
fn hashcodes_come_in_ascending_order_from_where_it_is_asked_for() {
    let store = temporary();
    let mut all = Vec::new();
    for number in 0..200 {
        all.push(store.add(chunk(number)).unwrap());
        if number == 100 {
            store.flush().unwrap();
        }
    }
    all.sort_unstable();
    let missing = HashCode::of(HashKind::Blake3, b"missing");
    let place = all.binary_search(&missing).unwrap_err();
    for _ in 0..2 {
        for limit in [None, Some(0), Some(1), Some(7), Some(1000)] {
            let cut = |hashes: &[HashCode]| {
                let limit = usize::try_from(limit.unwrap_or(1000)).unwrap();
                hashes[..hashes.len().min(limit)].to_vec()
            };
            for (start, after, expected) in [
                (None, false, &all[..]),
                (Some(all[50]), false, &all[50..]),
                (Some(all[50]), true, &all[51..]),
                (Some(missing), false, &all[place..]),
                (Some(missing), true, &all[place..]),
                (Some(all[199]), true, &[]),
            ] {
                let selection = Selection {
                    start,
                    after,
                    limit,
                };
                assert_eq!(selected(&store, &selection), cut(expected), "{selection:?}");
            }
        }
        assert_eq!(store.len().unwrap(), 200);
        store.flush().unwrap();
    }
}

#[test]
fn entries_of_an_archive_keep_their_order_and_number() {
    let store = temporary();
    assert_eq!(store.last_entry("a").unwrap(), None);
    let mut expected = Vec::new();
    for number in 0..50 {
        store.append("a", &chunk(number)).unwrap();
        store.append("ab", b"other").unwrap();
        expected.push(chunk(number));
        assert_eq!(store.last_entry("a").unwrap(), Some(chunk(number)));
        assert_eq!(store.entries("a").unwrap(), expected);
        if number % 10 == 0 {
            store.flush().unwrap();
        }
    }
    store.append("a", &chunk(49)).unwrap();
    assert_eq!(
        store.entries("a").unwrap().len(),
        51,
        "the same again is one more"
    );
    assert_eq!(store.entries("").unwrap(), Vec::<Vec<u8>>::new());
}

#[test]
fn many_threads_add_read_and_flush_at_once() {
    common::watched(|| {
        const THREADS: u64 = 4;
        let store = temporary();
        let barrier = Barrier::new(4);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (store, barrier) = (&store, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for number in 0..200 {
                        // Half of them are added by everybody.
                        let number = if number % 2 == 0 {
                            number
                        } else {
                            1000 * thread + number
                        };
                        let hash = store.add(chunk(number)).unwrap();
                        assert_eq!(store.get(&hash).unwrap(), Some(chunk(number)));
                        store.append("a", &hash.digest()[..4]).unwrap();
                        if number % 50 == 0 {
                            store.flush().unwrap();
                        }
                    }
                });
            }
        });
        assert_eq!(store.len().unwrap(), 100 + THREADS * 100);
        assert_eq!(store.entries("a").unwrap().len() as u64, THREADS * 200);
        assert_eq!(
            selected(&store, &Selection::default()).len() as u64,
            100 + THREADS * 100
        );
    });
}

#[test]
fn more_than_the_overlay_holds_goes_through_it() {
    common::watched(|| {
        let store = temporary();
        let big = OVERLAY_LIMIT / 4;
        for number in 0..12_u8 {
            store.add(vec![number; big]).unwrap();
            assert!(store.shared.state.lock().overlay.len() <= OVERLAY_LIMIT + big + OVERHEAD);
        }
        assert_eq!(store.statistics().unwrap(), (12, 12 * big as u64));
    });
}

fn put_list(store: &Store, references: &[BlockReference]) -> BlockReference {
    BlockReference::Indirect {
        hash: store.add(payload::encode(references)).unwrap(),
        span: references.iter().map(BlockReference::span).sum(),
    }
}

fn hash_of(reference: &BlockReference) -> HashCode {
    match reference {
        BlockReference::Chunk { hash, .. } | BlockReference::Indirect { hash, .. } => *hash,
        other => panic!("{other:?} has no hashcode"),
    }
}

#[test]
fn an_indirect_block_is_whole_if_all_that_it_refers_to_is_there() {
    let store = temporary();
    let present = BlockReference::Chunk {
        hash: store.add(chunk(0)).unwrap(),
        span: 7,
    };
    let absent = BlockReference::Chunk {
        hash: HashCode::of(HashKind::Blake3, &chunk(1)),
        span: 7,
    };
    let needless = [
        BlockReference::Literal(b"lit".to_vec()),
        BlockReference::Repeated { octet: 0, span: 9 },
        BlockReference::Part {
            offset: 0,
            span: 1,
            of: Box::new(absent.clone()),
        },
    ];
    let whole = put_list(
        &store,
        &[&needless[..], std::slice::from_ref(&present)].concat(),
    );
    let partial = put_list(&store, &[absent.clone(), present.clone()]);
    let above_whole = put_list(&store, &[whole.clone(), whole.clone()]);
    let above_partial = put_list(&store, &[whole.clone(), partial.clone()]);
    let empty = put_list(&store, &[]);
    for (root, expected) in [
        (&whole, true),
        (&above_whole, true),
        (&empty, true),
        (&partial, false),
        (&above_partial, false),
        (&absent, false),
    ] {
        assert_eq!(store.contains_indirect(hash_of(root)).unwrap(), expected);
    }
    let before = store.len().unwrap();
    let not_a_list = store.contains_indirect(hash_of(&present)).unwrap_err();
    assert!(matches!(not_a_list, WholeError::NotAList { .. }));
    let above = put_list(
        &store,
        &[BlockReference::Indirect {
            hash: hash_of(&present),
            span: 7,
        }],
    );
    assert!(store.contains_indirect(hash_of(&above)).is_err());
    assert_eq!(store.len().unwrap(), before + 1, "asking adds nothing");
}

#[test]
fn trees_deeper_than_a_stack_and_wider_than_time_are_walked() {
    let store = temporary();
    let mut root = put_list(&store, &[]);
    for _ in 0..20_000 {
        // Twice the same: without memory there were 2^20,000 to visit.
        root = put_list(&store, &[root.clone(), root]);
        if let BlockReference::Indirect { span, .. } = &mut root {
            *span = 0;
        }
    }
    assert!(store.contains_indirect(hash_of(&root)).unwrap());
}

#[test]
fn a_list_that_cannot_be_read_fails_whatever_else_it_lacks() {
    let store = temporary();
    let mut octets = payload::encode(&BlockReference::Chunk {
        hash: HashCode::of(HashKind::Blake3, b"absent"),
        span: 1,
    });
    octets.push(9);
    let hash = store.add(octets).unwrap();
    assert!(store.contains_indirect(hash).is_err());
}
