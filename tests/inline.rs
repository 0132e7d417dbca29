//! A handler on the receiver's own thread serves like any other, and nothing there can block.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    reason = "helpers of tests fail the test; handlers have the shape that is asked of them"
)]

mod common;
#[path = "common/pairs.rs"]
mod pairs;

use std::time::Duration;

use common::watched;
use packetstream::{
    BoxError, Connection, ConnectionBuilder, Error, Incoming, OpenGuard, Outcome, Packet,
    PacketKind, PendingResponse, PendingSet, Rejection, Request, Transport,
};
use pairs::{ScriptedPeer, asking, echo, request_packet, unix_sockets};

fn inline() -> ConnectionBuilder {
    Connection::builder().inline_handler(true)
}

fn pair(server: ConnectionBuilder) -> (OpenGuard, OpenGuard) {
    let (ours, theirs) = unix_sockets();
    let server = server.open(theirs).unwrap();
    (Connection::builder().open(ours).unwrap(), server)
}

#[test]
fn requests_are_served_in_order_on_the_receiver() {
    watched(|| {
        let (client, _server) = pair(inline().name("inl").handler(|incoming| {
            let thread = std::thread::current();
            assert_eq!(thread.name(), Some("inl:receiver"));
            Ok(incoming.into_payload())
        }));
        let pending: Vec<_> = (0..5000)
            .map(|n| client.submit(asking(n.to_string())).unwrap())
            .collect();
        for (n, pending) in pending.into_iter().enumerate() {
            assert_eq!(pending.wait().unwrap().payload(), n.to_string().as_bytes());
        }
    });
}

#[test]
fn errors_and_panics_are_answered() {
    watched(|| {
        let (client, _server) = pair(inline().handler(|incoming| -> Result<(), BoxError> {
            match incoming.request_type().get() {
                0 => Err(Rejection::new("no").into()),
                1 => Err("secret".into()),
                _ => panic!("handler"),
            }
        }));
        for (kind, text) in [
            (0, "no"),
            (1, "exception during handler"),
            (2, "exception during handler"),
        ] {
            let error = client.call(Request::new(kind)).unwrap_err();
            assert_eq!(error.rejection().unwrap().message(), text);
        }
    });
}

/// Every way to wait, tried inside of the handler, on its own connection and on another one.
#[test]
fn waiting_in_it_is_an_error() {
    watched(|| {
        let (elsewhere, _other_server) = pair(Connection::builder().handler(echo));
        let on_demand = Connection::builder().build_on_demand(|| Ok(Transport::pair().0));
        let try_all = move |incoming: Incoming| -> Result<String, BoxError> {
            let mut seen = Vec::new();
            for connection in [incoming.connection(), &elsewhere] {
                seen.push(connection.call(asking("x")).unwrap_err());
                seen.push(connection.submit(asking("x"))?.wait().unwrap_err());
                let timed = connection.submit(asking("x"))?;
                seen.push(
                    timed
                        .wait_timeout(Duration::from_secs(60))
                        .unwrap()
                        .unwrap_err(),
                );
                let mut set = PendingSet::new();
                set.insert(connection.submit(asking("x"))?);
                seen.push(set.next().unwrap().1.unwrap_err());
                seen.push(connection.wait_end_of_stream().unwrap_err());
            }
            seen.push(on_demand.call(asking("x")).unwrap_err());
            assert!(
                seen.iter()
                    .all(|error| matches!(error, Error::WouldDeadlock(_))),
                "{seen:?}"
            );
            assert!(incoming.connection().wait_closed().in_progress());
            Ok(seen.len().to_string())
        };
        let (client, _server) = pair(inline().handler(try_all));
        assert_eq!(client.call(asking("")).unwrap().payload(), b"11");
    });
}

/// Whoever hears that its request was not sent may make it again.
#[test]
fn request_that_cannot_be_waited_for_is_given_up_and_its_outcome_is_true() {
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let (told, outcomes) = crossbeam_channel::unbounded();
        let guard = inline()
            .handler(move |incoming| {
                let mut request = asking(incoming.payload());
                for number in 0..50_u8 {
                    request = request.with_payload([incoming.payload(), &[number]].concat());
                    let pending = incoming.connection().submit(request.clone())?;
                    let error = match number % 3 {
                        0 => pending.wait().unwrap_err(),
                        1 => {
                            let waited = pending.wait_timeout(Duration::from_secs(60));
                            waited.unwrap().unwrap_err()
                        }
                        _ => PendingSet::from_iter([pending])
                            .next()
                            .unwrap()
                            .1
                            .unwrap_err(),
                    };
                    told.send((request.payload().to_vec(), error)).unwrap();
                }
                Ok(())
            })
            .open(transport)
            .unwrap();
        for round in 0..20 {
            peer.send(&[request_packet(round + 2, [u8::try_from(round).unwrap()])]);
        }
        peer.goodbye();
        let sent: Vec<_> = peer
            .rest()
            .into_iter()
            .filter(|packet| matches!(packet.kind(), PacketKind::Request(_)))
            .map(Packet::into_payload)
            .collect();
        guard.close().into_result().unwrap();
        let outcomes: Vec<_> = outcomes.try_iter().collect();
        assert_eq!(outcomes.len(), 1000);
        for (payload, error) in outcomes {
            let Error::WouldDeadlock(outcome) = error else {
                panic!("{error:?}")
            };
            let was_sent = sent.contains(&payload);
            assert!(!was_sent || outcome == Outcome::Unknown, "{payload:?}");
            assert_eq!(error.outcome(), outcome);
        }
    });
}

