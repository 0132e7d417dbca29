//! Processes at either end that hold on: a program that leaves connections open when it ends, and
//! children that leave others behind with their output.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail the test"
)]

mod common;
#[path = "common/hostile.rs"]
mod hostile;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "common/roles.rs"]
mod roles;

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::watched_for;
use hostile::{signal, silent_pipes, silent_socket};
use measure::until;
use packetstream::{Connection, ConnectionBuilder, Error, OpenGuard, Transport};
use pairs::{asking, start};
use roles::{in_role, role};

const LINGER: Duration = Duration::from_millis(50);

fn bounded(body: impl FnOnce() + Send + 'static) {
    watched_for(LINGER + Duration::from_secs(25), body);
}

fn builder() -> ConnectionBuilder {
    Connection::builder()
        .linger(Some(LINGER))
        .handler(|incoming| Ok(incoming.into_payload()))
}

/// Never to be closed.
fn leak(guard: OpenGuard) -> &'static OpenGuard {
    Box::leak(Box::new(guard))
}

/// Of a connection that is left open: threads that wait for ever in all the ways there are.
fn wait_in_every_way(guard: &'static OpenGuard) {
    guard.submit(asking("x")).unwrap().on_complete(drop);
    start(|| guard.call(asking("y")));
    start(|| guard.wait_closed());
    start(|| {
        loop {
            // The first ones fill the pipe, the next ones the queue.
            if guard.submit(asking(vec![0; 1 << 20])).is_err() {
                break;
            }
        }
    });
}

fn play(role: &str) {
    match role {
        "stdio" => {
            let transport = Transport::stdio().unwrap();
            let guard = leak(builder().open(transport).unwrap());
            start(|| guard.wait_end_of_stream());
        }
        "stdio, closed" => {
            let transport = Transport::stdio().unwrap();
            let report = builder().open(transport).unwrap().close();
            assert!(matches!(report.cause(), Some(Error::LingerExpired)));
        }
        "many" => {
            for (transport, peer) in [silent_socket(), silent_pipes()] {
                Box::leak(Box::new(peer));
                wait_in_every_way(leak(builder().open(transport).unwrap()));
            }
            let child = builder().spawn(Command::new("cat")).unwrap();
            leak(child).call(asking("x")).unwrap();
        }
        _ => panic!("there is no role {role:?}"),
    }
    eprintln!("main returns");
}

/// The reader of standard input blocks for ever, since this end is held open and says nothing.
#[test]
fn process_exits_when_main_returns_though_connections_are_open() {
    if let Some(role) = role() {
        return play(&role);
    }
    for role in ["stdio", "stdio, closed", "many"] {
        bounded(move || {
            let name = "process_exits_when_main_returns_though_connections_are_open";
            let mut child = in_role(name, role)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let stdin = child.stdin.take();
            let mut stdout = child.stdout.take().unwrap();
            start(move || io::copy(&mut stdout, &mut io::sink()));
            let stderr = BufReader::new(child.stderr.take().unwrap());
            let said: Vec<_> = stderr.lines().map_while(Result::ok).collect();
            let status = child.wait().unwrap();
            assert!(status.success(), "{role}: {status}: {said:?}");
            assert_eq!(said.last().map(String::as_str), Some("main returns"));
            drop(stdin);
        });
    }
}

/// A process that a child has left behind; killed in the end.
struct Grandchild(PathBuf);

impl Grandchild {
    /// A shell command that leaves a process behind, which says who it is in a file.
    fn left_by(name: &str, redirection: &str, then: &str) -> (Self, Command) {
        let file = format!("packetstream-{name}-{}", std::process::id());
        let path = env::temp_dir().join(file);
        let mut command = Command::new("sh");
        let script = format!(r#"sleep 1000 {redirection} & echo $! > "$0"; {then}"#);
        command.args(["-c", &script]).arg(&path);
        command.stderr(Stdio::piped());
        (Self(path), command)
    }

    /// Waits until it runs.
    fn number(&self) -> u32 {
        until(
            || fs::read_to_string(&self.0).ok()?.trim().parse().ok(),
            || format!("nothing is in {}", self.0.display()),
        )
    }
}

impl Drop for Grandchild {
    fn drop(&mut self) {
        let number = self.number();
        fs::remove_file(&self.0).unwrap();
        signal("KILL", number);
    }
}

#[test]
fn grandchild_that_holds_stderr_holds_up_no_close() {
    bounded(|| {
        let redirection = "< /dev/null > /dev/null";
        let (_grandchild, command) = Grandchild::left_by("stderr", redirection, "exec cat");
        let guard = builder()
            .linger(Some(Duration::from_secs(20)))
            .spawn(command)
            .unwrap();
        guard.call(asking("x")).unwrap();
        // `cat` says goodbye with our own words.
        let report = guard.close();
        assert!(report.peer_said_goodbye(), "{report:?}");
        report.into_result().unwrap();
    });
}

#[test]
fn grandchild_that_holds_stdout_holds_up_no_close() {
    bounded(|| {
        let redirection = "< /dev/null";
        let (_grandchild, command) = Grandchild::left_by("stdout", redirection, "exec cat");
        let guard = builder()
            .linger(Some(Duration::from_secs(20)))
            .spawn(command)
            .unwrap();
        guard.call(asking("x")).unwrap();
        guard.close().into_result().unwrap();
    });
    bounded(|| {
        // Nobody ever says goodbye, nor ends the stream.
        let then = "cat > /dev/null; exit 3";
        let (grandchild, command) = Grandchild::left_by("stuck", "< /dev/null", then);
        let guard = builder().spawn(command).unwrap();
        // The child may be killed from here on.
        grandchild.number();
        let connection = Connection::clone(&guard);
        drop(guard.submit(asking("x")).unwrap());
        let report = guard.close();
        let cause = report.cause();
        assert!(matches!(cause, Some(Error::LingerExpired)), "{report:?}");
        assert!(!connection.is_open());
    });
}
