//! The user's code that runs while a connection ends may call everything: no thread waits for
//! itself (law L7), and none holds a lock that such code needs (law L4).
//!
//! A table: {code of the user's that we run} x {how the connection ends} x {what the code calls}.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod common;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "common/user_code.rs"]
mod user_code;

use std::io::{self, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Waker};
use std::time::Duration;

use common::watched;
use packetstream::{
    BoxError, Connection, ConnectionBuilder, Incoming, OpenGuard, PendingResponse, Transport,
};
use pairs::{OnWake, ScriptedPeer, asking, request_packet, take};
use parking_lot::Mutex;
use user_code::{CALLS, Call, Code, OnDrop};

/// What a close is given here. Its peers are silent, so that most ends are forced.
const LINGER: Duration = Duration::from_millis(20);

/// How a thread that is none of ours ends the connection.
const ENDS: [(&str, End); 6] = [
    ("close", |guard, _| drop(guard.close())),
    ("drop", |guard, _| drop(guard)),
    ("shutdown", |guard, _| drop(guard.shutdown(Some(LINGER)))),
    ("shutdown at once", |guard, _| {
        drop(guard.shutdown(Some(Duration::ZERO)));
    }),
    ("abort", |guard, _| drop(guard.abort())),
    ("serve", |guard, peer| {
        peer.cut(Shutdown::Write);
        drop(guard.serve());
    }),
];

type End = fn(OpenGuard, &ScriptedPeer);

/// A half of a socket that runs code whenever it is used or dropped.
struct Half {
    stream: UnixStream,
    on_use: Option<Code>,
    _on_drop: Option<OnDrop>,
}

impl Half {
    fn new(stream: &UnixStream, on_use: Option<Code>, on_drop: Option<Code>) -> Self {
        Self {
            stream: stream.try_clone().unwrap(),
            on_use,
            _on_drop: on_drop.map(OnDrop),
        }
    }

    fn used(&self) {
        if let Some(code) = &self.on_use {
            code.run();
        }
    }
}

impl Read for Half {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer);
        self.used();
        read
    }
}

impl Write for Half {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.used();
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.used();
        self.stream.flush()
    }
}

/// Where the code stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spot {
    Waker,
    WakerDrop,
    Callback,
    CallbackDrop,
    ShutdownHook,
    ShutdownHookDrop,
    EndOfWrite,
    EndOfWriteDrop,
    Diagnosis,
    Read,
    ReaderDrop,
    Write,
    WriterDrop,
    Handler,
    Inline,
    Deferred,
    Logger,
}

impl Spot {
    /// Whether the code runs already when the connection begins to end.
    fn runs_before_the_end(self) -> bool {
        matches!(
            self,
            Self::Handler | Self::Inline | Self::Deferred | Self::Read
        )
    }
}

/// What is kept until the connection has ended.
type Kept = Vec<PendingResponse>;

fn open(spot: Spot, code: &Code, here: UnixStream) -> (OpenGuard, Kept) {
    let on_drop = || OnDrop(code.clone());
    let at = |wanted| (spot == wanted).then(|| code.clone());
    let reader = Half::new(&here, at(Spot::Read), at(Spot::ReaderDrop));
    let writer = Half::new(&here, at(Spot::Write), at(Spot::WriterDrop));
    let hook = (
        at(Spot::ShutdownHook),
        at(Spot::ShutdownHookDrop).map(OnDrop),
    );
    let end_of_write = (at(Spot::EndOfWrite), at(Spot::EndOfWriteDrop).map(OnDrop));
    let transport = Transport::new(BufReader::new(reader), writer).with_shutdown(move || {
        let (code, _on_drop) = &hook;
        let _ = here.shutdown(Shutdown::Both);
        code.iter().for_each(Code::run);
    });
    let transport = match spot {
        Spot::EndOfWrite | Spot::EndOfWriteDrop => transport.with_end_of_write(move || {
            let (code, _on_drop) = &end_of_write;
            code.iter().for_each(Code::run);
        }),
        _ => transport,
    };
    let transport = match at(Spot::Diagnosis) {
        Some(code) => transport.with_diagnosis(move || {
            code.run();
            None
        }),
        None => transport,
    };
    let handler = {
        let code = at(Spot::Handler).or(at(Spot::Inline));
        move |_: Incoming| {
            code.iter().for_each(Code::run);
            Ok::<_, BoxError>(())
        }
    };
    let builder = named().linger(Some(LINGER));
    let builder = match at(Spot::Deferred) {
        Some(code) => builder.deferred_handler(move |_, _responder| code.run()),
        // Without a handler, callers may read and write on their own threads.
        None if matches!(spot, Spot::Handler | Spot::Inline) => builder
            .handler(handler)
            .inline_handler(spot == Spot::Inline),
        None => builder,
    };
    let guard = builder.open(transport).unwrap();
    let mut kept = Kept::new();
    match spot {
        Spot::Waker | Spot::WakerDrop => {
            let mut pending = guard.submit(asking("never answered")).unwrap();
            let (code, on_drop) = (at(Spot::Waker), (spot == Spot::WakerDrop).then(on_drop));
            let waker: Waker = OnWake::waker(move || {
                let _on_drop = on_drop;
                code.iter().for_each(Code::run);
            });
            let polled = Pin::new(&mut pending).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            kept.push(pending);
        }
        Spot::Callback | Spot::CallbackDrop => {
            let pending = guard.submit(asking("never answered")).unwrap();
            let (code, on_drop) = (
                at(Spot::Callback),
                (spot == Spot::CallbackDrop).then(on_drop),
            );
            pending.on_complete(move |_| {
                let _on_drop = on_drop;
                code.iter().for_each(Code::run);
            });
        }
        _ => {}
    }
    (guard, kept)
}

