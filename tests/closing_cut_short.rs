//! A close that is made shorter is shorter wherever it waits, on whatever thread: for threads, for
//! the peer, for a child's exit.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod common;
#[path = "common/endless.rs"]
mod endless;
#[path = "common/hostile.rs"]
mod hostile;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/pairs.rs"]
mod pairs;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use common::{PATIENCE, thread_names, watched};
use endless::{Life, Make, WAITS, Waiting, builder, parted, stuck_callback};
use hostile::piped;
use measure::until;
use packetstream::{Connection, OpenGuard, Transport};
use pairs::{asking, client_and_server, start, take};

const SHORT: Duration = Duration::from_millis(30);

/// Whether what it waits for holds the connection open, so that a drop of the last guard closes
/// nothing: a result does while its callback runs.
fn holds_open(make: Make) -> bool {
    let callback: Make = stuck_callback;
    std::ptr::fn_addr_eq(make, callback)
}

impl Life {
    /// Blocks until the close has begun, and until nothing but the child is left to wait for if that
    /// is what it waits for.
    fn await_wait(&self, connection: &Connection) {
        until(
            || (!connection.is_open()).then_some(()),
            || format!("{}: the close does not begin", self.name),
        );
        let threads = ["sender", "receiver"].map(|role| format!("{}:{role}", self.name));
        until(
            || {
                let names = thread_names();
                let is_alone = !names.iter().any(|name| threads.contains(name));
                (!self.has_parted || is_alone).then_some(())
            },
            || format!("{:?}", thread_names()),
        );
    }

    /// The close has waited for it, but for no more than a second once it was killed: on a machine
    /// with too much to do that may not be enough.
    fn assert_reaped(&self, case: &str) {
        if let Some(child) = self.child {
            let stat = || std::fs::read_to_string(format!("/proc/{child}/stat"));
            until(
                || stat().is_err().then_some(()),
                || format!("{case}: the child is still there: {:?}", stat()),
            );
        }
    }
}

/// How the close begins that is made shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    Close,
    Drop,
    Shutdown,
    /// By the last guard, where nothing may block.
    Background,
}

/// What makes it shorter.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Abort,
    ShutdownNow,
    ShutdownSoon,
    /// Where nothing may block.
    AbortInBackground,
}

const BEGINS: [Begin; 4] = [
    Begin::Close,
    Begin::Drop,
    Begin::Shutdown,
    Begin::Background,
];
const CUTS: [Cut; 4] = [
    Cut::Abort,
    Cut::ShutdownNow,
    Cut::ShutdownSoon,
    Cut::AbortInBackground,
];

fn begin(begin: Begin, guard: OpenGuard) {
    match begin {
        Begin::Close => drop(guard.close()),
        Begin::Drop => drop(guard),
        Begin::Shutdown => drop(guard.shutdown(None)),
        Begin::Background => assert!(in_callback(move || guard.close()).in_progress()),
    }
}

fn cut(cut: Cut, connection: Connection) {
    match cut {
        Cut::Abort => drop(connection.abort()),
        Cut::ShutdownNow => drop(connection.shutdown(Some(Duration::ZERO))),
        Cut::ShutdownSoon => drop(connection.shutdown(Some(SHORT))),
        Cut::AbortInBackground => drop(in_callback(move || connection.abort())),
    }
}

/// Runs code on the thread of another connection.
fn in_callback<T: Send + 'static>(code: impl FnOnce() -> T + Send + 'static) -> T {
    let (answer, may_answer) = crossbeam_channel::bounded::<()>(1);
    let (client, _server) = client_and_server(move |_| Ok(may_answer.recv()?));
    let (tell, told) = crossbeam_channel::bounded(1);
    let pending = client.submit(asking("x")).unwrap();
    pending.on_complete(move |_| tell.send(code()).unwrap());
    // An answer that is here already would be told on this thread.
    answer.send(()).unwrap();
    take(&told)
}

/// Starts a part of a table.
fn beside(name: &str, part: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(part).unwrap()
}