#[test]
fn request_that_was_sent_and_cannot_be_waited_for_may_have_been_run() {
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let (hand, handed) = crossbeam_channel::unbounded::<PendingResponse>();
        let (told, errors) = crossbeam_channel::unbounded();
        let guard = inline()
            .handler(move |_| Ok(told.send(handed.recv()?.wait().unwrap_err())?))
            .open(transport)
            .unwrap();
        let pending = guard.submit(asking("sent")).unwrap();
        let pending = pending.wait_timeout(Duration::ZERO).unwrap_err();
        assert_eq!(peer.request().payload(), b"sent");
        hand.send(pending).unwrap();
        peer.send(&[request_packet(2, "wait for it")]);
        assert!(peer.response(2).is_response());
        let error = pairs::take(&errors);
        assert!(
            matches!(error, Error::WouldDeadlock(Outcome::Unknown)),
            "{error:?}"
        );
        peer.goodbye();
        guard.close().into_result().unwrap();
    });
}

#[test]
fn a_submit_at_the_limit_is_an_error_and_with_room_is_answered() {
    watched(|| {
        let (told, answers) = crossbeam_channel::unbounded();
        let server = inline()
            .max_outstanding_requests(1)
            .handler(move |incoming| {
                let told = told.clone();
                let submit = |payload| incoming.connection().submit(asking(payload));
                // One more than the limit, for the request that is served.
                let (first, second) = (submit("back")?, submit("again")?);
                let third = submit("too many");
                first.on_complete(move |answer| told.send(answer).unwrap());
                drop(second);
                Ok(format!("{:?}", third.unwrap_err()))
            });
        let (ours, theirs) = unix_sockets();
        let _server = server.open(theirs).unwrap();
        let client = Connection::builder().handler(echo).open(ours).unwrap();
        assert_eq!(
            client.call(asking("")).unwrap().payload(),
            b"WouldDeadlock(NotSent)"
        );
        assert_eq!(answers.recv().unwrap().unwrap().payload(), b"back");
    });
}

#[test]
fn a_deferred_answer_may_be_given_elsewhere() {
    watched(|| {
        let (queue, queued) = crossbeam_channel::unbounded();
        let server = inline().deferred_handler(move |incoming, responder| {
            queue.send((incoming.into_payload(), responder)).unwrap();
        });
        let (client, _server) = pair(server);
        let first = client.submit(asking("first")).unwrap();
        let second = client.submit(asking("second")).unwrap();
        let second_wait = pairs::start(move || second.wait());
        let (payload, responder) = queued.recv().unwrap();
        let (other, other_responder) = queued.recv().unwrap();
        other_responder.respond(other);
        assert_eq!(second_wait.join().unwrap().unwrap().payload(), b"second");
        responder.respond(payload);
        assert_eq!(first.wait().unwrap().payload(), b"first");
    });
}

/// The answers of a handler that nothing holds up are bounded by reading less.
#[test]
fn a_peer_that_does_not_read_pauses_it_and_loses_nothing() {
    watched(|| {
        let (client, server) = pair(
            inline()
                .max_inbound_requests(16)
                .handler(|incoming| Ok(vec![incoming.payload()[0]; 100_000])),
        );
        let mut set = PendingSet::new();
        for n in 0..200_u8 {
            set.insert(client.submit(asking([n])).unwrap());
        }
        for (n, answer) in set {
            assert!(
                answer
                    .unwrap()
                    .payload()
                    .iter()
                    .all(|octet| usize::from(*octet) == n)
            );
        }
        server.close().into_result().unwrap();
    });
}

#[test]
fn what_was_accepted_is_answered_at_the_end_of_input() {
    watched(|| {
        let (client, server) = pair(inline().handler(echo));
        let pending: Vec<_> = (0..1000)
            .map(|_| client.submit(asking("x")).unwrap())
            .collect();
        client.end_stream().unwrap();
        server.serve().into_result().unwrap();
        for pending in pending {
            match pending.wait() {
                Ok(answer) => assert_eq!(answer.payload(), b"x"),
                Err(error) => assert_ne!(error.outcome(), Outcome::NotSent, "{error:?}"),
            }
        }
    });
}
