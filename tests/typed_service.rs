//! A service by itself: mistakes in its registration, and exercising it without a connection.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    reason = "helpers of tests fail the test; serving functions have the shape that is asked of them"
)]

mod common;

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};

use common::watched;
use packetstream::payload::{self, Bytes, PayloadError, Text, VarUint};
use packetstream::typed::{Caller, Serve, Service, ServiceBuilder, ServiceError, request};
use packetstream::{BoxError, Error, Flags, Rejection, Request, RequestType, Response};

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
    #[derive(Debug)]
    struct Unregistered;
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
    fn serve(self, runs: &Runs, caller: &Caller<'_>) -> Result<Response, BoxError> {
        let runs = caller.lend(|| runs.load(Ordering::Relaxed));
        Ok(payload::encode(&VarUint(runs)).into())
    }
}

impl Serve<Runs> for Fail {
    fn serve(self, _: &Runs, caller: &Caller<'_>) -> Result<Response, BoxError> {
        match self.0 {
            0 => Err(Secret.into()),
            1 => Err(Rejection::new("not today")
                .with_flags(Flags::from(6))
                .into()),
            2 => Ok("what a caller of it cannot read".into()),
            3 => Ok(caller.submit(&Count)?.wait()?.0.to_string().into()),
            _ => Ok(caller.call(&Count)?.0.to_string().into()),
        }
    }
}

fn service() -> Service<Runs> {
    Service::builder()
        .serve_and_call::<Put>(0)
        .serve_and_call::<Count>(1)
        .serve_and_call::<Fail>(2)
        .build()
        .unwrap()
}

#[test]
fn a_service_is_exercised_without_a_connection() {
    watched(|| {
        let (service, runs) = (service(), Runs::new(0));
        let put = Put {
            key: "k".into(),
            value: Bytes(vec![1]),
        };
        service.exercise(&runs, &put).unwrap();
        assert_eq!(service.exercise(&runs, &Count).unwrap(), VarUint(1));

        let error = service.exercise(&runs, &Unregistered).unwrap_err();
        assert!(matches!(error, Error::UnknownRequestType(_)), "{error:?}");
        let calls = Service::<Runs>::builder().call::<Count>(1).build().unwrap();
        let error = calls.exercise(&runs, &Count).unwrap_err();
        assert!(matches!(error, Error::UnknownRequestType(_)), "{error:?}");

        let error = service.exercise(&runs, &Fail(0)).unwrap_err();
        let rejection = error.rejection().unwrap();
        assert_eq!(rejection.message(), "exception during handler");
        let error = service.exercise(&runs, &Fail(1)).unwrap_err();
        let rejection = error.rejection().unwrap();
        assert_eq!(
            (&*rejection.message(), rejection.flags().bits()),
            ("not today", 6)
        );
        let error = service.exercise(&runs, &Fail(2)).unwrap_err();
        let Error::Payload(source) = error else {
            panic!("{error:?}");
        };
        assert!(source.is::<PayloadError>(), "{source:?}");
    });
}

#[test]
fn a_raw_request_is_handled_without_a_connection() {
    watched(|| {
        let (service, runs) = (service(), Runs::new(3));
        let handle = |request: Request| service.handle(&runs, &request);
        assert_eq!(handle(Request::new(1)).unwrap().payload(), [3]);
        let rejected = |request| {
            let error = handle(request).unwrap_err();
            error
                .downcast_ref::<Rejection>()
                .unwrap()
                .message()
                .into_owned()
        };
        assert_eq!(rejected(Request::new(77)), "unknown request type 77");
        let trailing = rejected(Request::new(1).with_payload("x"));
        assert!(trailing.starts_with("undecodable request: "), "{trailing}");
        let flagged = rejected(Request::new(1).with_flags(1));
        assert!(flagged.starts_with("undecodable request: "), "{flagged}");
        assert_eq!(rejected(Request::new(2).with_payload([1])), "not today");
        // The function's own error comes as it is.
        let error = handle(Request::new(2).with_payload([0])).unwrap_err();
        assert!(error.is::<Secret>(), "{error:?}");
        // Nobody is there to be called back.
        for how in [3, 4] {
            let error = handle(Request::new(2).with_payload([how])).unwrap_err();
            let error = error.downcast_ref::<Error>().unwrap();
            assert!(matches!(error, Error::Closed), "{error:?}");
        }
    });
}

