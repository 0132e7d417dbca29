//! The requests of the block store over the wire, in octets: chunks, hashcodes and archives.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod vt;

use common::watched;
use packetstream::{Connection, Flags, Request, RequestType};
use std::process::Command;
use vt::{
    ADD, AFTER, ARCHIVE_LAST, ARCHIVE_LIST, ARCHIVE_UPDATE, CONTAINS, CONTAINS_INDIRECT, FLUSH,
    GET, HAS_START, HASH_OF_HASHCODES, HASHCODES, Hash, LENGTH, Server, data, hex, uint,
};

/// Runs a test with a server for each of the hashes, to its orderly end.
fn each_hash(test: fn(&Server, Hash)) {
    watched(move || {
        for hash in Hash::ALL {
            let server = Server::hashing(hash);
            test(&server, hash);
            server.finish();
        }
    });
}

/// Some chunks, and their digests in order.
fn fill(server: &Server, hash: Hash, chunks: u32) -> Vec<Vec<u8>> {
    let mut digests: Vec<_> = (0..chunks)
        .map(|n| server.add(hash, &n.to_be_bytes())[1..].to_vec())
        .collect();
    digests.sort();
    digests
}

#[test]
fn blake3_is_the_default() {
    watched(|| {
        let server = Server::start(&[]);
        let (flags, code) = server.ask(ADD, hex("02 05 68656c6c6f"));
        assert_eq!(flags, 0);
        let digest = "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f";
        assert_eq!(code, hex(&format!("02{digest}")));
        assert_eq!(server.ask(GET, code), (1, b"hello".to_vec()));
        server.finish();
    });
}

#[test]
fn a_connection_that_spawns_the_program_ends_it_in_order() {
    watched(|| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blockstore"));
        command.args(["serve", "--stdio"]);
        let connection = Connection::builder().spawn(command).unwrap();
        let answer = connection.call(Request::new(LENGTH)).unwrap();
        assert_eq!((answer.flags(), answer.payload()), (Flags::NONE, &[0][..]));
        let report = connection.close();
        assert!(report.peer_said_goodbye(), "{report:?}");
        report.into_result().unwrap();
    });
}

#[test]
fn an_end_before_any_request_is_in_order() {
    each_hash(|_, _| {});
}

#[test]
fn add_answers_the_hashcode_and_stores_once() {
    each_hash(|server, hash| {
        let large = vec![7; 1 << 20];
        for chunk in [&b""[..], b"\0", b"some chunk", &[0xff; 300], &large] {
            for _ in 0..3 {
                server.add(hash, chunk);
            }
        }
        assert_eq!(server.length(), 5);
    });
}

#[test]
fn add_refuses_another_hash_and_octets_that_are_no_chunk() {
    each_hash(|server, hash| {
        for number in (0..=4).chain([127]).filter(|n| *n != hash.number()) {
            server.refuses(ADD, [&[number][..], &data("chunk")].concat());
        }
        let mine = hash.number();
        server.refuses(ADD, "");
        server.refuses(ADD, [mine]);
        server.refuses(ADD, [mine, 2, b'a']);
        server.refuses(ADD, [mine, 0x80]);
        server.refuses(ADD, [&[mine][..], &[0xff; 8], &[0x7f]].concat());
        server.refuses(ADD, [&[mine][..], &[0xff; 12]].concat());
        server.refuses(ADD, [mine, 1, b'a', b'b']);
        assert_eq!(server.length(), 0);
    });
}

#[test]
fn get_answers_the_chunk_as_it_is_or_nothing() {
    each_hash(|server, hash| {
        let empty = server.add(hash, b"");
        let code = server.add(hash, b"\x05chunk");
        assert_eq!(server.ask(GET, empty), (1, vec![]));
        assert_eq!(server.ask(GET, code), (1, b"\x05chunk".to_vec()));
        assert_eq!(server.ask(GET, hash.code_of(b"missing")), (0, vec![]));
    });
}

#[test]
fn contains_answers_yes_or_no_without_a_payload() {
    each_hash(|server, hash| {
        assert!(!server.says(CONTAINS, hash.code_of(b"")));
        let empty = server.add(hash, b"");
        assert!(server.says(CONTAINS, empty));
        assert!(!server.says(CONTAINS, hash.code_of(b"missing")));
    });
}

