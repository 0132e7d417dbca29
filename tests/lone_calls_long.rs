//! A lone caller whose request is long waits until it has been sent before it reads: never for ever.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod common;
#[path = "common/pairs.rs"]
mod pairs;

use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use common::watched;
use packetstream::{
    ChannelId, Connection, Error, Flags, OpenGuard, Outcome, Packet, Response, Result, Tag,
    Transport,
};
use pairs::{ScriptedPeer, asking, start, take};

/// More than a socket takes.
const LONG: usize = 1024 * 1024;

/// A caller that has read its own answers for a while, and now makes a long call, of which its peer
/// has read nothing.
fn calling() -> (ScriptedPeer, Connection, JoinHandle<Result<Response>>) {
    let (here, there) = UnixStream::pair().unwrap();
    let mut peer = ScriptedPeer::on(there);
    let guard: OpenGuard = Connection::builder()
        .linger(Some(Duration::ZERO))
        .open(Transport::try_from(here).unwrap())
        .unwrap();
    let connection = Connection::clone(&guard);
    let (start_long, begun) = crossbeam_channel::bounded(1);
    let caller = start(move || {
        for _ in 0..20 {
            guard.call(asking("short")).unwrap();
        }
        start_long.send(()).unwrap();
        guard.call(asking(vec![7; LONG]))
    });
    for _ in 0..20 {
        let request = peer.request();
        peer.answer(&request, "");
    }
    take(&begun);
    (peer, connection, caller)
}

fn each(fails_or_goes_on: fn(ScriptedPeer, Connection, JoinHandle<Result<Response>>)) {
    for _ in 0..10 {
        watched(move || {
            let (peer, connection, caller) = calling();
            fails_or_goes_on(peer, connection, caller);
        });
    }
}

#[test]
fn it_is_answered_by_a_peer_that_sends_much_before_it_reads() {
    each(|mut peer, _, caller| {
        // As much as keeps a peer from reading until somebody here has read.
        let stray = |tag| {
            let octets = vec![1; 10_000];
            Packet::response(ChannelId::DEFAULT, Tag::new(tag), true, Flags::NONE, octets).unwrap()
        };
        for tag in 1_000_000..1_000_100 {
            peer.send(&[stray(tag)]);
        }
        let request = peer.request();
        assert!(request.payload() == vec![7; LONG]);
        peer.answer(&request, "read");
        assert_eq!(caller.join().unwrap().unwrap().payload(), b"read");
    });
}

#[test]
fn it_fails_when_its_peer_says_goodbye_and_reads_nothing() {
    each(|mut peer, _, caller| {
        peer.goodbye();
        let error = caller.join().unwrap().unwrap_err();
        assert!(matches!(error.cause(), Error::PeerClosed), "{error:?}");
        drop(peer);
    });
}

#[test]
fn it_fails_when_its_peer_dies() {
    each(|peer, _, caller| {
        drop(peer);
        caller.join().unwrap().unwrap_err();
    });
}

#[test]
fn it_fails_when_the_connection_is_aborted() {
    each(|peer, connection, caller| {
        let report = connection.abort();
        let error = caller.join().unwrap().unwrap_err();
        assert_ne!(error.outcome(), Outcome::NotRun, "{error:?}");
        drop((report, peer));
    });
}
