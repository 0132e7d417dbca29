//! Whatever a handler waits for in this crate, its slot serves another request meanwhile (law L5).
//!
//! A table: each row is a wait that ends only when a second request over the same link, to an end
//! with one handler thread, has been served.
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

use std::io;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::watched;
use crossbeam_channel::{Receiver, Sender};
use packetstream::{
    BoxError, Connection, ConnectionBuilder, Incoming, OpenGuard, PendingSet, Transport,
};
use pairs::{asking, block_on, echo, memory, start, take, unix_sockets};
use parking_lot::Mutex;

/// What a handler waits for, and what the second request does to end that.
struct Row {
    wait: Box<dyn Fn(&Incoming) + Send + Sync>,
    release: Box<dyn Fn() + Send + Sync>,
}

impl Row {
    fn new(
        wait: impl Fn(&Incoming) + Send + Sync + 'static,
        release: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            wait: Box::new(wait),
            release: Box::new(release),
        }
    }
}

/// Opened once, for everybody who waits at it.
#[derive(Clone)]
struct Door(Sender<()>, Receiver<()>);

impl Door {
    fn new() -> Self {
        let (open, opened) = crossbeam_channel::unbounded();
        Self(open, opened)
    }

    fn open(&self) {
        self.0.send(()).unwrap();
    }

    fn pass(&self) {
        take(&self.1);
        self.open();
    }
}

/// A connection, its peer, whose handler waits at the door, and both of them.
fn gated(
    builder: ConnectionBuilder,
    (ours, theirs): (Transport, Transport),
    door: &Door,
) -> (OpenGuard, OpenGuard) {
    let door = door.clone();
    let handler = move |incoming: Incoming| {
        door.pass();
        echo(incoming)
    };
    let peer = Connection::builder().handler(handler).open(theirs).unwrap();
    (builder.open(ours).unwrap(), peer)
}

/// Waits with `wait` on another connection, whose peer answers when the door is open.
fn over_another(
    builder: fn() -> ConnectionBuilder,
    pair: fn() -> (Transport, Transport),
    wait: fn(&Connection),
) -> Row {
    let door = Door::new();
    let guards = gated(builder(), pair(), &door);
    Row::new(
        move |_| {
            let (guard, _peer) = &guards;
            wait(guard);
        },
        move || door.open(),
    )
}

fn call(connection: &Connection) {
    let answer = connection.call(asking("x")).unwrap();
    assert_eq!(answer.payload(), b"x");
}

fn plain() -> ConnectionBuilder {
    Connection::builder()
}

fn serving() -> ConnectionBuilder {
    Connection::builder().handler(echo)
}

/// Waits for the peer of the link itself, whose handler waits at the door.
fn own_link(wait: fn(&Incoming), door: &Door) -> Row {
    let door = door.clone();
    Row::new(wait, move || door.open())
}

/// A connection on demand whose first connect, by another thread, ends when the door is open.
fn connecting(wait: fn(&Connection)) -> Row {
    let door = Door::new();
    let servers = Arc::new(Mutex::new(Vec::new()));
    let (tell, begun) = crossbeam_channel::unbounded();
    let at = door.clone();
    let connection = plain().build_on_demand(move || {
        // Nobody is told of a second one.
        let _ = tell.send(());
        at.pass();
        let (ours, theirs) = Transport::pair();
        let server = serving().open(theirs).map_err(io::Error::other)?;
        servers.lock().push(server);
        Ok(ours)
    });
    let first = connection.clone();
    let _ = start(move || call(&first));
    take(&begun);
    Row::new(move |_| wait(&connection), move || door.open())
}

/// A connection on demand whose last close goes on until its peer says goodbye.
fn closing(wait: fn(&Connection)) -> Row {
    let peers = Arc::new(Mutex::new(Vec::<UnixStream>::new()));
    let silent = Arc::clone(&peers);
    let is_first = Mutex::new(true);
    let connection = plain().linger(None).build_on_demand(move || {
        let (ours, theirs) = UnixStream::pair()?;
        if std::mem::take(&mut *is_first.lock()) {
            silent.lock().push(theirs);
        } else {
            let _ = start(move || serving().open(theirs.try_into().unwrap()).unwrap().serve());
        }
        Transport::try_from(ours)
    });
    // It goes on in the background, as its last reference is a pending response.
    drop(connection.submit(asking("never answered")).unwrap());
    Row::new(
        move |_| wait(&connection),
        // The end of the stream ends it as well.
        move || peers.lock().clear(),
    )
}

