//! A client and a server in one process.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the tests share functions, where Clippy does not expect it"
)]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod support;

use std::sync::Arc;
use std::thread;

use blockstore::archive::Entry;
use blockstore::block::BlockReference;
use blockstore::client::Client;
use blockstore::hash::{HashCode, HashKind};
use blockstore::put::Put;
use blockstore::requests::{
    Add, ArchiveLast, Contains, Flush, HashHashcodes, HashcodeQuery, Length, ListHashcodes,
};
use blockstore::serve;
use blockstore::store::{Selection, Store};
use blockstore::tree::MAX_CHUNK;
use packetstream::payload::{Text, Trailing};
use packetstream::{Connection, Request, Transport};

use support::{Comparison, Noise};

const KIND: HashKind = HashKind::Blake3;

/// Runs a body with a client, and the server's store.
fn with_client(body: impl FnOnce(&Client, &Store) + Send + 'static) {
    common::watched(|| {
        let store = Arc::new(Store::temporary(KIND).unwrap());
        let (ours, theirs) = Transport::pair();
        let client = Client::open(ours, KIND).unwrap();
        thread::scope(|scope| {
            let server = scope.spawn(|| serve::serve(&store, theirs));
            body(&client, &store);
            client.close().unwrap();
            server.join().unwrap().unwrap();
        });
    });
}

fn hash_of(root: &BlockReference) -> HashCode {
    match root {
        BlockReference::Indirect { hash, .. } => *hash,
        other => panic!("{other:?} is no root"),
    }
}

#[test]
fn requests_are_served_in_the_order_in_which_they_are_made() {
    with_client(|client, _| {
        let chunks: Vec<Vec<u8>> = (0..200).map(|seed| Noise::octets(seed, 2000)).collect();
        let mut pending = Vec::new();
        for (number, chunk) in chunks.into_iter().enumerate() {
            let hash = HashCode::of(KIND, &chunk);
            let add = Add {
                kind: KIND,
                chunk: chunk.into(),
            };
            // Nobody waits for the addition, as the client of the original does not.
            drop(client.submit(&add).unwrap());
            let contains = client.submit(&Contains(hash)).unwrap();
            let length = client.submit(&Length).unwrap();
            pending.push((number, contains, length));
        }
        for (number, contains, length) in pending {
            assert!(contains.wait().unwrap().0);
            assert_eq!(length.wait().unwrap().0, number as u64 + 1);
        }
    });
}

#[test]
fn files_of_every_size_are_put_and_got() {
    with_client(|client, _| {
        let sizes = [0, 1, 1000, MAX_CHUNK, MAX_CHUNK + 1, 10_000_000];
        let mut put = Put::new(client, |_| {});
        let roots = sizes.map(|size| put.file(Noise::new(size as u64, size)).unwrap());
        let totals = put.finish().unwrap();
        assert_eq!(totals.files, sizes.len() as u64);
        assert_eq!(totals.octets, sizes.iter().sum::<usize>() as u64);
        for (size, root) in sizes.into_iter().zip(roots) {
            assert!(client.contains_indirect(hash_of(&root)).unwrap());
            let mut comparison = Comparison {
                expected: Noise::new(size as u64, size),
            };
            let len = client.read(hash_of(&root), &mut comparison, |_, _| {});
            assert_eq!(len.unwrap(), size as u64);
        }
    });
}

#[test]
fn what_the_server_has_is_not_sent_again() {
    with_client(|client, store| {
        let mut put = Put::new(client, |_| {});
        put.file(Noise::new(1, 3_000_000)).unwrap();
        // The same while the first is still under way.
        put.file(Noise::new(1, 3_000_000)).unwrap();
        let first = put.finish().unwrap();
        assert_eq!((first.files, first.octets), (2, 6_000_000));
        assert_eq!(first.sent_chunks, store.len().unwrap());
        assert_eq!(first.chunks % 2, 0);

        let mut again = Put::new(client, |_| {});
        again.file(Noise::new(1, 3_000_000)).unwrap();
        let second = again.finish().unwrap();
        assert_eq!((second.sent_chunks, second.sent_octets), (0, 0));
        assert_eq!(second.chunks, first.chunks / 2);
    });
}

