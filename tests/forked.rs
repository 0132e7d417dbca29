//! A fork has a copy of every connection of its parent. Whatever it does to end one returns at once
//! and leaves the parent's alone.
//!
//! The locks of a copy may be held by threads that are not there, so some of these tests fork while
//! others use the connection. Without a limit to lingering, what waits in a fork waits for ever.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod common;
#[path = "common/forks.rs"]
mod forks;
#[path = "common/hostile.rs"]
mod hostile;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "common/roles.rs"]
mod roles;

use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use common::watched;
use forks::in_fork;
#[cfg(target_os = "linux")]
use forks::in_quiet_fork;
use packetstream::typed::{Service, TypedConnection};
use packetstream::{
    Canceller, CloseReport, Connection, ConnectionBuilder, Error, OpenGuard, Outcome,
    PendingResponse, PendingSet, Responder, Transport,
};
use pairs::{Gate, asking, block_on, echo, memory, os_pipes, start, unix_sockets};
use parking_lot::Mutex;
use roles::{in_role, role};

/// Runs `test` in a process of its own: a fork has copies of what other tests do.
fn alone(name: &str, test: fn()) {
    if role().is_some() {
        return test();
    }
    let name = name.to_owned();
    watched(move || {
        let output = in_role(&name, "alone").output().unwrap();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complained}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("1 passed"), "{said}");
    });
}

const LONG: Duration = Duration::from_secs(3600);

fn builder() -> ConnectionBuilder {
    Connection::builder().linger(None).handler(echo)
}

/// Two ends, and what a program may hold of them.
struct Scene {
    ends: [OpenGuard; 2],
    pending: Vec<PendingResponse>,
    responder: Responder,
}

fn scene((ours, theirs): (Transport, Transport)) -> Scene {
    let (hand, handed) = crossbeam_channel::unbounded();
    let server = builder()
        .deferred_handler(move |incoming, responder| match incoming.payload() {
            b"keep" => hand.send(responder).unwrap(),
            _ => responder.respond(incoming.into_payload()),
        })
        .open(theirs)
        .unwrap();
    let client = builder().open(ours).unwrap();
    drop(client.submit(asking("keep")).unwrap());
    client.call(asking("x")).unwrap();
    let responder = pairs::take(&handed);
    let answered = client.submit(asking("answered")).unwrap();
    let pending = (0..3).map(|_| client.submit(asking("keep")).unwrap());
    let mut pending: Vec<_> = std::iter::once(answered).chain(pending).collect();
    // It has left a waker and its time limit behind.
    let polled = client.submit(asking("keep").with_timeout(LONG)).unwrap();
    pending.push(polled);
    let mut context = Context::from_waker(Waker::noop());
    let polled = pending
        .last_mut()
        .map(|polled| Pin::new(polled).poll(&mut context));
    assert!(polled.is_some_and(|poll| poll.is_pending()));
    client.call(asking("x")).unwrap();
    let kept: Vec<_> = (0..4).map(|_| pairs::take(&handed)).collect();
    // What nobody answers must not hold up the end.
    start(move || drop(kept)).join().unwrap();
    Scene {
        ends: [client, server],
        pending,
        responder,
    }
}

/// Threads that use a connection until they are told to stop.
struct Users {
    are_done: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Users {
    fn of(connection: &Connection) -> Self {
        let are_done = Arc::new(AtomicBool::new(false));
        let threads = (0..3).map(|_| {
            let (connection, are_done) = (connection.clone(), Arc::clone(&are_done));
            start(move || {
                while !are_done.load(Ordering::Relaxed) {
                    connection.call(asking("use")).unwrap();
                    let limited = connection.submit(asking("use").with_timeout(LONG));
                    block_on(limited.unwrap()).unwrap();
                }
            })
        });
        Self {
            threads: threads.collect(),
            are_done,
        }
    }

    fn stop(self) {
        self.are_done.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

fn assert_elsewhere(report: &CloseReport) {
    let cause = report.cause();
    assert!(matches!(cause, Some(Error::OtherProcess(_))), "{report:?}");
    assert!(!report.is_last() && !report.in_progress());
}

fn is_elsewhere<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::OtherProcess(_)))
}

