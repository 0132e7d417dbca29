//! What the program shows to people: on terminals, in its help, and when nobody answers.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, where Clippy does not expect it"
)]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use packetstream::{Connection, Rejection, Transport};
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use support::{PROGRAM, blockstore, fail, server_command, string, succeed, text};

/// A name that changes the title of a terminal, and pretends to be two lines.
const NAME: &str = "a\u{1b}]0;owned\u{7}b\nc\u{9b}2Jd\\e\u{7f}";

/// How it is shown.
const SHOWN: &str = r"a\x1b]0;owned\x07b\nc\u{9b}2Jd\\e\x7f";

/// A terminal: our end, and that of a program.
fn terminal() -> (File, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NOCTTY.bits().cast_signed())
        .open(name.to_str().unwrap())
        .unwrap();
    (File::from(ours), theirs)
}

/// Reads what is shown until a text has come, or nobody has the other end any more.
fn read_until(terminal: &mut File, text: &str) -> String {
    let mut shown = Vec::new();
    let mut buffer = [0; 1024];
    while !String::from_utf8_lossy(&shown).contains(text) {
        // The end of a terminal is an error on some systems.
        match terminal.read(&mut buffer) {
            Ok(len) if len > 0 => shown.extend_from_slice(&buffer[..len]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&shown).into_owned()
}

/// Stores a file with the name, and one that cannot be stored.
fn tree_with_odd_names(directory: &Path) -> String {
    let tree = directory.join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join(NAME), "file").unwrap();
    let mut odd = tree.join(NAME).into_os_string().into_encoded_bytes();
    odd.push(0xff);
    let odd: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(&odd);
    fs::write(odd, "not stored").unwrap();
    string(&tree)
}

fn spawn(arguments: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Child {
    Command::new(PROGRAM)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap()
}

#[test]
fn names_are_escaped_on_a_terminal_and_are_always_one_line() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let tree = tree_with_odd_names(directory.path());
        let command = server_command(&directory.path().join("data"));
        let put = ["put", &tree, "--command", &command];
        let list = ["ls", "--command", &command];
        for (arguments, status) in [(&put[..], 3), (&list, 0)] {
            let (mut ours, theirs) = terminal();
            let mut child = spawn(arguments, theirs, Stdio::null());
            let shown = read_until(&mut ours, "\r\n");
            assert_eq!(child.wait().unwrap().code(), Some(status));
            assert!(shown.ends_with(&format!("{SHOWN}\r\n")), "{shown:?}");
            assert!(!shown.contains('\u{1b}'), "{shown:?}");

            // A program gets the name, in a line.
            let output = blockstore(arguments);
            let printed = text(&output.stdout);
            let name = NAME.replace('\\', r"\\").replace('\n', r"\n");
            assert!(printed.ends_with(&format!("{name}\n")), "{printed:?}");
            assert_eq!(printed.lines().count(), 1);
        }
    });
}

#[test]
fn names_are_escaped_in_warnings_errors_and_the_progress_bar() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let tree = tree_with_odd_names(directory.path());
        let command = server_command(&directory.path().join("data"));
        let put = ["put", &tree, "--command", &command];
        let told = text(&blockstore(&put).stderr);
        assert!(
            told.contains(&format!(r"cannot read {tree}/{SHOWN}\xff: ")),
            "{told:?}"
        );
        assert!(
            !told.contains(|c: char| c.is_control() && c != '\n'),
            "{told:?}"
        );

        let (mut ours, theirs) = terminal();
        let mut child = spawn(&put, Stdio::null(), theirs);
        let shown = read_until(&mut ours, "what could not be read is not stored");
        assert_eq!(child.wait().unwrap().code(), Some(3));
        assert!(!shown.contains("\u{1b}]"), "{shown:?}");
        assert!(
            !shown.contains('\u{7}') && !shown.contains('\u{9b}'),
            "{shown:?}"
        );

        // What a server says is as foreign as a name.
        let socket = string(&directory.path().join("socket"));
        let listener = UnixListener::bind(&socket).unwrap();
        let told = thread::scope(|scope| {
            scope.spawn(|| {
                let (stream, _) = listener.accept().unwrap();
                let refuse = |_| Err::<(), _>(Rejection::new(NAME).into());
                let builder = Connection::builder().handler(refuse);
                let server = builder.open(Transport::try_from(stream).unwrap());
                server.unwrap().serve().into_result().unwrap();
            });
            fail(&["stat", "--unix", &socket])
        });
        assert!(told.contains("]0;owned"), "{told:?}");
        assert!(!told.trim_end().contains(char::is_control), "{told:?}");
        let absent = string(&directory.path().join(NAME));
        for arguments in [
            ["stat", "--unix", &absent].as_slice(),
            &["serve", "--unix", &format!("{absent}/socket")],
            &[
                "get",
                &format!("blake3:{}", "0".repeat(64)),
                "-o",
                &format!("{absent}/x"),
                "--command",
                &command,
            ],
        ] {
            let told = fail(arguments);
            assert!(told.contains(SHOWN), "{told:?}");
            assert!(!told.trim_end().contains(char::is_control), "{told:?}");
        }
    });
}

