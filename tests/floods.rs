//! Floods in both directions at once, through as little room as there can be, with one handler
//! thread on each end: everybody is answered (DESIGN's back-pressure on a symmetric link).
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::unnecessary_wraps,
    clippy::needless_pass_by_value,
    reason = "helpers of tests fail the test; handlers have the shape that is asked of them"
)]

mod common;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/narrow.rs"]
mod narrow;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "common/sizes.rs"]
mod sizes;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use common::watched_for;
use measure::until;
use narrow::{narrow_memory, narrow_pipes, narrow_sockets};
use packetstream::{
    BoxError, Connection, ConnectionBuilder, Incoming, OpenGuard, Outcome, PendingSet, Request,
    Response, Transport,
};
use pairs::{asking, echo, memory, start};
use parking_lot::{Condvar, Mutex};
use sizes::{LONG, sized};

type Pair = fn() -> (Transport, Transport);

/// A payload of `len` octets, at least eight, that no other request of the test has: its keyed
/// number, again and again.
fn payload(end: usize, number: usize, len: usize) -> Vec<u8> {
    let key = ((end << 32 | number) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut payload = key.to_be_bytes().repeat(len.div_ceil(8));
    payload.truncate(len);
    payload
}

/// Opens both ends with one handler thread each.
fn open_both<R: Into<Response> + 'static>(
    (here, there): (Transport, Transport),
    setting: impl Fn(ConnectionBuilder) -> ConnectionBuilder,
    handler: impl Fn(Incoming) -> Result<R, BoxError> + Clone + Send + Sync + 'static,
) -> [OpenGuard; 2] {
    [here, there].map(|transport| {
        setting(Connection::builder())
            .handler_threads(1)
            .handler(handler.clone())
            .open(transport)
            .unwrap()
    })
}

/// Runs `body` for both ends at once, then closes them in order.
fn at_both(ends: [OpenGuard; 2], body: impl Fn(usize, &OpenGuard) + Clone + Send + 'static) {
    let helpers = [0, 1].map(|number| {
        let (end, body) = (ends[number].clone(), body.clone());
        start(move || body(number, &end))
    });
    for helper in helpers {
        helper.join().unwrap();
    }
    for end in ends {
        let report = end.close();
        assert!(report.is_last());
        assert_eq!(report.answers_lost(), 0);
        report.into_result().unwrap();
    }
}

/// Submits that many requests and wants each payload back.
fn echoes(end: &OpenGuard, number: usize, requests: usize, len: usize) {
    let all: PendingSet = (0..requests)
        .map(|n| end.submit(asking(payload(number, n, len))).unwrap())
        .collect();
    for (n, answer) in all.wait_all().into_iter().enumerate() {
        // Not `assert_eq`, which would print both.
        assert!(answer.unwrap().payload() == payload(number, n, len), "{n}");
    }
}

fn echoed_flood(pair: Pair, requests: usize, len: usize) {
    watched_for(LONG, move || {
        let ends = open_both(pair(), |builder| builder, echo);
        at_both(ends, move |number, end| echoes(end, number, requests, len));
    });
}

#[test]
fn large_requests_flood_both_ways_through_four_kibioctets_of_memory() {
    echoed_flood(narrow_memory, sized(100, 1000), 300_000);
}

#[test]
fn large_requests_flood_both_ways_through_pipes_of_four_kibioctets() {
    echoed_flood(narrow_pipes, sized(100, 1000), 300_000);
}

#[test]
fn large_requests_flood_both_ways_through_the_smallest_sockets() {
    echoed_flood(narrow_sockets, sized(100, 1000), 300_000);
}

#[test]
fn small_requests_flood_both_ways_through_four_kibioctets_of_memory() {
    echoed_flood(narrow_memory, sized(10_000, 100_000), 16);
}

#[test]
fn small_requests_flood_both_ways_through_pipes_of_four_kibioctets() {
    echoed_flood(narrow_pipes, sized(10_000, 100_000), 16);
}

