//! Handlers may call back to any depth with one handler thread on each end (law L5).
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

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::watched;
use packetstream::{BoxError, Connection, Incoming, OpenGuard, PendingSet, Transport};
use pairs::{asking, echo, start, threads_named, unix_sockets};
use parking_lot::Mutex;

#[test]
fn a_handler_may_call_back_over_its_own_connection() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let _server = Connection::builder()
            .handler(|incoming: Incoming| {
                let answer = incoming.connection().call(asking("and you?"))?;
                Ok([b"they say ", answer.payload()].concat())
            })
            .open(theirs)
            .unwrap();
        let client = Connection::builder().handler(echo).open(ours).unwrap();
        assert_eq!(
            client.call(asking("x")).unwrap().payload(),
            b"they say and you?"
        );
    });
}

#[test]
fn both_ends_ask_and_answer_at_once() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let ends = [ours, theirs]
            .map(|transport| Connection::builder().handler(echo).open(transport).unwrap());
        let helpers: Vec<_> = (0..8)
            .map(|number| {
                let end = ends[number % 2].clone();
                start(move || {
                    for n in 0..100_u32 {
                        let payload = n.to_be_bytes();
                        assert_eq!(end.call(asking(payload)).unwrap().payload(), payload);
                    }
                })
            })
            .collect();
        for helper in helpers {
            helper.join().unwrap();
        }
    });
}

/// Calls the other end with one less, until nothing is left.
fn countdown(incoming: Incoming) -> Result<Vec<u8>, BoxError> {
    match incoming.payload()[0] {
        0 => Ok(b"bottom".to_vec()),
        n => Ok(incoming.connection().call(asking([n - 1]))?.into_payload()),
    }
}

#[test]
fn callbacks_nest_fifty_deep_with_one_handler_thread_on_each_end() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let [here, there] = [ours, theirs].map(|transport| {
            Connection::builder()
                .handler_threads(1)
                .handler(countdown)
                .open(transport)
                .unwrap()
        });
        assert_eq!(here.call(asking([50])).unwrap().payload(), b"bottom");
        let pending: Vec<_> = [&here, &there]
            .iter()
            .map(|end| end.submit(asking([50])).unwrap())
            .collect();
        for pending in pending {
            assert_eq!(pending.wait().unwrap().payload(), b"bottom");
        }
        assert!(here.close().into_result().is_ok());
    });
}

#[test]
fn a_wait_on_another_connection_lends_its_slot_too() {
    // A asks B, whose handler asks C, whose handler asks B again, all with one thread each.
    watched(|| {
        let (to_store, store) = Transport::pair();
        let (ours, theirs) = Transport::pair();
        let relay: Arc<Mutex<Option<Connection>>> = Arc::default();
        let _store = Connection::builder()
            .handler_threads(1)
            .handler(countdown)
            .open(store)
            .unwrap();
        let to_store = Connection::builder()
            .handler_threads(1)
            .handler(countdown)
            .open(to_store)
            .unwrap();
        *relay.lock() = Some(Connection::clone(&to_store));
        let _relay = Connection::builder()
            .handler_threads(1)
            .handler(move |incoming: Incoming| {
                let n = incoming.payload()[0];
                if n == 0 {
                    return Ok(b"end".to_vec());
                }
                let store = relay.lock().clone().ok_or("no store")?;
                let answer = store.call(asking([n]))?;
                incoming.connection().call(asking(answer.payload()))?;
                Ok(answer.into_payload())
            })
            .open(theirs)
            .unwrap();
        let client = Connection::builder()
            .handler_threads(1)
            .handler(echo)
            .open(ours)
            .unwrap();
        assert_eq!(client.call(asking([9])).unwrap().payload(), b"bottom");
    });
}

/// Opens both ends with one handler thread each.
fn narrow<R: Into<packetstream::Response> + 'static>(
    name: &str,
    (here, there): (Transport, Transport),
    handler: impl Fn(Incoming) -> Result<R, BoxError> + Clone + Send + Sync + 'static,
) -> [OpenGuard; 2] {
    [here, there].map(|transport| {
        Connection::builder()
            .name(name)
            .handler_threads(1)
            .handler(handler.clone())
            .open(transport)
            .unwrap()
    })
}

#[test]
fn the_threads_that_a_deep_chain_needed_retire_after_it() {
    watched(|| {
        let [here, there] = narrow("rt9", Transport::pair(), countdown);
        assert_eq!(here.call(asking([100])).unwrap().payload(), b"bottom");
        // Two ends, each with a sender, a receiver and one handler thread.
        let (_keep, never) = crossbeam_channel::bounded::<()>(0);
        let deadline = Instant::now() + Duration::from_secs(20);
        while threads_named("rt9") > 6 {
            assert!(Instant::now() < deadline, "{:?}", common::thread_names());
            let _ = never.recv_timeout(Duration::from_millis(10));
        }
        assert!(here.close().into_result().is_ok());
        drop(there);
    });
}

#[test]
fn four_hundred_requests_that_each_call_back_all_finish() {
    watched(|| {
        let [here, there] = narrow("fh4", Transport::pair(), countdown);
        let both: PendingSet = [&here, &there]
            .into_iter()
            .flat_map(|end| (0..200).map(|_| end.submit(asking([3])).unwrap()))
            .collect();
        for answer in both.wait_all() {
            assert_eq!(answer.unwrap().payload(), b"bottom");
        }
    });
}

#[test]
fn every_way_to_wait_in_a_handler_lends_its_slot() {
    // Each level waits in another way; the handler above can only be answered through it.
    fn descend(incoming: Incoming) -> Result<Vec<u8>, BoxError> {
        let n = incoming.payload()[0];
        if n == 0 {
            return Ok(b"bottom".to_vec());
        }
        let pending = incoming.connection().submit(asking([n - 1]))?;
        let hour = Duration::from_secs(3600);
        let answer = match n % 4 {
            0 => pending.wait(),
            1 => pending.wait_timeout(hour).map_err(|_| "too late")?,
            2 => pending.and_then(Ok::<_, BoxError>).wait(),
            _ => PendingSet::from_iter([pending]).next().ok_or("empty")?.1,
        };
        Ok(answer?.into_payload())
    }
    watched(|| {
        let [here, _there] = narrow("ew3", Transport::pair(), descend);
        assert_eq!(here.call(asking([24])).unwrap().payload(), b"bottom");
    });
}

#[test]
fn a_flood_in_both_directions_makes_progress() {
    watched(|| {
        let ends = narrow("ff2", unix_sockets(), echo);
        let helpers: Vec<_> = ends
            .iter()
            .map(|end| {
                let end = end.clone();
                start(move || {
                    let payload = vec![7; 300_000];
                    let all: PendingSet = (0..100)
                        .map(|_| end.submit(asking(payload.clone())).unwrap())
                        .collect();
                    for answer in all.wait_all() {
                        assert_eq!(answer.unwrap().payload().len(), payload.len());
                    }
                })
            })
            .collect();
        for helper in helpers {
            helper.join().unwrap();
        }
    });
}
