//! Nested calls at the depths and in the numbers that other systems die of (law L5), and what is
//! left of their threads.
//!
//! A binary of its own, because it needs thousands of threads and counts them.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::unnecessary_wraps,
    clippy::needless_pass_by_value,
    reason = "helpers of tests fail the test; handlers have the shape that is asked of them"
)]

mod common;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "common/sizes.rs"]
mod sizes;

use std::time::{Duration, Instant};

use common::{PATIENCE, watched_for};
use packetstream::{
    BoxError, Connection, Incoming, OpenGuard, PendingSet, Rejection, Request, Transport,
};
use pairs::{asking, memory, threads_named, unix_sockets};
use sizes::LONG;

/// The number of calls below this one, and which chain they belong to.
fn level(depth: u32, chain: u32) -> Request {
    asking([depth.to_be_bytes(), chain.to_be_bytes()].concat())
}

fn read_level(payload: &[u8]) -> Option<(u32, u32)> {
    let (depth, chain) = payload.split_first_chunk()?;
    Some((
        u32::from_be_bytes(*depth),
        u32::from_be_bytes(chain.try_into().ok()?),
    ))
}

/// Calls the other end one level lower; each level adds one to the answer, so that a level that
/// was left out or run twice shows.
fn descend(incoming: Incoming) -> Result<Vec<u8>, BoxError> {
    let (depth, chain) = read_level(incoming.payload()).ok_or("not a level")?;
    if depth == 0 {
        return Ok(incoming.into_payload());
    }
    let answer = incoming
        .connection()
        .call(level(depth - 1, chain))
        .map_err(|error| error.rejection().cloned().unwrap_or(Rejection::new("cut")))?;
    let (below, same) = read_level(answer.payload()).ok_or("not an answer")?;
    if same != chain {
        return Err("the answer of another chain".into());
    }
    Ok([(below + 1).to_be_bytes(), chain.to_be_bytes()].concat())
}

/// Opens both ends with one handler thread each and the given ceiling.
fn narrow(name: &str, ceiling: usize, (here, there): (Transport, Transport)) -> [OpenGuard; 2] {
    [here, there].map(|transport| {
        Connection::builder()
            .name(name)
            .handler_threads(1)
            .max_handler_threads(ceiling)
            .handler(descend)
            .open(transport)
            .unwrap()
    })
}

/// Waits until each end has a sender, a receiver and one handler thread left, then closes both.
fn assert_threads_retire(name: &str, [here, there]: [OpenGuard; 2]) {
    await_threads(name, 6);
    assert!(here.close().into_result().is_ok());
    assert!(there.close().into_result().is_ok());
    await_threads(name, 0);
}

fn await_threads(name: &str, most: usize) {
    // Threads end in the background; nobody ever sends on this channel.
    let (_keep, never) = crossbeam_channel::bounded::<()>(0);
    let deadline = Instant::now() + PATIENCE;
    while threads_named(name) > most {
        assert!(
            Instant::now() < deadline,
            "{} threads of {name} are left",
            threads_named(name)
        );
        let _ = never.recv_timeout(Duration::from_millis(5));
    }
}

fn a_thousand_deep(name: &'static str, pair: fn() -> (Transport, Transport)) {
    watched_for(LONG, move || {
        let ends = narrow(name, 1024, pair());
        // Twice, so that the threads that the first one needed do not stand in the second's way.
        for chain in 0..2 {
            let answer = ends[0].call(level(1000, chain)).unwrap();
            assert_eq!(read_level(answer.payload()), Some((1000, chain)));
        }
        assert_threads_retire(name, ends);
    });
}

#[test]
fn a_thousand_nested_calls_need_one_handler_thread_on_each_end_in_memory() {
    a_thousand_deep("n1m", memory);
}

#[test]
fn a_thousand_nested_calls_need_one_handler_thread_on_each_end_over_sockets() {
    a_thousand_deep("n1s", unix_sockets);
}

/// Each end starts half of the chains, so that both directions are full of both kinds.
fn many_chains(name: &'static str, pair: fn() -> (Transport, Transport)) {
    const CHAINS: u32 = 64;
    const DEPTH: u32 = 50;
    watched_for(LONG, move || {
        let ends = narrow(name, 4096, pair());
        let all: PendingSet = (0..CHAINS)
            .map(|chain| {
                let end = &ends[usize::from(chain % 2 == 1)];
                end.submit(level(DEPTH, chain)).unwrap()
            })
            .collect();
        for (chain, answer) in (0..).zip(all.wait_all()) {
            assert_eq!(read_level(answer.unwrap().payload()), Some((DEPTH, chain)));
        }
        assert_threads_retire(name, ends);
    });
}

#[test]
fn sixty_four_chains_of_fifty_calls_finish_at_once_in_memory() {
    many_chains("n6m", memory);
}

#[test]
fn sixty_four_chains_of_fifty_calls_finish_at_once_over_sockets() {
    many_chains("n6s", unix_sockets);
}

#[test]
fn a_chain_that_reaches_the_ceiling_is_answered_busy_and_the_ends_go_on() {
    watched_for(LONG, || {
        let ends = narrow("nce", 8, memory());
        // Sixteen handlers wait, eight on each end; the seventeenth has no thread to run on.
        let answer = ends[0].call(level(15, 1)).unwrap();
        assert_eq!(read_level(answer.payload()), Some((15, 1)));
        for depth in [16, 17, 1000] {
            let error = ends[0].call(level(depth, 2)).unwrap_err();
            let rejection = error.rejection().expect("a rejection");
            // Handed on by handlers that did run.
            assert_eq!(rejection.message(), "handler: rejecting request: busy");
        }
        let answer = ends[0].call(level(15, 3)).unwrap();
        assert_eq!(read_level(answer.payload()), Some((15, 3)));
        assert_threads_retire("nce", ends);
    });
}
