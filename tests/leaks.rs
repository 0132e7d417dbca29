//! Nothing is left behind: no thread, no descriptor, no child, however connections end.
//!
//! One test in a binary of its own, because it counts what the whole process has.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    reason = "helpers of tests fail the test; handlers have the shape that is asked of them"
)]

mod common;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/pairs.rs"]
mod pairs;

use std::process::Command;
use std::time::Duration;

use common::watched_for;
use measure::{Census, assert_back_to};
use packetstream::{Connection, OpenGuard, Transport};
use pairs::{ScriptedPeer, asking, echo, memory, os_pipes, tcp, unix_sockets};

type Ending = fn((Transport, Transport));

const CYCLES: usize = 25;

fn open_both((here, there): (Transport, Transport)) -> (OpenGuard, OpenGuard) {
    let open = |transport| {
        Connection::builder()
            .linger(Some(Duration::from_millis(200)))
            .handler(echo)
            .open(transport)
            .unwrap()
    };
    (open(here), open(there))
}

/// An orderly life with calls in both directions, some results cancelled and some forgotten.
fn orderly(pair: (Transport, Transport)) {
    let (client, server) = open_both(pair);
    for end in [&client, &server] {
        end.call(asking("x")).unwrap();
        let _ = end.submit(asking("cancelled")).unwrap().cancel();
        drop(end.submit(asking("forgotten")).unwrap());
        end.submit(asking("called back")).unwrap().on_complete(drop);
    }
    let _ = client.close();
    let _ = server.close();
}

/// The last reference is a result.
fn in_the_background(pair: (Transport, Transport)) {
    let (client, server) = open_both(pair);
    let pending = client.submit(asking("x")).unwrap();
    drop(client);
    pending.wait().unwrap();
    let _ = server.serve();
}

fn aborted(pair: (Transport, Transport)) {
    let (client, server) = open_both(pair);
    let pending = client.submit(asking("x")).unwrap();
    let _ = client.abort();
    drop(pending);
    drop(client);
    let _ = server.abort();
}

/// The peer goes while a request is open.
fn vanished(pair: (Transport, Transport)) {
    let (here, there) = pair;
    let client = Connection::builder().open(here).unwrap();
    let pending = client.submit(asking("x")).unwrap();
    drop(there);
    pending.wait().unwrap_err();
    drop(client);
}

/// The peer neither reads nor answers, and goes only after the forced end.
fn silent() {
    let (transport, peer) = ScriptedPeer::new();
    let client = Connection::builder().open(transport).unwrap();
    let pending = client.submit(asking(vec![0; 4 << 20])).unwrap();
    assert!(
        client
            .shutdown(Some(Duration::from_millis(10)))
            .into_result()
            .is_err()
    );
    pending.wait().unwrap_err();
    drop(peer);
}

/// Built or connected to nothing, and never opened.
fn never_opened() {
    let (ours, _theirs) = Transport::pair();
    drop(Connection::builder().build(ours));
    let nowhere =
        Connection::builder().build_on_demand(|| Err(std::io::ErrorKind::ConnectionRefused.into()));
    nowhere.open().unwrap_err();
    nowhere.call(asking("x")).unwrap_err();
}

fn on_demand() {
    let servers = parking_lot::Mutex::new(Vec::new());
    let connection = Connection::builder().build_on_demand(move || {
        let (ours, theirs) = unix_sockets();
        servers
            .lock()
            .push(Connection::builder().handler(echo).open(theirs).unwrap());
        Ok(ours)
    });
    for _ in 0..3 {
        connection.call(asking("x")).unwrap();
        let _ = connection.wait_closed();
    }
}

/// `cat` sends back whatever it is sent: our requests come to us as its own, and so do the
/// answers that we give it.
fn child_that_echoes() {
    let client = Connection::builder()
        .handler(echo)
        .spawn(Command::new("cat"))
        .unwrap();
    assert_eq!(client.call(asking("x")).unwrap().payload(), b"x");
    client.close().into_result().unwrap();
}

fn child_that_exits_at_once() {
    // Whether the child is gone before we write decides what fails; nothing may be left.
    if let Ok(client) = Connection::builder().spawn(Command::new("true")) {
        client.call(asking("x")).unwrap_err();
    }
}

fn child_that_neither_reads_nor_ends() {
    let mut command = Command::new("sleep");
    command.arg("1000");
    let client = Connection::builder().spawn(command).unwrap();
    drop(client.submit(asking("x")).unwrap());
    assert!(
        client
            .shutdown(Some(Duration::from_millis(10)))
            .into_result()
            .is_err()
    );
}

fn child_that_does_not_exist() {
    Connection::builder()
        .spawn(Command::new("no such program as this"))
        .unwrap_err();
}

#[test]
fn nothing_is_left_behind_however_connections_end() {
    watched_for(Duration::from_secs(300), || {
        let start = Census::take();
        assert_eq!(start.children, 0);

        let pairs = [memory, os_pipes, unix_sockets, tcp];
        let endings: [(&str, Ending); 4] = [
            ("orderly", orderly),
            ("in the background", in_the_background),
            ("aborted", aborted),
            ("vanished", vanished),
        ];
        for (name, ending) in endings {
            for pair in pairs {
                for _ in 0..CYCLES {
                    ending(pair());
                }
                assert_back_to(start, name);
            }
        }
        let others: [(&str, fn()); 7] = [
            ("silent peer", silent),
            ("never opened", never_opened),
            ("on demand", on_demand),
            ("child that echoes", child_that_echoes),
            ("child that exits at once", child_that_exits_at_once),
            (
                "child that neither reads nor ends",
                child_that_neither_reads_nor_ends,
            ),
            ("child that does not exist", child_that_does_not_exist),
        ];
        for (name, life) in others {
            for _ in 0..CYCLES {
                life();
            }
            assert_back_to(start, name);
        }
    });
}