#[test]
fn small_requests_flood_both_ways_through_the_smallest_sockets() {
    echoed_flood(narrow_sockets, sized(10_000, 100_000), 16);
}

/// Nobody waits for the answers before all requests are out, and the answers are as long as the
/// requests: each end must read while its own writer is stuck.
fn rejected_flood(pair: Pair) {
    watched_for(LONG, move || {
        let (here, there) = pair();
        let ends = [here, there].map(|transport| Connection::builder().open(transport).unwrap());
        let requests = sized(10_000, 100_000);
        at_both(ends, move |_, end| {
            let all: PendingSet = (0..requests)
                .map(|_| end.submit(asking("nobody serves this")).unwrap())
                .collect();
            for answer in all.wait_all() {
                let error = answer.unwrap_err();
                assert_eq!(
                    error.rejection().expect("a rejection").message(),
                    "no request handler"
                );
                assert_eq!(error.outcome(), Outcome::NotRun);
            }
            assert_eq!(end.stats().outstanding, 0);
        });
    });
}

#[test]
fn rejected_floods_both_ways_through_memory_are_all_answered() {
    rejected_flood(narrow_memory);
}

#[test]
fn rejected_floods_both_ways_through_pipes_are_all_answered() {
    rejected_flood(narrow_pipes);
}

#[test]
fn rejected_floods_both_ways_through_sockets_are_all_answered() {
    rejected_flood(narrow_sockets);
}

/// Calls back with the same payload, once.
fn call_back(incoming: Incoming) -> Result<Vec<u8>, BoxError> {
    if incoming.request_type().get() == 2 {
        return Ok(incoming.into_payload());
    }
    let back = Request::new(2).with_payload(incoming.payload());
    Ok(incoming.connection().call(back)?.into_payload())
}

/// Half of the submits wait for room, and what makes room needs calls in both directions, which go
/// beyond the cap. An inbound budget of twice the cap never refuses any.
fn twice_the_cap(pair: Pair, cap: usize) {
    watched_for(LONG, move || {
        let limited = |builder: ConnectionBuilder| {
            builder
                .max_outstanding_requests(cap)
                .max_inbound_requests(2 * cap)
        };
        let ends = open_both(pair(), limited, call_back);
        at_both(ends, move |number, end| {
            for _ in 0..sized(5, 50) {
                echoes(end, number, 2 * cap, 40);
            }
        });
    });
}

#[test]
fn twice_the_cap_of_requests_that_call_back_finish_on_both_ends() {
    twice_the_cap(narrow_memory, 32);
    twice_the_cap(narrow_sockets, 32);
}

#[test]
fn a_cap_of_one_is_enough_for_requests_that_call_back_on_both_ends() {
    twice_the_cap(narrow_memory, 1);
    twice_the_cap(narrow_sockets, 1);
}

/// The octets are the limit rather than the number, and each request alone is above it.
#[test]
fn a_cap_of_octets_below_every_request_lets_both_ends_finish() {
    let pairs: [Pair; 3] = [narrow_memory, narrow_pipes, narrow_sockets];
    for pair in pairs {
        watched_for(LONG, move || {
            let limited = |builder: ConnectionBuilder| builder.max_outstanding_bytes(1000);
            let ends = open_both(pair(), limited, call_back);
            at_both(ends, |number, end| {
                echoes(end, number, sized(50, 500), 10_000);
            });
        });
    }
}

