//! A pending response settles once, for every kind of waiter, whatever happens.
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

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Context;
use std::thread;
use std::time::{Duration, Instant};

use common::watched;
use packetstream::{
    BoxError, Connection, Error, Incoming, OpenGuard, Outcome, Packet, PendingResponse, PendingSet,
    Rejection, Response,
};
use pairs::{
    OnWake, ScriptedPeer, answer_to, asking, block_on, client_and_server, echo, start, take,
};

type BoxedWait = Box<dyn FnOnce() -> Result<Response, Error> + Send>;

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(10);

fn opened() -> (OpenGuard, ScriptedPeer) {
    let (transport, peer) = ScriptedPeer::new();
    let guard = Connection::builder()
        .linger(Some(Duration::ZERO))
        .open(transport)
        .unwrap();
    (guard, peer)
}

/// Returns when the receiver has acted on everything that the peer sent before.
fn catch_up(guard: &OpenGuard, peer: &mut ScriptedPeer) {
    let pending = guard.submit(asking("are you there")).unwrap();
    let request = peer.request();
    peer.answer(&request, "");
    pending.wait().unwrap();
}

#[test]
fn a_wait_that_is_over_too_early_gives_the_response_back() {
    watched(|| {
        let (guard, mut peer) = opened();
        let pending = guard.submit(asking("x")).unwrap();
        let request = peer.request();
        let pending = pending.wait_timeout(SHORT).unwrap_err();
        let pending = pending.wait_timeout(Duration::ZERO).unwrap_err();
        let pending = pending.wait_deadline(Instant::now()).unwrap_err();
        assert!(!pending.is_finished());
        peer.answer(&request, "y");
        let answer = pending
            .wait_deadline(Instant::now() + LONG)
            .expect("it was answered");
        assert_eq!(answer.unwrap().payload(), b"y");
    });
}

#[test]
fn a_finished_response_is_there_without_waiting() {
    watched(|| {
        let (guard, mut peer) = opened();
        let pending = guard.submit(asking("x")).unwrap();
        assert!(!pending.is_finished());
        let request = peer.request();
        peer.answer(&request, "y");
        catch_up(&guard, &mut peer);
        assert!(pending.is_finished());
        let answer = pending
            .wait_timeout(Duration::ZERO)
            .expect("it is finished");
        assert_eq!(answer.unwrap().payload(), b"y");
    });
}

#[test]
fn a_canceller_wakes_whoever_waits() {
    type Wait = fn(PendingResponse) -> Result<Response, Error>;
    let waits: [Wait; 5] = [
        PendingResponse::wait,
        |pending| pending.wait_timeout(LONG).expect("an hour is not over"),
        |pending| pending.and_then(Ok::<_, BoxError>).wait(),
        |pending| block_on(pending),
        |pending| PendingSet::from_iter([pending]).next().expect("one").1,
    ];
    for wait in waits {
        watched(move || {
            let (guard, mut peer) = opened();
            let pending = guard.submit(asking("x")).unwrap();
            let canceller = pending.canceller();
            let again = canceller.clone();
            let waiting = start(move || wait(pending));
            peer.request();
            assert!(canceller.cancel());
            assert!(!again.cancel(), "it is cancelled already");
            let error = waiting.join().unwrap().unwrap_err();
            assert!(error.is_cancelled(), "{error:?}");
            assert_eq!(
                error.outcome(),
                Outcome::Unknown,
                "the peer has the request"
            );
        });
    }
}

#[test]
fn a_canceller_of_an_answered_request_does_nothing() {
    watched(|| {
        let (guard, mut peer) = opened();
        let pending = guard.submit(asking("x")).unwrap();
        let canceller = pending.canceller();
        let request = peer.request();
        peer.answer(&request, "y");
        catch_up(&guard, &mut peer);
        assert!(!canceller.cancel());
        assert_eq!(pending.wait().unwrap().payload(), b"y");
        assert!(!canceller.cancel());
    });
}

#[test]
fn a_late_answer_after_a_cancel_is_dropped_counted_and_disturbs_nobody() {
    watched(|| {
        let (guard, mut peer) = opened();
        let cancelled = guard.submit(asking("a")).unwrap();
        let other = guard.submit(asking("b")).unwrap();
        let (first, second) = (peer.request(), peer.request());
        let _ = cancelled.cancel();
        peer.send(&[answer_to(&first, "late"), answer_to(&second, "in time")]);
        assert_eq!(other.wait().unwrap().payload(), b"in time");
        catch_up(&guard, &mut peer);
        assert_eq!(guard.stats().late_responses, 1);
        peer.goodbye();
        assert_eq!(guard.close().late_responses(), 1);
    });
}

#[test]
fn an_answer_to_no_request_is_dropped_and_counted() {
    watched(|| {
        let (guard, mut peer) = opened();
        catch_up(&guard, &mut peer);
        peer.send(&[answer_to(&pairs::request_packet(77, ""), "what?")]);
        catch_up(&guard, &mut peer);
        assert_eq!(guard.stats().late_responses, 1);
    });
}

