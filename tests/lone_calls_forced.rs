//! A forced end frees a caller that reads its own answer before anything of the user's runs.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod common;
#[path = "common/lone.rs"]
mod lone;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/pairs.rs"]
mod pairs;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use common::{PATIENCE, watched};
use crossbeam_channel::{Receiver, bounded};
use lone::{Scene, patient};
use packetstream::{Connection, Outcome};
use pairs::{asking, start};

/// A waker that waits, like one that needs a lock which the caller holds.
struct Waits(Receiver<()>);

impl Wake for Waits {
    fn wake(self: Arc<Self>) {
        let _ = self.0.recv_timeout(PATIENCE);
    }
}

fn frees_the_caller_first(end: fn(&Connection)) {
    for _ in 0..10 {
        watched(move || {
            let mut scene = Scene::new(patient());
            let _unanswered = scene.hold();
            let (let_go, released) = bounded::<()>(1);
            let mut other = pin!(scene.connection.submit(asking("another")).unwrap());
            let waker = Waker::from(Arc::new(Waits(released)));
            let polled = other.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());

            let connection = scene.connection.clone();
            let ending = start(move || end(&connection));
            let error = scene.answered().unwrap_err();
            assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
            drop(let_go);
            ending.join().unwrap();
        });
    }
}

#[test]
fn an_abort_frees_a_caller_that_reads_before_it_wakes_others() {
    frees_the_caller_first(|connection| {
        let _ = connection.abort();
    });
}

#[test]
fn a_linger_that_expires_frees_a_caller_that_reads_before_it_wakes_others() {
    frees_the_caller_first(|connection| {
        let _ = connection.shutdown(Some(Duration::from_millis(20)));
    });
}