/// Another connection, whose peer goes when the door is open.
fn until_peer_goes(wait: fn(OpenGuard)) -> Row {
    let (ours, theirs) = unix_sockets();
    let peer = Mutex::new(Some(plain().open(theirs).unwrap()));
    let guard = Mutex::new(Some(plain().open(ours).unwrap()));
    Row::new(
        move |_| wait(guard.lock().take().unwrap()),
        move || drop(peer.lock().take().unwrap().abort()),
    )
}

type Make = fn(&Door) -> Row;

fn submitted(incoming: &Incoming) -> packetstream::PendingResponse {
    incoming.connection().submit(asking("back")).unwrap()
}

const HOUR: Duration = Duration::from_secs(3600);

const ROWS: [(&str, Make); 31] = [
    ("call", |door| own_link(call_back, door)),
    ("wait", |door| {
        own_link(|i| drop(submitted(i).wait().unwrap()), door)
    }),
    ("wait_timeout", |door| {
        own_link(
            |i| drop(submitted(i).wait_timeout(HOUR).unwrap().unwrap()),
            door,
        )
    }),
    ("wait_deadline", |door| {
        own_link(
            |i| {
                drop(
                    submitted(i)
                        .wait_deadline(Instant::now() + HOUR)
                        .unwrap()
                        .unwrap(),
                );
            },
            door,
        )
    }),
    ("and_then", |door| {
        own_link(
            |i| {
                submitted(i)
                    .and_then(|_| Ok::<_, BoxError>(()))
                    .wait()
                    .unwrap();
            },
            door,
        )
    }),
    ("set, next", |door| {
        own_link(
            |i| drop(PendingSet::from_iter([submitted(i), submitted(i)]).next()),
            door,
        )
    }),
    ("set, next_timeout", |door| {
        own_link(
            |i| {
                drop(
                    PendingSet::from_iter([submitted(i)])
                        .next_timeout(HOUR)
                        .unwrap(),
                );
            },
            door,
        )
    }),
    ("set, wait_all", |door| {
        own_link(
            |i| drop(PendingSet::from_iter([submitted(i), submitted(i)]).wait_all()),
            door,
        )
    }),
    ("a future", |door| {
        own_link(|i| drop(block_on(submitted(i)).unwrap()), door)
    }),
    ("a future with a time limit", |door| {
        own_link(
            |i| {
                let request = asking("back").with_timeout(HOUR);
                drop(block_on(i.connection().submit(request).unwrap()).unwrap());
            },
            door,
        )
    }),
    ("a future in lend", |door| {
        own_link(|i| drop(i.lend(|| block_on(submitted(i)).unwrap())), door)
    }),
    ("a channel in lend", |door| {
        let (at, open) = (door.clone(), door.clone());
        Row::new(move |i| i.lend(|| at.pass()), move || open.open())
    }),
    ("call over a connection without handlers, memory", |_door| {
        over_another(plain, memory, call)
    }),
    (
        "call over a connection without handlers, sockets",
        |_door| over_another(plain, unix_sockets, call),
    ),
    ("call over a connection with handlers", |_door| {
        over_another(serving, unix_sockets, call)
    }),
    ("submit at the limit of another connection", |_door| {
        over_another(
            || plain().max_outstanding_requests(1),
            unix_sockets,
            |connection| {
                let both = [(); 2].map(|()| connection.submit(asking("x")).unwrap());
                drop(PendingSet::from_iter(both).wait_all());
            },
        )
    }),
    ("the end of another connection's stream", |_door| {
        until_peer_goes(|guard| drop(guard.wait_end_of_stream()))
    }),
    ("wait_closed of another connection", |_door| {
        until_peer_goes(|guard| {
            let connection = Connection::clone(&guard);
            let closing = start(move || guard.close());
            drop(connection.wait_closed());
            drop(closing.join());
        })
    }),
    ("serve of another connection", |_door| {
        until_peer_goes(|guard| drop(guard.serve()))
    }),
    ("open, while another thread connects", |_door| {
        connecting(|connection| drop(connection.open().unwrap()))
    }),
    ("submit, while another thread connects", |_door| {
        connecting(|connection| drop(connection.submit(asking("x")).unwrap().wait().unwrap()))
    }),
    (
        "submit with a time limit, while another thread connects",
        |_door| {
            connecting(|connection| {
                let request = asking("x").with_timeout(HOUR);
                drop(connection.submit(request).unwrap().wait().unwrap());
            })
        },
    ),
    (
        "time limits that run out, while another thread connects",
        |_door| {
            connecting(|connection| {
                let request = || asking("x").with_timeout(Duration::from_millis(1));
                while connection.call(request()).is_err_and(|e| e.is_timed_out()) {}
            })
        },
    ),
    ("call, while another thread connects", |_door| {
        connecting(call)
    }),
    ("try_submit, while another thread connects", |_door| {
        connecting(|connection| {
            drop(connection.try_submit(asking("x")).unwrap().wait().unwrap());
        })
    }),
    ("open, while an earlier close runs", |_door| {
        closing(|connection| drop(connection.open().unwrap()))
    }),
    ("call, while an earlier close runs", |_door| closing(call)),
    (
        "time limits that run out, while an earlier close runs",
        |_door| {
            closing(|connection| {
                let request = || asking("x").with_timeout(Duration::from_millis(1));
                while connection.call(request()).is_err_and(|e| e.is_timed_out()) {}
            })
        },
    ),
    ("wait_closed, while a close runs", |_door| {
        closing(|connection| drop(connection.wait_closed()))
    }),
    ("a connector that asks over the link", |door| {
        let door = door.clone();
        Row::new(
            |incoming| {
                let link = incoming.connection().clone();
                let connection = plain().build_on_demand(move || {
                    link.call(asking("back")).map_err(io::Error::other)?;
                    let (ours, theirs) = Transport::pair();
                    drop(start(move || serving().open(theirs).unwrap().serve()));
                    Ok(ours)
                });
                call(&connection);
            },
            move || door.open(),
        )
    }),
    ("the exit of a child", |_door| {
        // It reads nothing and ends when its other pipe does.
        let (end, held) = io::pipe().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "exec cat <&2 >/dev/null"]).stderr(end);
        let guard = plain().linger(None).spawn(command).unwrap();
        let (guard, held) = (Mutex::new(Some(guard)), Mutex::new(Some(held)));
        Row::new(
            move |_| {
                let guard = guard.lock().take().unwrap();
                let connection = Connection::clone(&guard);
                assert!(guard.close().in_progress(), "a handler must not wait here");
                drop(connection.wait_closed());
            },
            move || drop(held.lock().take()),
        )
    }),
];

