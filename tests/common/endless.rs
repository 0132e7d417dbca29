//! Connections whose close waits, each for something else, without limit.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::any::Any;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use packetstream::{Connection, ConnectionBuilder, Incoming, OpenGuard, Responder, Transport};

use super::hostile::{piped, silent_memory, silent_pipes, silent_socket};
use super::pairs::{ScriptedPeer, asking, request_packet, take};

/// What keeps things as they are until a case is over.
pub type Keep = Box<dyn Any + Send>;

/// A connection whose close waits without limit.
pub struct Waiting {
    pub guard: OpenGuard,
    pub life: Life,
    pub keep: Keep,
}

/// What can be seen of a connection from outside.
pub struct Life {
    pub name: String,
    /// Reaped when the close is over.
    pub child: Option<u32>,
    /// Only the child is left when the wait begins.
    pub has_parted: bool,
}

pub fn builder(linger: Option<Duration>) -> (String, ConnectionBuilder) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("cut{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let builder = Connection::builder().name(&name).linger(linger);
    (name, builder)
}

fn child(linger: Option<Duration>, script: &str, has_parted: bool) -> Waiting {
    // A child that a failed test leaves must not hold what the test has inherited.
    let mut waiting = child_with(linger, script, Stdio::null());
    waiting.life.has_parted = has_parted;
    waiting
}

fn child_with(linger: Option<Duration>, script: &str, stderr: Stdio) -> Waiting {
    let (name, builder) = builder(linger);
    let child = piped(Command::new("sh").args(["-c", script]).stderr(stderr));
    let number = child.id();
    Waiting {
        guard: builder.open(child.try_into().unwrap()).unwrap(),
        life: Life {
            name,
            child: Some(number),
            has_parted: false,
        },
        keep: Box::new(()),
    }
}

/// A script that answers our end packets with its own, closes its output and lives on.
pub fn parted(then: &str) -> String {
    format!(r"head -c 8 > /dev/null; printf '\003\001\002\000\003\000\002\000'; exec >&-; {then}")
}

fn living_child(linger: Option<Duration>) -> Waiting {
    child(linger, &parted("exec sleep 1000"), true)
}

fn child_that_ignores_signals(linger: Option<Duration>) -> Waiting {
    let script = parted("trap '' TERM HUP INT PIPE; while :; do sleep 1; done");
    child(linger, &script, true)
}

/// One that has not said goodbye.
fn silent_child(linger: Option<Duration>) -> Waiting {
    child(linger, "exec sleep 1000", false)
}

/// The grandchild holds the pipe that is read, and the child has ended or has not.
fn orphaned_pipe(linger: Option<Duration>) -> Waiting {
    held_by_grandchild(linger, "")
}

fn shared_pipe(linger: Option<Duration>) -> Waiting {
    held_by_grandchild(linger, "exec sleep 1000")
}

/// The grandchild ends with what is kept: it reads from a pipe that is its parent's stderr.
fn held_by_grandchild(linger: Option<Duration>, then: &str) -> Waiting {
    let (lives_by, keep) = std::io::pipe().unwrap();
    let script = format!("cat <&2 2> /dev/null & {then}");
    let mut waiting = child_with(linger, &script, Stdio::from(lives_by));
    waiting.keep = Box::new(keep);
    waiting
}

fn over(
    linger: Option<Duration>,
    (transport, keep): (Transport, Box<dyn Any + Send>),
    set: impl FnOnce(ConnectionBuilder) -> ConnectionBuilder,
) -> Waiting {
    let (name, builder) = builder(linger);
    Waiting {
        guard: set(builder).open(transport).unwrap(),
        life: Life {
            name,
            child: None,
            has_parted: false,
        },
        keep,
    }
}

fn silent_peer(linger: Option<Duration>) -> Waiting {
    over(linger, silent_socket(), |builder| builder)
}

fn silent_peer_in_memory(linger: Option<Duration>) -> Waiting {
    over(linger, silent_memory(), |builder| builder)
}

/// Nothing frees who reads from it.
fn silent_peer_behind_pipes(linger: Option<Duration>) -> Waiting {
    over(linger, silent_pipes(), |builder| builder)
}

/// The sender is stuck in a write.
fn deaf_peer(linger: Option<Duration>) -> Waiting {
    let waiting = over(linger, silent_socket(), |builder| builder);
    drop(waiting.guard.submit(asking(vec![0; 4 << 20])).unwrap());
    waiting
}

fn scripted() -> (Transport, ScriptedPeer) {
    ScriptedPeer::new()
}

/// A handler does not return.
fn stuck_handler(linger: Option<Duration>) -> Waiting {
    let (transport, mut peer) = scripted();
    let (arrive, arrivals) = crossbeam_channel::unbounded();
    let (keep, never) = crossbeam_channel::bounded::<()>(0);
    let mut waiting = over(linger, (transport, Box::new(())), move |builder| {
        builder.handler(move |_: Incoming| {
            arrive.send(())?;
            let _ = never.recv();
            Ok(())
        })
    });
    peer.send(&[request_packet(2, "x")]);
    take(&arrivals);
    waiting.keep = Box::new((peer, keep));
    waiting
}

/// A request is not answered that was handed on.
fn unanswered_request(linger: Option<Duration>) -> Waiting {
    let (transport, mut peer) = scripted();
    let (arrive, arrivals) = crossbeam_channel::unbounded();
    let mut waiting = over(linger, (transport, Box::new(())), move |builder| {
        builder.deferred_handler(move |_: Incoming, responder: Responder| {
            let _ = arrive.send(responder);
        })
    });
    peer.send(&[request_packet(2, "x")]);
    let responder = take(&arrivals);
    waiting.keep = Box::new((peer, responder));
    waiting
}

/// A callback does not return.
pub fn stuck_callback(linger: Option<Duration>) -> Waiting {
    let (transport, mut peer) = scripted();
    let (arrive, arrivals) = crossbeam_channel::unbounded();
    let (keep, never) = crossbeam_channel::bounded::<()>(0);
    let mut waiting = over(linger, (transport, Box::new(())), |builder| builder);
    let pending = waiting.guard.submit(asking("x")).unwrap();
    pending.on_complete(move |_| {
        arrive.send(()).unwrap();
        let _ = never.recv();
    });
    let request = peer.request();
    peer.answer(&request, "y");
    take(&arrivals);
    waiting.keep = Box::new((peer, keep));
    waiting
}

pub type Make = fn(Option<Duration>) -> Waiting;

pub const WAITS: [(&str, Make); 12] = [
    ("a child that lives on", living_child),
    ("a child that ignores signals", child_that_ignores_signals),
    ("a silent child", silent_child),
    ("a pipe held by a grandchild", orphaned_pipe),
    ("a pipe held by child and grandchild", shared_pipe),
    ("a silent peer", silent_peer),
    ("a silent peer in memory", silent_peer_in_memory),
    ("a silent peer behind pipes", silent_peer_behind_pipes),
    ("a deaf peer", deaf_peer),
    ("a handler", stuck_handler),
    ("a request that was handed on", unanswered_request),
    ("a callback", stuck_callback),
];
