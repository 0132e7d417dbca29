//! Memory is bounded by configuration, however many requests there are and whatever the peer does
//! not read.
//!
//! One test in a binary of its own, because it counts what the whole process allocates.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    clippy::print_stderr,
    reason = "helpers of tests fail the test and tell what they measured"
)]

mod common;
#[path = "common/heap.rs"]
mod heap;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "common/sizes.rs"]
mod sizes;

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use common::watched_for;
use heap::{DUST, Growth, KIB, MIB, PER_REQUEST, run_in_sequence};
use measure::{pause, until};
use packetstream::{Connection, ConnectionBuilder, Error, OpenGuard, Outcome, Transport};
use pairs::{Gate, SILENCE, asking, echo, request_packet, start, threads_named};
use sizes::is_large;

/// What tables, queues and buffers may have grown to beyond what they hold, and the test's own
/// threads.
const SLACK: usize = MIB;

#[test]
fn memory_is_bounded_by_configuration() {
    watched_for(Duration::from_secs(900), || {
        run_in_sequence(&[
            ("try_submit", try_submit_says_full_to_a_deaf_peer),
            ("submit", submitters_wait_at_the_limit),
            ("cancelled, unread", cancelled_requests_to_a_deaf_peer),
            ("cancelled, unanswered", cancelled_requests_to_a_mute_peer),
            ("flood", floods_are_held_back),
            ("flood of rejections", rejected_floods_are_held_back),
            ("flood while owed", a_flood_while_we_are_owed_an_answer_ends),
        ]);
    });
}

/// A connection to a peer that neither reads nor writes.
fn deaf(builder: ConnectionBuilder) -> (OpenGuard, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let guard = builder
        .linger(Some(Duration::ZERO))
        .open(Transport::try_from(ours).unwrap())
        .unwrap();
    (guard, theirs)
}

/// More than any budget in force, so the same in the small size.
fn many<N: From<u32>>() -> N {
    let is_large = is_large() || !cfg!(debug_assertions);
    N::from(if is_large { 1_000_000 } else { 100_000 })
}

fn try_submit_says_full_to_a_deaf_peer() {
    for payload in [0, 1000] {
        for builder in [
            Connection::builder(),
            Connection::builder().send_queue_len(usize::MAX),
            Connection::builder().max_outstanding_bytes(MIB),
        ] {
            let (guard, _peer) = deaf(builder);
            let growth = Growth::start();
            let mut accepted = 0;
            for _ in 0..many::<u32>() {
                match guard.try_submit(asking(vec![b'x'; payload])) {
                    Ok(forgotten) => {
                        accepted += 1;
                        drop(forgotten);
                    }
                    Err(refused) => assert!(refused.is_full(), "{refused:?}"),
                }
            }
            assert!(accepted <= 16 * KIB, "{accepted} accepted");
            let bound = accepted * (payload + PER_REQUEST) + SLACK;
            growth.assert_at_most(bound, &format!("{accepted} of {payload} octets"));
            let _ = guard.abort();
        }
    }
}

fn submitters_wait_at_the_limit() {
    const SUBMITTERS: usize = 16;
    let payload = 1000;
    let (guard, _peer) = deaf(
        Connection::builder()
            .max_outstanding_bytes(MIB)
            .send_queue_len(usize::MAX),
    );
    let growth = Growth::start();
    let submitting: Vec<JoinHandle<Error>> = (0..SUBMITTERS)
        .map(|_| {
            let connection = Connection::clone(&guard);
            start(move || {
                loop {
                    match connection.submit(asking(vec![b'x'; payload])) {
                        Ok(forgotten) => drop(forgotten),
                        Err(error) => return error,
                    }
                }
            })
        })
        .collect();
    let full = MIB / payload;
    until(
        || (guard.stats().outstanding == full as u64).then_some(()),
        || format!("{:?}", guard.stats()),
    );
    pause(SILENCE);
    assert_eq!(guard.stats().outstanding, full as u64);
    let bound = MIB + full * PER_REQUEST + SLACK;
    growth.assert_at_most(bound, "blocked submitters");
    let _ = guard.abort();
    for submitter in submitting {
        let error = submitter.join().unwrap();
        assert_eq!(error.outcome(), Outcome::NotSent, "{error:?}");
    }
}

/// Submits and cancels again and again; returns how many were accepted.
fn submit_and_cancel(guard: &OpenGuard, times: u32, payload: usize) -> usize {
    let mut accepted = 0;
    for _ in 0..times {
        match guard.try_submit(asking(vec![b'x'; payload])) {
            Ok(pending) => {
                accepted += 1;
                let _ = pending.cancel();
            }
            Err(refused) => assert!(refused.is_full(), "{refused:?}"),
        }
    }
    accepted
}

fn cancelled_requests_to_a_deaf_peer() {
    for payload in [0, 1000, 30_000] {
        let (guard, _peer) = deaf(Connection::builder().max_outstanding_bytes(4 * MIB));
        let growth = Growth::start();
        let times = many();
        let accepted = submit_and_cancel(&guard, times, payload);
        let bound = 4 * MIB + accepted.min(16 * KIB) * PER_REQUEST + SLACK;
        growth.assert_at_most(bound, &format!("{accepted} of {payload} octets"));
        let _ = guard.abort();
    }
}

