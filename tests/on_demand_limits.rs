//! A time limit covers the waits for others that open or close a connection on demand; what waits
//! for itself there is told so.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod common;
#[path = "common/pairs.rs"]
mod pairs;

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{PATIENCE, watched};
use crossbeam_channel::{Receiver, Sender};
use packetstream::{
    Connection, ConnectionBuilder, Error, Incoming, Outcome, PendingSet, Request, Response,
    Transport,
};
use pairs::{asking, block_on, echo, start, take};
use parking_lot::Mutex;

const LIMIT: Duration = Duration::from_millis(50);

/// Longer than a limit that holds is ever late on a loaded machine, much shorter than a close here.
const SOON: Duration = Duration::from_secs(30);

fn limited() -> Request {
    asking("x").with_timeout(LIMIT)
}

/// A peer that serves until the other end goes.
fn served() -> io::Result<Transport> {
    let (ours, theirs) = UnixStream::pair()?;
    let theirs = Transport::try_from(theirs)?;
    let server = Connection::builder().handler(echo).open(theirs);
    let server = server.map_err(io::Error::other)?;
    drop(start(move || server.serve()));
    Transport::try_from(ours)
}

/// Silent peers, which go when they are cleared.
type Silent = Arc<Mutex<Vec<UnixStream>>>;

/// A connection whose first period is being closed, as long as its peer is silent; the later ones
/// are served.
fn closing(builder: ConnectionBuilder) -> (Connection, Silent) {
    let silent = Silent::default();
    let (peers, is_first) = (Arc::clone(&silent), Mutex::new(true));
    let connection = builder.build_on_demand(move || {
        if !std::mem::take(&mut *is_first.lock()) {
            return served();
        }
        let (ours, theirs) = UnixStream::pair()?;
        peers.lock().push(theirs);
        Transport::try_from(ours)
    });
    let first = asking("is never answered").with_timeout(PATIENCE);
    drop(connection.submit(first).unwrap());
    (connection, silent)
}

/// A connection that another thread has begun to open, until it is told to go on.
fn connecting() -> (Connection, Sender<()>, JoinHandle<Result<Response, Error>>) {
    let (tell, begun) = crossbeam_channel::unbounded();
    let (go, may_go) = crossbeam_channel::unbounded::<()>();
    let connection = Connection::builder().build_on_demand(move || {
        // Nobody is told of a second one, which does not wait either.
        let _ = tell.send(());
        let _ = may_go.recv_timeout(PATIENCE);
        served()
    });
    let first = connection.clone();
    let opening = start(move || first.call(asking("first")));
    take(&begun);
    (connection, go, opening)
}

type Way = fn(&Connection, Request) -> Result<Response, Error>;

/// Every way to make a request that may wait before it is made.
const WAYS: [(&str, Way); 7] = [
    ("call", |connection, request| connection.call(request)),
    ("submit", |connection, request| {
        connection.submit(request)?.wait()
    }),
    ("try_submit", |connection, request| {
        connection.try_submit(request)?.wait()
    }),
    ("wait_timeout", |connection, request| {
        let pending = connection.submit(request)?;
        pending.wait_timeout(PATIENCE).unwrap()
    }),
    ("set", |connection, request| {
        let mut set = PendingSet::from_iter([connection.submit(request)?]);
        set.next_timeout(PATIENCE).unwrap().1
    }),
    ("future", |connection, request| {
        block_on(connection.submit(request)?)
    }),
    ("callback", |connection, request| {
        let (tell, told) = crossbeam_channel::bounded(1);
        let pending = connection.submit(request)?;
        pending.on_complete(move |result| tell.send(result).unwrap());
        take(&told)
    }),
];

