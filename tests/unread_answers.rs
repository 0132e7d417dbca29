//! Answers that wait to be sent: a peer that reads them is never cut off, however fast they are made
//! and however slowly it reads; one that does not read is, in a time that has a limit.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation of a helper fails its test"
)]

mod common;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/narrow.rs"]
mod narrow;
#[path = "common/pairs.rs"]
mod pairs;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::{watched, watched_for};
use measure::pause;
use packetstream::wire::PacketWriter;
use packetstream::{Connection, Error, OpenGuard, PendingResponse, Request, Transport};
use pairs::{asking, request_packet, start};

/// More than the hard budget of an end that allows few requests.
const MANY: u64 = 70_000;

fn served_back(small: usize) -> (OpenGuard, OpenGuard) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = Connection::builder()
        .max_inbound_requests(small)
        .handler_threads(2)
        .handler(|incoming| {
            let called = incoming.connection().call(asking("back"))?;
            Ok(called.into_payload())
        })
        .open(Transport::try_from(theirs).unwrap())
        .unwrap();
    let client = Connection::builder()
        .handler(|incoming| Ok(incoming.into_payload()))
        .open(Transport::try_from(ours).unwrap())
        .unwrap();
    (client, server)
}

/// Each request was answered, or refused as one too many; the connection was never cut off.
fn assert_answered_or_busy(pending: Vec<PendingResponse>) -> usize {
    let mut answered = 0;
    for pending in pending {
        match pending.wait() {
            Ok(response) => {
                assert_eq!(response.payload(), b"back");
                answered += 1;
            }
            Err(Error::Rejected(rejection)) => {
                assert_eq!(rejection.message(), "rejecting request: busy");
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    answered
}

#[test]
fn client_that_reads_everything_is_never_cut_off_by_a_server_that_allows_little() {
    watched(|| {
        for small in [1, 2, 64] {
            let (client, server) = served_back(small);
            let pending: Vec<_> = (0..2000)
                .map(|_| client.submit(Request::new(0)).unwrap())
                .collect();
            assert!(assert_answered_or_busy(pending) > 0);
            // And it goes on.
            assert_eq!(client.call(asking("")).unwrap().payload(), b"back");
            client.close().into_result().unwrap();
            server.close().into_result().unwrap();
        }
    });
}

/// Sends requests that are all refused, as many as the other end lets it.
fn flood(mut stream: UnixStream) -> std::thread::JoinHandle<u64> {
    start(move || {
        let mut sent = 0;
        let mut writer = PacketWriter::new(&mut stream);
        for tag in 2..MANY + 2 {
            if writer.write_packet(&request_packet(tag, "")).is_err() {
                return sent;
            }
            sent += 1;
        }
        let _ = writer.flush();
        sent
    })
}

#[test]
fn peer_that_reads_slowly_gets_every_answer() {
    watched_for(Duration::from_secs(120), || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = Connection::builder()
            .max_inbound_requests(1)
            .open(Transport::try_from(ours).unwrap())
            .unwrap();
        let flooding = flood(theirs.try_clone().unwrap());
        let mut reader = theirs;
        let mut read = 0;
        let mut piece = vec![0; 24 * 1024];
        // About ten seconds for the whole, and thrice the patience with one that does not read.
        let text = "no request handler";
        let all = usize::try_from(MANY).unwrap() * (4 + text.len());
        while read < all {
            pause(Duration::from_millis(150));
            let count = reader.read(&mut piece).unwrap();
            assert_ne!(count, 0, "cut off after {read} bytes");
            read += count;
        }
        assert_eq!(flooding.join().unwrap(), MANY);
        let _ = reader.write_all(b"\x03\x01\x02\x00\x03\x00\x02\x00");
        server.close().into_result().unwrap();
    });
}

#[test]
fn peer_that_does_not_read_is_named_and_cut_off() {
    watched(|| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = Connection::builder()
            .max_inbound_requests(1)
            .open(Transport::try_from(ours).unwrap())
            .unwrap();
        let flooding = flood(theirs.try_clone().unwrap());
        let error = server.wait_end_of_stream().unwrap_err();
        let Error::PeerNotReading { answers, .. } = *error.cause() else {
            panic!("{error:?}");
        };
        assert!((32_768..MANY).contains(&answers), "{answers}");
        assert!(error.is_peer());
        let report = server.close();
        assert!(matches!(report.cause(), Some(Error::PeerNotReading { .. })));
        assert!(flooding.join().unwrap() <= MANY);
    });
}

/// All that an end asks is refused, so it makes as many answers as the other requests.
fn mutual(transport: Transport) -> OpenGuard {
    Connection::builder()
        .max_inbound_requests(1)
        .max_outstanding_requests(1_000_000)
        .open(transport)
        .unwrap()
}

#[test]
fn both_ends_that_flood_each_other_do_not_stand_still() {
    watched(|| {
        let ends = <[_; 2]>::from(narrow::narrow_sockets());
        let asking = ends.map(mutual).map(|end| {
            start(move || {
                let pending: Vec<_> = (0..5 * MANY)
                    .map_while(|_| end.submit(Request::new(0)).ok())
                    .collect();
                let told = pending
                    .into_iter()
                    .map(|pending| pending.wait().unwrap_err());
                let cut_off = told.filter(|error| !error.is_rejected()).last();
                (cut_off, end.close())
            })
        });
        let told = asking.map(|end| end.join().unwrap());
        // They stood still until one was cut off, or their pace was the same; nothing else may happen.
        for (cut_off, report) in &told {
            let Some(error) = cut_off else {
                continue;
            };
            let is_expected = matches!(
                error.cause(),
                Error::PeerNotReading { .. } | Error::PeerClosed
            );
            assert!(is_expected, "{error:?}, {report:?}");
        }
    });
}
