//! Code of the user's that the connection runs, and everything that it may call.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use packetstream::{Connection, OpenGuard, PendingResponse};

use super::pairs::asking;

pub type Call = fn(&Connection);

/// What the user's code calls.
pub const CALLS: [(&str, Call); 14] = [
    ("shutdown", |connection| drop(connection.shutdown(None))),
    ("shutdown at once", |connection| {
        drop(connection.shutdown(Some(Duration::ZERO)));
    }),
    ("abort", |connection| drop(connection.abort())),
    ("wait_closed", |connection| drop(connection.wait_closed())),
    ("wait_end_of_stream", |connection| {
        let _ = connection.wait_end_of_stream();
    }),
    ("close", |connection| {
        drop(connection.open().map(OpenGuard::close));
    }),
    ("drop", |connection| drop(connection.open())),
    ("serve", |connection| {
        drop(connection.open().map(OpenGuard::serve));
    }),
    ("submit", |connection| drop(connection.submit(asking("x")))),
    ("try_submit", |connection| {
        drop(connection.try_submit(asking("x")));
    }),
    ("call", |connection| drop(connection.call(asking("x")))),
    ("wait", |connection| {
        drop(connection.submit(asking("x")).map(PendingResponse::wait));
    }),
    ("end_stream", |connection| {
        let _ = (connection.finish_requests(), connection.end_stream());
    }),
    ("facts", |connection| {
        let _ = (connection.is_open(), connection.stats(), connection.name());
    }),
];

/// The user's code: it makes its call once, and says when that has returned.
#[derive(Clone)]
pub struct Code {
    pub connection: Arc<OnceLock<Connection>>,
    call: Call,
    pub has_run: Arc<AtomicBool>,
    begun: Sender<()>,
    returned: Sender<()>,
}

impl Code {
    /// Returns also what tells that it has begun, and that it has returned.
    pub fn new(call: Call) -> (Self, Receiver<()>, Receiver<()>) {
        let (begun, has_begun) = crossbeam_channel::unbounded();
        let (returned, has_returned) = crossbeam_channel::unbounded();
        let code = Self {
            connection: Arc::default(),
            call,
            has_run: Arc::default(),
            begun,
            returned,
        };
        (code, has_begun, has_returned)
    }

    pub fn run(&self) {
        // Before the connection is open, and in the code that its own call runs, it does nothing.
        if let Some(connection) = self.connection.get()
            && !self.has_run.swap(true, SeqCst)
        {
            let _ = self.begun.send(());
            (self.call)(connection);
            let _ = self.returned.send(());
        }
    }
}

/// Runs code when it is dropped.
pub struct OnDrop(pub Code);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.run();
    }
}
