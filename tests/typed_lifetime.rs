//! What keeps a typed connection open, what lets go of it, and that many callers share one.
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

use std::io::ErrorKind;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::watched;
use packetstream::payload::{self, VarUint};
use packetstream::typed::{Caller, Serve, Service, TypedConnection, request};
use packetstream::{BoxError, Connection, Error, Outcome, Response, Transport};
use pairs::{Gate, assert_quiet, start, take};

request! {
    /// Adds to the counter.
    struct Add(VarUint) -> VarUint;
    /// Gives the octets back.
    struct Echo(Vec<u8>) -> Vec<u8>;
    /// Gives the number back, doubled.
    struct Double(u64) -> u64;
    /// Has the other end ask for a name, and greets it.
    struct Greet -> String;
    struct Name -> String;
}

impl Serve<AtomicU64> for Add {
    fn serve(self, sum: &AtomicU64, _: &Caller<'_>) -> Result<Response, BoxError> {
        let before = sum.fetch_add(self.0.0, Ordering::Relaxed);
        Ok(payload::encode(&VarUint(before + self.0.0)).into())
    }
}

impl Serve<AtomicU64> for Echo {
    fn serve(self, _: &AtomicU64, _: &Caller<'_>) -> Result<Response, BoxError> {
        Ok(self.0.into())
    }
}

impl Serve<AtomicU64> for Double {
    fn serve(self, _: &AtomicU64, _: &Caller<'_>) -> Result<Response, BoxError> {
        Ok(payload::encode(&(self.0 * 2)).into())
    }
}

impl Serve<AtomicU64> for Greet {
    fn serve(self, _: &AtomicU64, caller: &Caller<'_>) -> Result<Response, BoxError> {
        Ok(format!("hello {}", caller.call(&Name)?).into())
    }
}

impl Serve<String> for Name {
    fn serve(self, name: &String, _: &Caller<'_>) -> Result<Response, BoxError> {
        Ok(name.as_str().into())
    }
}

fn server_service() -> Service<AtomicU64> {
    Service::builder()
        .serve::<Add>(0)
        .serve::<Echo>(1)
        .serve::<Double>(2)
        .serve::<Greet>(3)
        .call::<Name>(0)
        .build()
        .unwrap()
}

fn client_service() -> Service<String> {
    Service::builder()
        .serve::<Name>(0)
        .call::<Add>(0)
        .call::<Echo>(1)
        .call::<Double>(2)
        .call::<Greet>(3)
        .build()
        .unwrap()
}

fn serve(transport: Transport, counter: Arc<AtomicU64>) -> TypedConnection<AtomicU64> {
    TypedConnection::open(Connection::builder(), &server_service(), counter, transport).unwrap()
}

fn connect(transport: Transport) -> TypedConnection<String> {
    let name = "client".to_owned();
    TypedConnection::open(Connection::builder(), &client_service(), name, transport).unwrap()
}

fn ends() -> (TypedConnection<String>, TypedConnection<AtomicU64>) {
    let (ours, theirs) = Transport::pair();
    (connect(ours), serve(theirs, Arc::default()))
}

/// A client on demand, and how often it has connected.
fn on_demand() -> (TypedConnection<String>, Arc<AtomicU64>) {
    let connects = Arc::new(AtomicU64::new(0));
    let connector = {
        let connects = Arc::clone(&connects);
        move || {
            connects.fetch_add(1, Ordering::Relaxed);
            let (ours, theirs) = Transport::pair();
            let server = serve(theirs, Arc::default());
            start(move || server.serve());
            Ok(ours)
        }
    };
    let name = "on demand".to_owned();
    let client =
        TypedConnection::on_demand(Connection::builder(), &client_service(), name, connector);
    (client, connects)
}

#[test]
fn the_context_is_shared_by_handlers_clones_and_connections_and_let_go_at_the_end() {
    watched(|| {
        let counter = Arc::new(AtomicU64::new(0));
        let ends: Vec<_> = (0..2)
            .map(|_| {
                let (ours, theirs) = Transport::pair();
                (connect(ours), serve(theirs, Arc::clone(&counter)))
            })
            .collect();
        for (client, _) in ends.iter().cycle().take(10) {
            client.call(&Add(VarUint(1))).unwrap();
        }
        assert_eq!(counter.load(Ordering::Relaxed), 10);
        for (client, server) in ends {
            assert!(std::ptr::eq(server.context(), &raw const *counter));
            assert!(std::ptr::eq(server.clone().context(), &raw const *counter));
            client.close().into_result().unwrap();
            server.close().into_result().unwrap();
        }
        assert_eq!(Arc::strong_count(&counter), 1);
    });
}

