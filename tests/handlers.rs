//! What handlers may answer, when and where they run, and that they may call back.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    clippy::needless_pass_by_value,
    reason = "helpers of tests fail the test; handlers have the shape that is asked of them"
)]

mod common;
#[path = "common/pairs.rs"]
mod pairs;

use std::thread;
use std::time::Duration;

use common::watched;
use packetstream::{
    BoxError, ChannelId, Connection, Flags, Incoming, Outcome, Packet, Rejection, Request,
    Responder, Response, Tag, Transport,
};
use pairs::{
    Gate, ScriptedPeer, asking, client_and_server, echo, request_packet, start, take, threads_named,
};

/// What a client is answered by a server with this handler.
fn answered<R: Into<Response> + 'static>(
    handler: impl Fn(Incoming) -> Result<R, BoxError> + Send + Sync + 'static,
) -> packetstream::Result<Response> {
    let (client, _server) = client_and_server(handler);
    client.call(asking("question"))
}

/// What the peer is shown of a request that failed.
fn refusal(answer: packetstream::Result<Response>) -> Rejection {
    answer
        .unwrap_err()
        .rejection()
        .expect("a not-ok answer")
        .clone()
}

#[test]
fn nothing_flags_octets_text_and_both_are_answers() {
    watched(|| {
        let five = Flags::from(5);
        assert_eq!(
            answered(|_| Ok(())).unwrap(),
            Response::new(Flags::NONE, "")
        );
        assert_eq!(
            answered(move |_| Ok(five)).unwrap(),
            Response::new(five, "")
        );
        assert_eq!(answered(|_| Ok(vec![0, 255])).unwrap().payload(), [0, 255]);
        assert_eq!(
            answered(|_| Ok("größer")).unwrap().payload(),
            "größer".as_bytes()
        );
        assert_eq!(
            answered(|_| Ok("owned".to_owned())).unwrap().payload(),
            b"owned"
        );
        let both = answered(move |_| Ok((five, vec![1]))).unwrap();
        assert_eq!(both, Response::new(five, [1]));
        let whole = answered(|_| Ok(Response::new(Flags::MAX_RESPONSE, "all"))).unwrap();
        assert_eq!(whole, Response::new(Flags::MAX_RESPONSE, "all"));
    });
}

#[test]
fn a_handler_sees_what_was_asked() {
    watched(|| {
        let (client, _server) = client_and_server(|incoming: Incoming| {
            Ok(format!(
                "{} {} {} {} {}",
                incoming.request_type(),
                incoming.flags().bits(),
                incoming.channel(),
                incoming.tag(),
                String::from_utf8_lossy(incoming.payload()),
            ))
        });
        let request = Request::new(9).with_flags(3).with_payload("what");
        assert_eq!(client.call(request).unwrap().payload(), b"9 3 0 2 what");
        let request = Request::new(0).with_channel(7);
        assert_eq!(client.call(request).unwrap().payload(), b"0 0 7 0 ");
    });
}

#[test]
fn a_rejection_chooses_text_and_flags() {
    watched(|| {
        let answer = answered(|_| -> Result<(), BoxError> {
            Err(Rejection::new("no such key")
                .with_flags(Flags::from(4))
                .into())
        });
        let refused = refusal(answer);
        assert_eq!(refused.message(), "no such key");
        assert_eq!(refused.flags(), Flags::from(4));
    });
}

#[test]
fn errors_and_panics_are_answered_without_showing_their_cause() {
    watched(|| {
        let (client, _server) = client_and_server(|incoming: Incoming| {
            match incoming.request_type().get() {
                1 => Err("a secret".into()),
                2 => panic!("expected by the test"),
                // More than a response can carry.
                3 => Ok(Response::new(Flags::MAX, "")),
                _ => Ok(Response::from(incoming.into_payload())),
            }
        });
        for request_type in 1..=3_u32 {
            // More often than there are handler threads: none of them may be lost.
            for _ in 0..6 {
                let refused = refusal(client.call(Request::new(request_type)));
                assert_eq!(
                    refused.payload(),
                    b"exception during handler",
                    "{request_type}"
                );
                assert!(refused.flags().is_empty());
            }
        }
        assert_eq!(
            client
                .call(Request::new(4).with_payload("x"))
                .unwrap()
                .payload(),
            b"x"
        );
        assert!(client.close().into_result().is_ok());
    });
}

#[test]
fn an_answer_above_the_limit_fails_that_request_only() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let _server = Connection::builder()
            .max_packet_len(1000)
            .handler(|incoming: Incoming| Ok(vec![0; usize::from(incoming.payload()[0]) * 10]))
            .open(theirs)
            .unwrap();
        let client = Connection::builder().open(ours).unwrap();
        assert_eq!(
            refusal(client.call(asking([100]))).payload(),
            b"the answer of 1002 bytes is longer than the limit of 1000"
        );
        assert_eq!(client.call(asking([90])).unwrap().payload().len(), 900);
    });
}

#[test]
fn without_a_handler_requests_are_refused_as_not_run() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let _server = Connection::builder().open(theirs).unwrap();
        let client = Connection::builder().open(ours).unwrap();
        let error = client.call(asking("x")).unwrap_err();
        assert_eq!(error.rejection().unwrap().payload(), b"no request handler");
        assert_eq!(error.outcome(), Outcome::NotRun);
    });
}

