//! A server that is killed in the middle of a put.

#[path = "../../../tests/common/mod.rs"]
mod common;
mod support;

use std::io::Read;
#[cfg(unix)]
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use blockstore::block::BlockReference;
use blockstore::client::Client;
use blockstore::hash::HashKind;
use blockstore::put::{Put, PutError};
use blockstore::store::Store;
use packetstream::Transport;

use support::{Comparison, Noise, PROGRAM, kill};

/// More than is usual: it is a lot to write for a slow disk.
const PATIENCE: Duration = Duration::from_secs(180);

/// Kills a process when it has been read from for long enough.
struct Deadly {
    noise: Noise,
    left: usize,
    victim: String,
}

impl Read for Deadly {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.noise.read(buffer)?;
        if self.left > 0 && self.left <= len {
            kill(&self.victim);
        }
        self.left = self.left.saturating_sub(len);
        Ok(len)
    }
}

#[test]
fn what_a_flush_covered_is_there_after_the_server_was_killed() {
    common::watched_for(PATIENCE, || {
        let data = tempfile::tempdir().unwrap();
        let start = || {
            let mut command = Command::new(PROGRAM);
            command
                .args(["serve", "--stdio", "--data"])
                .arg(data.path());
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let child = command.spawn().unwrap();
            let pid = child.id().to_string();
            let transport = Transport::try_from(child).unwrap();
            (Client::open(transport, HashKind::Blake3).unwrap(), pid)
        };
        let (client, pid) = start();
        let mut put = Put::new(&client, |_| {});
        let flushed = put.file(Noise::new(1, 5_000_000)).unwrap();
        let flushed_chunks = put.finish().unwrap().sent_chunks;

        let deadly = Deadly {
            noise: Noise::new(2, usize::MAX),
            left: 30_000_000,
            victim: pid,
        };
        let error = put.file(deadly).unwrap_err();
        let PutError::Server(error) = error else {
            panic!("{error}");
        };
        assert!(error.is_closed(), "{error}");
        let totals = put.totals();
        assert_eq!(totals.files, 1, "the second was not done");
        // All but the window had been acknowledged when it was killed.
        assert!(
            (25_000_000..40_000_000).contains(&totals.octets),
            "{totals:?}"
        );
        drop(put);
        drop(client);

        let (client, _) = start();
        assert!(client.chunk_count().unwrap() >= flushed_chunks);
        let BlockReference::Indirect { hash, span } = flushed else {
            panic!("{flushed:?} is no root");
        };
        assert!(client.contains_indirect(hash).unwrap());
        let mut comparison = Comparison {
            expected: Noise::new(1, 5_000_000),
        };
        let len = client.read(hash, &mut comparison, |_, _| {});
        assert_eq!(len.unwrap(), span);
        client.close().unwrap();

        // The store itself is whole too: every chunk is what its hashcode says.
        let store = Store::open(data.path(), None).unwrap();
        let mut hashes = Vec::new();
        let visited = store.visit(&blockstore::store::Selection::default(), |hash| {
            hashes.push(hash);
        });
        visited.unwrap();
        assert_eq!(hashes.len() as u64, store.len().unwrap());
        for hash in hashes {
            let chunk = store.get(&hash).unwrap().unwrap();
            assert_eq!(
                blockstore::hash::HashCode::of(HashKind::Blake3, &chunk),
                hash
            );
        }
    });
}

#[cfg(unix)]
#[test]
fn the_program_says_how_far_it_got_when_its_server_was_killed() {
    common::watched_for(PATIENCE, || {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("first"), Noise::octets(1, 100_000)).unwrap();
        // A put from a pipe goes on for as long as the test wants.
        let made = Command::new("mkfifo").arg(path("second")).status().unwrap();
        assert!(made.success());
        let server = format!(
            "echo $$ > '{}'; exec {}",
            path("pid"),
            support::server_command(&directory.path().join("data"))
        );
        let put = Command::new(PROGRAM)
            .args(["put", "--command", &server])
            .args([path("first"), path("second")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = std::fs::OpenOptions::new()
            .write(true)
            .open(path("second"))
            .unwrap();
        pipe.write_all(&Noise::octets(2, 30_000_000)).unwrap();
        // The pid was written before the server took anything.
        kill(&std::fs::read_to_string(path("pid")).unwrap());
        // It reads on until it notices, and then nobody reads.
        while pipe.write_all(&Noise::octets(3, 100_000)).is_ok() {}

        let output = put.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            support::text(&output.stdout),
            "",
            "nothing had been recorded"
        );
        let line = support::text(&output.stderr);
        assert_eq!(line.lines().count(), 1, "{line}");
        // The first had been acknowledged, and no flush had covered it.
        let beginning = "blockstore: stopped with 0 of 2 files done, ";
        assert!(line.starts_with(beginning), "{line}");
        assert!(
            line.contains(", 0 chunks and 0 bytes on disk: cannot put "),
            "{line}"
        );
        assert!(line.contains("/second: "), "{line}");
    });
}