#[test]
fn answers_find_their_requests_in_any_order() {
    watched(|| {
        let (guard, mut peer) = opened();
        let pending: Vec<_> = (0..100_u8)
            .map(|n| guard.submit(asking([n])).unwrap())
            .collect();
        let mut answers: Vec<Packet> = (0..100)
            .map(|_| {
                let request = peer.request();
                answer_to(&request, [request.payload(), b"!"].concat())
            })
            .collect();
        fastrand::Rng::with_seed(100).shuffle(&mut answers);
        peer.send(&answers);
        for (n, pending) in (0..100_u8).zip(pending) {
            assert_eq!(pending.wait().unwrap().payload(), [n, b'!']);
        }
    });
}

#[test]
fn a_label_stays_with_its_response() {
    watched(|| {
        let (client, _server) = client_and_server(echo);
        let labelled = client.submit(asking("x").with_label("the first")).unwrap();
        assert_eq!(labelled.label(), Some("the first"));
        assert_eq!(client.submit(asking("x")).unwrap().label(), None);
        labelled.wait().unwrap();
    });
}

#[test]
fn and_then_decodes_on_the_waiters_thread() {
    watched(|| {
        let (client, _server) = client_and_server(echo);
        let pending = client
            .submit(asking("42"))
            .unwrap()
            .and_then(|response| String::from_utf8(response.into_payload()))
            .and_then(|text| {
                text.parse::<u32>()
                    .map(|number| (number, thread::current().id()))
            });
        assert_eq!(pending.wait().unwrap(), (42, thread::current().id()));
    });
}

#[test]
fn a_decode_function_that_refuses_fails_that_response_only() {
    watched(|| {
        let (client, _server) = client_and_server(echo);
        let pending = client
            .submit(asking("not a number"))
            .unwrap()
            .and_then(|response| response.payload().len().checked_sub(100).ok_or("too short"));
        let error = pending.wait().unwrap_err();
        let Error::Payload(cause) = &error else {
            panic!("not an error of the payload: {error:?}");
        };
        assert_eq!(cause.to_string(), "too short");
        assert!(std::error::Error::source(&error).is_some());
        client.call(asking("next")).unwrap();
    });
}

#[test]
fn a_decode_function_is_not_called_for_a_failure() {
    watched(|| {
        let (client, _server) = client_and_server(|_: Incoming| -> Result<(), BoxError> {
            Err(Rejection::new("no").into())
        });
        let pending = client
            .submit(asking("x"))
            .unwrap()
            .and_then(|_| -> Result<(), BoxError> { panic!("there is nothing to decode") });
        assert!(pending.wait().unwrap_err().is_rejected());
    });
}

#[test]
fn a_decode_function_that_panics_does_not_hurt_the_connection() {
    watched(|| {
        let (client, _server) = client_and_server(echo);
        let pending = client
            .submit(asking("x"))
            .unwrap()
            .and_then(|_| -> Result<(), BoxError> { panic!("expected by the test") });
        let waited = catch_unwind(AssertUnwindSafe(|| pending.wait()));
        assert!(!matches!(waited, Ok(Ok(()))));
        assert_eq!(client.call(asking("next")).unwrap().payload(), b"next");
        assert!(client.close().into_result().is_ok());
    });
}

/// The callback is the only one who could tell what became of the request.
#[test]
fn a_decode_function_that_panics_is_an_error_for_the_callback() {
    watched(|| {
        let (client, _server) = client_and_server(echo);
        let (tell, told) = crossbeam_channel::unbounded();
        let pending = client.submit(asking("x")).unwrap();
        let pending = pending.and_then(|_| -> Result<(), BoxError> { panic!("decoding") });
        pending.on_complete(move |result| tell.send(result).unwrap());
        let error = take(&told).unwrap_err();
        assert!(matches!(error, Error::Payload(_)), "{error:?}");
    });
}

#[test]
fn a_future_is_woken_by_the_answer() {
    watched(|| {
        let (guard, mut peer) = opened();
        let pending = guard.submit(asking("x")).unwrap();
        let waiting = start(move || block_on(pending));
        let request = peer.request();
        peer.answer(&request, "y");
        assert_eq!(waiting.join().unwrap().unwrap().payload(), b"y");
        let pending = guard.submit(asking("x")).unwrap();
        let decoded =
            start(move || block_on(pending.and_then(|r| String::from_utf8(r.into_payload()))));
        let request = peer.request();
        peer.answer(&request, "z");
        assert_eq!(decoded.join().unwrap().unwrap(), "z");
    });
}

