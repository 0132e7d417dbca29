//! This crate against the Python implementation of the protocol, each as client and as server.
//!
//! Not run by default, because they need the Python packages:
//!
//! ```sh
//! python3 -m venv VENV
//! VENV/bin/pip install --no-deps -r tests/interop/requirements.txt
//! PACKETSTREAM_PYTHON=VENV/bin/python cargo test --test interop_python -- --ignored
//! ```
//!
//! `PACKETSTREAM_INTEROP_ROUNDS` says how often each test is repeated (default 1).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests"
)]

mod common;
#[path = "common/processes.rs"]
mod processes;

use std::env;
use std::io::{BufReader, ErrorKind};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::watched_for;
use packetstream::{
    BoxError, Connection, ConnectionBuilder, Flags, Incoming, OpenGuard, Outcome, PendingResponse,
    Request, Response, Transport,
};
use processes::{Listening, Over, example, play};

// The request types of `peer.py`.
const ECHO: u32 = 0;
const SLEEP: u32 = 7;
const CALL_BACK: u32 = 8;

const NO_GRACE: &[&str] = &["--grace", "0"];

/// Longer than the processes' own limits, so that the one that hangs is the one that says so.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `body` as often as the environment asks for.
fn rounds(body: impl Fn() + Send + Sync + 'static) {
    let rounds = match env::var("PACKETSTREAM_INTEROP_ROUNDS") {
        Ok(text) => text
            .parse()
            .expect("PACKETSTREAM_INTEROP_ROUNDS is a number"),
        Err(_) => 1,
    };
    let body = Arc::new(body);
    for _ in 0..rounds {
        let body = Arc::clone(&body);
        watched_for(PATIENCE, move || body());
    }
}

/// The Python peer, without arguments.
fn python() -> Command {
    let interop = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let interpreter = env::var_os("PACKETSTREAM_PYTHON").map(PathBuf::from);
    let Some(interpreter) = interpreter.filter(|path| path.is_file()) else {
        panic!(
            "PACKETSTREAM_PYTHON must be the path of a Python interpreter with the packages of \
             {requirements}:\n  python3 -m venv VENV\n  VENV/bin/pip install --no-deps -r \
             {requirements}\n  export PACKETSTREAM_PYTHON=$PWD/VENV/bin/python",
            requirements = interop.join("requirements.txt").display()
        );
    };
    let mut command = Command::new(interpreter);
    command.arg(interop.join("peer.py"));
    command
}

fn rust() -> Command {
    Command::new(example("peer"))
}

fn python_calls_rust(over: Over, client: &'static [&str], server: &'static [&str]) {
    rounds(move || drop(play(&python(), client, &rust(), server, over)));
}

fn rust_calls_python(over: Over, client: &'static [&str], server: &'static [&str]) {
    rounds(move || drop(play(&rust(), client, &python(), server, over)));
}

#[test]
#[ignore = "needs the Python peer"]
fn python_client_agrees_with_our_server_over_pipes() {
    python_calls_rust(Over::Stdio, &[], &[]);
}

#[test]
#[ignore = "needs the Python peer"]
fn python_client_agrees_with_our_server_over_pipes_without_grace() {
    python_calls_rust(Over::Stdio, NO_GRACE, NO_GRACE);
}

#[test]
#[ignore = "needs the Python peer"]
fn python_client_agrees_with_our_server_over_tcp() {
    python_calls_rust(Over::Tcp, &[], &[]);
}

#[test]
#[ignore = "needs the Python peer"]
fn python_client_agrees_with_our_server_over_tcp_without_grace() {
    python_calls_rust(Over::Tcp, NO_GRACE, NO_GRACE);
}

#[cfg(unix)]
#[test]
#[ignore = "needs the Python peer"]
fn python_client_agrees_with_our_server_over_a_unix_socket() {
    python_calls_rust(Over::Unix, &[], &[]);
}

#[cfg(unix)]
#[test]
#[ignore = "needs the Python peer"]
fn python_client_agrees_with_our_server_over_a_unix_socket_without_grace() {
    python_calls_rust(Over::Unix, NO_GRACE, NO_GRACE);
}

#[test]
#[ignore = "needs the Python peer"]
fn python_client_that_connects_on_demand_agrees_with_our_server() {
    python_calls_rust(Over::Stdio, &["--on-demand"], &[]);
}

#[test]
#[ignore = "needs the Python peer"]
fn python_client_accepts_that_our_server_closes_first() {
    // The test makes seven requests.
    python_calls_rust(Over::Stdio, &["--only", "echo"], &["--close-after", "7"]);
}