fn call_back(incoming: &Incoming) {
    incoming.connection().call(asking("back")).unwrap();
}

/// When the request comes that ends the wait.
#[derive(Clone, Copy, Debug)]
enum Comes {
    /// Once the handler has begun, so mostly when it waits.
    Later,
    /// Before the handler begins: it is older than the wait.
    Before,
}

fn assert_served(name: &str, row: Row, door: &Door, comes: Comes) {
    let (tell, entered) = crossbeam_channel::unbounded();
    let (go, may_go) = crossbeam_channel::unbounded::<()>();
    let (ours, theirs) = unix_sockets();
    let server = Connection::builder()
        .handler_threads(1)
        .handler(move |incoming: Incoming| {
            if incoming.payload() == b"release" {
                (row.release)();
            } else {
                tell.send(()).unwrap();
                take(&may_go);
                (row.wait)(&incoming);
            }
            Ok(())
        })
        .open(theirs)
        .unwrap();
    let at = door.clone();
    let client = Connection::builder()
        .flush_grace(Duration::ZERO)
        .handler(move |incoming: Incoming| {
            at.pass();
            echo(incoming)
        })
        .open(ours)
        .unwrap();
    let waits = client.submit(asking("waits")).unwrap();
    take(&entered);
    if matches!(comes, Comes::Later) {
        go.send(()).unwrap();
    }
    let release = client.submit(asking("release")).unwrap();
    if matches!(comes, Comes::Before) {
        while server.stats().serving < 2 {
            std::thread::yield_now();
        }
        go.send(()).unwrap();
    }
    for pending in [release, waits] {
        let answer = pending.wait_timeout(Duration::from_secs(50));
        let answer = answer.unwrap_or_else(|_| panic!("{name}, {comes:?}: is not served"));
        answer.unwrap_or_else(|error| panic!("{name}, {comes:?}: {error}"));
    }
}

#[test]
fn whatever_a_handler_waits_for_its_slot_serves_another_request_meanwhile() {
    for comes in [Comes::Later, Comes::Before] {
        for (name, make) in ROWS {
            watched(move || {
                let door = Door::new();
                assert_served(name, make(&door), &door, comes);
            });
        }
    }
}
