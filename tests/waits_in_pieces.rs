//! A handler's wait is one wait, however many pieces it is made of (law L5).
//!
//! One handler thread on each end and calls that nest: each handler waits in a loop of short waits,
//! and what it waits for can only come if its slot serves others all the while, also those whose
//! requests came between two pieces.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    clippy::needless_pass_by_value,
    reason = "helpers of tests fail the test; handlers have the shape that is asked of them"
)]

mod common;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "common/sizes.rs"]
mod sizes;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use common::{watched, watched_for};
use fastrand::Rng;
use packetstream::{
    BoxError, Connection, Error, Incoming, OpenGuard, PendingResponse, PendingSet, Rejection,
    Response, Transport,
};
use pairs::{asking, block_on, echo, memory, start, unix_sockets};
use sizes::{LONG, Size, seed, size, sized};

/// A way to wait that does not wait for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Timeout,
    Deadline,
    /// A set of one.
    Set,
    /// As a future, with a waker that wakes this thread.
    Polled,
    /// As a future whose waker does nothing: it is merely polled again.
    PolledAnew,
    /// As a future, polled again only when it wakes this thread: of one piece as long as it takes.
    Woken,
    /// By asking whether it has finished.
    Finished,
    /// Each piece in another way.
    Mixed,
}

const WAYS: [Way; 8] = [
    Way::Timeout,
    Way::Deadline,
    Way::Set,
    Way::Polled,
    Way::PolledAnew,
    Way::Woken,
    Way::Finished,
    Way::Mixed,
];

/// How long a piece is, at least and at most.
type Piece = (Duration, Duration);

const fn millis(least: u64, most: u64) -> Piece {
    (Duration::from_millis(least), Duration::from_millis(most))
}

const PIECES: [Piece; 6] = [
    millis(0, 0),
    millis(1, 1),
    millis(5, 5),
    millis(50, 50),
    millis(200, 200),
    millis(0, 200),
];

