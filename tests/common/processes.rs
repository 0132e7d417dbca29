//! Runs two peers, each a process, against each other.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::env;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{self, Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// How client and server are joined.
#[derive(Clone, Copy, Debug)]
pub enum Over {
    Stdio,
    Tcp,
    Unix,
}

/// The hard limit of each process, in seconds: less than the watchdog's patience, so that the
/// process that hangs says so.
const MAX_SECONDS: &str = "50";

/// The path of an example, which `cargo test` builds into the directory next to this test's.
pub fn example(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let path = profile
        .join("examples")
        .join(format!("{name}{}", env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --example {name}` first",
        path.display()
    );
    path
}

/// Runs a command without input to its end.
pub fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

/// Plays the tests of the peer `client` against the peer `server`, and returns what the client
/// printed. Both must end well.
pub fn play(
    client: &Command,
    client_arguments: &[&str],
    server: &Command,
    server_arguments: &[&str],
    over: Over,
) -> String {
    let mut client = copy(client);
    client.arg("call").args(client_arguments);
    client.args(["--max-seconds", MAX_SECONDS]);
    let mut server = copy(server);
    server.arg("serve").args(server_arguments);
    server.args(["--max-seconds", MAX_SECONDS]);

    let listening = match over {
        Over::Stdio => {
            server.arg("--stdio");
            client.arg("--command").arg(quoted(&server));
            None
        }
        Over::Tcp => {
            let server = Listening::start(server.args(["--once", "--tcp", "0"]));
            client.args(["--tcp", &server.address]);
            Some(server)
        }
        Over::Unix => {
            let path = socket_path();
            let server = Listening::start(server.args(["--once", "--unix"]).arg(&path));
            assert_eq!(server.address, path.to_str().unwrap());
            client.args(["--unix", &server.address]);
            Some(server)
        }
    };

    let output = run(&mut client);
    let printed = String::from_utf8(output.stdout).unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && printed.ends_with(" passed, 0 failed\n"),
        "{over:?}: client: {}\n{printed}\n{complained}",
        output.status
    );
    assert!(printed.contains("ok      orderly_shutdown"), "{printed}");
    if let Some(server) = listening {
        server.finish();
    }
    printed
}

/// A server that is ready; killed if a test does not come to its end.
pub struct Listening {
    child: Child,
    /// What it says it listens at.
    pub address: String,
}

impl Listening {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let Some(address) = line.trim_end().strip_prefix("listening ") else {
            panic!("{command:?} says {line:?} and ends: {:?}", child.wait());
        };
        let address = address.to_owned();
        Self { child, address }
    }

    /// Waits until the server ends by itself, which must be in order.
    pub fn finish(mut self) {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "server: {status}");
        let socket = PathBuf::from(&self.address);
        assert!(!socket.exists(), "{} was left behind", socket.display());
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // Both fail after it has ended by itself.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A path that no other test of this or another process uses, and short: the system allows about
/// a hundred octets.
fn socket_path() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    env::temp_dir().join(format!("packetstream-{}-{number}", process::id()))
}

fn copy(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    copy
}

/// The command as a line for a shell.
fn quoted(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let quote =
        |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''"));
    words.map(quote).collect::<Vec<_>>().join(" ")
}