#[test]
fn a_hashcode_is_read_whole() {
    each_hash(|server, hash| {
        let code = server.add(hash, b"chunk");
        for request in [GET, CONTAINS, CONTAINS_INDIRECT] {
            server.refuses(request, "");
            server.refuses(request, &code[..1]);
            server.refuses(request, &code[..code.len() - 1]);
            server.refuses(request, [&code[..], b"\0"].concat());
            server.refuses(request, [&[3], &code[1..]].concat());
            server.refuses(request, [&[0xff; 11], &code[1..]].concat());
        }
    });
}

#[test]
fn flush_and_length_have_no_payload() {
    each_hash(|server, hash| {
        server.flush();
        server.add(hash, b"chunk");
        server.flush();
        assert_eq!(server.ask(LENGTH, ""), (0, vec![1]));
        server.refuses(FLUSH, "x");
        server.refuses(LENGTH, "\0");
        let digests = fill(server, hash, 300);
        assert_eq!(digests.len(), 300);
        assert_eq!(server.ask(LENGTH, ""), (0, vec![0x82, 0x2d]));
    });
}

#[test]
fn payloads_of_the_protocols_description_select_hashcodes() {
    watched(|| {
        let server = Server::start(&["--hash", "blake3"]);
        let codes: Vec<_> = fill(&server, Hash::Blake3, 5)
            .iter()
            .map(|digest| Hash::Blake3.code(digest))
            .collect();
        let all = server.ask(HASHCODES, hex("06626c616b653300"));
        assert_eq!(all, (0, codes.concat()));
        let two = server.ask(HASHCODES, hex("06626c616b653302"));
        assert_eq!(two, (0, codes[..2].concat()));
        let from = [&hex("06626c616b6533")[..], &codes[2], &[2]].concat();
        let two = server.ask_with(HASHCODES, HAS_START, from);
        assert_eq!(two, (0, codes[2..4].concat()));
        server.finish();
    });
}

/// Starts that are stored and ones that are not: below, between and above.
fn starts(digests: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let octets = digests[0].len();
    let middle = digests.len() / 2;
    let mut next = digests[middle].clone();
    *next.last_mut().unwrap() ^= 1;
    vec![
        vec![0; octets],
        digests[0].clone(),
        digests[middle].clone(),
        next,
        digests[digests.len() - 1].clone(),
        vec![0xff; octets],
    ]
}

/// Every combination of start, after and length: flags, payload and what is to be selected.
fn selections(hash: Hash, digests: &[Vec<u8>]) -> Vec<(u32, Vec<u8>, Vec<Vec<u8>>)> {
    let mut cases = Vec::new();
    let stored = digests.len();
    for length in [0, 1, 2, stored / 2, stored, stored + 1, usize::MAX] {
        let taken = if length == 0 { usize::MAX } else { length };
        let payload = hash.select(None, length as u64);
        let all = digests.iter().take(taken).cloned().collect();
        cases.push((0, payload, all));
        for start in starts(digests) {
            for flags in [HAS_START, HAS_START | AFTER] {
                let selected = digests
                    .iter()
                    .filter(|digest| **digest > start || (flags & AFTER == 0 && **digest == start));
                let selected = selected.take(taken).cloned().collect();
                let payload = hash.select(Some(&start), length as u64);
                cases.push((flags, payload, selected));
            }
        }
    }
    cases
}

#[test]
fn hashcodes_are_selected_by_every_combination_of_start_after_and_length() {
    each_hash(|server, hash| {
        assert_eq!(server.ask(HASHCODES, hash.select(None, 0)), (0, vec![]));
        let digests = fill(server, hash, 40);
        for (flags, payload, selected) in selections(hash, &digests) {
            let codes: Vec<_> = selected
                .iter()
                .flat_map(|digest| hash.code(digest))
                .collect();
            let answer = server.ask_with(HASHCODES, flags, payload.clone());
            assert_eq!(answer, (0, codes), "{flags} {payload:?}");
        }
    });
}