/// Asserts that each way, in a handler too, fails in time and says that nothing was sent.
fn assert_all_time_out(connection: &Connection, request: fn() -> Request) {
    for (way, ask) in WAYS {
        let began = Instant::now();
        let error = ask(connection, request()).unwrap_err();
        assert!(error.is_timed_out(), "{way}: {error:?}");
        assert_eq!(error.outcome(), Outcome::NotSent, "{way}");
        assert!(began.elapsed() < SOON, "{way}: {:?}", began.elapsed());
    }
    let other = connection.clone();
    let (client, _server) = pairs::client_and_server(move |_: Incoming| {
        for (way, ask) in WAYS {
            let began = Instant::now();
            let result = ask(&other, request());
            let is_right = result
                .as_ref()
                .is_err_and(|e| e.is_timed_out() && e.outcome() == Outcome::NotSent);
            if !is_right || began.elapsed() > SOON {
                return Ok(format!("{way}: {result:?}, {:?}", began.elapsed()));
            }
        }
        Ok(String::new())
    });
    let found = client.call(asking("")).unwrap();
    assert_eq!(String::from_utf8_lossy(found.payload()), "", "in a handler");
}

#[test]
fn time_limit_covers_the_wait_for_an_earlier_close() {
    watched(|| {
        for linger in [None, Some(Duration::from_secs(600))] {
            let (connection, silent) = closing(Connection::builder().linger(linger));
            assert_all_time_out(&connection, limited);
            silent.lock().clear();
            assert_eq!(connection.call(asking("y")).unwrap().payload(), b"y");
        }
    });
}

#[test]
fn default_time_limit_covers_the_wait_for_an_earlier_close() {
    watched(|| {
        let builder = Connection::builder().linger(None).timeout(Some(LIMIT));
        let (connection, silent) = closing(builder);
        assert_all_time_out(&connection, || asking("x"));
        silent.lock().clear();
        let patient = asking("y").with_timeout(PATIENCE);
        assert_eq!(connection.call(patient).unwrap().payload(), b"y");
    });
}

#[test]
fn time_limit_of_nothing_fails_at_once_while_an_earlier_close_runs() {
    watched(|| {
        let (connection, _silent) = closing(Connection::builder().linger(None));
        assert_all_time_out(&connection, || asking("x").with_timeout(Duration::ZERO));
        drop(connection.abort());
    });
}

#[test]
fn time_limit_covers_a_slow_connector_of_another_thread() {
    watched(|| {
        let (connection, go, opening) = connecting();
        assert_all_time_out(&connection, limited);
        drop(go);
        assert_eq!(opening.join().unwrap().unwrap().payload(), b"first");
        assert_eq!(connection.call(asking("y")).unwrap().payload(), b"y");
    });
}

/// What refuses a request because its time is over gives it back whole.
#[test]
fn try_submit_gives_a_request_back_whose_time_was_over_before_it_could_be_made() {
    watched(|| {
        let (connection, go, opening) = connecting();
        let request = limited().with_label("label").with_flags(5_u32);
        let refused = connection.try_submit(request).unwrap_err();
        assert!(refused.error().is_timed_out() && !refused.is_full());
        let request = refused.into_request();
        assert_eq!(request.payload(), b"x");
        assert_eq!(request.label(), Some("label"));
        drop(go);
        opening.join().unwrap().unwrap();
    });
}

/// The connector is the application's, and runs on the thread that asks.
#[test]
fn request_whose_own_connector_took_too_long_is_not_sent() {
    watched(|| {
        let received = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&received);
        let connection = Connection::builder().build_on_demand(move || {
            let began = Instant::now();
            let (_keep, never) = crossbeam_channel::bounded::<()>(0);
            let _ = never.recv_deadline(began + 2 * LIMIT);
            let (ours, theirs) = Transport::pair();
            let count = Arc::clone(&count);
            let server = Connection::builder().handler(move |incoming: Incoming| {
                count.fetch_add(1, SeqCst);
                echo(incoming)
            });
            let server = server.open(theirs).map_err(io::Error::other)?;
            drop(start(move || server.serve()));
            Ok(ours)
        });
        for (way, ask) in WAYS {
            let error = ask(&connection, limited()).unwrap_err();
            assert!(error.is_timed_out(), "{way}: {error:?}");
            assert_eq!(error.outcome(), Outcome::NotSent, "{way}");
            assert!(connection.wait_closed().into_result().is_ok(), "{way}");
        }
        assert_eq!(received.load(SeqCst), 0);
    });
}

