//! Typed requests between two ends: served, called back, told apart and kept open.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::unnecessary_wraps,
    reason = "helpers of tests fail the test; serving functions have the shape that is asked of them"
)]

mod common;
#[path = "common/pairs.rs"]
mod pairs;

use std::collections::BTreeSet;
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::watched;
use packetstream::payload::{self, Bytes, Text, VarUint};
use packetstream::typed::{
    CallOptions, Caller, Serve, Service, TypedConnection, TypedRequest, request,
};
use packetstream::{
    BoxError, ChannelId, Connection, Error, Flags, Incoming, Outcome, PendingSet, Request,
    RequestType, Response, Transport,
};
use pairs::{Gate, ScriptedPeer, start};

request! {
    /// Adds to the counter of the left end.
    #[derive(Debug, Clone, PartialEq)]
    struct Add(VarUint) -> VarUint;
    /// Asks the left end who it is.
    struct Name -> String;

    /// Has the right end turn octets round.
    struct Reverse(Vec<u8>) -> Vec<u8>;
    /// Has the right end say how much there is.
    struct Measure { text: Text, octets: Bytes } -> (Flags, VarUint);

    /// Has the other end call back with one less, until nothing is left.
    struct Countdown(u8) -> String;
    /// Asks how the request looks to who serves it.
    struct Describe(Vec<u8>) -> String;
    /// Has the other end ask for a description, over channel 9.
    struct Reflect(Vec<u8>) -> String;
    /// Asks for one of the forms that an answer can have.
    struct Form(u8);
}

impl Serve<AtomicU64> for Add {
    fn serve(self, sum: &AtomicU64, _: &Caller<'_>) -> Result<Response, BoxError> {
        let before = sum.fetch_add(self.0.0, Ordering::Relaxed);
        Ok(payload::encode(&VarUint(before + self.0.0)).into())
    }
}

impl Serve<AtomicU64> for Name {
    fn serve(self, _: &AtomicU64, _: &Caller<'_>) -> Result<Response, BoxError> {
        Ok("left".into())
    }
}

impl Serve<String> for Reverse {
    fn serve(self, _: &String, _: &Caller<'_>) -> Result<Response, BoxError> {
        Ok(self.0.into_iter().rev().collect::<Vec<_>>().into())
    }
}

impl Serve<String> for Measure {
    fn serve(self, _: &String, _: &Caller<'_>) -> Result<Response, BoxError> {
        let flags = Flags::from(u32::try_from(self.text.0.len())?);
        let octets = VarUint(self.octets.0.len() as u64);
        Ok((flags, payload::encode(&octets)).into())
    }
}

impl<C> Serve<C> for Countdown {
    fn serve(self, _: &C, caller: &Caller<'_>) -> Result<Response, BoxError> {
        Ok(match self.0 {
            0 => "bottom".into(),
            n if n % 2 == 0 => caller.call(&Self(n - 1))?.into(),
            n => caller.submit(&Self(n - 1))?.wait()?.into(),
        })
    }
}

fn described(request: &Request) -> String {
    format!(
        "type {} channel {} flags {} label {:?} payload {:?}",
        request.request_type(),
        request.channel(),
        request.flags().bits(),
        request.label(),
        request.payload(),
    )
}

impl<C> Serve<C> for Describe {
    fn serve(self, _: &C, caller: &Caller<'_>) -> Result<Response, BoxError> {
        assert_eq!(caller.request().payload(), self.0);
        Ok(described(caller.request()).into())
    }
}

impl<C> Serve<C> for Reflect {
    fn serve(self, _: &C, caller: &Caller<'_>) -> Result<Response, BoxError> {
        let options = CallOptions::new().with_channel(9).with_label("mirror");
        let pending = caller.submit_with(&Describe(self.0), &options)?;
        assert_eq!(pending.channel(), ChannelId::new(9));
        assert_eq!(pending.label(), Some("mirror"));
        Ok(pending.wait()?.into())
    }
}

