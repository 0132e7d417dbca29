//! Long payloads, which lie one after the other in the same memory, are each their own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    reason = "helpers of tests fail the test"
)]

mod common;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "common/sizes.rs"]
mod sizes;

use std::sync::Arc;

use common::watched;
use packetstream::{Connection, Incoming, OpenGuard, Transport};
use pairs::{asking, client_and_server, start};
use parking_lot::Mutex;
use sizes::sized;

/// Around what is kept at all, what one fill of a buffer takes, and what one reservation does.
const LENGTHS: [usize; 12] = [
    1,
    16 * 1024 - 1,
    16 * 1024,
    20_000,
    65_535,
    65_536,
    80_000,
    200_000,
    262_144,
    300_000,
    1024 * 1024,
    1024 * 1024 + 1,
];

/// Octets that belong to that number, wherever in the payload they stand.
fn payload(number: usize, len: usize) -> Vec<u8> {
    let start = u8::try_from(number % 251).unwrap();
    (0..=250).cycle().skip(start.into()).take(len).collect()
}

fn len_of(rng: &mut fastrand::Rng) -> usize {
    LENGTHS[rng.usize(..LENGTHS.len())]
}

/// What the server makes of a request, by its type.
const LOOKED_AT: u32 = 0;
const SENT_BACK: u32 = 1;
const KEPT: u32 = 2;

type Keeper = Arc<Mutex<Vec<Vec<u8>>>>;

fn serving(kept: &Keeper) -> impl Fn(Incoming) -> Result<Vec<u8>, packetstream::BoxError> + use<> {
    let kept = Arc::clone(kept);
    move |incoming| {
        Ok(
            match u32::try_from(incoming.request_type().get()).unwrap() {
                LOOKED_AT => sum(incoming.payload()).to_be_bytes().to_vec(),
                SENT_BACK => incoming.into_payload(),
                KEPT => {
                    kept.lock().push(incoming.into_payload());
                    Vec::new()
                }
                other => panic!("nobody asks for {other}"),
            },
        )
    }
}

/// Depends on every octet and its place.
fn sum(octets: &[u8]) -> u64 {
    octets.iter().fold(octets.len() as u64, |sum, octet| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*octet))
    })
}

/// Several at a time, so that payloads come together, of lengths that change after a while.
fn converse(client: &OpenGuard, rounds: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut left_there = Vec::new();
    let mut len = len_of(&mut rng);
    for round in 0..rounds {
        if rng.u8(..4) == 0 {
            len = len_of(&mut rng);
        }
        let asked: Vec<_> = (0..rng.usize(1..6))
            .map(|number| (rng.u32(..3), payload(round * 7 + number, len)))
            .collect();
        let pending: Vec<_> = asked
            .iter()
            .map(|(kind, octets)| {
                let request = packetstream::Request::new(*kind).with_payload(octets.clone());
                client.submit(request).unwrap()
            })
            .collect();
        for ((kind, octets), pending) in asked.into_iter().zip(pending) {
            let response = pending.wait().unwrap();
            match kind {
                LOOKED_AT => assert_eq!(response.payload(), sum(&octets).to_be_bytes()),
                SENT_BACK => assert!(response.payload() == octets, "seed {seed}, round {round}"),
                _ => left_there.push(octets),
            }
        }
    }
    left_there
}

fn each_is_its_own(pair: fn() -> (Transport, Transport)) {
    watched(move || {
        for seed in 0..sized(2, 40) as u64 {
            let kept = Keeper::default();
            let (here, there) = pair();
            let server = Connection::builder()
                .handler_threads(1)
                .handler(serving(&kept))
                .open(there)
                .unwrap();
            let client = Connection::builder().open(here).unwrap();
            let left_there = converse(&client, 40, seed);
            client.close().into_result().unwrap();
            server.close().into_result().unwrap();
            assert!(*kept.lock() == left_there, "seed {seed}");
        }
    });
}

#[test]
fn each_is_its_own_over_sockets() {
    each_is_its_own(pairs::unix_sockets);
}

#[test]
fn each_is_its_own_in_memory() {
    each_is_its_own(pairs::memory);
}

#[test]
fn each_is_its_own_where_both_ends_ask() {
    watched(|| {
        let (kept, kept_there) = (Keeper::default(), Keeper::default());
        let (here, there) = pairs::unix_sockets();
        let open = |kept: &Keeper, transport| {
            let builder = Connection::builder().handler_threads(1);
            builder.handler(serving(kept)).open(transport).unwrap()
        };
        let (here, there) = (open(&kept, here), open(&kept_there, there));
        let asking = start(move || {
            let left = converse(&here, 40, 100);
            (here, left)
        });
        let left_with_us = converse(&there, 40, 200);
        let (here, left_with_them) = asking.join().unwrap();
        here.close().into_result().unwrap();
        there.close().into_result().unwrap();
        assert!(*kept.lock() == left_with_us);
        assert!(*kept_there.lock() == left_with_them);
    });
}

/// A request may be dropped when there is no connection any more that its memory could serve.
#[test]
fn request_may_outlive_its_connection() {
    watched(|| {
        let kept: Arc<Mutex<Vec<Incoming>>> = Arc::default();
        let (client, server) = {
            let kept = Arc::clone(&kept);
            client_and_server(move |incoming: Incoming| {
                kept.lock().push(incoming);
                Ok(())
            })
        };
        for number in 0..4 {
            client.call(asking(payload(number, 100_000))).unwrap();
        }
        client.close().into_result().unwrap();
        server.close().into_result().unwrap();
        for (number, incoming) in kept.lock().drain(..).enumerate() {
            assert!(incoming.payload() == payload(number, 100_000));
        }
    });
}

/// What a handler leaves behind that panics is as good as what another leaves.
#[test]
fn memory_of_a_request_whose_handler_panics_serves_the_next() {
    watched(|| {
        let (client, server) = client_and_server(|incoming: Incoming| {
            assert!(incoming.request_type().get() == 0, "as the test wants it");
            Ok(sum(incoming.payload()).to_be_bytes().to_vec())
        });
        for number in 0..20 {
            let octets = payload(number, 100_000 - number);
            let expected = sum(&octets).to_be_bytes();
            let request = packetstream::Request::new(u32::from(number % 2 == 1));
            match client.call(request.with_payload(octets)) {
                Ok(response) => assert_eq!(response.payload(), expected),
                Err(error) => assert!(number % 2 == 1 && error.is_rejected(), "{error}"),
            }
        }
        client.close().into_result().unwrap();
        server.close().into_result().unwrap();
    });
}
