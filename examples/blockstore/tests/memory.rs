//! A file larger than the memory that its transfer takes.
//!
//! The only test of its binary, as the peak of this process' memory is measured.

#[path = "../../../tests/common/mod.rs"]
mod common;
mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use blockstore::client::Client;
use blockstore::hash::HashKind;
use blockstore::put::Put;
use packetstream::Transport;

use support::{Comparison, Noise, PROGRAM};

/// More than is usual: it is a lot to write for a slow disk.
const PATIENCE: Duration = Duration::from_secs(180);

const LEN: usize = 100_000_000;

/// What either end may take at its peak, in KiB: two thirds of the file.
///
/// The client: a window of 8 MiB of chunks, once more as payloads that wait to be written, and once
/// more in the batch that is being written. The server: what the client has under way, 16 MiB of
/// overlay, and the database's cache of 16 MiB with the transaction beyond it. Each has a few MiB
/// for itself. Neither ever has all of it at the same time: about 20 and 50 MiB are usual.
const LIMIT: u64 = 64 * 1024;

#[test]
fn a_file_of_100_mb_is_put_and_got_in_bounded_memory() {
    common::watched_for(PATIENCE, || {
        let data = tempfile::tempdir().unwrap();
        let child = Command::new(PROGRAM)
            .args(["serve", "--stdio", "--data"])
            .arg(data.path())
            // What is to be measured is what is held, not how glibc spreads over its arenas what is
            // allocated on one thread and freed on another.
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let server = child.id().to_string();
        let client = Client::open(Transport::try_from(child).unwrap(), HashKind::Blake3).unwrap();

        let mut put = Put::new(&client, |_| {});
        let root = put.file(Noise::new(1, LEN)).unwrap();
        let totals = put.finish().unwrap();
        assert_eq!((totals.files, totals.octets), (1, LEN as u64));
        assert_eq!(root.span(), LEN as u64);

        let mut comparison = Comparison {
            expected: Noise::new(1, LEN),
        };
        let blockstore::block::BlockReference::Indirect { hash, .. } = root else {
            panic!("{root:?} is no root");
        };
        let len = client.read(hash, &mut comparison, |_, _| {}).unwrap();
        assert_eq!(len, LEN as u64);

        for process in ["self", &server] {
            match peak(process) {
                Some(peak) => assert!(peak < LIMIT, "the peak of {process} is {peak} KiB"),
                None => eprintln!("NOT TESTED: this system does not tell the peak of {process}"),
            }
        }
        client.close().unwrap();
    });
}

/// The most memory that a process has had at a time, in KiB.
fn peak(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