fn cancelled_requests_to_a_mute_peer() {
    const CAP: u32 = 4096;
    for payload in [0, 1000] {
        // What has not been sent when it is cancelled is forgotten.
        let (guard, mut peer) = deaf(Connection::builder().max_outstanding_requests(CAP as usize));
        let reading = start(move || io::copy(&mut peer, &mut io::sink()));
        let growth = Growth::start();
        let accepted = submit_and_cancel(&guard, many(), payload);
        let sent = guard.stats().requests_sent;
        assert!(sent <= u64::from(CAP), "{sent} sent");
        let bound = CAP as usize * (payload + PER_REQUEST) + SLACK;
        growth.assert_at_most(bound, &format!("{accepted} of {payload} octets"));
        let _ = guard.abort();
        let _ = reading.join().unwrap();

        // What has been sent is owed, and counts.
        let (guard, mut peer) = deaf(Connection::builder().max_outstanding_requests(CAP as usize));
        let reading = start(move || io::copy(&mut peer, &mut io::sink()));
        let request = || asking(vec![b'x'; payload]);
        let sent: Vec<_> = (0..CAP).map(|_| guard.submit(request()).unwrap()).collect();
        until(
            || (guard.stats().requests_sent == u64::from(CAP)).then_some(()),
            || format!("{:?}", guard.stats()),
        );
        for pending in sent {
            let _ = pending.cancel();
        }
        let growth = Growth::start();
        let accepted = submit_and_cancel(&guard, many(), payload);
        assert_eq!(accepted, 0, "the peer owes all there may be");
        growth.assert_at_most(payload + DUST, "full");
        let _ = guard.abort();
        let _ = reading.join().unwrap();
    }
}

/// Writes requests until all are written, the other end has been full for a while, or it is gone.
/// Returns how many were written.
fn flood(mut peer: UnixStream, requests: u64, payload: usize) -> JoinHandle<u64> {
    peer.set_write_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    start(move || {
        let payload = vec![b'x'; payload];
        for n in 0..requests {
            let packet = request_packet(n + 2, &payload[..]).transcribe();
            if peer.write_all(&packet).is_err() {
                return n;
            }
        }
        requests
    })
}

struct Budget {
    requests: usize,
    octets: usize,
}

impl Budget {
    const DEFAULT: Self = Self {
        requests: 32 * KIB,
        octets: 128 * MIB,
    };
    const SMALL: Self = Self {
        requests: 1000,
        octets: MIB,
    };

    fn builder(&self) -> ConnectionBuilder {
        Connection::builder()
            .max_inbound_requests(self.requests)
            .max_inbound_bytes(self.octets)
    }

    /// Unstarted requests and unsent answers, each with that much payload.
    fn held(&self, payload: usize) -> usize {
        let octets = self.octets.min(self.requests * payload);
        2 * (octets + self.requests * PER_REQUEST)
    }

    /// The hard budget: up to four times as many rejections may wait, and 32,768 at least, which have
    /// short texts.
    fn rejections(&self) -> usize {
        (4 * self.requests).max(32_768) * PER_REQUEST
    }
}

fn floods_are_held_back() {
    let budgets: &[Budget] = if is_large() {
        &[Budget::SMALL, Budget::DEFAULT]
    } else {
        &[Budget::SMALL]
    };
    for budget in budgets {
        for payload in [0, 1000] {
            let (guard, peer) = deaf(budget.builder().handler(echo));
            let growth = Growth::start();
            let flooder = peer.try_clone().unwrap();
            let written = flood(flooder, many(), payload);
            let written = written.join().unwrap();
            let bound = budget.held(payload) + SLACK;
            let what = format!("{written} of {payload} octets, {:?}", guard.stats().serving);
            growth.assert_at_most(bound, &what);
            assert!(guard.is_open());
            // The default number of handlers; sender and receiver, and one that was about to retire
            // and is stuck in a write.
            let threads = threads_named(&format!("{}:", guard.name()));
            assert!(threads <= 4 + 4, "{threads} threads");
            let _ = guard.abort();
        }
    }
}

fn rejected_floods_are_held_back() {
    for payload in [0, 1000] {
        let budget = Budget::SMALL;
        let (guard, peer) = deaf(budget.builder());
        let growth = Growth::start();
        let flooder = peer.try_clone().unwrap();
        let written = flood(flooder, many(), payload);
        let written = written.join().unwrap();
        let bound = budget.held(payload) + budget.rejections() + SLACK;
        growth.assert_at_most(bound, &format!("{written} of {payload} octets"));
        let report = guard.abort();
        eprintln!("    {:?}", report.cause());
    }
}

/// Then it may not pause reading, as the answer could be in what it does not read.
fn a_flood_while_we_are_owed_an_answer_ends() {
    for payload in [0, 1000] {
        let budget = Budget::SMALL;
        let (gate, handler) = Gate::new();
        let (guard, peer) = deaf(budget.builder().handler(handler));
        let growth = Growth::start();
        let owed = guard.submit(asking("owed")).unwrap();
        let flooder = peer.try_clone().unwrap();
        let written = flood(flooder, many(), payload);
        let error = owed.wait().unwrap_err();
        let named = matches!(error.cause(), Error::PeerNotReading { .. });
        assert!(named, "{error:?}");
        let bound = budget.held(payload) + budget.rejections() + SLACK;
        let what = format!("{} of {payload} octets", written.join().unwrap());
        growth.assert_at_most(bound, &what);
        drop(gate);
        let _ = guard.abort();
    }
}