#[test]
fn a_hash_of_hashcodes_is_the_digest_of_a_digest_and_names_the_last() {
    each_hash(|server, hash| {
        let nothing = hash.code_of(&hash.digest(b""));
        assert_eq!(
            server.ask(HASH_OF_HASHCODES, hash.select(None, 9)),
            (0, nothing)
        );
        let digests = fill(server, hash, 40);
        for (flags, payload, selected) in selections(hash, &digests) {
            if payload.ends_with(&[0]) {
                server.refuses_with(HASH_OF_HASHCODES, flags, payload);
                continue;
            }
            let mut expected = hash.code_of(&hash.digest(&selected.concat()));
            expected.extend(selected.last().iter().flat_map(|digest| hash.code(digest)));
            let answer = server.ask_with(HASH_OF_HASHCODES, flags, payload.clone());
            assert_eq!(answer, (0, expected), "{flags} {payload:?}");
        }
    });
}

#[test]
fn selections_that_mean_nothing_fail() {
    each_hash(|server, hash| {
        let digests = fill(server, hash, 3);
        let start = Some(&digests[0][..]);
        for request in [HASHCODES, HASH_OF_HASHCODES] {
            for length in [0, 2] {
                server.refuses_with(request, AFTER, hash.select(None, length));
                server.refuses_with(request, AFTER, hash.select(start, length));
            }
            for flags in [4_u32, 5, 6, 7, 8, 0x80] {
                server.refuses_with(request, flags, hash.select(start, 2));
                server.refuses_with(request, flags, hash.select(None, 2));
            }
            server.refuses_with(request, Flags::MAX, hash.select(start, 2));
            for name in ["", "md5", "SHA1", "blake3 ", "sha1\0"] {
                server.refuses(request, [data(name), uint(2)].concat());
            }
            server.refuses(request, [data(b"\xff\xfe"), uint(2)].concat());
            for other in Hash::ALL.into_iter().filter(|other| *other != hash) {
                let payload = [data(hash.name()), other.code_of(b"x"), uint(2)].concat();
                server.refuses_with(request, HAS_START, payload);
            }
            let payload = hash.select(start, 2);
            for len in 0..payload.len() {
                server.refuses_with(request, HAS_START, &payload[..len]);
            }
        }
    });
}

#[test]
fn octets_after_a_selection_are_ignored() {
    each_hash(|server, hash| {
        let digests = fill(server, hash, 3);
        for request in [HASHCODES, HASH_OF_HASHCODES] {
            for (flags, start) in [(0, None), (HAS_START, Some(&digests[1][..]))] {
                let payload = hash.select(start, 2);
                let expected = server.ask_with(request, flags, payload.clone());
                let longer = [&payload[..], b"and more"].concat();
                assert_eq!(server.ask_with(request, flags, longer), expected);
            }
        }
    });
}

/// An archive entry: its time and a directory of the given name whose block is a run of zeros.
fn entry(when: &str, name: &str) -> Vec<u8> {
    [data(when), vec![1, 2], data(name), hex("04 02 64 01 00")].concat()
}

#[test]
fn archive_entries_come_back_octet_for_octet_and_oldest_first() {
    each_hash(|server, _| {
        let first = entry("1234567890.5", "first");
        let second = entry("1234567891.25", "größer");
        // The time of an entry says nothing about its place.
        let earlier = entry("5.0", "");
        let update = |name: &str, entry: &[u8]| {
            let answer = server.ask(ARCHIVE_UPDATE, [&data(name)[..], entry].concat());
            assert_eq!(answer, (0, vec![]));
        };
        let names = ["", "a", "ä/../b", "a\0"];
        for name in names {
            server.refuses(ARCHIVE_LAST, data(name));
            server.refuses(ARCHIVE_LIST, data(name));
            let mut entries = Vec::new();
            for entry in [&first, &second, &second, &earlier, &first] {
                update(name, entry);
                entries.extend(entry);
                assert_eq!(server.ask(ARCHIVE_LAST, data(name)), (1, entry.clone()));
                assert_eq!(server.ask(ARCHIVE_LIST, data(name)), (0, entries.clone()));
            }
        }
        let many: Vec<_> = (0..300).map(|n| entry("1.0", &n.to_string())).collect();
        for entry in &many {
            update("many", entry);
        }
        assert_eq!(server.ask(ARCHIVE_LIST, data("many")), (0, many.concat()));
        assert_eq!(server.length(), 0);
    });
}