type Register = fn(ServiceBuilder<Runs>) -> ServiceBuilder<Runs>;

fn mistake(register: Register) -> ServiceError {
    register(Service::builder()).build().unwrap_err()
}

#[test]
fn a_number_is_used_once_in_each_direction() {
    let mistaken: [Register; 8] = [
        |b| b.serve::<Put>(7).serve::<Count>(7),
        |b| b.call::<Put>(7).call::<Count>(7),
        |b| b.serve_and_call::<Put>(7).serve::<Count>(7),
        |b| b.serve_and_call::<Put>(7).call::<Count>(7),
        |b| b.serve::<Put>(7).serve_and_call::<Count>(7),
        |b| b.call::<Put>(7).serve_and_call::<Count>(7),
        |b| b.serve_and_call::<Put>(7).serve_and_call::<Count>(7),
        |b| {
            b.serve::<Put>(7)
                .call::<Fail>(7)
                .serve::<Fail>(1)
                .serve::<Count>(7)
        },
    ];
    for (case, register) in mistaken.into_iter().enumerate() {
        let error = mistake(register);
        let ServiceError::NumberTwice {
            number,
            first,
            second,
            ..
        } = error
        else {
            panic!("case {case}: {error:?}");
        };
        assert_eq!(number.get(), 7, "case {case}");
        assert!(first.ends_with("Put"), "case {case}: {first}");
        assert!(second.ends_with("Count"), "case {case}: {second}");
    }
}

#[test]
fn a_type_has_one_number_in_each_direction() {
    let mistaken: [(u64, Register); 9] = [
        (8, |b| b.serve::<Put>(7).serve::<Put>(8)),
        (8, |b| b.call::<Put>(7).call::<Put>(8)),
        (8, |b| b.serve_and_call::<Put>(7).serve::<Put>(8)),
        (8, |b| b.serve_and_call::<Put>(7).call::<Put>(8)),
        (8, |b| b.serve::<Put>(7).serve_and_call::<Put>(8)),
        (8, |b| b.call::<Put>(7).serve_and_call::<Put>(8)),
        (7, |b| b.serve::<Put>(7).serve::<Put>(7)),
        (7, |b| b.call::<Put>(7).call::<Put>(7)),
        (7, |b| b.serve_and_call::<Put>(7).serve_and_call::<Put>(7)),
    ];
    for (case, (number, register)) in mistaken.into_iter().enumerate() {
        let error = mistake(register);
        let ServiceError::TypeTwice {
            type_name,
            first,
            second,
            ..
        } = error
        else {
            panic!("case {case}: {error:?}");
        };
        assert!(type_name.ends_with("Put"), "case {case}: {type_name}");
        assert_eq!((first.get(), second.get()), (7, number), "case {case}");
    }
}

#[test]
fn the_first_mistake_is_the_one_reported() {
    let error = mistake(|b| {
        b.serve::<Put>(0)
            .serve::<Count>(0)
            .call::<Fail>(1)
            .call::<Fail>(2)
    });
    assert!(matches!(error, ServiceError::NumberTwice { .. }), "{error}");
    let error = mistake(|b| {
        b.call::<Put>(0)
            .call::<Put>(1)
            .serve::<Fail>(1)
            .serve::<Count>(1)
    });
    assert!(matches!(error, ServiceError::TypeTwice { .. }), "{error}");
    assert!(error.to_string().contains("Put"), "{error}");
}

#[test]
fn the_two_directions_of_a_service_are_separate() {
    let sound: [Register; 5] = [
        |b| b,
        |b| b.serve::<Put>(0).call::<Put>(0),
        |b| {
            b.serve::<Put>(0)
                .call::<Put>(1)
                .serve::<Count>(1)
                .call::<Count>(0)
        },
        |b| b.call::<Count>(0).serve::<Put>(0),
        |b| {
            b.serve_and_call::<Put>(RequestType::MAX)
                .serve_and_call::<Count>(u32::MAX)
        },
    ];
    for register in sound {
        register(Service::builder()).build().unwrap();
    }
}