#[test]
fn each_clone_is_a_reference_and_the_last_one_closes() {
    watched(|| {
        let (client, server) = ends();
        let second = client.clone();
        let report = client.close();
        assert!(!report.is_last(), "{report:?}");
        assert_eq!(second.call(&Double(2)).unwrap(), 4);
        let third = second.keep_open().unwrap();
        drop(second);
        assert_eq!(third.call(&Double(3)).unwrap(), 6);
        let connection = third.connection().clone();
        let serving = start(move || server.serve());
        let report = third.close();
        assert!(report.is_last() && report.peer_said_goodbye(), "{report:?}");
        assert!(!connection.is_open());
        serving.join().unwrap().into_result().unwrap();
    });
}

#[test]
fn serve_ends_when_the_peer_has_ended() {
    watched(|| {
        let (client, server) = ends();
        let (ended, end) = crossbeam_channel::bounded(1);
        let serving = start(move || {
            let report = server.serve();
            ended.send(()).unwrap();
            report
        });
        assert_eq!(client.call(&Greet).unwrap(), "hello client");
        assert_quiet(&end, "it ended while the peer was there");
        client.close().into_result().unwrap();
        take(&end);
        let report = serving.join().unwrap();
        assert!(report.is_last() && report.peer_said_goodbye(), "{report:?}");
    });
}

#[test]
fn a_pending_answer_keeps_the_connection_open() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (ours, theirs) = Transport::pair();
        let _server = Connection::builder().handler(handler).open(theirs).unwrap();
        let client = connect(ours);
        let pending = client.submit(&Echo(vec![9])).unwrap();
        assert_eq!(gate.arrived(), [9]);
        drop(client);
        gate.release_one();
        assert_eq!(pending.wait().unwrap(), [9]);
    });
}

#[test]
fn a_request_after_the_close_is_not_sent() {
    watched(|| {
        let (client, _server) = ends();
        let kept = client.connection().clone();
        let other = client.clone();
        kept.finish_requests().unwrap();
        let error = other.call(&Double(1)).unwrap_err();
        assert!(matches!(error, Error::RequestsFinished), "{error:?}");
        assert_eq!(error.outcome(), Outcome::NotSent);
        kept.shutdown(Some(common::PATIENCE)).into_result().unwrap();
        let error = other.submit(&Double(1)).unwrap_err();
        assert!(error.is_closed(), "{error:?}");
        assert_eq!(error.outcome(), Outcome::NotSent);
        let error = other.keep_open().unwrap_err();
        assert!(error.is_closed(), "{error:?}");
    });
}

#[test]
fn on_demand_each_request_opens_the_connection_for_its_own_life() {
    watched(|| {
        let (client, connects) = on_demand();
        assert!(!client.connection().is_open());
        assert_eq!(client.context(), "on demand");
        for n in 1..=3 {
            assert_eq!(client.call(&Add(VarUint(1))).unwrap(), VarUint(1));
            client.connection().wait_closed().into_result().unwrap();
            assert_eq!(connects.load(Ordering::Relaxed), n);
        }
        // A held answer is what keeps it open, for others too.
        let held = client.submit(&Greet).unwrap();
        assert_eq!(client.call(&Add(VarUint(1))).unwrap(), VarUint(1));
        assert_eq!(client.call(&Add(VarUint(1))).unwrap(), VarUint(2));
        assert_eq!(held.wait().unwrap(), "hello on demand");
        assert_eq!(connects.load(Ordering::Relaxed), 4);
        client.close().into_result().unwrap();
    });
}