/// Everything that a connector may call of its own connection, and what it is told.
fn call_all(connection: &Connection) -> Vec<(&'static str, Error)> {
    let refused = |error: Option<Error>| error.expect("it cannot be open");
    let mut all = vec![
        ("open", refused(connection.open().err())),
        ("submit", refused(connection.submit(asking("x")).err())),
        ("call", refused(connection.call(asking("x")).err())),
        ("limited", refused(connection.call(limited()).err())),
    ];
    let full = connection.try_submit(asking("x")).err();
    all.push(("try_submit", refused(full.map(Error::from))));
    // Whatever these say, they return.
    let _ = (connection.finish_requests(), connection.end_stream());
    let _ = (connection.stats(), connection.is_open(), connection.name());
    let _ = connection.wait_end_of_stream();
    drop(connection.wait_closed());
    drop(connection.shutdown(None));
    drop(connection.abort());
    all
}

#[test]
fn connector_that_uses_its_own_connection_is_told_that_it_would_wait_for_itself() {
    watched(|| {
        let own: Arc<OnceLock<Connection>> = Arc::default();
        let (tell, told) = crossbeam_channel::unbounded();
        let inner = Arc::clone(&own);
        let connection = Connection::builder().build_on_demand(move || {
            tell.send(call_all(inner.get().unwrap())).unwrap();
            served()
        });
        own.set(connection.clone()).unwrap();
        // In later periods there is a last session that these could wait for.
        for _ in 0..3 {
            assert_eq!(connection.call(asking("y")).unwrap().payload(), b"y");
            for (what, error) in take(&told) {
                assert!(
                    matches!(error, Error::WouldDeadlock(_)),
                    "{what}: {error:?}"
                );
                assert_eq!(error.outcome(), Outcome::NotSent, "{what}");
            }
            drop(connection.wait_closed());
        }
    });
}

#[test]
fn connectors_that_use_each_other_are_told_that_they_would_wait_for_themselves() {
    watched(|| {
        let both: Arc<OnceLock<[Connection; 2]>> = Arc::default();
        let (tell, told) = crossbeam_channel::unbounded();
        let ends = [0, 1].map(|number| {
            let (both, tell) = (Arc::clone(&both), tell.clone());
            Connection::builder().build_on_demand(move || {
                let other = &both.get().unwrap()[1 - number];
                if let Err(error) = other.call(asking("x")) {
                    tell.send(error).unwrap();
                }
                served()
            })
        });
        assert!(both.set(ends.clone()).is_ok());
        assert_eq!(ends[0].call(asking("y")).unwrap().payload(), b"y");
        let error = take(&told);
        assert!(matches!(error, Error::WouldDeadlock(_)), "{error:?}");
    });
}

/// Nobody who waits for an attempt is left behind by one that fails.
#[test]
fn those_who_wait_for_an_attempt_that_fails_or_panics_connect_themselves() {
    watched(|| {
        for panics in [false, true] {
            let attempts = AtomicUsize::new(0);
            let (tell, begun): (_, Receiver<()>) = crossbeam_channel::unbounded();
            let (go, may_go) = crossbeam_channel::unbounded::<()>();
            let connection = Connection::builder().build_on_demand(move || {
                if attempts.fetch_add(1, SeqCst) > 0 {
                    return served();
                }
                tell.send(()).unwrap();
                let _ = may_go.recv_timeout(PATIENCE);
                assert!(!panics, "expected by the test: a connector panics");
                Err(io::Error::other("nobody at home"))
            });
            let opening = connection.clone();
            let first = start(move || opening.call(asking("x")).is_err());
            take(&begun);
            let others: Vec<_> = (0..4)
                .map(|_| {
                    let connection = connection.clone();
                    start(move || connection.call(asking("y")).map(Response::into_payload))
                })
                .collect();
            drop(go);
            assert_eq!(first.join().is_err(), panics);
            for other in others {
                assert_eq!(other.join().unwrap().unwrap(), b"y");
            }
        }
    });
}
