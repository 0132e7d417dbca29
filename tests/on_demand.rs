//! A connection on demand connects anew for each open period.
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

use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};

use common::watched;
use packetstream::{Connection, Error, OpenGuard, Outcome, Tag, Transport};
use pairs::{Gate, asking, echo, start, take};
use parking_lot::Mutex;

/// A service that can be connected to any number of times, and what was seen there.
#[derive(Clone, Default)]
struct Service {
    connects: Arc<AtomicUsize>,
    shutdowns: Arc<AtomicUsize>,
    failures_ahead: Arc<AtomicUsize>,
    servers: Arc<Mutex<Vec<OpenGuard>>>,
}

impl Service {
    fn connect(&self) -> io::Result<Transport> {
        self.connects.fetch_add(1, SeqCst);
        let fails = self
            .failures_ahead
            .fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1))
            .is_ok();
        if fails {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "nobody at home",
            ));
        }
        let (here, there) = UnixStream::pair()?;
        let server = Connection::builder()
            .handler(echo)
            .open(Transport::try_from(there)?);
        self.servers.lock().push(server.map_err(io::Error::other)?);
        let shutdowns = Arc::clone(&self.shutdowns);
        let end = here.try_clone()?;
        let reader = BufReader::new(here.try_clone()?);
        Ok(Transport::new(reader, here).with_shutdown(move || {
            shutdowns.fetch_add(1, SeqCst);
            let _ = end.shutdown(Shutdown::Both);
        }))
    }

    fn connection(&self) -> Connection {
        let service = self.clone();
        Connection::builder().build_on_demand(move || service.connect())
    }

    fn connects(&self) -> usize {
        self.connects.load(SeqCst)
    }

    fn shutdowns(&self) -> usize {
        self.shutdowns.load(SeqCst)
    }
}

#[test]
fn each_first_open_connects_anew() {
    watched(|| {
        let service = Service::default();
        let connection = service.connection();
        assert_eq!(
            service.connects(),
            0,
            "nothing is connected before it is needed"
        );
        for round in 1..=3 {
            let guard = connection.open().unwrap();
            let second = connection.open().unwrap();
            assert_eq!(service.connects(), round);
            let pending = connection.submit(asking("x")).unwrap();
            assert_eq!(
                pending.tag(),
                Tag::new(2),
                "each is a connection of its own"
            );
            assert_eq!(pending.wait().unwrap().payload(), b"x");
            assert!(!second.close().is_last());
            let report = guard.close();
            assert!(report.is_last());
            assert!(report.into_result().is_ok());
            assert!(!connection.is_open());
        }
    });
}

#[test]
fn the_shutdown_hook_is_called_when_the_last_reference_goes() {
    watched(|| {
        let service = Service::default();
        let connection = service.connection();
        for _ in 0..2 {
            let before = service.shutdowns();
            let guard = connection.open().unwrap();
            let second = guard.clone();
            connection.call(asking("x")).unwrap();
            drop(second);
            assert_eq!(service.shutdowns(), before, "a reference is left");
            let _ = guard.close();
            assert!(service.shutdowns() > before);
        }
    });
}

#[test]
fn a_request_on_a_closed_connection_opens_it_for_its_own_life() {
    watched(|| {
        let service = Service::default();
        let connection = service.connection();
        for round in 1..=3 {
            assert_eq!(connection.call(asking("x")).unwrap().payload(), b"x");
            let _ = connection.wait_closed();
            assert!(!connection.is_open());
            assert_eq!(service.connects(), round);
            assert!(service.shutdowns() >= round);
        }
    });
}

#[test]
fn requests_held_together_share_one_open_period() {
    watched(|| {
        let service = Service::default();
        let connection = service.connection();
        let first = connection.submit(asking("a")).unwrap();
        let second = connection.submit(asking("b")).unwrap();
        assert_eq!(first.wait().unwrap().payload(), b"a");
        assert!(connection.is_open(), "one result is still held");
        assert_eq!(second.wait().unwrap().payload(), b"b");
        let _ = connection.wait_closed();
        assert_eq!(service.connects(), 1);
    });
}

