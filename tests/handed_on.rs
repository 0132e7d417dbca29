//! A handler that hands on what its backend has said: it ran, and its peer is never told otherwise.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    reason = "helpers of tests fail the test; serving functions have the shape that is asked of them"
)]

mod common;
#[path = "common/pairs.rs"]
mod pairs;

use std::sync::Arc;

use common::watched;
use packetstream::payload::Bytes;
use packetstream::typed::{Caller, Serve, Service, TypedConnection, request};
use packetstream::{
    BoxError, Connection, ConnectionBuilder, Error, Flags, Incoming, OpenGuard, Outcome, Packet,
    PacketKind, Rejection, Request, RequestHandler, Response, Transport,
};
use pairs::{ScriptedPeer, asking, start};

/// Every text that an end sends for a request which it has not run, ours and a Python peer's, with
/// and without what may follow.
const REFUSALS: [&str; 11] = [
    "no request handler",
    "requests no longer allowed",
    "rejecting request: shutting down",
    "rejecting request: busy",
    "rejecting request: 67108865 bytes are more than the limit of 67108864",
    "rejecting request: 18446744073709551615 bytes are more than the limit of 0",
    "unknown channel %d",
    "unknown request type 5",
    "unknown request type ",
    "undecodable request: the value ends early",
    "undecodable request: ",
];

/// What is no refusal, and so reaches the peer as it is.
const OTHERS: [&str; 8] = [
    "",
    "no such key",
    "exception during handler",
    "the answer of 67108865 bytes is longer than the limit of 67108864",
    "handler: no request handler",
    "no request handler ",
    "No request handler",
    "unknown channel 5",
];

/// The way in which a proxy rejects.
#[derive(Clone, Copy, Debug)]
enum Way {
    Handler,
    RequestHandler,
    Inline,
    Reject,
    Fail,
    Typed,
    /// A service that a handler of one's own asks.
    Asked,
}

const WAYS: [Way; 7] = [
    Way::Handler,
    Way::RequestHandler,
    Way::Inline,
    Way::Reject,
    Way::Fail,
    Way::Typed,
    Way::Asked,
];

/// A backend that answers each request not ok, with the payload and flags of the request.
fn backend() -> Connection {
    let (transport, mut peer) = ScriptedPeer::new();
    let guard = Connection::builder().open(transport).unwrap();
    start(move || {
        while let Some(packet) = peer.next() {
            if matches!(packet.kind(), PacketKind::Request(_)) {
                let (channel, tag) = (packet.channel(), packet.tag());
                let (flags, payload) = (packet.flags(), packet.into_payload());
                let answer = Packet::response(channel, tag, false, flags, payload).unwrap();
                peer.send(&[answer]);
            }
        }
    });
    // It lasts as long as the test's process.
    Connection::clone(Box::leak(Box::new(guard)))
}

/// Asks the backend, and returns its rejection.
fn forward(backend: &Connection, request: &Request) -> Result<Rejection, BoxError> {
    let request = Request::new(1)
        .with_flags(request.flags())
        .with_payload(request.payload());
    match backend.call(request) {
        Err(Error::Rejected(rejection)) => Ok(rejection),
        other => Err(format!("{other:?}").into()),
    }
}

struct Proxy(Connection);

impl RequestHandler for Proxy {
    fn handle(&self, incoming: Incoming) -> Result<Response, BoxError> {
        Err(forward(&self.0, &incoming)?.into())
    }
}

request! {
    struct Forward(Bytes) -> ();
}

impl Serve<Connection> for Forward {
    fn serve(self, backend: &Connection, _: &Caller<'_>) -> Result<Response, BoxError> {
        let request = Request::new(1).with_payload(self.0.into_inner());
        Err(forward(backend, &request)?.into())
    }
}

fn service() -> Service<Connection> {
    Service::builder().serve::<Forward>(1).build().unwrap()
}

/// The bytes of a typed request with that text.
fn typed(text: &str) -> Vec<u8> {
    packetstream::payload::encode(&Bytes(text.as_bytes().to_vec()))
}

fn proxy(way: Way, backend: Connection) -> ConnectionBuilder {
    let builder = Connection::builder();
    match way {
        Way::Handler => builder.handler(move |incoming| -> Result<(), BoxError> {
            Err(forward(&backend, &incoming)?.into())
        }),
        Way::RequestHandler => builder.request_handler(Proxy(backend)),
        // A call would block there.
        Way::Inline => builder.inline_handler(true).handler(|incoming| {
            let rejection = Rejection::new(incoming.payload()).with_flags(incoming.flags());
            Err::<(), _>(rejection.into())
        }),
        Way::Reject => builder.deferred_handler(move |incoming, responder| {
            responder.reject(forward(&backend, &incoming).unwrap());
        }),
        Way::Fail => builder.deferred_handler(move |incoming, responder| {
            responder.fail(forward(&backend, &incoming).unwrap());
        }),
        Way::Typed => unreachable!("it is opened otherwise"),
        Way::Asked => {
            let service = service();
            builder.handler(move |incoming| service.handle(&backend, &incoming))
        }
    }
}

