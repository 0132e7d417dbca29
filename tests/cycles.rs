//! Thousands of lives of connections leave nothing: no thread, no descriptor, no zombie, no octet.
//!
//! One test in a binary of its own, because it counts what the whole process has. `leaks.rs` has
//! the many ways in which a connection may end; this is about numbers.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    clippy::print_stderr,
    reason = "helpers of tests fail the test and tell what they measured"
)]

mod common;
#[path = "common/heap.rs"]
mod heap;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "common/sizes.rs"]
mod sizes;

use std::process::{Command, Stdio};
use std::time::Duration;

use common::watched_for;
use heap::{DUST, Growth, run_in_sequence};
use measure::{Census, assert_back_to};
use packetstream::{Connection, ConnectionBuilder, OpenGuard, Transport};
use pairs::{asking, echo, memory, os_pipes, start, tcp, unix_sockets};
use sizes::sized;

/// So many of each kind; a child process costs more.
fn cycles() -> usize {
    sized(300, 10_000)
}

fn children() -> usize {
    sized(60, 1000)
}

#[test]
fn thousands_of_connections_leave_nothing() {
    watched_for(Duration::from_secs(1800), || {
        run_in_sequence(&[
            ("memory", || repeat(cycles(), || both_ends(memory()))),
            ("pipes", || repeat(cycles(), || both_ends(os_pipes()))),
            ("Unix sockets", || {
                repeat(cycles(), || both_ends(unix_sockets()));
            }),
            ("TCP", || repeat(cycles(), || both_ends(tcp()))),
            ("on demand", on_demand),
            ("the same transport again", the_same_transport_again),
            ("aborted", || repeat(cycles(), || aborted(unix_sockets()))),
            ("children", || repeat(children(), child_that_echoes)),
            ("children with stderr", || {
                repeat(children(), child_that_complains);
            }),
            ("killed children", || {
                repeat(children(), child_that_has_to_be_killed);
            }),
            ("children that are gone", || {
                repeat(children(), child_that_exits_at_once);
            }),
        ]);
    });
}

/// Lives so many lives, after some that pay for what is made once in a process.
fn repeat(times: usize, mut life: impl FnMut()) {
    for _ in 0..10 {
        life();
    }
    let census = Census::take();
    let growth = Growth::start();
    for _ in 0..times {
        life();
    }
    assert_back_to(census, "after the last life");
    let grown = growth.settled();
    eprintln!("    {times} lives: {grown} octets stay");
    assert!(grown <= DUST, "{times} lives left {grown} octets");
}

fn builder() -> ConnectionBuilder {
    Connection::builder()
        .linger(Some(Duration::from_secs(20)))
        .handler(echo)
}

fn open_both((here, there): (Transport, Transport)) -> (OpenGuard, OpenGuard) {
    (
        builder().open(here).unwrap(),
        builder().open(there).unwrap(),
    )
}

fn call_and_check(connection: &Connection) {
    assert_eq!(connection.call(asking("x")).unwrap().payload(), b"x");
}

fn both_ends(pair: (Transport, Transport)) {
    let (client, server) = open_both(pair);
    call_and_check(&client);
    call_and_check(&server);
    client
        .submit(asking("called back"))
        .unwrap()
        .on_complete(drop);
    let serving = start(move || server.serve());
    client.close().into_result().unwrap();
    serving.join().unwrap().into_result().unwrap();
}

fn aborted(pair: (Transport, Transport)) {
    let (client, server) = open_both(pair);
    let pending = client.submit(asking("x")).unwrap();
    let _ = client.abort();
    let _ = pending.wait();
    let _ = server.abort();
}

/// One connection that is opened over and over, by requests and by guards.
fn on_demand() {
    let connection = builder().build_on_demand(|| {
        let (ours, theirs) = unix_sockets();
        let server = builder().open(theirs).map_err(std::io::Error::other)?;
        drop(start(move || server.serve()));
        Ok(ours)
    });
    repeat(cycles() / 2, || {
        call_and_check(&connection);
        connection.wait_closed().into_result().unwrap();
        let guard = connection.open().unwrap();
        call_and_check(&guard);
        guard.close().into_result().unwrap();
    });
}

fn the_same_transport_again() {
    let mut pair = Some(unix_sockets());
    repeat(cycles(), || {
        let (client, server) = open_both(pair.take().unwrap());
        call_and_check(&client);
        let serving = start(move || server.serve());
        let ours = client.close().into_transport().unwrap();
        let theirs = serving.join().unwrap().into_transport().unwrap();
        pair = Some((ours, theirs));
    });
}

/// `cat` sends back whatever it is sent: our requests come to us as its own, and so do the
/// answers that we give it.
fn child_that_echoes() {
    let client = builder().spawn(Command::new("cat")).unwrap();
    call_and_check(&client);
    client.close().into_result().unwrap();
}

fn child_that_complains() {
    let mut command = Command::new("sh");
    command
        .args(["-c", "echo complaint >&2; exec cat"])
        .stderr(Stdio::piped());
    let client = builder().spawn(command).unwrap();
    call_and_check(&client);
    client.close().into_result().unwrap();
}

fn child_that_has_to_be_killed() {
    let mut command = Command::new("sleep");
    command.arg("1000");
    let client = builder().spawn(command).unwrap();
    let pending = client.submit(asking("x")).unwrap();
    assert!(client.shutdown(Some(Duration::ZERO)).into_result().is_err());
    pending.wait().unwrap_err();
}

fn child_that_exits_at_once() {
    // Whether the child is gone before we write decides what fails; nothing may be left.
    let mut command = Command::new("true");
    command.stderr(Stdio::piped());
    if let Ok(client) = builder().spawn(command) {
        client.call(asking("x")).unwrap_err();
    }
}
