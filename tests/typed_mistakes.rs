//! What goes wrong with typed requests, at the server and at the caller.
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

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use common::watched;
use packetstream::payload::{self, Bytes, PayloadError, Text, VarUint};
use packetstream::typed::{
    CallOptions, Caller, Serve, Service, TypedConnection, TypedRequest, UnexpectedFlags, request,
};
use packetstream::{
    BoxError, Connection, Error, Flags, OpenGuard, Outcome, Rejection, Request, RequestType,
    Response, Transport,
};

/// How many requests were run.
type Runs = AtomicU64;

request! {
    #[derive(Debug)]
    struct Put { key: Text, value: Bytes } -> ();
    #[derive(Debug)]
    struct Count -> VarUint;
    /// Fails in the way that the number says.
    #[derive(Debug)]
    struct Fail(u8) -> ();
    /// Has the other end call back with a type that it has no number for.
    #[derive(Debug)]
    struct Mislead;
    #[derive(Debug)]
    struct Unregistered;

    struct Plain;
    struct Nothing -> ();
    struct Bits -> Flags;
    struct BitsAndNumber -> (Flags, VarUint);
    struct Words -> Vec<VarUint>;
    struct Wide -> Vec<u32>;
    struct Line -> String;
    struct Data -> Bytes;
}

/// The error of a program that uses the library.
#[derive(Debug, thiserror::Error)]
#[error("a secret")]
struct Secret;

impl Serve<Runs> for Put {
    fn serve(self, runs: &Runs, _: &Caller<'_>) -> Result<Response, BoxError> {
        runs.fetch_add(1, Ordering::Relaxed);
        Ok(().into())
    }
}

impl Serve<Runs> for Count {
    fn serve(self, runs: &Runs, _: &Caller<'_>) -> Result<Response, BoxError> {
        Ok(payload::encode(&VarUint(runs.load(Ordering::Relaxed))).into())
    }
}

impl Serve<Runs> for Fail {
    fn serve(self, _: &Runs, _: &Caller<'_>) -> Result<Response, BoxError> {
        match self.0 {
            0 => Err(Secret.into()),
            1 => Err(Rejection::new("not today")
                .with_flags(Flags::from(6))
                .into()),
            2 => panic!("expected by the test"),
            3 => Ok("what a caller of it cannot read".into()),
            _ => Ok(().into()),
        }
    }
}

impl Serve<Runs> for Mislead {
    fn serve(self, _: &Runs, caller: &Caller<'_>) -> Result<Response, BoxError> {
        let errors = [
            caller.call(&Unregistered).unwrap_err(),
            caller.submit(&Unregistered).unwrap_err(),
            caller
                .call_with(&Unregistered, &CallOptions::new())
                .unwrap_err(),
        ];
        assert!(
            errors
                .iter()
                .all(|error| error.outcome() == Outcome::NotSent)
        );
        Ok(errors[0].to_string().into())
    }
}

/// Panics wherever it is read.
#[derive(Debug)]
struct Bomb {
    request: bool,
}

impl TypedRequest for Bomb {
    type Response = ();

    fn encode_payload(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.request));
    }

    fn decode(_: Flags, payload: &[u8]) -> Result<Self, BoxError> {
        assert_ne!(payload, [1], "expected by the test");
        Ok(Self { request: false })
    }

    fn decode_response(_: Flags, _: Vec<u8>) -> Result<(), BoxError> {
        panic!("expected by the test");
    }
}

impl Serve<Runs> for Bomb {
    fn serve(self, _: &Runs, _: &Caller<'_>) -> Result<Response, BoxError> {
        Ok(().into())
    }
}

fn service() -> Service<Runs> {
    Service::builder()
        .serve_and_call::<Put>(0)
        .serve_and_call::<Count>(1)
        .serve_and_call::<Fail>(2)
        .serve_and_call::<Mislead>(3)
        .serve_and_call::<Bomb>(4)
        .build()
        .unwrap()
}

fn open<C: Send + Sync + Default + 'static>(
    service: &Service<C>,
    transport: Transport,
) -> TypedConnection<C> {
    TypedConnection::open(Connection::builder(), service, C::default(), transport).unwrap()
}

fn typed_ends() -> [TypedConnection<Runs>; 2] {
    let (ours, theirs) = Transport::pair();
    [ours, theirs].map(|transport| open(&service(), transport))
}

fn plain_client() -> (OpenGuard, TypedConnection<Runs>) {
    let (ours, theirs) = Transport::pair();
    let client = Connection::builder().open(ours).unwrap();
    (client, open(&service(), theirs))
}

fn refusal<T: Debug>(answer: packetstream::Result<T>) -> (String, Outcome) {
    let error = answer.unwrap_err();
    let rejection = error.rejection().unwrap_or_else(|| panic!("{error:?}"));
    (rejection.message().into_owned(), error.outcome())
}

