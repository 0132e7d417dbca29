//! The cap of unanswered requests, and requests that are made to answer others: these never wait for
//! each other, on whatever thread they are made.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation of a helper fails its test"
)]

mod common;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/pairs.rs"]
mod pairs;

use std::time::Duration;

use common::watched;
use measure::pause;
use packetstream::{
    Connection, ConnectionBuilder, Error, Incoming, OpenGuard, Rejection, Request, Responder,
    Transport,
};
use pairs::start;

/// Asks the other end with one less, unless that is nothing; answers with the depth that was reached.
fn ask_on(incoming: &Incoming) -> packetstream::Result<Vec<u8>> {
    let (left, rest) = incoming.payload().split_first().unwrap();
    if *left == 0 {
        return Ok(vec![0]);
    }
    let request = Request::new(0).with_payload([&[left - 1], rest].concat());
    let deeper = incoming.connection().call(request)?;
    Ok(vec![deeper.payload()[0] + 1])
}

fn on_a_thread_of_its_own(incoming: Incoming, responder: Responder) {
    drop(start(move || match ask_on(&incoming) {
        Ok(depth) => responder.respond(depth),
        Err(error) => responder.reject(Rejection::new(error.to_string())),
    }));
}

fn ends(builder: fn() -> ConnectionBuilder) -> (OpenGuard, OpenGuard) {
    let (ours, theirs) = Transport::pair();
    (
        builder().open(ours).unwrap(),
        builder().open(theirs).unwrap(),
    )
}

#[test]
fn chain_of_requests_that_answer_each_other_passes_a_cap_that_is_less_than_its_length() {
    let deferred: fn() -> ConnectionBuilder = || {
        Connection::builder()
            .max_outstanding_requests(1)
            .deferred_handler(on_a_thread_of_its_own)
    };
    let by_bytes: fn() -> ConnectionBuilder = || {
        Connection::builder()
            .max_outstanding_bytes(60)
            .deferred_handler(on_a_thread_of_its_own)
    };
    let on_handlers: fn() -> ConnectionBuilder = || {
        Connection::builder()
            .max_outstanding_requests(1)
            .handler(|incoming| Ok(ask_on(&incoming)?))
    };
    watched(move || {
        for builder in [deferred, by_bytes, on_handlers] {
            let (client, server) = ends(builder);
            let request = Request::new(0).with_payload([&[100], &[b'x'; 50][..]].concat());
            assert_eq!(client.call(request).unwrap().payload(), [100]);
            client.close().into_result().unwrap();
            server.close().into_result().unwrap();
        }
    });
}

/// How many requests of so many bytes are taken from who has the connection of a request that is
/// served, and asks on and on.
fn taken(builder: ConnectionBuilder, payload: usize) -> usize {
    let (send, kept) = crossbeam_channel::bounded(1);
    let (ours, mut peer) = pairs::ScriptedPeer::new();
    let guard = builder
        .deferred_handler(move |incoming, responder| {
            let _ = send.send((incoming.connection().clone(), responder));
        })
        .open(ours)
        .unwrap();
    peer.send(&[pairs::request_packet(2, "")]);
    let (connection, responder) = kept.recv().unwrap();
    let made: Vec<_> = (0..100)
        .map_while(|_| connection.try_submit(pairs::asking(vec![0; payload])).ok())
        .collect();
    responder.respond("");
    let _ = guard.abort();
    made.len()
}

#[test]
fn caps_hold_for_who_has_the_connection_of_a_request_but_for_one_more() {
    watched(|| {
        let builder = Connection::builder();
        assert_eq!(taken(builder.max_outstanding_requests(3), 0), 3 + 1);
        let builder = Connection::builder();
        assert_eq!(taken(builder.max_outstanding_bytes(60), 40), 1 + 1);
    });
}

#[test]
fn who_waits_for_room_is_told_that_a_close_has_begun_though_a_request_is_still_served() {
    watched(|| {
        let (send, kept) = crossbeam_channel::bounded(1);
        let (ours, mut peer) = pairs::ScriptedPeer::new();
        let guard = Connection::builder()
            .max_outstanding_requests(1)
            .linger(None)
            .deferred_handler(move |_, responder| {
                let _ = send.send(responder);
            })
            .open(ours)
            .unwrap();
        peer.send(&[pairs::request_packet(2, "")]);
        let responder = kept.recv().unwrap();
        let first = guard.submit(Request::new(0)).unwrap();
        let connection = Connection::clone(&guard);
        // Whether it waits already when the close begins makes no difference.
        let waiting = start(move || connection.submit(Request::new(0)).map(drop));
        pause(Duration::from_millis(50));
        let closing = start(move || guard.close());
        let error = waiting.join().unwrap().unwrap_err();
        assert!(
            matches!(error, Error::RequestsFinished | Error::Closed),
            "{error:?}"
        );
        responder.respond("late");
        let request = peer.request();
        peer.answer(&request, "yes");
        assert_eq!(first.wait().unwrap().payload(), b"yes");
        peer.goodbye();
        closing.join().unwrap().into_result().unwrap();
    });
}