#[test]
fn a_future_whose_answer_was_taken_says_so_and_nothing_of_the_request() {
    // The answer came, so it would be wrong to say that the request was not sent.
    watched(|| {
        let (client, _server) = client_and_server(echo);
        let mut pending = pin!(client.submit(asking("x")).unwrap());
        block_on(pending.as_mut()).unwrap();
        let error = block_on(pending).unwrap_err();
        assert!(matches!(error, Error::Taken), "{error:?}");
        assert!(error.is_caller() && !error.is_closed());
        assert_eq!(error.outcome(), Outcome::Unknown);
    });
}

#[test]
fn a_set_yields_a_future_whose_answer_was_taken_as_such() {
    watched(|| {
        let (client, _server) = client_and_server(echo);
        let mut pending = client.submit(asking("x")).unwrap();
        block_on(&mut pending).unwrap();
        let (_, answer) = PendingSet::from_iter([pending]).next().expect("one");
        assert!(matches!(answer, Err(Error::Taken)), "{answer:?}");
    });
}

#[test]
fn only_the_last_waker_of_a_future_is_woken() {
    watched(|| {
        let (guard, mut peer) = opened();
        let (report, reports) = crossbeam_channel::unbounded();
        let mut pending = pin!(guard.submit(asking("x")).unwrap());
        for n in 0..2 {
            let report = report.clone();
            let waker = OnWake::waker(move || report.send(n).unwrap());
            assert!(
                pending
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
        }
        let request = peer.request();
        peer.answer(&request, "y");
        assert_eq!(take(&reports), 1);
        catch_up(&guard, &mut peer);
        assert!(reports.is_empty());
    });
}

#[test]
fn a_set_yields_in_the_order_of_completion() {
    watched(|| {
        let (guard, mut peer) = opened();
        let mut set = PendingSet::new();
        for n in 0..3_u8 {
            assert_eq!(
                set.insert(guard.submit(asking([n])).unwrap()),
                usize::from(n)
            );
        }
        assert_eq!(set.len(), 3);
        let requests = [peer.request(), peer.request(), peer.request()];
        for n in [2, 0, 1] {
            peer.answer(&requests[n], requests[n].payload());
        }
        let order: Vec<usize> = set
            .by_ref()
            .map(|(number, answer)| {
                assert_eq!(usize::from(answer.unwrap().payload()[0]), number);
                number
            })
            .collect();
        assert_eq!(order, [2, 0, 1]);
        assert!(set.is_empty() && set.next().is_none());
    });
}

#[test]
fn a_set_spans_connections_and_gathers_in_the_order_of_insertion() {
    watched(|| {
        let (first, mut first_peer) = opened();
        let (second, mut second_peer) = opened();
        let guards = [&first, &second];
        let set: PendingSet<Response> = (0..4_u8)
            .map(|n| guards[usize::from(n % 2)].submit(asking([n])).unwrap())
            .collect();
        for peer in [&mut second_peer, &mut first_peer] {
            let requests = [peer.request(), peer.request()];
            peer.answer(&requests[1], requests[1].payload());
            peer.answer(&requests[0], requests[0].payload());
        }
        let answers: Vec<u8> = set
            .wait_all()
            .into_iter()
            .map(|answer| answer.unwrap().payload()[0])
            .collect();
        assert_eq!(answers, [0, 1, 2, 3]);
    });
}

#[test]
fn every_kind_of_waiter_is_settled_when_the_peer_vanishes_or_we_abort() {
    for aborted in [false, true] {
        watched(move || {
            let (guard, mut peer) = opened();
            let submit = || guard.submit(asking("x")).unwrap();
            let (settled, settlements) = crossbeam_channel::unbounded();
            let (by_callback, held) = (settled.clone(), submit());
            submit().on_complete(move |answer| by_callback.send(("callback", answer)).unwrap());
            let waits: Vec<(&str, BoxedWait)> = {
                let [first, second, third, fourth, fifth] = [(); 5].map(|()| submit());
                vec![
                    ("wait", Box::new(|| first.wait())),
                    (
                        "timeout",
                        Box::new(|| second.wait_timeout(LONG).expect("not an hour")),
                    ),
                    ("future", Box::new(|| block_on(third))),
                    (
                        "decode",
                        Box::new(|| fourth.and_then(Ok::<_, BoxError>).wait()),
                    ),
                    (
                        "set",
                        Box::new(|| PendingSet::from_iter([fifth]).next().expect("one").1),
                    ),
                ]
            };
            let helpers: Vec<_> = waits
                .into_iter()
                .map(|(name, wait)| {
                    let settled = settled.clone();
                    start(move || settled.send((name, wait())).unwrap())
                })
                .collect();
            for _ in 0..7 {
                peer.request();
            }
            if aborted {
                let _ = guard.abort();
            } else {
                drop(peer);
            }
            for _ in 0..6 {
                let (name, answer) = take(&settlements);
                let error = answer.unwrap_err();
                assert!(error.is_closed(), "{name}: {error:?}");
                assert_eq!(error.outcome(), Outcome::Unknown, "{name}");
            }
            assert!(held.wait().is_err(), "it settles though nobody waited");
            for helper in helpers {
                helper.join().unwrap();
            }
        });
    }
}