impl<C> Serve<C> for Form {
    fn serve(self, _: &C, _: &Caller<'_>) -> Result<Response, BoxError> {
        Ok(match self.0 {
            0 => ().into(),
            1 => Flags::MAX_RESPONSE.into(),
            2 => vec![0, 255].into(),
            3 => "größer".into(),
            4 => (Flags::from(4), vec![1, 2]).into(),
            _ => Response::new(Flags::MAX, "more than a response carries"),
        })
    }
}

/// A request whose flags mean something.
#[derive(Debug, PartialEq)]
struct Flagged {
    flags: Flags,
    rest: Vec<u8>,
}

impl TypedRequest for Flagged {
    type Response = Self;

    fn flags(&self) -> Flags {
        self.flags
    }

    fn encode_payload(&self, out: &mut Vec<u8>) {
        out.extend(&self.rest);
    }

    fn decode(flags: Flags, payload: &[u8]) -> Result<Self, BoxError> {
        Self::decode_response(flags, payload.to_vec())
    }

    fn decode_response(flags: Flags, rest: Vec<u8>) -> Result<Self, BoxError> {
        Ok(Self { flags, rest })
    }
}

impl<C> Serve<C> for Flagged {
    fn serve(self, _: &C, _: &Caller<'_>) -> Result<Response, BoxError> {
        Ok((self.flags, self.rest).into())
    }
}

fn left_service() -> Service<AtomicU64> {
    Service::builder()
        .serve::<Add>(0)
        .serve::<Name>(1)
        .call::<Reverse>(0)
        .call::<Measure>(1)
        .build()
        .unwrap()
}

fn right_service() -> Service<String> {
    Service::builder()
        .serve::<Reverse>(0)
        .serve::<Measure>(1)
        .call::<Add>(0)
        .call::<Name>(1)
        .build()
        .unwrap()
}

fn ends() -> (TypedConnection<AtomicU64>, TypedConnection<String>) {
    let (ours, theirs) = Transport::pair();
    let builder = Connection::builder;
    (
        TypedConnection::open(builder(), &left_service(), AtomicU64::new(0), ours).unwrap(),
        TypedConnection::open(builder(), &right_service(), "right".to_owned(), theirs).unwrap(),
    )
}

/// Two ends that serve and call the same requests.
fn equal_ends<C: Send + Sync + Default + 'static>(
    service: &Service<C>,
    handler_threads: usize,
) -> [TypedConnection<C>; 2] {
    let (ours, theirs) = Transport::pair();
    [ours, theirs].map(|transport| {
        let builder = Connection::builder().handler_threads(handler_threads);
        TypedConnection::open(builder, service, C::default(), transport).unwrap()
    })
}

fn measure(text: &str, octets: usize) -> Measure {
    Measure {
        text: text.into(),
        octets: Bytes(vec![7; octets]),
    }
}

#[test]
fn two_ends_serve_different_requests_under_the_same_numbers() {
    watched(|| {
        let (left, right) = ends();
        assert_eq!(right.call(&Add(VarUint(40))).unwrap(), VarUint(40));
        assert_eq!(
            left.call(&Reverse(b"stressed".into())).unwrap(),
            b"desserts"
        );
        assert_eq!(right.call(&Name).unwrap(), "left");
        let (flags, octets) = left.call(&measure("four", 300)).unwrap();
        assert_eq!((flags.bits(), octets), (4, VarUint(300)));
        assert_eq!(right.call(&Add(VarUint(2))).unwrap(), VarUint(42));
        assert_eq!(left.context().load(Ordering::Relaxed), 42);
        assert_eq!(right.context(), "right");
        left.close().into_result().unwrap();
        right.close().into_result().unwrap();
    });
}

