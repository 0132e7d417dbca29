//! The time of a request holds for futures and callbacks too, in which no thread waits.
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
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::watched;
use crossbeam_channel::{Receiver, Sender};
use packetstream::{
    BoxError, Connection, ConnectionBuilder, Error, OpenGuard, Outcome, PendingResponse,
    PendingSet, Request, Response,
};
use pairs::{OnWake, ScriptedPeer, answer_to, asking, block_on, start, take};

const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(3600);

type Answer = Result<Response, Error>;
/// One way to get an answer.
type Take = fn(PendingResponse) -> Answer;

fn opened_with(
    configure: impl FnOnce(ConnectionBuilder) -> ConnectionBuilder,
) -> (OpenGuard, ScriptedPeer) {
    let (transport, peer) = ScriptedPeer::new();
    let builder = Connection::builder().linger(Some(Duration::ZERO));
    (configure(builder).open(transport).unwrap(), peer)
}

fn opened() -> (OpenGuard, ScriptedPeer) {
    opened_with(|builder| builder)
}

fn within(time: Duration) -> Request {
    asking("x").with_timeout(time)
}

fn call_back(pending: PendingResponse) -> Receiver<(Answer, String)> {
    let (tell, told): (Sender<(Answer, String)>, _) = crossbeam_channel::unbounded();
    pending.on_complete(move |answer| {
        let name = thread::current().name().unwrap_or_default().to_owned();
        tell.send((answer, name)).unwrap();
    });
    told
}

fn poll(pending: &mut PendingResponse, waker: &Waker) -> bool {
    let pending = Pin::new(pending);
    pending.poll(&mut Context::from_waker(waker)).is_ready()
}

/// Submits a request and polls once, before its time is over, with a waker that tells on which
/// thread it is woken.
fn polled(guard: &Connection, request: &Request) -> (PendingResponse, Receiver<String>) {
    loop {
        let (tell, told) = crossbeam_channel::unbounded();
        let waker = OnWake::waker(move || {
            let name = thread::current().name().unwrap_or_default().to_owned();
            tell.send(name).unwrap();
        });
        let mut pending = guard.submit(request.clone()).unwrap();
        if !poll(&mut pending, &waker) {
            return (pending, told);
        }
    }
}

const WAYS: [(&str, Take); 8] = [
    ("wait", PendingResponse::wait),
    ("wait with a longer time", |pending| {
        pending.wait_timeout(LONG).expect("an hour is not over")
    }),
    ("wait until later", |pending| {
        let later = Instant::now() + LONG;
        pending.wait_deadline(later).expect("an hour is not over")
    }),
    ("await", |pending| block_on(pending)),
    ("await a decoded answer", |pending| {
        block_on(pending.and_then(Ok::<_, BoxError>))
    }),
    ("callback", |pending| take(&call_back(pending)).0),
    ("set", |pending| {
        PendingSet::from_iter([pending]).next().expect("one").1
    }),
    ("set of one that was polled", |mut pending| {
        match Pin::new(&mut pending).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => {}
        }
        PendingSet::from_iter([pending]).wait_all().remove(0)
    }),
];

#[test]
fn whatever_takes_the_answer_its_time_holds() {
    for (way, take_answer) in WAYS {
        watched(move || {
            let (guard, mut peer) = opened();
            // On a busy machine the time may be over before the request is sent.
            let mut time = SHORT;
            let error = loop {
                let pending = guard.submit(within(time)).unwrap();
                let error = take_answer(pending).expect_err(way);
                assert!(matches!(error, Error::TimedOut(_)), "{way}: {error:?}");
                if error.outcome() != Outcome::NotSent {
                    break error;
                }
                time *= 2;
            };
            assert_eq!(error.outcome(), Outcome::Unknown, "{way}");
            // None of those has been sent that were said not to be.
            assert_eq!(peer.request().payload(), b"x", "{way}");
            let _after = guard.submit(asking("after")).unwrap();
            assert_eq!(peer.request().payload(), b"after", "{way}");
        });
    }
}

#[test]
fn the_connections_own_time_holds_whatever_takes_the_answer() {
    for (way, take_answer) in WAYS {
        watched(move || {
            let (guard, _peer) = opened_with(|builder| builder.timeout(Some(SHORT)));
            let error = take_answer(guard.submit(asking("x")).unwrap()).expect_err(way);
            assert!(error.is_timed_out(), "{way}: {error:?}");
        });
    }
}

#[test]
fn an_answer_in_time_is_delivered_whatever_takes_it() {
    for (way, take_answer) in WAYS {
        watched(move || {
            let (guard, mut peer) = opened();
            let pending = guard.submit(within(LONG)).unwrap();
            let taking = start(move || take_answer(pending));
            let request = peer.request();
            peer.answer(&request, "y");
            assert_eq!(taking.join().unwrap().expect(way).payload(), b"y");
        });
    }
}