#[test]
fn an_unknown_number_is_refused_unrun_at_either_end() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let strange = Service::<Runs>::builder()
            .serve::<Put>(9)
            .call::<Count>(8)
            .build()
            .unwrap();
        let (here, there) = (open(&strange, ours), open(&service(), theirs));
        let expected = |n| (format!("unknown request type {n}"), Outcome::NotRun);
        for _ in 0..10 {
            assert_eq!(refusal(here.call(&Count)), expected(8));
            assert_eq!(refusal(there.call(&Count)), expected(1));
        }
        assert_eq!(there.context().load(Ordering::Relaxed), 0);

        let (plain, _typed) = plain_client();
        let answer = plain.call(Request::new(RequestType::MAX));
        assert_eq!(refusal(answer), expected(RequestType::MAX.get()));
    });
}

#[test]
fn a_service_that_serves_nothing_leaves_the_builders_handler() {
    watched(|| {
        let callers_only = Service::<()>::builder().call::<Count>(1).build().unwrap();
        let ask = |builder| {
            let (ours, theirs) = Transport::pair();
            let _there = TypedConnection::open(builder, &callers_only, (), theirs).unwrap();
            Connection::builder()
                .open(ours)
                .unwrap()
                .call(Request::new(1))
        };
        let (text, outcome) = refusal(ask(Connection::builder()));
        assert_eq!(
            (text.as_str(), outcome),
            ("no request handler", Outcome::NotRun)
        );
        let answer = ask(Connection::builder().handler(|_| Ok("its own")));
        assert_eq!(answer.unwrap().payload(), b"its own");
    });
}

#[test]
fn a_service_takes_the_place_of_the_builders_handler() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let builder = Connection::builder().handler(|_| Ok("the builder's"));
        let _there = TypedConnection::open(builder, &service(), Runs::new(7), theirs).unwrap();
        assert_eq!(open(&service(), ours).call(&Count).unwrap(), VarUint(7));
    });
}

#[test]
fn a_type_without_a_number_is_never_sent() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        // One that is only served is not called either.
        let serves = Service::<Runs>::builder()
            .serve::<Count>(1)
            .build()
            .unwrap();
        let (here, there) = (open(&serves, ours), open(&service(), theirs));
        let options = CallOptions::new().with_channel(3);
        let errors = [
            here.call(&Count).unwrap_err(),
            here.call_with(&Count, &options).unwrap_err(),
            here.submit(&Count).unwrap_err(),
            here.submit_with(&Count, &options).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.outcome(), Outcome::NotSent);
            assert!(error.is_caller() && !error.is_closed());
            let Error::UnknownRequestType(name) = error else {
                panic!("{error:?}");
            };
            assert!(name.ends_with("Count"), "{name}");
        }
        assert_eq!(here.connection().stats().requests_sent, 0);
        assert_eq!(there.call(&Count).unwrap(), VarUint(0));

        let [here, _there] = typed_ends();
        let told = here.call(&Mislead).unwrap();
        let told = String::from_utf8(told.into_payload()).unwrap();
        assert!(told.contains("Unregistered"), "{told}");
    });
}

#[test]
fn a_request_that_does_not_decode_is_refused_unrun() {
    watched(|| {
        let (client, server) = plain_client();
        let good = b"\x01k\x02vv";
        let with = |payload: &[u8]| Request::new(0).with_payload(payload);
        let mut bad: Vec<_> = (0..good.len()).map(|len| with(&good[..len])).collect();
        bad.push(with(b"\x01k\x02vv!"));
        bad.push(with(b"\x01\xff\x02vv"));
        bad.push(with(b"\xff\xff\xff\xff\xff\xff\xff\xff\x7fk"));
        bad.push(with(good).with_flags(1));
        bad.push(with(good).with_flags(Flags::MAX));
        bad.push(Request::new(1).with_payload("Count has no octets"));
        for request in bad {
            let (text, outcome) = refusal(client.call(request.clone()));
            let why = text.strip_prefix("undecodable request: ");
            assert!(
                why.is_some_and(|why| !why.is_empty()),
                "{request:?}: {text}"
            );
            assert_eq!(outcome, Outcome::NotRun, "{request:?}");
        }
        assert_eq!(server.context().load(Ordering::Relaxed), 0);
        assert_eq!(client.call(with(good)).unwrap(), Response::from(()));
        assert_eq!(server.context().load(Ordering::Relaxed), 1);
    });
}

/// What a peer's answer becomes.
fn answered<R: TypedRequest>(
    request: &R,
    response: impl Into<Response>,
) -> packetstream::Result<R::Response> {
    let (ours, theirs) = Transport::pair();
    let response = response.into();
    let _server = Connection::builder()
        .handler(move |_| Ok(response.clone()))
        .open(theirs)
        .unwrap();
    let service = Service::<()>::builder().call::<R>(0).build().unwrap();
    open(&service, ours).call(request)
}

/// Why an answer was not understood.
fn undecoded<T: Debug>(answer: packetstream::Result<T>) -> PayloadError {
    let error = answer.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
    assert!(!error.is_rejected() && !error.is_closed(), "{error:?}");
    let Error::Payload(source) = error else {
        panic!("{error:?}");
    };
    *source
        .downcast_ref()
        .unwrap_or_else(|| panic!("{source:?}"))
}

