//! What goes to standard error: a server tells what the library warns of, and nothing that anybody
//! does depends on somebody's reading it.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, where Clippy does not expect it"
)]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod support;

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, ChildStderr, Command, Stdio};

use support::{PROGRAM, blockstore, server_command, string, succeed};

/// A server, killed in the end, with what it says.
struct Heard {
    child: Child,
    address: String,
    /// Nobody reads it once this is gone.
    said: Option<Lines<BufReader<ChildStderr>>>,
}

impl Heard {
    fn start() -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--tcp", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = said.next().unwrap().unwrap();
        let address = line.strip_prefix("listening at ").unwrap().to_owned();
        Self {
            child,
            address,
            said: Some(said),
        }
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends what is no packet and waits until the server has given up.
fn talk_nonsense(address: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    // It may have reset the connection.
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn a_server_tells_what_the_library_warns_of() {
    common::watched(|| {
        let mut server = Heard::start();
        talk_nonsense(&server.address);
        let line = server.said.as_mut().unwrap().next().unwrap().unwrap();
        assert!(line.starts_with("blockstore: warn: "), "{line}");
        assert!(line.contains("GET / HTTP/1.1"), "{line}");
        assert_eq!(succeed(&["ls", "--tcp", &server.address]), "");
    });
}

#[test]
fn a_server_goes_on_when_nobody_reads_what_it_says() {
    common::watched(|| {
        let mut server = Heard::start();
        drop(server.said.take());
        for _ in 0..3 {
            talk_nonsense(&server.address);
            assert_eq!(succeed(&["ls", "--tcp", &server.address]), "");
        }
    });
}

#[test]
fn a_server_starts_when_nobody_reads_that_it_listens() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let socket = string(&directory.path().join("socket"));
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--unix", &socket])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stderr.take());
        let mut server = Heard {
            child,
            address: socket,
            said: None,
        };
        let is_reached = |at| blockstore(&["ls", "--unix", at]).status.success();
        while !is_reached(&server.address) {
            assert_eq!(server.child.try_wait().unwrap(), None, "it has ended");
        }
    });
}

#[test]
fn a_put_goes_on_when_nobody_reads_what_it_warns_of() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join(OsStr::from_bytes(b"a\xff")), "told of first").unwrap();
        fs::write(tree.join("b"), "stored").unwrap();
        let command = server_command(&directory.path().join("data"));
        let mut put = Command::new(PROGRAM);
        put.args(["put", &string(&tree), "--command", &command]);
        put.stdin(Stdio::null()).stdout(Stdio::piped());

        let mut child = put.stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stderr.take());
        let unread = child.wait_with_output().unwrap();
        let mut outputs = vec![unread];
        match OpenOptions::new().write(true).open("/dev/full") {
            Ok(full) => outputs.push(put.stderr(full).output().unwrap()),
            Err(error) => eprintln!("NOT TESTED with /dev/full: {error}"),
        }
        for output in outputs {
            assert_eq!(output.status.code(), Some(3));
            assert!(support::text(&output.stdout).ends_with("  tree/b\n"));
        }
        assert_eq!(succeed(&["ls", "--command", &command]).lines().count(), 1);
    });
}