#[test]
fn a_failing_connector_is_reported_and_asked_again() {
    watched(|| {
        let service = Service::default();
        service.failures_ahead.store(2, SeqCst);
        let connection = service.connection();

        let error = connection.open().unwrap_err();
        let Error::Connect(cause) = &error else {
            panic!("not a connect error: {error:?}");
        };
        assert_eq!(cause.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.is_transport() && error.outcome() == Outcome::NotSent);
        assert!(!connection.is_open());

        let error = connection.submit(asking("x")).unwrap_err();
        assert!(matches!(error, Error::Connect(_)), "{error:?}");
        assert_eq!(error.outcome(), Outcome::NotSent);

        assert_eq!(connection.call(asking("x")).unwrap().payload(), b"x");
        assert_eq!(service.connects(), 3);
    });
}

#[test]
fn concurrent_first_opens_connect_once() {
    watched(|| {
        let service = Service::default();
        let connection = service.connection();
        for round in 1..=20 {
            let barrier = Arc::new(Barrier::new(8));
            let helpers: Vec<_> = (0..8)
                .map(|_| {
                    let (connection, barrier) = (connection.clone(), Arc::clone(&barrier));
                    start(move || {
                        barrier.wait();
                        let guard = connection.open().unwrap();
                        barrier.wait();
                        guard.call(asking("x")).unwrap();
                        barrier.wait();
                        guard.close().is_last()
                    })
                })
                .collect();
            let lasts = helpers.into_iter().map(|helper| helper.join().unwrap());
            let lasts = lasts.filter(|is_last| *is_last).count();
            assert_eq!(service.connects(), round);
            assert_eq!(lasts, 1, "one of them is the last");
        }
    });
}

#[test]
fn an_open_while_the_last_period_still_closes_gets_a_connection_that_works() {
    watched(|| {
        let service = Service::default();
        let connection = service.connection();
        for _ in 0..50 {
            // The wait releases the last reference: the close goes on behind our back.
            connection.submit(asking("x")).unwrap().wait().unwrap();
            let guard = connection.open().unwrap();
            assert_eq!(guard.call(asking("y")).unwrap().payload(), b"y");
        }
    });
}

#[test]
fn after_the_peer_has_gone_the_next_open_period_works() {
    watched(|| {
        let service = Service::default();
        let connection = service.connection();
        let guard = connection.open().unwrap();
        let _ = service.servers.lock().remove(0).abort();
        let _ = guard.wait_end_of_stream();
        assert!(connection.call(asking("x")).unwrap_err().is_closed());
        drop(guard);
        let _ = connection.wait_closed();
        assert_eq!(connection.call(asking("x")).unwrap().payload(), b"x");
        assert_eq!(service.connects(), 2);
    });
}

#[test]
fn a_connector_that_has_nothing_left_fails_the_next_open() {
    watched(|| {
        let (gate, handler) = Gate::new();
        let (ours, theirs) = Transport::pair();
        let server = Connection::builder().handler(handler).open(theirs).unwrap();
        let held = Mutex::new(Some(ours));
        let connection = Connection::builder().build_on_demand(move || {
            held.lock()
                .take()
                .ok_or_else(|| io::Error::other("only once"))
        });
        let pending = connection.submit(asking("x")).unwrap();
        gate.arrived();
        gate.release_one();
        pending.wait().unwrap();
        let _ = connection.wait_closed();
        assert!(matches!(connection.open(), Err(Error::Connect(_))));
        assert!(server.close().into_result().is_ok());
    });
}

/// The close waits for the answer, whichever thread is to give it.
#[test]
fn opening_once_more_for_a_request_that_the_close_waits_for_is_refused() {
    watched(|| {
        let service = Service::default();
        let (give, given) = crossbeam_channel::unbounded();
        let connection = {
            let service = service.clone();
            Connection::builder()
                .linger(Some(common::PATIENCE))
                .deferred_handler(move |incoming, responder| {
                    if incoming.payload() == b"probe" {
                        responder.respond("here");
                    } else {
                        give.send((incoming, responder)).unwrap();
                    }
                })
                .build_on_demand(move || service.connect())
        };
        let guard = connection.open().unwrap();
        let server = service.servers.lock().remove(0);
        let asked = server.submit(asking("x")).unwrap();
        let (incoming, responder) = take(&given);
        let closing = start(move || guard.close());
        while server.call(asking("probe")).is_ok() {}
        let opened = incoming.connection().open();
        assert!(matches!(opened, Err(Error::Closed)), "{opened:?}");
        responder.respond("answered");
        assert_eq!(asked.wait().unwrap().payload(), b"answered");
        closing.join().unwrap().into_result().unwrap();
        // Once it has been answered, it is a connection like any other.
        drop(incoming.connection().open().unwrap());
        assert_eq!(service.connects(), 2);
    });
}