fn named() -> ConnectionBuilder {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, SeqCst);
    let name = format!("cc{number}");
    Connection::builder().name(name)
}

/// Which code runs when something is logged of a connection with this name.
static LOGGED: Mutex<Vec<(String, Code)>> = Mutex::new(Vec::new());

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        let code = LOGGED
            .lock()
            .iter()
            .find(|(name, _)| text.starts_with(name.as_str()))
            .map(|(_, code)| code.clone());
        code.iter().for_each(Code::run);
    }

    fn flush(&self) {}
}

/// Ends a connection whose user's code stands at that spot and makes that call; returns whether the
/// code has run at all.
fn assert_ends(spot: Spot, end: End, is_drop: bool, call: Call) -> bool {
    let (here, there) = UnixStream::pair().unwrap();
    let mut peer = ScriptedPeer::on(there);
    let (code, begun, returned) = Code::new(call);
    let (guard, kept) = open(spot, &code, here);
    if spot == Spot::Logger {
        let logged = (format!("{}:", guard.name()), code.clone());
        LOGGED.lock().push(logged);
    }
    let connection = Connection::clone(&guard);
    assert!(code.connection.set(connection.clone()).is_ok());
    if spot.runs_before_the_end() {
        peer.send(&[request_packet(2, "")]);
        take(&begun);
    }
    end(guard, &peer);
    if spot.runs_before_the_end() || is_drop {
        // The code may have asked to wait for the peer while nothing ended yet, and a guard that is
        // merely dropped ends nothing while there are results.
        peer.cut(Shutdown::Both);
    }
    drop(kept);
    // The end may have been left to a thread of ours.
    drop(connection.wait_closed());
    let has_run = code.has_run.load(SeqCst);
    if has_run {
        take(&returned);
    }
    has_run
}

fn every_end_and_call(spot: Spot) {
    static LOGGER: Logger = Logger;
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(log::LevelFilter::Debug);
    let runs = AtomicUsize::new(0);
    for (end_name, end) in ENDS {
        for (call_name, call) in CALLS {
            println!("{spot:?}, {end_name}: {call_name}");
            if watched(move || assert_ends(spot, end, end_name == "drop", call)) {
                runs.fetch_add(1, SeqCst);
            }
        }
    }
    println!(
        "{spot:?} ran {runs:?} times of {}",
        ENDS.len() * CALLS.len()
    );
    assert!(runs.into_inner() > 0, "{spot:?} never ran");
}

macro_rules! spots {
    ($($name:ident => $spot:ident,)*) => {
        $(#[test]
        fn $name() {
            every_end_and_call(Spot::$spot);
        })*
    };
}

spots! {
    waker_may_call_everything_while_its_connection_ends => Waker,
    drop_of_a_waker_may_call_everything_while_its_connection_ends => WakerDrop,
    callback_may_call_everything_while_its_connection_ends => Callback,
    drop_of_a_callback_may_call_everything_while_its_connection_ends => CallbackDrop,
    shutdown_hook_may_call_everything_while_its_connection_ends => ShutdownHook,
    drop_of_a_shutdown_hook_may_call_everything_while_its_connection_ends => ShutdownHookDrop,
    end_of_write_may_call_everything_while_its_connection_ends => EndOfWrite,
    drop_of_an_end_of_write_may_call_everything_while_its_connection_ends => EndOfWriteDrop,
    diagnosis_may_call_everything_while_its_connection_ends => Diagnosis,
    reader_may_call_everything_while_its_connection_ends => Read,
    drop_of_a_reader_may_call_everything_while_its_connection_ends => ReaderDrop,
    writer_may_call_everything_while_its_connection_ends => Write,
    drop_of_a_writer_may_call_everything_while_its_connection_ends => WriterDrop,
    handler_may_call_everything_while_its_connection_ends => Handler,
    inline_handler_may_call_everything_while_its_connection_ends => Inline,
    deferred_handler_may_call_everything_while_its_connection_ends => Deferred,
    logger_may_call_everything_while_its_connection_ends => Logger,
}
