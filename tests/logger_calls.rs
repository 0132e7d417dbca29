//! A logger that makes requests itself, over the connection whose packets it is told of: it is
//! told that it would wait for itself, and everybody else gets their answers.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod common;

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::watched;
use packetstream::{Connection, Error, Incoming, Request, Transport};
use parking_lot::Mutex;

/// Ships every record of the client's packets to the server.
struct Shipper {
    connection: Mutex<Option<Connection>>,
    refused: AtomicUsize,
}

static SHIPPER: Shipper = Shipper {
    connection: Mutex::new(None),
    refused: AtomicUsize::new(0),
};

thread_local! {
    /// The records of what is shipped are not shipped.
    static IS_SHIPPING: Cell<bool> = const { Cell::new(false) };
}

impl log::Log for Shipper {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        let connection = self.connection.lock().clone();
        if let Some(connection) = connection
            && text.starts_with("client: ")
            && !IS_SHIPPING.replace(true)
        {
            let result = connection.call(Request::new(1).with_payload(text));
            assert!(matches!(result, Err(Error::WouldDeadlock(_))), "{result:?}");
            self.refused.fetch_add(1, Ordering::Relaxed);
            IS_SHIPPING.set(false);
        }
    }

    fn flush(&self) {}
}

#[test]
fn a_logger_that_calls_the_connection_it_logs_for_is_refused_and_holds_up_nobody() {
    watched(|| {
        let (ours, theirs) = Transport::pair();
        let _server = Connection::builder()
            .name("server")
            .handler(|incoming: Incoming| Ok(incoming.into_payload()))
            .open(theirs)
            .unwrap();
        let client = Connection::builder().name("client").open(ours).unwrap();
        // So many that the caller reads its own answers.
        let call_some = || {
            for _ in 0..50 {
                let response = client.call(Request::new(0).with_payload("x")).unwrap();
                assert_eq!(response.payload(), b"x");
            }
        };
        call_some();
        log::set_logger(&SHIPPER).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        *SHIPPER.connection.lock() = Some(Connection::clone(&client));
        call_some();
        *SHIPPER.connection.lock() = None;
        assert!(SHIPPER.refused.load(Ordering::Relaxed) >= 100);
    });
}