/// What a fork does to end a connection, or to let go of it.
type Ending = (&'static str, fn(Scene));

const ENDINGS: [Ending; 12] = [
    ("drop everything", drop),
    ("close the guards", |scene| {
        let Scene { ends, .. } = scene;
        for end in ends {
            let another = end.clone();
            assert_elsewhere(&another.close());
            assert_elsewhere(&end.close());
        }
    }),
    ("close after the pending ones", |scene| {
        drop((scene.pending, scene.responder));
        for end in scene.ends {
            assert_elsewhere(&end.close());
        }
    }),
    ("drop the pending ones last", |scene| {
        drop((scene.ends, scene.responder));
        drop(scene.pending);
    }),
    ("serve", |scene| {
        for end in scene.ends {
            assert_elsewhere(&end.serve());
        }
    }),
    ("shut down", |scene| {
        for end in &scene.ends {
            assert_elsewhere(&end.shutdown(None));
            assert_elsewhere(&end.shutdown(Some(Duration::ZERO)));
        }
    }),
    ("abort", |scene| {
        for end in &scene.ends {
            assert_elsewhere(&end.abort());
        }
    }),
    ("wait for the end", |scene| {
        for end in &scene.ends {
            assert_elsewhere(&end.wait_closed());
            assert!(is_elsewhere(&end.wait_end_of_stream()));
            assert!(is_elsewhere(&end.finish_requests()));
            assert!(is_elsewhere(&end.end_stream()));
        }
    }),
    ("look at it", |scene| {
        for end in &scene.ends {
            assert!(!end.is_open());
            assert!(is_elsewhere(&end.open()));
            assert_eq!(end.stats().requests_sent, 0);
            assert!(!format!("{end:?}").is_empty());
        }
    }),
    ("cancel", |mut scene| {
        let first = scene.pending.remove(1);
        let canceller: Canceller = scene.pending[1].canceller();
        assert_eq!(first.cancel(), Outcome::Unknown);
        assert!(!canceller.cancel());
    }),
    ("reject by dropping", |scene| drop(scene.responder)),
    ("typed", |scene| {
        let service = Service::<()>::builder().build().unwrap();
        let on_demand =
            TypedConnection::on_demand(builder(), &service, (), || Ok(Transport::pair().0));
        drop(on_demand);
        drop(scene);
    }),
];

fn every_ending_leaves_the_parents_connection_alone() {
    for pair in [unix_sockets, os_pipes, memory] {
        for (name, end) in ENDINGS {
            for is_used in [false, true] {
                let scene = scene(pair());
                let users = is_used.then(|| Users::of(&scene.ends[0]));
                eprintln!("{name}, used: {is_used}");
                // The fork takes the copy.
                let mut scene = Some(scene);
                for _ in 0..3 {
                    in_fork(|| end(scene.take().unwrap()));
                }
                if let Some(users) = users {
                    users.stop();
                }
                let Scene {
                    ends: [client, server],
                    pending,
                    responder,
                } = scene.unwrap();
                assert_eq!(client.call(asking("x")).unwrap().payload(), b"x");
                responder.respond("kept");
                for (number, pending) in pending.into_iter().enumerate() {
                    assert_eq!(pending.wait().is_ok(), number == 0);
                }
                let closing = start(move || server.close());
                let report = client.close();
                assert!(report.peer_said_goodbye(), "{report:?}");
                report.into_result().unwrap();
                closing.join().unwrap().into_result().unwrap();
            }
        }
    }
}

#[test]
fn whatever_ends_a_connection_in_a_fork_returns_at_once_and_leaves_the_parents_alone() {
    alone(
        "whatever_ends_a_connection_in_a_fork_returns_at_once_and_leaves_the_parents_alone",
        every_ending_leaves_the_parents_connection_alone,
    );
}

#[cfg(target_os = "linux")]
#[test]
fn waits_in_a_fork_are_errors() {
    alone("waits_in_a_fork_are_errors", || {
        let (ours, theirs) = unix_sockets();
        let (gate, handler) = Gate::new();
        let server = builder().handler(handler).open(theirs).unwrap();
        let client = Connection::builder()
            .linger(None)
            .max_outstanding_requests(4)
            .open(ours)
            .unwrap();
        let pending: Vec<_> = (0..4)
            .map(|_| client.submit(asking("x")).unwrap())
            .collect();
        for _ in 0..4 {
            gate.arrived();
        }
        // Taken out in the fork alone.
        let held = Mutex::new(Some(pending));
        in_quiet_fork(|| {
            let mut pending = held.lock().take().unwrap();
            let error = pending.pop().unwrap().wait().unwrap_err();
            assert!(matches!(error, Error::OtherProcess(Outcome::Unknown)));
            let forever = Duration::from_secs(1_000_000);
            let waited = pending.pop().unwrap().wait_timeout(forever);
            assert!(is_elsewhere(&waited.unwrap()));
            let set: PendingSet = pending.into_iter().collect();
            assert!(set.wait_all().iter().all(is_elsewhere));
            // At the limit.
            let error = client.submit(asking("x")).unwrap_err();
            assert!(matches!(error, Error::OtherProcess(Outcome::NotSent)));
        });
        let pending = held.into_inner().unwrap();
        for _ in &pending {
            gate.release_one();
        }
        for pending in pending {
            assert_eq!(pending.wait().unwrap().payload(), b"x");
        }
        drop(start(move || server.close()));
        client.close().into_result().unwrap();
    });
}

#[test]
fn fork_neither_ends_nor_reaps_a_child_of_its_parent() {
    alone("fork_neither_ends_nor_reaps_a_child_of_its_parent", || {
        // Never opened, in all the ways to let go of it.
        let endings: [fn(Transport); 3] = [
            drop,
            |transport| drop(transport.into_parts()),
            |transport| drop(builder().build(transport)),
        ];
        for end in endings {
            let mut transport = Some(Transport::spawn(&mut Command::new("cat")).unwrap());
            in_fork(|| end(transport.take().unwrap()));
            let guard = builder().open(transport.unwrap()).unwrap();
            // Our own words come back, and so do our answers.
            assert_eq!(guard.call(asking("x")).unwrap().payload(), b"x");
            guard.close().into_result().unwrap();
        }
        let endings: [fn(OpenGuard); 3] = [
            drop,
            |guard| assert_elsewhere(&guard.abort()),
            |guard| assert_elsewhere(&guard.close()),
        ];
        for end in endings {
            let mut guard = Some(builder().spawn(Command::new("cat")).unwrap());
            in_fork(|| end(guard.take().unwrap()));
            let guard = guard.unwrap();
            assert_eq!(guard.call(asking("x")).unwrap().payload(), b"x");
            guard.close().into_result().unwrap();
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn connection_that_was_closed_before_the_fork_can_be_opened_in_it() {
    alone(
        "connection_that_was_closed_before_the_fork_can_be_opened_in_it",
        || {
            let connection = builder().build_on_demand(|| {
                let (ours, theirs) = unix_sockets();
                let server = builder().open(theirs).map_err(std::io::Error::other)?;
                start(move || server.serve());
                Ok(ours)
            });
            for _ in 0..3 {
                assert_eq!(connection.call(asking("x")).unwrap().payload(), b"x");
                connection.wait_closed().into_result().unwrap();
                in_quiet_fork(|| {
                    assert_eq!(connection.call(asking("y")).unwrap().payload(), b"y");
                    connection.wait_closed().into_result().unwrap();
                });
            }
        },
    );
}

#[test]
fn connection_that_was_built_before_the_fork_can_be_opened_in_it() {
    alone(
        "connection_that_was_built_before_the_fork_can_be_opened_in_it",
        || {
            let (ours, theirs) = unix_sockets();
            let client = builder().build(ours);
            let server = builder().build(theirs);
            in_fork(|| {
                let (server, client) = (server.open().unwrap(), client.open().unwrap());
                assert_eq!(client.call(asking("x")).unwrap().payload(), b"x");
                drop(start(move || server.close()));
                client.close().into_result().unwrap();
            });
        },
    );
}