#[test]
fn a_timeout_ends_the_wait_for_a_server_that_says_nothing() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| string(&directory.path().join(name));
        fs::write(path("file"), "file").unwrap();
        let _listener = UnixListener::bind(path("socket")).unwrap();
        let root = format!("blake3:{}", "0".repeat(64));
        let silent = ["--unix", &path("socket"), "--timeout", "1"];
        for arguments in [
            &["ls"][..],
            &["get", &root, "-o", "-"],
            &["put", &path("file")],
        ] {
            let start = Instant::now();
            let told = fail(&[arguments, &silent].concat());
            assert!(
                told.contains("timed out") || told.contains("no answer"),
                "{told}"
            );
            assert!(start.elapsed().as_secs() >= 1, "{arguments:?}");
        }
        // One that answers in time is none the wiser.
        let command = server_command(&directory.path().join("data"));
        assert_eq!(
            succeed(&["ls", "--timeout", "60", "--command", &command]),
            ""
        );
        let refused = blockstore(&["ls", "--timeout", "0", "--command", &command]);
        assert_eq!(refused.status.code(), Some(2));
    });
}

#[test]
fn a_timeout_covers_connecting_to_a_server_that_takes_no_client() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let server = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(&server, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&server, 0).unwrap();
        // Fills its queue where that has room for one.
        let _client = UnixStream::connect(&path).unwrap();
        let told = fail(&["ls", "--unix", &string(&path), "--timeout", "1"]);
        assert!(told.contains("timed out"), "{told}");
    });
}

#[test]
fn an_argument_that_the_parser_refuses_is_quoted_escaped() {
    common::watched(|| {
        let (mut ours, theirs) = terminal();
        let argument = format!("--{NAME}");
        let arguments = ["put", &argument, "file", "--command", "cat"];
        let mut child = spawn(&arguments, Stdio::null(), theirs);
        let shown = read_until(&mut ours, "--help");
        assert_eq!(child.wait().unwrap().code(), Some(2));
        assert!(shown.contains("unexpected argument"), "{shown:?}");
        assert!(
            !shown.contains(|c: char| c.is_control() && !"\r\n".contains(c)),
            "{shown:?}"
        );
    });
}

#[test]
fn the_help_tells_how_ssh_notices_a_dead_connection() {
    for command in ["put", "get", "has", "ls", "stat"] {
        let help = succeed(&[command, "--help"]);
        assert!(help.contains("ssh -o ServerAliveInterval="), "{help}");
        assert!(help.contains("--timeout <SECONDS>"), "{help}");
    }
}

#[test]
fn a_server_that_is_typed_at_a_terminal_says_what_it_is() {
    common::watched(|| {
        let (mut ours, theirs) = terminal();
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--stdio"])
            .stdin(theirs.try_clone().unwrap())
            .stdout(theirs.try_clone().unwrap())
            .stderr(theirs)
            .spawn()
            .unwrap();
        let shown = read_until(&mut ours, "\r\n");
        assert!(
            shown.starts_with("blockstore: this speaks packets over standard input"),
            "{shown}"
        );
        assert!(shown.contains("blockstore ls --command "), "{shown}");
        // The end of the input, as it is typed.
        ours.write_all(&[4]).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    });
}
