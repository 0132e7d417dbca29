//! Tests of archives: the last entry of each name, wherever the writer has got to meanwhile.

use std::collections::BTreeMap;

use packetstream::payload;

use super::*;
use crate::archive::Entry;
use crate::block::BlockReference;
use crate::common;

fn entry(name: &str, contents: u8) -> Vec<u8> {
    let contents = BlockReference::Literal(vec![contents]);
    payload::encode(&Entry::file(name, contents))
}

/// What an entry says, but for the time.
fn said(entry: &[u8]) -> (String, Option<BlockReference>) {
    let entry: Entry = payload::decode(entry).unwrap();
    (entry.name.unwrap().into_inner(), entry.block)
}

#[test]
fn pages_and_news_are_the_same_in_the_overlay_and_in_the_database() {
    common::watched(|| {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let store = Store::temporary(HashKind::Blake3).unwrap();
            // Names of a neighbouring archive must not come in.
            store.append("ab", &entry("1", 0)).unwrap();
            store.append("", &entry("1", 0)).unwrap();
            let mut model: BTreeMap<String, Vec<u8>> = BTreeMap::new();
            for _ in 0..200 {
                let name = ["", "1", "10", "2", "ü"][random.usize(..5)].to_owned();
                let entry = entry(&name, random.u8(..3));
                if random.u8(..4) == 0 {
                    store.append("a", &entry).unwrap();
                    model.insert(name, entry);
                } else {
                    let last = model.get(&name);
                    let is_news = last.is_none_or(|last| said(last) != said(&entry));
                    assert_eq!(store.record("a", &entry).unwrap(), is_news, "seed {seed}");
                    if is_news {
                        model.insert(name, entry);
                    }
                }
                match random.u8(..10) {
                    0 => store.flush().unwrap(),
                    // The writer gets a chance to have committed some of it.
                    1 => thread::yield_now(),
                    _ => {}
                }
                let after = [None, Some(""), Some("1"), Some("11"), Some("ü")][random.usize(..5)];
                let enough = [1, 40, 10_000][random.usize(..3)];
                let page = store.latest_entries("a", after, enough).unwrap();
                let mut len = 0;
                let expected = model
                    .iter()
                    .filter(|(name, _)| after.is_none_or(|after| name.as_str() > after))
                    .map(|(_, entry)| entry)
                    .take_while(|entry| {
                        let has_room = len < enough;
                        len += entry.len();
                        has_room
                    });
                assert!(page.iter().eq(expected), "seed {seed}");
            }
        }
    });
}

#[test]
fn of_threads_that_record_the_same_news_one_has_it() {
    common::watched(|| {
        let store = Store::temporary(HashKind::Blake3).unwrap();
        for round in 0..50 {
            let entry = entry("name", round);
            let recorded = thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| store.record("a", &entry).unwrap()))
                    .collect();
                let recorded = threads.into_iter().map(|thread| thread.join().unwrap());
                recorded.filter(|recorded| *recorded).count()
            });
            assert_eq!(recorded, 1);
        }
        assert_eq!(store.entries("a").unwrap().len(), 50);
    });
}

#[test]
fn what_has_no_name_is_always_appended_and_on_no_page() {
    let store = Store::temporary(HashKind::Blake3).unwrap();
    for entry in [b"no entry".as_slice(), b"\x011\x02\x04"] {
        assert!(store.record("a", entry).unwrap());
        assert!(store.record("a", entry).unwrap());
    }
    assert_eq!(store.entries("a").unwrap().len(), 4);
    assert_eq!(
        store.latest_entries("a", None, 1000).unwrap(),
        Vec::<Vec<u8>>::new()
    );
}