#[test]
fn an_archive_name_is_read_whole() {
    each_hash(|server, _| {
        let update = [data("a"), entry("1.0", "n")].concat();
        server.ask(ARCHIVE_UPDATE, update);
        for request in [ARCHIVE_LAST, ARCHIVE_LIST] {
            server.refuses(request, "");
            server.refuses(request, "\x01");
            server.refuses(request, "\x01a!");
            server.refuses(request, [1, 0xff]);
        }
        server.refuses(ARCHIVE_UPDATE, "");
        server.refuses(
            ARCHIVE_UPDATE,
            [&[1, 0xff][..], &entry("1.0", "n")].concat(),
        );
        assert_eq!(server.ask(ARCHIVE_LIST, data("a")), (0, entry("1.0", "n")));
    });
}

#[test]
fn flush_covers_every_add_that_was_sent_before() {
    each_hash(|server, hash| {
        for round in 1..=20_u32 {
            let adds: Vec<_> = (0..50_u32)
                .map(|n| [round.to_be_bytes(), n.to_be_bytes()].concat().repeat(500))
                .map(|chunk| server.submit(ADD, [vec![hash.number()], data(chunk)].concat()))
                .collect();
            server.flush();
            assert_eq!(server.length(), u64::from(round) * 50);
            for add in adds {
                add.wait().unwrap();
            }
        }
    });
}

#[test]
fn an_unknown_request_fails_and_the_connection_goes_on() {
    each_hash(|server, hash| {
        let code = server.add(hash, b"chunk");
        for number in [11, 12, 100, 1 << 20, u32::MAX] {
            server.refuses(number, "");
            server.refuses(number, &code[..]);
        }
        let error = server.call(Request::new(RequestType::MAX)).unwrap_err();
        assert!(error.is_rejected(), "{error:?}");
        assert!(server.says(CONTAINS, code));
    });
}

#[test]
fn what_was_flushed_is_there_when_the_server_starts_again() {
    watched(|| {
        for hash in Hash::ALL {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("store").to_str().unwrap().to_owned();
            let arguments = ["--data", &path, "--hash", hash.name()];
            let server = Server::start(&arguments);
            let digests = fill(&server, hash, 50);
            let large = server.add(hash, &vec![3; 1 << 20]);
            let update = [data("archive"), entry("1.0", "kept")].concat();
            server.ask(ARCHIVE_UPDATE, update);
            server.flush();
            server.finish();

            let server = Server::start(&arguments);
            assert_eq!(server.length(), 51);
            assert_eq!(server.ask(GET, large), (1, vec![3; 1 << 20]));
            for digest in &digests {
                assert!(server.says(CONTAINS, hash.code(digest)));
            }
            let (flags, list) = server.ask(HASHCODES, hash.select(None, 0));
            assert_eq!((flags, list.len()), (0, 51 * (digests[0].len() + 1)));
            assert_eq!(
                server.ask(ARCHIVE_LAST, data("archive")),
                (1, entry("1.0", "kept"))
            );
            server.add(hash, &vec![3; 1 << 20]);
            assert_eq!(server.length(), 51);
            server.finish();
        }
    });
}

#[test]
fn what_was_flushed_survives_a_kill() {
    watched(|| {
        let hash = Hash::Blake3;
        let directory = tempfile::tempdir().unwrap();
        let arguments = ["--data", directory.path().to_str().unwrap()];
        let server = Server::start(&arguments);
        let digests = fill(&server, hash, 200);
        server.flush();
        let unflushed = server.submit(ADD, [vec![hash.number()], data("unflushed")].concat());
        server.kill();
        // It may have been stored or not, but its fate is known here.
        let _answer_or_error = unflushed.wait();

        let server = Server::start(&arguments);
        for digest in &digests {
            assert!(server.says(CONTAINS, hash.code(digest)));
        }
        server.finish();
    });
}