#[test]
fn a_request_whose_time_is_over_is_finished() {
    watched(|| {
        let (guard, _peer) = opened();
        let pending = guard.submit(within(SHORT)).unwrap();
        while !pending.is_finished() {
            thread::yield_now();
        }
        assert!(pending.wait().unwrap_err().is_timed_out());
        let (pending, woken) = polled(&guard, &within(SHORT));
        take(&woken);
        assert!(pending.is_finished());
        assert!(block_on(pending).unwrap_err().is_timed_out());
        assert!(!guard.submit(within(LONG)).unwrap().is_finished());
    });
}

#[test]
fn a_callback_is_called_once_on_its_thread_and_a_late_answer_dropped() {
    watched(|| {
        let (guard, mut peer) = opened();
        let mut time = SHORT;
        let (told, name) = loop {
            let told = call_back(guard.submit(within(time)).unwrap());
            let (answer, name) = take(&told);
            if answer.unwrap_err().outcome() == Outcome::Unknown {
                break (told, name);
            }
            time *= 2;
        };
        assert!(name.ends_with(":callbacks"), "{name}");
        let request = peer.request();
        let next = guard.submit(asking("next")).unwrap();
        let next_request = peer.request();
        peer.send(&[
            answer_to(&request, "late"),
            answer_to(&next_request, "in time"),
        ]);
        assert_eq!(next.wait().unwrap().payload(), b"in time");
        assert!(told.recv().is_err(), "it is called once and then dropped");
        assert_eq!(guard.stats().late_responses, 1);
    });
}

#[test]
fn a_deadline_earlier_than_all_others_holds() {
    watched(|| {
        let (guard, _peer) = opened();
        let (_first, first_woken) = polled(&guard, &within(LONG));
        let told = call_back(guard.submit(within(LONG / 2)).unwrap());
        assert!(block_on(guard.submit(within(SHORT)).unwrap()).is_err());
        let (_last, woken) = polled(&guard, &within(SHORT));
        assert!(take(&woken).ends_with(":timer"));
        assert!(first_woken.is_empty() && told.is_empty());
    });
}

#[test]
fn many_deadlines_hold_each_at_its_time() {
    watched(|| {
        let (guard, _peer) = opened();
        let mut random = fastrand::Rng::with_seed(13);
        let told: Vec<_> = (0..1_000)
            .map(|_| {
                let time = Duration::from_millis(random.u64(0..300));
                let begun = Instant::now();
                let pending = guard.submit(within(time)).unwrap();
                let (tell, told) = crossbeam_channel::unbounded();
                pending.on_complete(move |answer| {
                    tell.send((answer, begun.elapsed() >= time)).unwrap();
                });
                told
            })
            .collect();
        for told in told {
            let (answer, was_over) = take(&told);
            assert!(answer.unwrap_err().is_timed_out());
            assert!(was_over, "no earlier than asked for");
        }
    });
}

#[test]
fn a_callback_that_blocks_keeps_no_deadline_from_holding() {
    watched(|| {
        let (guard, _peer) = opened();
        let (release, released) = crossbeam_channel::bounded::<()>(0);
        let (arrive, arrived) = crossbeam_channel::unbounded();
        let blocking = guard.submit(within(SHORT)).unwrap();
        blocking.on_complete(move |_| {
            arrive.send(()).unwrap();
            let _ = released.recv();
        });
        take(&arrived);
        let later = call_back(guard.submit(within(SHORT)).unwrap());
        for _ in 0..10 {
            let error = block_on(guard.submit(within(SHORT)).unwrap()).unwrap_err();
            assert!(error.is_timed_out());
        }
        assert!(later.is_empty(), "callbacks run one at a time");
        drop(release);
        assert!(take(&later).0.unwrap_err().is_timed_out());
    });
}

#[test]
fn a_callback_may_await_what_times_out() {
    watched(|| {
        let (guard, _peer) = opened();
        let connection = Connection::clone(&guard);
        let (tell, told) = crossbeam_channel::unbounded();
        guard.submit(within(SHORT)).unwrap().on_complete(move |_| {
            let pending = connection.submit(within(SHORT)).unwrap();
            tell.send(block_on(pending)).unwrap();
        });
        assert!(take(&told).unwrap_err().is_timed_out());
    });
}