#[test]
fn a_close_that_is_made_shorter_is_shorter_wherever_it_waits() {
    let tables: Vec<_> = WAITS
        .into_iter()
        .map(|(what, make)| {
            beside(what, move || {
                for how in BEGINS {
                    if holds_open(make) && how == Begin::Drop {
                        continue;
                    }
                    for by in CUTS {
                        let case = format!("{how:?} that waits for {what}, and {by:?}");
                        watched(move || {
                            let Waiting { guard, life, keep } = make(None);
                            let connection = Connection::clone(&guard);
                            let closing = start(move || begin(how, guard));
                            life.await_wait(&connection);
                            let is_waiting = how == Begin::Background || !closing.is_finished();
                            assert!(is_waiting, "{case}: it does not wait");
                            cut(by, connection.clone());
                            closing.join().unwrap();
                            let report = connection.wait_closed();
                            assert!(!report.in_progress(), "{case}");
                            life.assert_reaped(&case);
                            drop(keep);
                        });
                    }
                }
            })
        })
        .collect();
    for table in tables {
        table.join().unwrap();
    }
}

/// The last guard begins a close that lasts no longer than its linger time, so one that runs then
/// lasts no longer than that either.
#[test]
fn a_close_that_runs_when_the_last_guard_goes_is_given_the_linger_time_from_then_on() {
    type Go = fn(OpenGuard);
    let ways: [Go; 3] = [
        drop,
        |guard| drop(guard.close()),
        |guard| drop(in_callback(move || guard.close())),
    ];
    let tables: Vec<_> = WAITS
        .into_iter()
        .map(|(what, make)| {
            beside(what, move || {
                for go in ways.into_iter().skip(usize::from(holds_open(make))) {
                    watched(move || {
                        let Waiting { guard, life, keep } = make(Some(SHORT));
                        let connection = Connection::clone(&guard);
                        let shutting = {
                            let connection = connection.clone();
                            start(move || drop(connection.shutdown(None)))
                        };
                        life.await_wait(&connection);
                        assert!(!shutting.is_finished(), "{what}: it does not wait");
                        go(guard);
                        shutting.join().unwrap();
                        life.assert_reaped(what);
                        drop(keep);
                    });
                }
            })
        })
        .collect();
    for table in tables {
        table.join().unwrap();
    }
}

#[test]
fn an_abort_lets_go_who_waits_for_a_close_to_connect_anew() {
    watched(|| {
        let (name, builder) = builder(None);
        let connects = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&connects);
        let connection = builder.build_on_demand(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let mut command = Command::new("sh");
            command.args(["-c", &parted("exec sleep 1000")]);
            Transport::spawn(command.stderr(Stdio::null()))
        });
        let life = Life {
            name,
            child: None,
            has_parted: true,
        };
        let guard = connection.open().unwrap();
        let closing = start(move || guard.close());
        life.await_wait(&connection);
        let waiting = {
            let connection = connection.clone();
            start(move || connection.open().unwrap())
        };
        drop(connection.abort());
        let guard = waiting.join().unwrap();
        closing.join().unwrap().into_result().unwrap();
        assert_eq!(connects.load(Ordering::Relaxed), 2);
        drop(guard.abort());
    });
}

/// Whatever hooks of its own a transport has been given.
#[test]
fn a_child_with_hooks_of_the_users_is_cut_short_too() {
    watched(|| {
        let mut command = Command::new("sh");
        command.args(["-c", &parted("exec sleep 1000")]);
        let child = piped(command.stderr(Stdio::null()));
        let number = child.id();
        let (name, builder) = builder(None);
        let transport = Transport::try_from(child)
            .unwrap()
            .with_shutdown(|| {})
            .with_end_of_write(|| {})
            .with_diagnosis(|| None);
        let guard = builder.open(transport).unwrap();
        let life = Life {
            name,
            child: Some(number),
            has_parted: true,
        };
        let connection = Connection::clone(&guard);
        let closing = start(move || guard.close());
        life.await_wait(&connection);
        drop(connection.abort());
        closing.join().unwrap().into_result().unwrap();
        life.assert_reaped("with hooks");
    });
}

/// A child that ends by itself is not waited for longer than that, and not killed.
#[test]
fn a_child_that_ends_in_time_is_not_killed() {
    watched(|| {
        let file = std::env::temp_dir().join(format!("packetstream-cut-{}", std::process::id()));
        let script = parted(r#"cat; : > "$0""#);
        let (name, builder) = builder(None);
        let mut command = Command::new("sh");
        let command = command.args(["-c", &script]).arg(&file);
        let child = piped(command.stderr(Stdio::null()));
        let life = Life {
            name,
            child: Some(child.id()),
            has_parted: false,
        };
        let guard = builder.open(child.try_into().unwrap()).unwrap();
        drop(guard.shutdown(Some(PATIENCE)));
        life.assert_reaped("a child that ends");
        std::fs::remove_file(file).unwrap();
    });
}