#[test]
#[ignore = "needs the Python peer"]
fn our_client_agrees_with_the_python_server_over_pipes() {
    rust_calls_python(Over::Stdio, &[], &[]);
}

#[test]
#[ignore = "needs the Python peer"]
fn our_client_agrees_with_the_python_server_over_pipes_without_grace() {
    rust_calls_python(Over::Stdio, NO_GRACE, NO_GRACE);
}

#[test]
#[ignore = "needs the Python peer"]
fn our_client_agrees_with_the_python_server_over_tcp() {
    rust_calls_python(Over::Tcp, &[], &[]);
}

#[test]
#[ignore = "needs the Python peer"]
fn our_client_agrees_with_the_python_server_over_tcp_without_grace() {
    rust_calls_python(Over::Tcp, NO_GRACE, NO_GRACE);
}

#[cfg(unix)]
#[test]
#[ignore = "needs the Python peer"]
fn our_client_agrees_with_the_python_server_over_a_unix_socket() {
    rust_calls_python(Over::Unix, &[], &[]);
}

#[cfg(unix)]
#[test]
#[ignore = "needs the Python peer"]
fn our_client_agrees_with_the_python_server_over_a_unix_socket_without_grace() {
    rust_calls_python(Over::Unix, NO_GRACE, NO_GRACE);
}

#[test]
#[ignore = "needs the Python peer"]
fn our_client_that_connects_on_demand_agrees_with_the_python_server() {
    rust_calls_python(Over::Stdio, &["--on-demand"], &[]);
}

#[test]
#[ignore = "needs the Python peer"]
fn our_client_accepts_that_the_python_server_closes_first() {
    rust_calls_python(Over::Stdio, &["--only", "echo"], &["--close-after", "7"]);
}

/// A connection to a Python server of its own.
fn connect(builder: ConnectionBuilder, arguments: &[&str]) -> OpenGuard {
    let mut command = python();
    command
        .args(["serve", "--stdio", "--max-seconds", "50"])
        .args(arguments);
    builder.spawn(command).unwrap()
}

/// The Python peer tells its port just before it listens there, so the first attempt may fail.
fn connect_to(port: u16) -> TcpStream {
    for _ in 0..500 {
        match TcpStream::connect(("127.0.0.1", port)) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                let _instant = crossbeam_channel::after(Duration::from_millis(10)).recv();
            }
            result => return result.unwrap(),
        }
    }
    panic!("nobody listens at port {port}");
}

fn echo_request(payload: &str) -> Request {
    Request::new(ECHO).with_payload(payload)
}

fn assert_echo(answer: packetstream::Result<Response>, payload: &str) {
    let answer = answer.unwrap();
    assert_eq!(answer.flags(), Flags::from(0x11));
    let reversed: String = payload.chars().rev().collect();
    assert_eq!(answer.payload(), reversed.as_bytes());
}

fn assert_closes_in_order(guard: OpenGuard) {
    let report = guard.close();
    assert!(report.cause().is_none(), "{report:?}");
    assert!(report.peer_said_goodbye(), "{report:?}");
    assert_eq!(
        report.requests_not_sent() + report.requests_unknown(),
        0,
        "{report:?}"
    );
    assert_eq!(report.answers_lost(), 0, "{report:?}");
}

#[test]
#[ignore = "needs the Python peer"]
fn half_duplex_calls_are_answered_one_by_one() {
    rounds(|| {
        let guard = connect(Connection::builder(), &[]);
        for n in 0..16 {
            let payload = format!("call {n}");
            assert_echo(guard.call(echo_request(&payload)), &payload);
        }
        assert_closes_in_order(guard);
    });
}

#[test]
#[ignore = "needs the Python peer"]
fn pipelined_requests_are_collected_in_any_order() {
    rounds(|| {
        let guard = connect(Connection::builder(), &[]);
        let mut pending: Vec<(String, PendingResponse)> = (0..500)
            .map(|n| format!("pipelined {n}"))
            .map(|payload| {
                let answer = guard.submit(echo_request(&payload)).unwrap();
                (payload, answer)
            })
            .collect();
        fastrand::shuffle(&mut pending);
        for (payload, answer) in pending {
            assert_echo(answer.wait(), &payload);
        }
        assert_closes_in_order(guard);
    });
}