/// The bound of threads is far above what is needed (a few) and far below what a slot lent
/// carelessly would make (one for each request). No handler calls back before all requests are
/// queued: one that arrives later may start at once, since the wait may depend on it.
fn queued_callbacks(pair: Pair, both: bool) {
    const QUEUED: usize = 2000;
    const FEW: usize = 200;
    let began = Instant::now();
    watched_for(LONG, move || {
        let running = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let all_queued = Arc::new((Mutex::new(0), Condvar::new()));
        let handler = {
            let (running, all_queued) = (Arc::clone(&running), Arc::clone(&all_queued));
            move |incoming: Incoming| {
                let mut ends = all_queued.0.lock();
                all_queued.1.wait_while(&mut ends, |ends| *ends < 2);
                drop(ends);
                let now = running[0].fetch_add(1, Ordering::Relaxed) + 1;
                running[1].fetch_max(now, Ordering::Relaxed);
                let answer = call_back(incoming);
                running[0].fetch_sub(1, Ordering::Relaxed);
                answer
            }
        };
        let ends = open_both(pair(), |builder| builder, handler);
        at_both(ends, move |number, end| {
            let asks = |number| both || number == 0;
            let requests = if asks(number) { QUEUED } else { 0 };
            let all: PendingSet = (0..requests)
                .map(|n| end.submit(asking(payload(number, n, 40))).unwrap())
                .collect();
            let expected = if asks(1 - number) { QUEUED as u64 } else { 0 };
            let serving = || end.stats().serving;
            until(
                || (serving() >= expected).then_some(()),
                || format!("{} of {expected} have arrived", serving()),
            );
            *all_queued.0.lock() += 1;
            all_queued.1.notify_all();
            for (n, answer) in all.wait_all().into_iter().enumerate() {
                assert!(answer.unwrap().payload() == payload(number, n, 40), "{n}");
            }
        });
        let most = running[1].load(Ordering::Relaxed);
        // A wait of 100 ms lets an older request start, and on a busy machine all waits are long.
        let by_waiting = began.elapsed().as_millis() as usize / 10;
        assert!(most < FEW + by_waiting, "{most} handlers at once");
    });
}

#[test]
fn two_thousand_queued_requests_that_call_back_need_few_threads() {
    queued_callbacks(memory, false);
    queued_callbacks(narrow_sockets, false);
}

#[test]
fn two_thousand_queued_requests_on_each_end_that_call_back_need_few_threads() {
    queued_callbacks(memory, true);
    queued_callbacks(narrow_sockets, true);
}

/// Cancelled requests that were sent stay owed, those that were not are gone, and neither takes
/// the room of what follows.
fn flood_cancel_flood(pair: Pair) {
    watched_for(LONG, move || {
        let ran = Arc::new(AtomicUsize::new(0));
        let counting = {
            let ran = Arc::clone(&ran);
            move |incoming: Incoming| {
                if incoming.request_type().get() == 7 {
                    ran.fetch_add(1, Ordering::Relaxed);
                }
                echo(incoming)
            }
        };
        let limited = |builder: ConnectionBuilder| builder.max_outstanding_requests(500);
        let ends = open_both(pair(), limited, counting);
        let unsent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&unsent);
        let requests = sized(2_000, 20_000);
        at_both(ends, move |number, end| {
            for _ in 0..3 {
                let mut flood = Vec::new();
                for n in 0..requests {
                    let request = Request::new(7).with_payload(payload(number, n, 100));
                    // Cancelled in bundles, so that the cap does not stop the flood.
                    flood.push(end.submit(request).unwrap());
                    if flood.len() == 100 {
                        for pending in flood.drain(..) {
                            if pending.cancel() == Outcome::NotSent {
                                counted.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                }
                echoes(end, number, requests, 100);
            }
        });
        // Both have closed, so whatever was to run has run.
        let (ran, unsent) = (ran.load(Ordering::Relaxed), unsent.load(Ordering::Relaxed));
        assert_eq!(ran + unsent, 6 * requests);
    });
}

#[test]
fn a_flood_after_a_cancelled_flood_is_answered_through_memory() {
    flood_cancel_flood(narrow_memory);
}

#[test]
fn a_flood_after_a_cancelled_flood_is_answered_through_pipes() {
    flood_cancel_flood(narrow_pipes);
}

#[test]
fn a_flood_after_a_cancelled_flood_is_answered_through_sockets() {
    flood_cancel_flood(narrow_sockets);
}
