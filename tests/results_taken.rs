//! An answer is taken once: what comes after that says so, and what is dropped leaves nothing behind.
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

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use common::watched;
use packetstream::{
    BoxError, Connection, Error, OpenGuard, Outcome, PendingResponse, PendingSet, Request, Response,
};
use pairs::{OnWake, ScriptedPeer, asking, block_on, client_and_server, echo, take};

const LONG: Duration = Duration::from_secs(3600);

type Answer = Result<Response, Error>;

fn opened() -> (OpenGuard, ScriptedPeer) {
    let (transport, peer) = ScriptedPeer::new();
    let guard = Connection::builder()
        .linger(Some(Duration::ZERO))
        .open(transport)
        .unwrap();
    (guard, peer)
}

/// The requests of these tests: without and with a time limit.
fn requests() -> [Request; 2] {
    [asking("x"), asking("x").with_timeout(LONG)]
}

fn call_back(pending: PendingResponse) -> Answer {
    let (tell, told) = crossbeam_channel::bounded(1);
    pending.on_complete(move |answer| tell.send(answer).unwrap());
    told.try_recv().expect("it is called at once")
}

type TakeAgain = (&'static str, fn(PendingResponse) -> Answer);

const TAKE_AGAIN: [TakeAgain; 9] = [
    ("wait", PendingResponse::wait),
    ("wait for a time", |pending| {
        pending.wait_timeout(Duration::ZERO).expect("it is over")
    }),
    ("wait until", |pending| {
        pending.wait_deadline(Instant::now()).expect("it is over")
    }),
    ("await", |pending| block_on(pending)),
    ("callback", call_back),
    ("set", |pending| {
        PendingSet::from_iter([pending]).next().expect("one").1
    }),
    ("all of a set", |pending| {
        PendingSet::from_iter([pending]).wait_all().remove(0)
    }),
    ("decoded wait", |pending| {
        pending.and_then(Ok::<_, BoxError>).wait()
    }),
    ("decoded callback", |pending| {
        call_back(pending.and_then(Ok::<_, BoxError>))
    }),
];

#[test]
fn whatever_takes_a_taken_answer_is_told_so() {
    for (way, take_again) in TAKE_AGAIN {
        watched(move || {
            let (client, _server) = client_and_server(echo);
            for request in requests() {
                let mut pending = client.submit(request).unwrap();
                block_on(&mut pending).unwrap();
                assert!(pending.is_finished(), "{way}");
                assert!(!pending.canceller().cancel(), "{way}");
                let error = take_again(pending).expect_err(way);
                assert!(matches!(error, Error::Taken), "{way}: {error:?}");
            }
        });
    }
}

#[test]
fn cancelling_what_was_taken_says_that_it_may_have_run() {
    watched(|| {
        let (client, _server) = client_and_server(echo);
        for request in requests() {
            let mut pending = client.submit(request).unwrap();
            let canceller = pending.canceller();
            block_on(&mut pending).unwrap();
            assert!(!canceller.cancel());
            assert_eq!(pending.cancel(), Outcome::Unknown);
        }
    });
}

#[test]
fn what_was_taken_holds_no_connection_open() {
    watched(|| {
        let (client, _server) = client_and_server(echo);
        let connection = Connection::clone(&client);
        let mut pending = client.submit(asking("x")).unwrap();
        block_on(&mut pending).unwrap();
        drop(client);
        assert!(!connection.is_open());
        assert!(matches!(call_back(pending), Err(Error::Taken)));
    });
}

/// A value that the test can tell whether it has been dropped.
fn tracked() -> (Arc<()>, Arc<()>) {
    let held = Arc::new(());
    (Arc::clone(&held), held)
}

fn is_let_go(held: &Arc<()>) -> bool {
    Arc::strong_count(held) == 1
}

/// Polls once, with a waker that holds a value.
fn poll_with(pending: &mut PendingResponse, holding: Arc<()>) {
    let waker = OnWake::waker(move || drop(holding));
    let polled = Pin::new(pending).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
}

/// Each way to give a response up after a poll, and what of it must outlive that.
type Leave = (&'static str, fn(PendingResponse) -> Option<PendingResponse>);

const LEAVE: [Leave; 6] = [
    ("drop", |pending| {
        drop(pending);
        None
    }),
    ("cancel", |pending| {
        pending.cancel();
        None
    }),
    ("canceller", |pending| {
        pending.canceller().cancel();
        Some(pending)
    }),
    ("poll with another waker", |mut pending| {
        let polled = Pin::new(&mut pending).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        Some(pending)
    }),
    ("callback", |pending| {
        pending.on_complete(drop);
        None
    }),
    ("set", |pending| {
        let mut set = PendingSet::from_iter([pending]);
        assert!(set.next_timeout(Duration::ZERO).is_none());
        None
    }),
];

#[test]
fn a_future_leaves_no_waker_behind_though_no_answer_comes() {
    for (way, leave) in LEAVE {
        watched(move || {
            let (guard, _peer) = opened();
            for request in requests() {
                let (holding, held) = tracked();
                let mut pending = guard.submit(request).unwrap();
                poll_with(&mut pending, holding);
                assert!(!is_let_go(&held), "{way}");
                let _left = leave(pending);
                assert!(is_let_go(&held), "{way}");
            }
        });
    }
}

#[test]
fn a_decoded_future_leaves_no_waker_behind_either() {
    watched(|| {
        let (guard, _peer) = opened();
        let (holding, held) = tracked();
        let mut pending = guard.submit(asking("x")).unwrap();
        poll_with(&mut pending, holding);
        let decoded = pending.and_then(Ok::<_, BoxError>);
        assert!(!is_let_go(&held), "it may still be woken");
        drop(decoded);
        assert!(is_let_go(&held));
    });
}

#[test]
fn a_wait_that_runs_out_leaves_the_waker_of_an_earlier_poll_in_its_place() {
    watched(|| {
        let (guard, mut peer) = opened();
        let (tell, told) = crossbeam_channel::unbounded();
        let waker = OnWake::waker(move || tell.send(()).unwrap());
        let mut pending = guard.submit(asking("x")).unwrap();
        let polled = Pin::new(&mut pending).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        let pending = pending.wait_timeout(Duration::ZERO).unwrap_err();
        let request = peer.request();
        peer.answer(&request, "y");
        take(&told);
        assert_eq!(pending.wait().unwrap().payload(), b"y");
    });
}

#[test]
fn a_waker_may_call_everything_when_it_is_dropped_with_its_future() {
    struct Calls(Connection, crossbeam_channel::Sender<bool>);
    impl Drop for Calls {
        fn drop(&mut self) {
            let pending = self.0.submit(asking("from a drop")).unwrap();
            self.1.send(pending.is_finished()).unwrap();
        }
    }
    watched(|| {
        let (guard, _peer) = opened();
        let (tell, told) = crossbeam_channel::unbounded();
        let calls = Calls(Connection::clone(&guard), tell);
        let waker = OnWake::waker(move || drop(calls));
        let mut pending = guard.submit(asking("x").with_timeout(LONG)).unwrap();
        let polled = Pin::new(&mut pending).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        drop(waker);
        drop(pending);
        assert!(!take(&told));
    });
}

#[test]
fn the_callback_of_a_cancelled_request_is_called_and_let_go() {
    watched(|| {
        let (guard, mut peer) = opened();
        for request in requests() {
            let (holding, held) = tracked();
            let pending = guard.submit(request).unwrap();
            let canceller = pending.canceller();
            let (tell, told) = crossbeam_channel::unbounded();
            pending.on_complete(move |answer| {
                tell.send(answer).unwrap();
                drop(holding);
            });
            peer.request();
            assert!(canceller.cancel());
            assert!(take(&told).unwrap_err().is_cancelled());
            assert!(told.recv().is_err(), "nothing is left of it");
            assert!(is_let_go(&held));
        }
    });
}
