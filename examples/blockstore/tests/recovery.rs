//! Full disks, damaged files and second servers, as a person meets them.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, where Clippy does not expect it"
)]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::{
    Noise, PROGRAM, Server, blockstore, fail, put_contents, server_command, string, succeed, text,
};

/// A server whose files may have 8 MiB. To the database that is a full disk: it cannot grow.
struct Full {
    child: Child,
    address: String,
}

impl Full {
    fn start(data: &Path) -> Self {
        // In blocks of 512 bytes. Without the signal, which ends a program that is not prepared.
        let script = format!(
            "trap '' XFSZ; ulimit -f 16384; exec '{PROGRAM}' serve --tcp 127.0.0.1:0 --data '{}'",
            data.display()
        );
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut line).unwrap();
        let address = line
            .strip_prefix("listening at ")
            .unwrap()
            .trim_end()
            .to_owned();
        child.stderr = Some(stderr.into_inner());
        Self { child, address }
    }

    /// Ends it and returns what it has said.
    fn finish(mut self) -> String {
        self.child.kill().unwrap();
        let stderr = self.child.stderr.take().unwrap();
        let said: Vec<String> = BufReader::new(stderr).lines().map(Result::unwrap).collect();
        self.child.wait().unwrap();
        said.join("\n")
    }
}

#[test]
fn after_a_full_disk_reading_goes_on_at_once_and_done_is_what_is_on_disk() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| string(&directory.path().join(name));
        let data = directory.path().join("data");
        fs::write(path("small"), Noise::octets(1, 200_000)).unwrap();
        fs::write(path("large"), Noise::octets(2, 30_000_000)).unwrap();
        let server = Full::start(&data);
        let tcp = ["--tcp", &server.address];
        let run = |arguments: &[&str]| succeed(&[arguments, &tcp].concat());
        let put = run(&["put", &path("small")]);
        let (root, _) = put.split_once("  ").unwrap();

        let is_on_disk = |when: &str| {
            let listed = run(&["ls"]);
            assert!(
                listed.contains("  small\n") && listed.lines().count() == 1,
                "{when}: {listed}"
            );
            assert!(run(&["stat"]).contains("\nbytes 200"), "{when}");
            assert_eq!(run(&["has", root]), "complete\n", "{when}");
            run(&["get", root, "-o", &path("back")]);
            assert_eq!(
                fs::read(path("back")).unwrap(),
                Noise::octets(1, 200_000),
                "{when}"
            );
        };
        for _ in 0..2 {
            let error = fail(&[&["put", &path("large")], &tcp[..]].concat());
            let done = "stopped with 0 of 1 files done, 0 chunks and 0 bytes on disk: ";
            assert!(error.contains(done), "{error}");
            assert!(
                error.contains("the store cannot be written any more"),
                "{error}"
            );
            assert!(error.contains("File too large"), "{error}");
            is_on_disk("after the put failed");
        }
        let said = server.finish();
        assert!(
            said.contains("error: cannot write to the store: "),
            "{said}"
        );
        assert!(!said.contains("panicked"), "{said}");

        // With room again, a new server goes on with it.
        let command = server_command(&data);
        succeed(&["put", &path("large"), "--command", &command]);
        assert_eq!(succeed(&["ls", "--command", &command]).lines().count(), 2);
    });
}

#[test]
fn a_second_server_says_who_has_the_store() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let data = string(directory.path());
        let server = Server::start(&["--tcp", "127.0.0.1:0", "--data", &data]);
        let expected = format!(
            "blockstore: cannot open the store in {data}: process {} has it open\n",
            server.pid()
        );
        assert_eq!(fail(&["serve", "--stdio", "--data", &data]), expected);
        // A client that starts a server of its own gets to read it too.
        let output = blockstore(&["ls", "--command", &server_command(directory.path())]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(expected.trim_end()));
        drop(server);
        // However it ended, it has the store no longer.
        assert_eq!(
            succeed(&["ls", "--command", &server_command(directory.path())]),
            ""
        );
    });
}

#[test]
fn a_damaged_database_is_an_error_in_one_line_and_left_as_it_is() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        put_contents(directory.path(), &Noise::octets(1, 3_000_000));
        let path = directory.path().join("blocks.redb");
        let whole = fs::read(&path).unwrap();
        for (contents, expected) in [
            (&b""[..], "it is empty"),
            (&whole[..100], "it is shorter than it was"),
            (&whole[..100_000], "it is shorter than it was"),
            (b"#!/bin/sh\nexit\n", "it is something else than a database"),
        ] {
            fs::write(&path, contents).unwrap();
            let error = fail(&["serve", "--stdio", "--data", &string(directory.path())]);
            assert!(
                error.starts_with("blockstore: cannot open the store in "),
                "{error}"
            );
            assert!(
                error.contains("the database of the store is damaged: "),
                "{error}"
            );
            assert!(error.contains(expected), "{error}");
            assert!(fs::read(&path).unwrap() == contents, "{expected}");
        }
    });
}
