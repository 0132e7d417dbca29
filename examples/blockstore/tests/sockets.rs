//! What a server does to what is at the path of the socket where it is to listen.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, where Clippy does not expect it"
)]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, socket};
use support::{PROGRAM, Server, fail, make_fifo, string, succeed};

/// A socket that nobody has any more.
fn leave_socket(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
}

/// Asserts that a server refuses to listen there, and leaves it as it is.
fn is_left_alone(path: &Path, why: &str) {
    let before = fs::symlink_metadata(path).unwrap();
    let error = fail(&["serve", "--unix", &string(path)]);
    assert!(error.contains(why), "{error}");
    let after = fs::symlink_metadata(path).unwrap();
    assert_eq!((after.ino(), after.mode()), (before.ino(), before.mode()));
}

#[test]
fn what_is_no_socket_is_left_alone() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "thesis").unwrap();
        symlink("file", path("link")).unwrap();
        make_fifo(&path("fifo"));
        fs::create_dir(path("directory")).unwrap();
        leave_socket(&path("dead"));
        symlink("dead", path("link to dead")).unwrap();
        for name in ["file", "link", "fifo", "directory", "link to dead"] {
            is_left_alone(&path(name), "what is there is no socket, and stays");
        }
        assert_eq!(fs::read_to_string(path("file")).unwrap(), "thesis");
        assert!(path("dead").exists());
    });
}

#[test]
fn a_socket_that_somebody_has_is_left_alone() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let listening = UnixListener::bind(path("listening")).unwrap();
        let _datagrams = UnixDatagram::bind(path("datagrams")).unwrap();
        // Between the two system calls of a server that starts.
        let bound = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(&bound, &SocketAddrUnix::new(path("bound")).unwrap()).unwrap();
        for name in ["listening", "datagrams", "bound"] {
            is_left_alone(&path(name), "another server has it");
        }
        // It has got no client that says nothing either.
        listening.set_nonblocking(true).unwrap();
        let nobody = listening.accept().unwrap_err();
        assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
    });
}

#[test]
fn a_dead_socket_is_replaced() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = string(&directory.path().join("socket"));
        leave_socket(Path::new(&path));
        let _server = Server::start(&["--unix", &path]);
        assert_eq!(succeed(&["ls", "--unix", &path]), "");
        assert_eq!(support::names_in(directory.path()), ["socket"]);
    });
}

#[test]
fn a_directory_that_somebody_keeps_locked_is_not_waited_for_without_end() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        // As those do who want nothing in it to be cleaned up.
        let locked = File::open(directory.path()).unwrap();
        flock(&locked, FlockOperation::LockShared).unwrap();
        // Where nothing is, nothing has to be removed.
        let _server = Server::start(&["--unix", &string(&path("new"))]);
        leave_socket(&path("dead"));
        is_left_alone(
            &path("dead"),
            "cannot be locked: somebody else keeps it locked",
        );
    });
}

/// A server that is killed in the end, also by a failed assertion: it would outlive the tests.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn of_servers_that_start_at_once_one_gets_the_address_and_keeps_it() {
    common::watched(|| {
        for _ in 0..5 {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("socket");
            leave_socket(&path);
            let servers: Vec<_> = (0..6)
                .map(|_| {
                    let server = Command::new(PROGRAM)
                        .args(["serve", "--unix", &string(&path)])
                        .stdin(Stdio::null())
                        .stdout(Stdio::null())
                        .stderr(Stdio::piped())
                        .spawn();
                    Killed(server.unwrap())
                })
                .collect();
            let mut listening = Vec::new();
            for mut server in servers {
                let mut line = String::new();
                let mut stderr = BufReader::new(server.0.stderr.take().unwrap());
                stderr.read_line(&mut line).unwrap();
                if line.starts_with("listening at ") {
                    listening.push(server);
                } else {
                    assert!(line.contains("another server has it"), "{line}");
                    assert_eq!(server.0.wait().unwrap().code(), Some(1));
                }
            }
            assert_eq!(listening.len(), 1);
            // All others have ended, and it is still this one.
            assert_eq!(succeed(&["ls", "--unix", &string(&path)]), "");
        }
    });
}