#[test]
fn wakers_and_callbacks_that_panic_keep_no_deadline_from_holding() {
    watched(|| {
        let (guard, _peer) = opened();
        let mut held = Vec::new();
        for _ in 0..10 {
            let mut pending = guard.submit(within(SHORT)).unwrap();
            poll(
                &mut pending,
                &OnWake::waker(|| panic!("expected by the test")),
            );
            held.push(pending);
            let pending = guard.submit(within(SHORT)).unwrap();
            pending.on_complete(|_| panic!("expected by the test"));
        }
        for _ in 0..10 {
            assert!(block_on(guard.submit(within(SHORT)).unwrap()).is_err());
            assert!(
                take(&call_back(guard.submit(within(SHORT)).unwrap()))
                    .0
                    .is_err()
            );
        }
    });
}

#[test]
fn a_waker_may_drop_the_last_reference() {
    watched(|| {
        let (guard, _peer) = opened();
        let connection = Connection::clone(&guard);
        let mut pending = guard.submit(within(SHORT)).unwrap();
        let (tell, told) = crossbeam_channel::unbounded();
        let waker = OnWake::waker(move || {
            drop(guard);
            tell.send(()).unwrap();
        });
        if !poll(&mut pending, &waker) {
            take(&told);
        }
        drop((waker, pending));
        let _ = connection.wait_closed();
        assert!(!connection.is_open());
    });
}

#[test]
fn a_callback_whose_time_is_over_lets_the_last_reference_go() {
    watched(|| {
        let (guard, _peer) = opened();
        let connection = Connection::clone(&guard);
        let told = call_back(guard.submit(within(SHORT)).unwrap());
        drop(guard);
        assert!(take(&told).0.unwrap_err().is_timed_out());
        let _ = connection.wait_closed();
        assert!(!connection.is_open());
    });
}

/// An answer and the deadline at the same moment: one of them wins, and the other does nothing.
#[test]
fn answer_and_deadline_settle_a_request_once() {
    watched(|| {
        let (guard, mut peer) = opened();
        let (mut answered, mut given_up, mut calls) = (0, 0, 0_u64);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(1) {
            let callback = call_back(guard.submit(within(SHORT / 10)).unwrap());
            let future = guard.submit(within(SHORT / 10)).unwrap();
            let awaiting = start(move || block_on(future));
            let last = guard.submit(asking("last")).unwrap();
            loop {
                let request = peer.request();
                peer.answer(&request, "");
                calls += 1;
                if request.payload() == b"last" {
                    break;
                }
            }
            last.wait().unwrap();
            for answer in [take(&callback).0, awaiting.join().unwrap()] {
                match answer {
                    Ok(_) => answered += 1,
                    Err(Error::TimedOut(Outcome::Unknown)) => given_up += 1,
                    Err(Error::TimedOut(Outcome::NotSent)) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            assert!(callback.recv().is_err(), "it is called once");
            calls -= 1;
        }
        assert_eq!(calls, answered + given_up, "none that was not sent was run");
        assert_eq!(guard.stats().late_responses, given_up);
    });
}

fn timers_of(name: &str) -> usize {
    pairs::threads_named(&format!("{name}:timer"))
}

/// A thread has no name in its first moment, and one that has been joined is listed a moment longer.
fn wait_for_timers_of(name: &str, number: usize) {
    while timers_of(name) != number {
        thread::yield_now();
    }
}

#[test]
fn no_thread_is_started_for_those_who_wait_themselves_or_have_no_limit() {
    watched(|| {
        let name = "lean";
        let (guard, mut peer) = opened_with(|builder| builder.name(name));
        assert!(guard.call(within(SHORT)).is_err());
        let set = PendingSet::from_iter([guard.submit(within(SHORT)).unwrap()]);
        assert!(set.wait_all()[0].is_err());
        let (pending, woken) = polled(&guard, &asking("x"));
        guard.submit(asking("x")).unwrap().on_complete(drop);
        drop(guard.submit(within(LONG)).unwrap());
        assert_eq!(timers_of(name), 0);
        // It is seen if there is one.
        let (limited, _) = polled(&guard, &within(LONG));
        wait_for_timers_of(name, 1);
        assert!(woken.is_empty());
        drop((pending, limited));
        peer.goodbye();
        let _ = guard.close();
        wait_for_timers_of(name, 0);
    });
}

#[test]
fn a_forced_end_does_not_wait_for_deadlines() {
    for aborts in [false, true] {
        watched(move || {
            let name = if aborts { "abort" } else { "force" };
            let (guard, _peer) = opened_with(|builder| builder.name(name));
            let told = call_back(guard.submit(within(LONG)).unwrap());
            let (pending, woken) = polled(&guard, &within(LONG));
            let _ = if aborts {
                guard.abort()
            } else {
                guard.shutdown(Some(SHORT))
            };
            assert!(take(&told).0.unwrap_err().is_closed());
            take(&woken);
            assert!(block_on(pending).unwrap_err().is_closed());
            wait_for_timers_of(name, 0);
        });
    }
}