/// A client of a proxy; the proxy goes with the second value.
fn open(way: Way) -> (OpenGuard, Box<dyn std::any::Any>) {
    let (ours, theirs) = Transport::pair();
    let client = Connection::builder().open(ours).unwrap();
    let proxy: Box<dyn std::any::Any> = match way {
        Way::Typed => {
            let context = Arc::new(backend());
            let builder = Connection::builder();
            Box::new(TypedConnection::open(builder, &service(), context, theirs).unwrap())
        }
        _ => Box::new(proxy(way, backend()).open(theirs).unwrap()),
    };
    (client, proxy)
}

fn ask(client: &Connection, way: Way, text: &str, flags: Flags) -> (String, Flags, Outcome) {
    let request = match way {
        Way::Typed | Way::Asked => asking(typed(text)),
        _ => asking(text).with_flags(flags),
    };
    let error = client.call(request).unwrap_err();
    let rejection = error.rejection().unwrap_or_else(|| panic!("{error:?}"));
    let message = rejection.message().into_owned();
    (message, rejection.flags(), error.outcome())
}

#[test]
fn refusal_of_a_backend_is_never_told_as_not_run() {
    watched(|| {
        let backend = backend();
        for way in WAYS {
            let (client, _proxy) = open(way);
            for text in REFUSALS {
                let refusal = forward(&backend, &asking(text)).unwrap();
                let is_refusal = Error::Rejected(refusal).outcome() == Outcome::NotRun;
                let told = ask(&client, way, text, Flags::NONE);
                assert_eq!(told.2, Outcome::Unknown, "{way:?}: {text:?}: {told:?}");
                // A text that nobody sends yet is none.
                let front = if is_refusal { "handler: " } else { "" };
                assert_eq!(told.0, format!("{front}{text}"), "{way:?}");
            }
        }
    });
}

#[test]
fn other_texts_and_those_with_flags_are_handed_on_unchanged() {
    watched(|| {
        for way in WAYS {
            let (client, _proxy) = open(way);
            for text in OTHERS {
                let told = ask(&client, way, text, Flags::NONE);
                let expected = (text.to_owned(), Flags::NONE, Outcome::Unknown);
                assert_eq!(told, expected, "{way:?}");
            }
            if matches!(way, Way::Typed | Way::Asked) {
                continue;
            }
            for text in REFUSALS {
                let told = ask(&client, way, text, Flags::from(4));
                let expected = (text.to_owned(), Flags::from(4), Outcome::Unknown);
                assert_eq!(told, expected, "{way:?}");
            }
        }
    });
}

/// Two proxies, and a backend that really refuses.
#[test]
fn refusal_is_marked_once_however_far_it_is_handed_on() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let _refusing = Connection::builder().open(theirs).unwrap();
        let backend = Connection::builder().open(ours).unwrap();
        let (ours, theirs) = Transport::pair();
        let _near = proxy(Way::Handler, Connection::clone(&backend))
            .open(theirs)
            .unwrap();
        let near = Connection::builder().open(ours).unwrap();
        let (ours, theirs) = Transport::pair();
        let _far = proxy(Way::Reject, Connection::clone(&near))
            .open(theirs)
            .unwrap();
        let far = Connection::builder().open(ours).unwrap();

        let refused = backend.call(asking("x")).unwrap_err();
        assert_eq!(refused.outcome(), Outcome::NotRun);
        let told = ask(&far, Way::Handler, "x", Flags::NONE);
        let text = "handler: no request handler".to_owned();
        assert_eq!(told, (text, Flags::NONE, Outcome::Unknown));
    });
}

#[test]
fn service_refuses_by_itself_what_it_has_not_run() {
    watched(|| {
        let (client, _proxy) = open(Way::Typed);
        let unknown = client.call(Request::new(5)).unwrap_err();
        assert_eq!(
            unknown.rejection().unwrap().message(),
            "unknown request type 5"
        );
        assert_eq!(unknown.outcome(), Outcome::NotRun);
        let undecodable = client.call(asking([5])).unwrap_err();
        assert_eq!(undecodable.outcome(), Outcome::NotRun, "{undecodable:?}");

        // Asked by a handler, which has run.
        let (client, _proxy) = open(Way::Asked);
        let unknown = client.call(Request::new(5)).unwrap_err();
        let message = unknown.rejection().unwrap().message();
        assert_eq!(message, "handler: unknown request type 5");
        assert_eq!(unknown.outcome(), Outcome::Unknown);
    });
}

#[test]
fn service_that_is_exercised_rejects_as_the_peer_would_see_it() {
    watched(|| {
        let (service, backend) = (service(), backend());
        let forwarded = |text: &str| {
            let request = Forward(Bytes(text.as_bytes().to_vec()));
            service.exercise(&backend, &request).unwrap_err()
        };
        let error = forwarded("no request handler");
        let message = error.rejection().unwrap().message();
        assert_eq!(message, "handler: no request handler");
        assert_eq!(error.outcome(), Outcome::Unknown);

        // What it refuses itself is a rejection for whoever asks it.
        let refused = service.handle(&backend, &Request::new(5)).unwrap_err();
        let refused = refused.downcast::<Rejection>().unwrap();
        assert_eq!(refused.message(), "unknown request type 5");
    });
}