#[test]
fn an_answer_that_does_not_decode_is_an_error_of_its_own() {
    watched(|| {
        type E = PayloadError;
        let trailing = |answer| matches!(answer, E::Trailing { .. });
        let short = |answer| matches!(answer, E::Short { .. });
        assert!(trailing(undecoded(answered(&Count, [5, 6]))));
        assert!(short(undecoded(answered(&Count, ""))));
        assert!(short(undecoded(answered(&Count, [0x80]))));
        assert!(trailing(undecoded(answered(&Nothing, [0]))));
        assert!(trailing(undecoded(answered(&Bits, [0]))));
        assert!(trailing(undecoded(answered(
            &BitsAndNumber,
            (Flags::from(3), vec![1, 2])
        ))));
        assert!(short(undecoded(answered(&BitsAndNumber, Flags::from(3)))));
        assert!(short(undecoded(answered(&Words, [1, 2, 0x83]))));
        assert!(short(undecoded(answered(&Wide, [0, 0, 0, 1, 0]))));
        let text = undecoded(answered(&Line, [b'a', 0xff]));
        assert!(matches!(text, E::Text { offset: 1 }), "{text:?}");
        let length = undecoded(answered(&Data, [0xff, 0xff, 0xff, 0x7f, 1]));
        assert!(
            matches!(
                length,
                E::Length {
                    offset: 0,
                    left: 1,
                    ..
                }
            ),
            "{length:?}"
        );
        let integer = undecoded(answered(&Count, [0xff; 11]));
        assert!(matches!(integer, E::IntegerTooLarge { .. }), "{integer:?}");
    });
}

#[test]
fn flags_of_an_answer_are_unexpected_unless_the_type_has_them() {
    fn flags<T: Debug>(answer: packetstream::Result<T>) -> u64 {
        let Error::Payload(source) = answer.unwrap_err() else {
            panic!("not an undecodable answer");
        };
        source
            .downcast_ref::<UnexpectedFlags>()
            .unwrap()
            .flags()
            .bits()
    }
    watched(|| {
        assert_eq!(flags(answered(&Count, (Flags::from(4), vec![1]))), 4);
        assert_eq!(flags(answered(&Nothing, Flags::from(1))), 1);
        assert_eq!(
            flags(answered(&Line, Flags::MAX_RESPONSE)),
            Flags::MAX_RESPONSE.bits()
        );
        assert_eq!(flags(answered(&Data, (Flags::from(2), vec![0]))), 2);

        let two = Flags::from(2);
        assert_eq!(answered(&Bits, two).unwrap(), two);
        assert_eq!(
            answered(&BitsAndNumber, (two, vec![1])).unwrap(),
            (two, VarUint(1))
        );
        let anything = Response::new(Flags::MAX_RESPONSE, [0xff; 20]);
        assert_eq!(answered(&Plain, anything.clone()).unwrap(), anything);
        assert_eq!(
            answered(&Words, [1, 0x83, 0x74]).unwrap(),
            [1, 500].map(VarUint)
        );
        assert_eq!(answered(&Wide, [0, 0, 1, 0]).unwrap(), [256]);
        answered(&Nothing, ()).unwrap();
    });
}

#[test]
fn a_failing_serving_function_is_answered_and_harms_nobody() {
    watched(|| {
        let [here, _there] = typed_ends();
        let hidden = || ("exception during handler".to_owned(), Outcome::Unknown);
        // More often than there are handler threads: none of them may be lost.
        for _ in 0..6 {
            assert_eq!(refusal(here.call(&Fail(0))), hidden());
            assert_eq!(refusal(here.call(&Fail(2))), hidden());
            let error = here.call(&Fail(1)).unwrap_err();
            let rejection = error.rejection().unwrap();
            assert_eq!(rejection.message(), "not today");
            assert_eq!(rejection.flags(), Flags::from(6));
            assert_eq!(error.outcome(), Outcome::Unknown);
            let _trailing = undecoded(here.call(&Fail(3)));
            here.call(&Fail(9)).unwrap();
        }
        here.close().into_result().unwrap();
    });
}

#[test]
fn a_panic_in_a_decode_function_harms_nobody_else() {
    watched(|| {
        let [here, _there] = typed_ends();
        for _ in 0..6 {
            let error = here.call(&Bomb { request: true }).unwrap_err();
            assert!(error.is_rejected(), "{error:?}");
            assert!(!error.to_string().contains("expected by"), "{error}");

            // Answers are decoded on the thread that waits: it may see the panic, nobody else.
            let pending = here.submit(&Bomb { request: false }).unwrap();
            let caught = catch_unwind(AssertUnwindSafe(|| pending.wait()));
            assert!(!matches!(caught, Ok(Ok(()))));
            assert_eq!(here.call(&Count).unwrap(), VarUint(0));
        }
        let report = here.close();
        assert!(report.is_last(), "{report:?}");
        report.into_result().unwrap();
    });
}
