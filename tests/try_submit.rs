//! A request that is not submitted without blocking comes back whole, whatever the reason.
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

use std::error::Error as _;
use std::io;
use std::time::Duration;

use common::watched;
use packetstream::{
    Connection, ConnectionBuilder, Error, Flags, OpenGuard, Outcome, Request, Transport,
    TrySubmitError,
};
use pairs::{ScriptedPeer, asking};

/// A request in which nothing has its default.
fn full_request() -> Request {
    Request::new(7)
        .with_flags(Flags::from(5))
        .with_channel(3)
        .with_payload(vec![b'x'; 300])
        .with_label("all of it")
        .with_timeout(Duration::from_secs(50))
}

/// Submits, and checks that everything comes back.
fn refused(connection: &Connection) -> Error {
    let refused = connection.try_submit(full_request()).unwrap_err();
    let error = refused.error().clone();
    assert_eq!(refused.is_full(), matches!(error, Error::Full));
    assert_eq!(refused.to_string(), error.to_string());
    // The text of the error is the refusal's own, so it is no source.
    let sources = [refused.source(), error.source()];
    let [source, expected] = sources.map(|source| source.map(ToString::to_string));
    assert_eq!(source, expected);
    assert_eq!(refused.into_request(), full_request(), "{error:?}");
    assert_eq!(error.outcome(), Outcome::NotSent, "{error:?}");

    let again = connection.try_submit(full_request()).unwrap_err();
    assert_eq!(Error::from(again).to_string(), error.to_string());
    error
}

fn open(builder: ConnectionBuilder) -> (OpenGuard, Transport) {
    let (ours, theirs) = Transport::pair();
    let builder = builder.linger(Some(Duration::ZERO));
    (builder.open(ours).unwrap(), theirs)
}

#[test]
fn request_comes_back_whole_at_every_limit() {
    watched(|| {
        for builder in [
            Connection::builder().max_outstanding_requests(1),
            Connection::builder().max_outstanding_bytes(250),
        ] {
            let (guard, _silent) = open(builder);
            let first = guard.try_submit(asking("first")).unwrap();
            assert!(matches!(refused(&guard), Error::Full));
            drop(first);
        }
    });
}

#[test]
fn request_comes_back_whole_when_it_is_too_long() {
    watched(|| {
        let (guard, _silent) = open(Connection::builder().max_packet_len(300));
        // Tag, flags, channel and type take a byte each.
        assert!(matches!(
            refused(&guard),
            Error::TooLong {
                len: 304,
                limit: 300
            }
        ));
        // Its tag has not been used up.
        let pending = guard.try_submit(asking("short").with_channel(3)).unwrap();
        assert_eq!(pending.tag().get(), 0);
    });
}

#[test]
fn request_comes_back_whole_from_a_connection_that_is_not_open() {
    watched(|| {
        let connection = Connection::builder().build(Transport::pair().0);
        assert!(matches!(refused(&connection), Error::Closed));
        let (guard, _silent) = open(Connection::builder());
        let connection = Connection::clone(&guard);
        drop(guard);
        assert!(matches!(refused(&connection), Error::Closed));
    });
}

#[test]
fn request_comes_back_whole_when_no_more_may_be_made() {
    watched(|| {
        let (guard, _silent) = open(Connection::builder());
        guard.finish_requests().unwrap();
        assert!(matches!(refused(&guard), Error::RequestsFinished));

        let (transport, mut peer) = ScriptedPeer::new();
        let guard = Connection::builder().open(transport).unwrap();
        peer.goodbye();
        guard.wait_end_of_stream().unwrap();
        let error = refused(&guard);
        assert!(matches!(error.cause(), Error::PeerClosed), "{error:?}");
    });
}

#[test]
fn request_comes_back_whole_when_the_connector_fails() {
    watched(|| {
        let connector = || Err(io::Error::from(io::ErrorKind::NotFound));
        let connection = Connection::builder().build_on_demand(connector);
        assert!(matches!(refused(&connection), Error::Connect(_)));
    });
}

/// Opening blocks, which a handler on the receiver must not.
#[test]
fn request_comes_back_whole_where_it_would_deadlock() {
    watched(|| {
        let on_demand = Connection::builder().build_on_demand(|| Ok(Transport::pair().0));
        let (ours, theirs) = Transport::pair();
        let _server = Connection::builder()
            .inline_handler(true)
            .handler(move |_| Ok(format!("{:?}", refused(&on_demand))))
            .open(theirs)
            .unwrap();
        let client = Connection::builder().open(ours).unwrap();
        let answer = client.call(asking("")).unwrap();
        assert_eq!(answer.payload(), b"WouldDeadlock(NotSent)");
    });
}

#[test]
fn question_mark_makes_it_the_error() {
    fn submit(connection: &Connection) -> packetstream::Result<()> {
        drop(connection.try_submit(Request::new(0))?);
        Ok(())
    }

    let connection = Connection::builder().build(Transport::pair().0);
    assert!(matches!(submit(&connection), Err(Error::Closed)));
    assert!(size_of::<TrySubmitError>() <= size_of::<usize>());
}