#[test]
#[ignore = "needs the Python peer"]
fn peer_calls_back_while_it_is_called() {
    rounds(|| {
        let calls = Arc::new(AtomicU64::new(0));
        let builder = Connection::builder().handler({
            let calls = Arc::clone(&calls);
            move |incoming: Incoming| {
                calls.fetch_add(1, Ordering::Relaxed);
                let flags = incoming.flags();
                let mut payload = incoming.into_payload();
                payload.push(b'!');
                Ok::<_, BoxError>((flags, payload))
            }
        });
        let guard = connect(builder, &[]);
        let pending: Vec<_> = (0..40_u32)
            .map(|n| {
                let request = Request::new(CALL_BACK)
                    .with_flags(n)
                    .with_payload(n.to_string());
                guard.submit(request).unwrap()
            })
            .collect();
        for (n, answer) in (0_u32..).zip(pending) {
            let answer = answer.wait().unwrap();
            assert_eq!(answer.flags(), Flags::from(n));
            assert_eq!(answer.payload(), format!("{n}!").as_bytes());
        }
        assert_eq!(calls.load(Ordering::Relaxed), 40);
        assert_closes_in_order(guard);
    });
}

#[test]
#[ignore = "needs the Python peer"]
fn refusal_of_another_channel_is_a_rejection_that_was_not_run() {
    rounds(|| {
        let guard = connect(Connection::builder(), &[]);
        let error = guard
            .call(echo_request("five").with_channel(5))
            .unwrap_err();
        assert!(error.is_rejected(), "{error:?}");
        assert_eq!(error.outcome(), Outcome::NotRun);
        // The peer does not fill in the number.
        assert_eq!(error.rejection().unwrap().payload(), b"unknown channel %d");
        assert_echo(guard.call(echo_request("zero")), "zero");
        assert_closes_in_order(guard);
    });
}

#[test]
#[ignore = "needs the Python peer"]
fn close_before_any_request_is_in_order() {
    rounds(|| assert_closes_in_order(connect(Connection::builder(), &[])));
}

#[test]
#[ignore = "needs the Python peer"]
fn close_waits_for_what_the_peer_still_has_to_answer() {
    rounds(|| {
        let guard = connect(Connection::builder(), &[]);
        let answer = guard
            .submit(Request::new(SLEEP).with_payload("300"))
            .unwrap();
        // Forgotten, not taken back: the close below must find it answered.
        drop(answer);
        assert_closes_in_order(guard);
    });
}

#[test]
#[ignore = "needs the Python peer"]
fn close_from_the_peer_is_in_order() {
    rounds(|| {
        let guard = connect(Connection::builder(), &["--close-after", "1"]);
        assert_echo(guard.call(echo_request("last")), "last");
        guard.wait_end_of_stream().unwrap();
        let error = guard.call(echo_request("too late")).unwrap_err();
        assert!(error.is_closed(), "{error:?}");
        assert_eq!(error.outcome(), Outcome::NotSent);
        assert_closes_in_order(guard);
    });
}

#[test]
#[ignore = "needs the Python peer"]
fn killed_peer_settles_every_waiter() {
    rounds(|| {
        let mut command = python();
        command.args(["serve", "--stdio", "--max-seconds", "50"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let guard = Connection::builder()
            .open(Transport::new(output, input))
            .unwrap();

        let sleep = || {
            guard
                .submit(Request::new(SLEEP).with_payload("10000"))
                .unwrap()
        };
        // The peer runs four at a time, and has read the first three when the fourth is answered.
        let running = [sleep(), sleep(), sleep()];
        assert_echo(guard.call(echo_request("ready")), "ready");
        let queued: Vec<_> = (0..20).map(|_| sleep()).collect();
        child.kill().unwrap();
        child.wait().unwrap();

        for answer in running {
            let error = answer.wait().unwrap_err();
            assert!(error.is_closed(), "{error:?}");
            assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
        }
        for answer in queued {
            let error = answer.wait().unwrap_err();
            assert!(error.is_closed(), "{error:?}");
        }
        let report = guard.close();
        assert!(!report.peer_said_goodbye(), "{report:?}");
        assert!(!report.is_last() || !report.in_progress(), "{report:?}");
    });
}

#[test]
#[ignore = "needs the Python peer"]
fn several_clients_share_a_python_server_on_a_socket() {
    rounds(|| {
        let mut command = python();
        let server = Listening::start(command.args(["serve", "--tcp", "0", "--max-seconds", "50"]));
        let port: u16 = server.address.parse().unwrap();
        let guards: Vec<_> = (0..4)
            .map(|_| {
                let stream = connect_to(port);
                Connection::builder()
                    .open(Transport::try_from(stream).unwrap())
                    .unwrap()
            })
            .collect();
        for n in 0..5 {
            for guard in &guards {
                let payload = format!("{n}");
                assert_echo(guard.call(echo_request(&payload)), &payload);
            }
        }
        guards.into_iter().for_each(assert_closes_in_order);
    });
}