#[test]
fn callbacks_nest_fifty_deep_with_one_handler_thread_on_each_end() {
    watched(|| {
        let service = Service::<()>::builder()
            .serve_and_call::<Countdown>(3)
            .build()
            .unwrap();
        let [here, there] = equal_ends(&service, 1);
        assert_eq!(here.call(&Countdown(50)).unwrap(), "bottom");
        let pending: Vec<_> = [&here, &there, &here, &there]
            .iter()
            .map(|end| end.submit(&Countdown(50)).unwrap())
            .collect();
        for pending in pending {
            assert_eq!(pending.wait().unwrap(), "bottom");
        }
        here.close().into_result().unwrap();
    });
}

#[test]
fn nothing_flags_octets_text_and_both_are_answers() {
    watched(|| {
        let service = Service::<()>::builder()
            .serve_and_call::<Form>(0)
            .build()
            .unwrap();
        let [here, _there] = equal_ends(&service, 1);
        let form = |n| here.call(&Form(n));
        assert_eq!(form(0).unwrap(), Response::new(Flags::NONE, ""));
        assert_eq!(form(1).unwrap(), Response::new(Flags::MAX_RESPONSE, ""));
        assert_eq!(form(2).unwrap(), Response::new(Flags::NONE, [0, 255]));
        assert_eq!(form(3).unwrap(), Response::new(Flags::NONE, "größer"));
        assert_eq!(form(4).unwrap(), Response::new(Flags::from(4), [1, 2]));
        let error = form(5).unwrap_err();
        assert_eq!(
            error.rejection().unwrap().message(),
            "exception during handler"
        );
    });
}

#[test]
fn options_set_channel_and_label_and_the_server_sees_what_was_sent() {
    watched(|| {
        let service = Service::<()>::builder()
            .serve_and_call::<Describe>(5)
            .serve_and_call::<Reflect>(6)
            .build()
            .unwrap();
        let [here, _there] = equal_ends(&service, 1);
        let seen = |channel| format!("type 5 channel {channel} flags 0 label None payload [1, 2]");
        let describe = || Describe(vec![1, 2]);
        assert_eq!(here.call(&describe()).unwrap(), seen(0));
        let options = CallOptions::new()
            .with_channel(300)
            .with_label("a label")
            .with_timeout(common::PATIENCE);
        assert_eq!(here.call_with(&describe(), &options).unwrap(), seen(300));
        let pending = here.submit_with(&describe(), &options).unwrap();
        assert_eq!(pending.label(), Some("a label"));
        assert_eq!(pending.channel(), ChannelId::new(300));
        assert_eq!(pending.wait().unwrap(), seen(300));
        let untouched = CallOptions::new();
        assert_eq!(here.call_with(&describe(), &untouched).unwrap(), seen(0));
        // Options of one call do not stick to the next, and a caller has its own.
        assert_eq!(here.call(&Reflect(vec![1, 2])).unwrap(), seen(9));
    });
}

#[test]
fn a_timeout_gives_up_one_request_and_not_the_connection() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (ours, theirs) = Transport::pair();
        let _server = Connection::builder().handler(handler).open(theirs).unwrap();
        let client = TypedConnection::open(
            Connection::builder(),
            &left_service(),
            AtomicU64::new(0),
            ours,
        )
        .unwrap();
        let options = CallOptions::new().with_timeout(Duration::from_millis(20));
        let error = client.call_with(&Reverse(b"first".into()), &options);
        let error = error.unwrap_err();
        assert!(matches!(error, Error::TimedOut(_)), "{error:?}");
        // Whether the first was sent before its time was over is a matter of luck.
        let pending = client
            .submit_with(&Reverse(b"slow".into()), &options)
            .unwrap();
        while gate.arrived() != b"slow" {}
        let error = pending.wait().unwrap_err();
        assert!(
            matches!(error, Error::TimedOut(Outcome::Unknown)),
            "{error:?}"
        );

        let pending = client.submit(&Reverse(b"patient".into())).unwrap();
        assert_eq!(gate.arrived(), b"patient");
        for _ in 0..3 {
            gate.release_one();
        }
        assert_eq!(pending.wait().unwrap(), b"patient");
    });
}