fn any_of((least, most): Piece, rng: &mut Rng) -> Duration {
    let micros = |piece: Duration| u64::try_from(piece.as_micros()).unwrap();
    Duration::from_micros(rng.u64(micros(least)..=micros(most)))
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits one piece; gives the pending response back if its answer has not come.
fn one_piece(
    mut pending: PendingResponse,
    way: Way,
    piece: Duration,
    rng: &mut Rng,
) -> Result<Result<Response, Error>, PendingResponse> {
    let pause = || {
        if piece.is_zero() {
            thread::yield_now();
        } else {
            thread::park_timeout(piece);
        }
    };
    let poll = |pending: &mut PendingResponse, waker: &Waker| match Pin::new(pending)
        .poll(&mut Context::from_waker(waker))
    {
        Poll::Ready(result) => Some(result),
        Poll::Pending => {
            pause();
            None
        }
    };
    match way {
        Way::Timeout => pending.wait_timeout(piece),
        Way::Deadline => pending.wait_deadline(Instant::now() + piece),
        // A set keeps what it is given, so it waits to the end, in pieces of its own.
        Way::Set => {
            let mut set = PendingSet::from_iter([pending]);
            loop {
                if let Some((_, result)) = set.next_timeout(piece) {
                    return Ok(result);
                }
                if piece.is_zero() {
                    thread::yield_now();
                }
            }
        }
        Way::Polled => {
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            poll(&mut pending, &waker).ok_or(pending)
        }
        Way::PolledAnew => poll(&mut pending, Waker::noop()).ok_or(pending),
        Way::Woken => Ok(block_on(pending)),
        Way::Finished => {
            if pending.is_finished() {
                return Ok(pending.wait());
            }
            pause();
            Err(pending)
        }
        Way::Mixed => {
            let way = WAYS[rng.usize(..WAYS.len() - 1)];
            // Only now and then: nothing follows these.
            let way = if matches!(way, Way::Set | Way::Woken) && rng.u8(..8) != 0 {
                Way::Timeout
            } else {
                way
            };
            one_piece(pending, way, piece, rng)
        }
    }
}

fn in_pieces(
    mut pending: PendingResponse,
    way: Way,
    piece: Piece,
    rng: &mut Rng,
) -> Result<Response, Error> {
    loop {
        let length = any_of(piece, rng);
        match one_piece(pending, way, length, rng) {
            Ok(result) => return result,
            Err(back) => pending = back,
        }
        if length.is_zero() {
            thread::yield_now();
        }
    }
}

/// Calls the other end one level lower, until nothing is left. Each level adds one to the answer.
fn descend(
    incoming: Incoming,
    way: Option<Way>,
    piece: Option<Piece>,
) -> Result<[u8; 4], BoxError> {
    let depth = u32::from_be_bytes(incoming.payload().try_into()?);
    if depth == 0 {
        return Ok([0; 4]);
    }
    let mut rng = Rng::new();
    let way = way.unwrap_or_else(|| WAYS[rng.usize(..WAYS.len())]);
    let piece = piece.unwrap_or_else(|| PIECES[rng.usize(..PIECES.len())]);
    let pending = incoming
        .connection()
        .submit(asking((depth - 1).to_be_bytes()))?;
    // Some work that is no wait: what comes meanwhile is older than the wait.
    if rng.bool() {
        thread::yield_now();
    }
    let answer = in_pieces(pending, way, piece, &mut rng)
        .map_err(|error| error.rejection().cloned().unwrap_or(Rejection::new("cut")))?;
    let below = u32::from_be_bytes(answer.payload().try_into()?);
    Ok((below + 1).to_be_bytes())
}

/// Both ends with one handler thread, and threads for as many as wait at a time.
fn narrow(
    (here, there): (Transport, Transport),
    way: Option<Way>,
    piece: Option<Piece>,
) -> [OpenGuard; 2] {
    [here, there].map(|transport| {
        Connection::builder()
            .handler_threads(1)
            .max_handler_threads(4096)
            .handler(move |incoming| descend(incoming, way, piece))
            .open(transport)
            .unwrap()
    })
}

fn assert_reaches(ends: &[OpenGuard; 2], depth: u32, chains: usize) {
    let all: PendingSet = (0..chains)
        .map(|chain| {
            let end = &ends[chain % 2];
            end.submit(asking(depth.to_be_bytes())).unwrap()
        })
        .collect();
    for answer in all.wait_all() {
        assert_eq!(answer.unwrap().payload(), depth.to_be_bytes());
    }
}

fn every_piece(way: Way) {
    watched_for(LONG, move || {
        for piece in PIECES {
            // Nobody tells these that the answer is here, so each level takes a whole piece.
            let is_told = !matches!(way, Way::PolledAnew | Way::Finished | Way::Mixed);
            let is_short = piece.1 <= Duration::from_millis(5);
            let depth = if is_told || is_short { 60 } else { 6 };
            for pair in [memory(), unix_sockets()] {
                let ends = narrow(pair, Some(way), Some(piece));
                assert_reaches(&ends, depth, 1);
                assert_reaches(&ends, depth / 3, 4);
                for end in ends {
                    assert!(end.close().into_result().is_ok());
                }
            }
        }
    });
}

#[test]
fn sixty_nested_waits_of_wait_timeout_end() {
    every_piece(Way::Timeout);
}

#[test]
fn sixty_nested_waits_of_wait_deadline_end() {
    every_piece(Way::Deadline);
}

#[test]
fn sixty_nested_waits_of_a_set_end() {
    every_piece(Way::Set);
}

#[test]
fn sixty_nested_waits_of_a_future_end() {
    every_piece(Way::Polled);
}

#[test]
fn sixty_nested_waits_of_a_future_that_is_merely_polled_end() {
    every_piece(Way::PolledAnew);
}

#[test]
fn sixty_nested_waits_of_a_future_that_is_polled_when_woken_end() {
    every_piece(Way::Woken);
}

#[test]
fn sixty_nested_waits_that_ask_whether_it_has_finished_end() {
    every_piece(Way::Finished);
}

#[test]
fn sixty_nested_waits_of_mixed_pieces_end() {
    every_piece(Way::Mixed);
}

/// Depths that other systems die of.
fn deep(depth: u32, way: Way, piece: Piece) {
    watched_for(LONG, move || {
        let ends = narrow(unix_sockets(), Some(way), Some(piece));
        assert_reaches(&ends, depth, 1);
    });
}

#[test]
fn two_hundred_nested_waits_in_pieces_end() {
    for way in WAYS {
        deep(200, way, millis(1, 1));
        deep(200, way, millis(0, 20));
    }
}

#[test]
fn a_thousand_nested_waits_in_pieces_end() {
    let depth = if size() == Size::Small { 300 } else { 1000 };
    // A thousand threads that wake a thousand times a second each leave no time for anything else.
    for (way, piece) in [
        (Way::Timeout, millis(20, 20)),
        (Way::Set, millis(20, 200)),
        (Way::Polled, millis(200, 200)),
        (Way::Woken, millis(0, 0)),
    ] {
        deep(depth, way, piece);
    }
}

/// Calls over connections of their own, until it is dropped.
struct Load(Arc<AtomicBool>);

impl Load {
    fn new() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        for _ in 0..2 {
            let is_over = Arc::clone(&is_over);
            start(move || {
                let (client, _server) = pairs::client_and_server(echo);
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(client.call(asking("load")).unwrap().payload(), b"load");
                }
            });
        }
        Self(is_over)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn chains_that_wait_in_any_pieces_end_beside_each_other_and_under_load() {
    let seed = seed();
    println!("PACKETSTREAM_TEST_SEED={seed}");
    watched_for(LONG, move || {
        let mut rng = Rng::with_seed(seed);
        let _load = Load::new();
        for _ in 0..sized(4, 20) {
            let pair = if rng.bool() { memory() } else { unix_sockets() };
            let ends = narrow(pair, None, None);
            let (depth, chains) = (rng.u32(1..=60), rng.usize(1..=16));
            println!("{chains} chains of {depth}");
            assert_reaches(&ends, depth, chains);
        }
    });
}

/// What is behind in the queue is not served first, and still is served.
#[test]
fn a_request_that_came_before_the_wait_is_served_during_a_wait_in_pieces() {
    for way in WAYS {
        for piece in [millis(0, 0), millis(1, 1), millis(5, 5)] {
            watched(move || {
                // The peer asks for what waits, then for what it waits for, then for others: by the
                // time of the first piece all are here, and the one that is needed is in the middle.
                let (here, there) = memory();
                let (queued, is_queued) = crossbeam_channel::bounded::<()>(1);
                let server = Connection::builder()
                    .handler_threads(1)
                    .handler(move |incoming: Incoming| {
                        if incoming.payload() != b"waits" {
                            return Ok(incoming.into_payload());
                        }
                        is_queued.recv_timeout(common::PATIENCE)?;
                        let pending = incoming.connection().submit(asking("back"))?;
                        let answer = in_pieces(pending, way, piece, &mut Rng::new())?;
                        Ok(answer.into_payload())
                    })
                    .open(there)
                    .unwrap();
                let (tell, needed) = crossbeam_channel::bounded::<()>(1);
                let client = Connection::builder()
                    .handler(move |_: Incoming| {
                        // The answer waits for that of the request that is in the middle.
                        needed.recv_timeout(common::PATIENCE)?;
                        Ok("answer")
                    })
                    .open(here)
                    .unwrap();
                let waits = client.submit(asking("waits")).unwrap();
                let before = client.submit(asking("before")).unwrap();
                let middle = client.submit(asking("middle")).unwrap();
                let after = client.submit(asking("after")).unwrap();
                while server.stats().serving < 4 {
                    thread::yield_now();
                    // Who asks has them sent.
                    let _ = after.is_finished();
                }
                queued.send(()).unwrap();
                assert_eq!(middle.wait().unwrap().payload(), b"middle");
                tell.send(()).unwrap();
                for (pending, text) in [(waits, "answer"), (before, "before"), (after, "after")] {
                    assert_eq!(pending.wait().unwrap().payload(), text.as_bytes());
                }
            });
        }
    }
}