#[test]
fn progress_is_told_to_those_who_ask_for_it() {
    common::watched(|| {
        let store = Arc::new(Store::temporary(KIND).unwrap());
        let (ours, theirs) = Transport::pair();
        let client = Client::open(ours, KIND).unwrap();
        let told = client.told();
        thread::scope(|scope| {
            let server = scope.spawn(|| serve::serve(&store, theirs));
            client.add(b"before".to_vec()).unwrap();
            client.subscribe(2).unwrap();
            for number in 0..9_u8 {
                client.add(vec![number]).unwrap();
            }
            client.subscribe(0).unwrap();
            for number in 0..9_u8 {
                client.add(vec![number]).unwrap();
            }
            client.close().unwrap();
            server.join().unwrap().unwrap();
        });
        assert_eq!((told.times(), told.chunks(), told.octets()), (5, 10, 6 + 9));
    });
}

#[test]
fn nobody_is_called_back_who_has_not_asked_for_it() {
    common::watched(|| {
        let store = Arc::new(Store::temporary(KIND).unwrap());
        let (ours, theirs) = Transport::pair();
        let plain = Connection::builder().open(ours).unwrap();
        thread::scope(|scope| {
            let server = scope.spawn(|| serve::serve(&store, theirs));
            for number in 0..100 {
                let payload = [2, 1, number];
                plain.call(Request::new(0).with_payload(payload)).unwrap();
            }
            assert_eq!(plain.stats().requests_received, 0);
            plain.close().into_result().unwrap();
            server.join().unwrap().unwrap();
        });
    });
}

#[test]
fn a_chunk_for_another_hash_function_is_refused() {
    with_client(|client, store| {
        let add = Add {
            kind: HashKind::Sha256,
            chunk: b"chunk".to_vec().into(),
        };
        let error = client.submit(&add).unwrap().wait().unwrap_err();
        let text = error.rejection().unwrap().message().into_owned();
        assert_eq!(text, "the hash function of this store is blake3");
        assert_eq!(store.len().unwrap(), 0);
        client.flush().unwrap();
    });
}

#[test]
fn hashcodes_are_listed_and_hashed() {
    with_client(|client, _| {
        let mut all: Vec<HashCode> = (0..50_u8)
            .map(|number| client.add(vec![number]).unwrap())
            .collect();
        all.sort_unstable();
        let query = |start, after, limit| HashcodeQuery {
            kind: KIND,
            selection: Selection {
                start,
                after,
                limit,
            },
        };
        let list = |query| client.submit(&ListHashcodes(query)).unwrap().wait();
        assert_eq!(list(query(None, false, None)).unwrap(), all);
        assert_eq!(
            list(query(Some(all[10]), true, Some(5))).unwrap(),
            all[11..16]
        );

        let hash = |query| client.submit(&HashHashcodes(query)).unwrap().wait();
        let of_two = hash(query(Some(all[3]), false, Some(2))).unwrap();
        let digests = [all[3].digest(), all[4].digest()].concat();
        let once = HashCode::of(KIND, &digests);
        assert_eq!(of_two.hash, HashCode::of(KIND, once.digest()));
        assert_eq!(of_two.last, Trailing(Some(all[4])));
        let of_none = hash(query(Some(all[49]), true, Some(2))).unwrap();
        assert_eq!(of_none.last, Trailing(None));
        assert!(hash(query(None, false, None)).unwrap_err().is_rejected());
        assert!(list(query(None, true, None)).unwrap_err().is_rejected());
    });
}

#[test]
fn archives_come_to_be_by_their_first_entry() {
    with_client(|client, _| {
        assert_eq!(client.entries(serve::FILES).unwrap(), []);
        assert!(client.entries("mine").unwrap_err().is_rejected());
        let entry = Entry::file("name", BlockReference::Literal(b"lit".to_vec()));
        for _ in 0..2 {
            client.append("mine", &entry).unwrap().wait().unwrap();
        }
        assert_eq!(
            client.entries("mine").unwrap(),
            [entry.clone(), entry.clone()]
        );
        let name = Text::from("mine");
        let last = client.submit(&ArchiveLast { name }).unwrap().wait();
        assert_eq!(last.unwrap().0, Some(entry));
        client.submit(&Flush).unwrap().wait().unwrap();
    });
}