#[test]
fn flags_of_a_request_go_to_its_decode_function_and_back() {
    watched(|| {
        let service = Service::<()>::builder()
            .serve_and_call::<Flagged>(0)
            .build()
            .unwrap();
        let [here, _there] = equal_ends(&service, 1);
        for flags in [Flags::NONE, Flags::from(0x55), Flags::MAX_RESPONSE] {
            for rest in [vec![], vec![0x80; 200]] {
                let flagged = Flagged { flags, rest };
                assert_eq!(here.call(&flagged).unwrap(), flagged);
            }
        }
    });
}

#[test]
fn a_plain_connection_and_a_typed_one_understand_each_other() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let plain = Connection::builder()
            .handler(|incoming: Incoming| {
                assert_eq!(incoming.request_type().get(), 1);
                assert_eq!(incoming.payload(), b"\x02ab\x03\x07\x07\x07");
                Ok::<_, BoxError>((Flags::from(2), vec![0x83, 0x74]))
            })
            .open(theirs)
            .unwrap();
        let typed = TypedConnection::open(
            Connection::builder(),
            &left_service(),
            AtomicU64::new(0),
            ours,
        )
        .unwrap();
        let (flags, octets) = typed.call(&measure("ab", 3)).unwrap();
        assert_eq!((flags.bits(), octets), (2, VarUint(500)));

        let add = Request::new(0).with_payload([0x83, 0x74]).with_channel(4);
        let answer = plain.call(add).unwrap();
        assert_eq!(answer, Response::new(Flags::NONE, [0x83, 0x74]));
        assert_eq!(plain.call(Request::new(1)).unwrap().payload(), b"left");
        plain.close().into_result().unwrap();
        typed.close().into_result().unwrap();
    });
}

#[test]
fn octets_of_a_typed_request_are_its_payload_and_nothing_else() {
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let client = TypedConnection::open(
            Connection::builder(),
            &right_service(),
            String::new(),
            transport,
        )
        .unwrap();
        let pending = client.submit(&Add(VarUint(500))).unwrap();
        let waiter = start(move || pending.wait());
        let asked = peer.request();
        assert_eq!(asked.request_type(), Some(RequestType::from(0)));
        assert_eq!(
            (asked.flags(), asked.payload()),
            (Flags::NONE, &b"\x83\x74"[..])
        );
        peer.answer(&asked, [5]);
        assert_eq!(waiter.join().unwrap().unwrap(), VarUint(5));

        let pending = client.submit(&Name).unwrap();
        let waiter = start(move || pending.wait());
        assert!(peer.request().payload().is_empty());
        peer.cut(Shutdown::Both);
        let error = waiter.join().unwrap().unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
        let error = client.call(&Name).unwrap_err();
        assert!(error.is_closed(), "{error:?}");
        assert_eq!(error.outcome(), Outcome::NotSent, "{error:?}");
    });
}

#[test]
fn a_pending_set_collects_typed_answers() {
    watched(|| {
        let (left, right) = ends();
        let set: PendingSet<VarUint> = (0..100)
            .map(|_| right.submit(&Add(VarUint(1))).unwrap())
            .collect();
        let sums: BTreeSet<_> = set.map(|(_, sum)| sum.unwrap().0).collect();
        assert_eq!(sums, (1..=100).collect());
        let mut set = PendingSet::new();
        for n in 0..10 {
            let pending = left.submit(&measure("", n)).unwrap();
            assert_eq!(
                set.insert(pending.and_then(|(_, n)| Ok::<_, BoxError>(n.0))),
                n
            );
        }
        let answers: Vec<_> = set.wait_all().into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, (0..10).collect::<Vec<_>>());
    });
}