#[test]
fn keep_open_keeps_an_on_demand_connection_open_until_the_last_reference_goes() {
    watched(|| {
        let (client, connects) = on_demand();
        let kept = client.keep_open().unwrap();
        assert!(client.connection().is_open());
        assert_eq!(kept.call(&Add(VarUint(1))).unwrap(), VarUint(1));
        assert_eq!(client.call(&Add(VarUint(1))).unwrap(), VarUint(2));
        let clone = kept.clone();
        let again = kept.keep_open().unwrap();
        drop(kept);
        drop(again);
        assert_eq!(client.clone().call(&Add(VarUint(1))).unwrap(), VarUint(3));
        assert_eq!(connects.load(Ordering::Relaxed), 1);
        clone.close().into_result().unwrap();
        assert!(!client.connection().is_open());
        // The next one begins anew.
        assert_eq!(client.call(&Add(VarUint(1))).unwrap(), VarUint(1));
        assert_eq!(connects.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn close_of_one_on_demand_waits_until_the_others_are_gone() {
    watched(|| {
        let (client, _) = on_demand();
        let kept = client.keep_open().unwrap();
        let (done, end) = crossbeam_channel::bounded(1);
        let closing = start(move || {
            let report = client.close();
            done.send(()).unwrap();
            report
        });
        assert_quiet(&end, "it is still held open");
        assert_eq!(kept.call(&Double(5)).unwrap(), 10);
        drop(kept);
        take(&end);
        closing.join().unwrap().into_result().unwrap();
    });
}

#[test]
fn a_connector_that_fails_fails_the_request_unsent() {
    watched(|| {
        let client = TypedConnection::on_demand(
            Connection::builder(),
            &client_service(),
            String::new(),
            || Err(ErrorKind::ConnectionRefused.into()),
        );
        let errors = [
            client.call(&Greet).unwrap_err(),
            client.submit(&Greet).unwrap_err(),
            client.keep_open().unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, Error::Connect(_)), "{error:?}");
            assert_eq!(error.outcome(), Outcome::NotSent);
        }
    });
}

#[test]
fn a_child_is_spoken_to_in_typed_requests() {
    // `cat` makes this end its own peer: what it asks, it is asked.
    watched(|| {
        let service = Service::builder()
            .serve_and_call::<Add>(0)
            .serve_and_call::<Echo>(1)
            .build()
            .unwrap();
        let spawn = |program| {
            let counter = AtomicU64::new(0);
            TypedConnection::spawn(
                Connection::builder(),
                &service,
                counter,
                Command::new(program),
            )
        };
        let own_peer = spawn("cat").unwrap();
        assert_eq!(own_peer.call(&Add(VarUint(3))).unwrap(), VarUint(3));
        let echo = Echo(vec![1; 100_000]);
        assert_eq!(own_peer.call(&echo).unwrap(), echo.0);
        assert_eq!(own_peer.context().load(Ordering::Relaxed), 3);
        let report = own_peer.close();
        assert!(report.peer_said_goodbye(), "{report:?}");
        report.into_result().unwrap();

        let error = spawn("/no/such/program").unwrap_err();
        assert!(matches!(error, Error::Connect(_)), "{error:?}");
    });
}

#[test]
fn four_threads_each_get_the_answers_to_their_own_requests() {
    const CALLS: u64 = 2_000;
    watched(|| {
        let (client, server) = ends();
        let callers: Vec<_> = (0..4)
            .map(|thread| {
                let client = client.clone();
                start(move || {
                    let mut sum = 0;
                    for n in 0..CALLS {
                        let unique = thread * CALLS + n;
                        match (thread + n) % 4 {
                            0 => {
                                let VarUint(now) = client.call(&Add(VarUint(1))).unwrap();
                                assert!(now > sum, "{now} after {sum}");
                                sum = now;
                            }
                            1 => {
                                let echo = Echo(unique.to_be_bytes().to_vec());
                                assert_eq!(client.call(&echo).unwrap(), echo.0);
                            }
                            2 => assert_eq!(client.call(&Double(unique)).unwrap(), unique * 2),
                            _ => assert_eq!(client.call(&Greet).unwrap(), "hello client"),
                        }
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        assert_eq!(server.context().load(Ordering::Relaxed), CALLS);
        client.close().into_result().unwrap();
    });
}

#[test]
fn a_typed_connection_goes_from_thread_to_thread() {
    fn sent_and_shared<T: Send + Sync + Clone>() {}
    sent_and_shared::<TypedConnection<AtomicU64>>();
    sent_and_shared::<Service<AtomicU64>>();
}
