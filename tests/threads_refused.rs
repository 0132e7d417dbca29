//! A system that refuses a thread is told as that, and costs no answer that is here.
//!
//! One test in a binary of its own, because the limit is that of the whole process.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod common;
#[path = "common/pairs.rs"]
mod pairs;

use std::fs;
use std::process::{Command, Stdio};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use common::watched;
use crossbeam_channel::Sender;
use packetstream::{
    Connection, Error, OpenGuard, Outcome, PendingResponse, Request, Response, Transport,
};
use pairs::{ScriptedPeer, asking, block_on};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const LONG: Duration = Duration::from_secs(3600);
/// Enough for what a test allocates, and less than the stack of a thread.
const REST: u64 = 1 << 20;

/// While it lives no thread can be started in this process.
struct Refusal {
    before: Rlimit,
    _go: Sender<()>,
    threads: Vec<JoinHandle<()>>,
}

impl Refusal {
    fn begin() -> Self {
        let before = getrlimit(Resource::As);
        let pages: u64 = fs::read_to_string("/proc/self/statm")
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let limit = Rlimit {
            current: Some(pages * rustix::param::page_size() as u64 + REST),
            maximum: before.maximum,
        };
        let (go, gone) = crossbeam_channel::bounded::<()>(0);
        setrlimit(Resource::As, limit).unwrap();
        // The C library keeps the stacks of threads that have ended: these are used up first.
        let threads = std::iter::repeat_with(|| {
            let gone = gone.clone();
            let body = move || {
                let _ = gone.recv();
            };
            Builder::new()
                .name("uses up a stack".to_owned())
                .spawn(body)
        })
        .map_while(Result::ok)
        .collect();
        Self {
            before,
            _go: go,
            threads,
        }
    }

    fn end(self) {
        let Self {
            before,
            _go: go,
            threads,
        } = self;
        setrlimit(Resource::As, before).unwrap();
        drop(go);
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

fn opened() -> (OpenGuard, ScriptedPeer) {
    let (transport, peer) = ScriptedPeer::new();
    let guard = Connection::builder()
        .linger(Some(LONG))
        .flush_grace(LONG)
        .open(transport)
        .unwrap();
    (guard, peer)
}

/// What alone holds a connection open to a program that does not end, whose close has no limit, and
/// which no hook kills.
fn living_child() -> PendingResponse {
    let mut command = Command::new("sleep");
    command.arg("1000").stderr(Stdio::null());
    let transport = Transport::spawn(&mut command).unwrap().with_shutdown(|| {});
    let guard = Connection::builder().linger(None).open(transport).unwrap();
    guard.submit(asking("never answered")).unwrap()
}

fn call_back(pending: PendingResponse) -> Result<Response, Error> {
    let (tell, told) = crossbeam_channel::bounded(1);
    pending.on_complete(move |answer| tell.send(answer).unwrap());
    told.try_recv().expect("it is called at once")
}

/// Sends a request, which the peer has then.
fn sent(guard: &Connection, peer: &mut ScriptedPeer, request: Request) -> PendingResponse {
    let pending = guard.submit(request).unwrap();
    let pending = pending.wait_timeout(Duration::ZERO).unwrap_err();
    while peer.request().tag() != pending.tag() {}
    pending
}

#[track_caller]
fn assert_refused(answer: Result<Response, Error>, outcomes: &[Outcome]) {
    let error = answer.unwrap_err();
    assert!(matches!(error, Error::Spawn { .. }), "{error:?}");
    assert!(outcomes.contains(&error.outcome()), "{error:?}");
    assert!(!error.is_closed(), "the connection goes on");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn a_thread_that_is_refused_is_told_as_that_and_no_answer_is_lost() {
    watched(|| {
        let (guard, mut peer) = opened();
        let limited = || asking("x").with_timeout(LONG);
        let held = guard.submit(asking("answered")).unwrap();
        let held = held.wait_timeout(Duration::ZERO).unwrap_err();
        let request = peer.request();
        peer.answer(&request, "an answer");
        while !held.is_finished() {
            std::thread::yield_now();
        }
        let unsent = [asking("x"), limited()].map(|request| guard.submit(request).unwrap());
        let unsent_future = guard.submit(limited()).unwrap();

        // The sender may have taken them out of the queue, where they wait for the grace.
        let queued = [Outcome::NotSent, Outcome::Unknown];
        let living = living_child();
        let refusal = Refusal::begin();
        let [unsent_callback, unsent_limited_callback] = unsent;
        assert_refused(call_back(unsent_callback), &queued);
        assert_refused(call_back(unsent_limited_callback), &queued);
        assert_refused(block_on(unsent_future), &queued);
        for request in [asking("x"), limited()] {
            let pending = sent(&guard, &mut peer, request);
            assert_refused(call_back(pending), &[Outcome::Unknown]);
        }
        let pending = sent(&guard, &mut peer, limited());
        assert_refused(block_on(pending), &[Outcome::Unknown]);
        assert_eq!(call_back(held).unwrap().payload(), b"an answer");
        // It cannot be closed in the background, so it is aborted, and that waits for no child.
        drop(living);
        refusal.end();

        // Nothing of that is left: the next ones have their threads.
        let (tell, told) = crossbeam_channel::bounded(1);
        let pending = guard.submit(limited()).unwrap();
        let tag = pending.tag();
        pending.on_complete(move |answer| tell.send(answer).unwrap());
        let mut request = peer.request();
        while request.tag() != tag {
            request = peer.request();
        }
        peer.answer(&request, "y");
        assert_eq!(pairs::take(&told).unwrap().payload(), b"y");
        peer.goodbye();
        let report = guard.close();
        assert!(report.into_result().is_ok());
    });
}