#[test]
fn an_answer_may_be_given_later_and_from_another_thread() {
    watched(|| {
        let (deferred, responders) = crossbeam_channel::unbounded::<(Incoming, Responder)>();
        let (ours, theirs) = Transport::pair();
        let _server = Connection::builder()
            .deferred_handler(move |incoming, responder| {
                deferred.send((incoming, responder)).unwrap();
            })
            .open(theirs)
            .unwrap();
        let client = Connection::builder().open(ours).unwrap();
        // More than there are handler threads: a request that is put off holds none of them.
        let pending: Vec<_> = (0..9_u8)
            .map(|n| client.submit(asking([n])).unwrap())
            .collect();
        let mut put_off: Vec<_> = (0..9).map(|_| take(&responders)).collect();
        put_off.sort_by_key(|(incoming, _)| incoming.payload().to_vec());
        let answering = start(move || {
            for (number, (incoming, responder)) in put_off.into_iter().enumerate().rev() {
                match number % 4 {
                    0 => responder.respond(incoming.into_payload()),
                    1 => responder.reject(Rejection::new("not today")),
                    2 => responder.fail("a secret"),
                    _ => drop(responder),
                }
            }
        });
        for (number, pending) in pending.into_iter().enumerate() {
            let answer = pending.wait();
            match number % 4 {
                0 => assert_eq!(usize::from(answer.unwrap().payload()[0]), number),
                1 => assert_eq!(refusal(answer).message(), "not today"),
                2 => assert_eq!(refusal(answer).message(), "exception during handler"),
                _ => assert!(answer.unwrap_err().is_rejected()),
            }
        }
        answering.join().unwrap();
        assert!(client.close().into_result().is_ok());
    });
}

#[test]
fn a_deferred_handler_that_panics_is_answered_for() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let _server = Connection::builder()
            .deferred_handler(|_, _responder| panic!("expected by the test"))
            .open(theirs)
            .unwrap();
        let client = Connection::builder().open(ours).unwrap();
        for _ in 0..6 {
            assert!(client.call(asking("x")).unwrap_err().is_rejected());
        }
    });
}

#[test]
fn four_handlers_run_at_once_by_default() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (client, _server) = client_and_server(handler);
        let pending: Vec<_> = (0..6_u8)
            .map(|n| client.submit(asking([n])).unwrap())
            .collect();
        for _ in 0..4 {
            gate.arrived();
        }
        gate.assert_nobody_arrives();
        gate.release_one();
        gate.arrived();
        gate.assert_nobody_arrives();
        for _ in 0..5 {
            gate.release_one();
        }
        for pending in pending {
            pending.wait().unwrap();
        }
    });
}

#[test]
fn handler_threads_carry_the_connections_name_and_start_only_for_work() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let server = Connection::builder()
            .name("hq7")
            .handler(|_: Incoming| Ok(thread::current().name().unwrap_or_default().to_owned()))
            .open(theirs)
            .unwrap();
        let client = Connection::builder().name("cz4").open(ours).unwrap();
        server.call(asking("is anybody there")).unwrap_err();
        let idle = threads_named("hq7");
        assert_eq!(
            idle,
            2,
            "a sender and a receiver: {:?}",
            common::thread_names()
        );
        assert_eq!(threads_named("cz4"), 2);
        let answer = client.call(asking("who are you")).unwrap();
        let name = String::from_utf8_lossy(answer.payload());
        assert!(name.contains("hq7"), "{name}");
        assert_eq!(
            threads_named("hq7"),
            idle + 1,
            "{:?}",
            common::thread_names()
        );
        assert_eq!(threads_named("cz4"), 2, "no handler, no handler thread");
    });
}

#[test]
fn tags_count_for_each_channel_of_its_own() {
    watched(|| {
        let (client, _server) = client_and_server(|incoming: Incoming| {
            Ok(incoming.channel().get().to_be_bytes().to_vec())
        });
        for (channel, first) in [(0, 2), (1, 0), (u64::MAX, 0)] {
            for n in 0..3 {
                let request = asking("x").with_channel(ChannelId::new(channel));
                let pending = client.submit(request).unwrap();
                assert_eq!(pending.tag(), Tag::new(first + n));
                assert_eq!(pending.channel(), ChannelId::new(channel));
                assert_eq!(pending.wait().unwrap().payload(), channel.to_be_bytes());
            }
        }
    });
}

#[test]
fn a_tag_is_free_again_when_its_answer_has_come() {
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let guard = Connection::builder().handler(echo).open(transport).unwrap();
        for _ in 0..1000 {
            peer.send(&[request_packet(5, "again")]);
            assert_eq!(peer.response(5).payload(), b"again");
        }
        peer.goodbye();
        assert_eq!(
            peer.rest(),
            [Packet::END_OF_REQUESTS, Packet::END_OF_STREAM]
        );
        assert!(guard.close().into_result().is_ok());
    });
}

#[test]
fn a_handler_can_see_that_its_answer_has_nowhere_to_go() {
    watched(|| {
        let (told, tells) = crossbeam_channel::bounded(2);
        let (_keep, never) = crossbeam_channel::bounded::<()>(0);
        let (client, server) = client_and_server(move |incoming: Incoming| {
            told.send(incoming.peer_gone())?;
            while !incoming.peer_gone() {
                let _ = never.recv_timeout(Duration::from_millis(10));
            }
            told.send(true)?;
            Ok(())
        });
        let pending = client.submit(asking("x")).unwrap();
        assert!(pending.wait_timeout(Duration::ZERO).is_err());
        assert!(!take(&tells));
        let _ = server.abort();
        assert!(take(&tells));
    });
}
