//! Requests that are served by the thread that has read them: whatever their handler does, the
//! reading goes on, nobody's answer waits for it, and answers are told in their order.
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
#[path = "common/measure.rs"]
mod measure;
#[path = "common/pairs.rs"]
mod pairs;

use std::pin::Pin;
use std::task::Context;
use std::thread;
use std::time::Duration;

use common::watched;
use measure::{Census, pause, until};
use packetstream::{
    BoxError, ChannelId, Connection, ConnectionBuilder, Flags, Incoming, OpenGuard, Packet,
    Request, RequestType, Responder, Tag,
};
use pairs::{OnWake, SILENCE, ScriptedPeer, answer_to, memory, start, take, unix_sockets};

/// Asks for the name of the thread that serves.
const WHERE: u32 = 0;

fn here() -> Vec<u8> {
    thread::current().name().unwrap_or_default().into()
}

/// An hour: what is left to the grace by mistake does not come at all.
fn patient() -> ConnectionBuilder {
    Connection::builder()
        .flush_grace(Duration::from_secs(3600))
        .linger(Some(Duration::ZERO))
}

/// Calls until a request is served by the thread that has read it: before there is somebody who
/// watches, and before the handler is known to be quick, others serve it.
fn warm(client: &Connection) {
    loop {
        let response = client.call(Request::new(WHERE)).unwrap();
        if response.payload().ends_with(b":receiver") {
            return;
        }
    }
}

/// The same by hand; returns the next tag.
fn warm_by_hand(peer: &mut ScriptedPeer) -> u64 {
    for tag in 0.. {
        peer.send(&[request(tag, WHERE)]);
        if peer.response(tag).payload().ends_with(b":receiver") {
            return tag + 1;
        }
    }
    unreachable!("there are always more tags")
}

fn request(tag: u64, request_type: u32) -> Packet {
    Packet::request(
        ChannelId::DEFAULT,
        Tag::new(tag),
        RequestType::from(request_type),
        Flags::NONE,
        "",
    )
}

/// Type 1 blocks until a request of type 2 is served, in a way that the library cannot know of.
fn blocking() -> impl Fn(Incoming) -> Result<Vec<u8>, BoxError> + Send + Sync + 'static {
    let (tell, told) = crossbeam_channel::unbounded();
    move |incoming| {
        match incoming.request_type().get() {
            1 => take(&told),
            2 => tell.send(())?,
            _ => {}
        }
        Ok(here())
    }
}

#[test]
fn quick_requests_are_served_by_the_thread_that_has_read_them() {
    watched(|| {
        let (ours, theirs) = memory();
        let _server = Connection::builder()
            .handler(|_: Incoming| Ok(here()))
            .open(theirs)
            .unwrap();
        warm(&Connection::builder().open(ours).unwrap());
    });
}

/// With one handler at a time, or with several; with one thread for handlers, or with more.
fn settings() -> [fn() -> ConnectionBuilder; 3] {
    [
        || Connection::builder().handler_threads(2),
        || {
            Connection::builder()
                .handler_threads(2)
                .max_handler_threads(2)
        },
        Connection::builder,
    ]
}

#[test]
fn a_handler_that_blocks_does_not_keep_the_next_request_from_being_read() {
    for setting in settings() {
        watched(move || {
            let (transport, mut peer) = ScriptedPeer::new();
            let setting = setting().linger(Some(Duration::ZERO));
            let _guard = setting.handler(blocking()).open(transport).unwrap();
            for _ in 0..20 {
                let tag = warm_or_not(&mut peer);
                peer.send(&[request(tag, 1)]);
                peer.send(&[request(tag + 1, 2)]);
                let mut tags = [peer.next(), peer.next()].map(|packet| packet.unwrap().tag());
                tags.sort_unstable();
                assert_eq!(tags, [Tag::new(tag), Tag::new(tag + 1)]);
            }
        });
    }
}

/// Some calls, so that the next may be served in place, whoever reads by now.
fn warm_or_not(peer: &mut ScriptedPeer) -> u64 {
    const FIRST: u64 = 10;
    for tag in FIRST..FIRST + 300 {
        peer.send(&[request(tag, WHERE)]);
        peer.response(tag);
    }
    FIRST + 300
}

#[test]
fn a_handler_that_blocks_does_not_keep_those_read_with_it_from_being_served() {
    for setting in settings() {
        watched(move || {
            let (transport, mut peer) = ScriptedPeer::new();
            let setting = setting().linger(Some(Duration::ZERO));
            let _guard = setting.handler(blocking()).open(transport).unwrap();
            let tag = warm_by_hand(&mut peer);
            peer.send(&[request(tag, 1), request(tag + 1, 2)]);
            let mut tags = [peer.next(), peer.next()].map(|packet| packet.unwrap().tag());
            tags.sort_unstable();
            assert_eq!(tags, [Tag::new(tag), Tag::new(tag + 1)]);
        });
    }
}

#[test]
fn an_answer_does_not_wait_for_a_handler_that_blocks_behind_it() {
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let _guard = patient().handler(blocking()).open(transport).unwrap();
        let tag = warm_by_hand(&mut peer);
        peer.send(&[request(tag, WHERE), request(tag + 1, 1)]);
        peer.response(tag);
        peer.send(&[request(tag + 2, 2)]);
        let mut tags = [peer.next(), peer.next()].map(|packet| packet.unwrap().tag());
        tags.sort_unstable();
        assert_eq!(tags, [Tag::new(tag + 1), Tag::new(tag + 2)]);
    });
}

#[test]
fn an_answer_given_at_once_does_not_wait_for_one_that_is_given_later() {
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let (defer, deferred) = crossbeam_channel::unbounded::<Responder>();
        let _guard = patient()
            .handler_threads(1)
            .deferred_handler(move |incoming, responder| {
                if incoming.request_type().get() == u64::from(WHERE) {
                    responder.respond(here());
                } else {
                    defer.send(responder).unwrap();
                }
            })
            .open(transport)
            .unwrap();
        let first = warm_by_hand(&mut peer);
        for tag in (first..first + 40).step_by(2) {
            peer.send(&[request(tag, WHERE), request(tag + 1, 1)]);
            let kept = take(&deferred);
            peer.response(tag);
            kept.respond("");
            peer.response(tag + 1);
        }
    });
}

/// The batch is full with the quick one, and what lies behind it takes all slots and more: it goes
/// out within the grace.
#[test]
fn an_answer_does_not_wait_for_slow_requests_of_the_next_batch() {
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let _guard = Connection::builder()
            .linger(Some(Duration::ZERO))
            .handler_threads(2)
            .handler(blocking())
            .open(transport)
            .unwrap();
        let tag = warm_by_hand(&mut peer);
        let stray = (0..127).map(|_| answer_to(&request(999, 0), ""));
        let mut packets: Vec<Packet> = stray.collect();
        packets.push(request(tag, WHERE));
        packets.extend((1..=6).map(|number| request(tag + number, 1)));
        peer.send(&packets);
        peer.response(tag);
        // A request lets a handler go, and needs one of their slots: so end it by force.
        peer.cut(std::net::Shutdown::Both);
    });
}

#[test]
fn answers_are_told_in_their_order_beside_requests_that_are_served_in_place() {
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let guard = Connection::builder()
            .linger(Some(Duration::ZERO))
            .handler(|_: Incoming| Ok(here()))
            .open(transport)
            .unwrap();
        let (never, waited) = crossbeam_channel::bounded::<()>(0);
        let mut slow = guard.submit(Request::new(1)).unwrap();
        // What wakes it takes a while.
        let (tell_woken, woken) = crossbeam_channel::bounded(1);
        let waker = OnWake::waker(move || {
            tell_woken.send(()).unwrap();
            let _ = waited.recv_timeout(SILENCE);
        });
        let polled = Future::poll(Pin::new(&mut slow), &mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        let (tell, told) = crossbeam_channel::unbounded();
        for number in [1, 2] {
            let tell = tell.clone();
            guard
                .submit(Request::new(1))
                .unwrap()
                .on_complete(move |_| tell.send(number).unwrap());
        }
        let [first, second, third] = [peer.request(), peer.request(), peer.request()];
        let tag = warm_by_hand(&mut peer);
        peer.send(&[
            answer_to(&first, ""),
            answer_to(&second, ""),
            request(tag, WHERE),
        ]);
        take(&woken);
        peer.send(&[answer_to(&third, "")]);
        assert_eq!([take(&told), take(&told)], [1, 2]);
        drop(never);
    });
}

/// Calls back as deep as the payload says.
fn deep(incoming: Incoming) -> Result<Vec<u8>, BoxError> {
    match incoming.payload() {
        [depth] if *depth > 0 => {
            let request = Request::new(1).with_payload([depth - 1]);
            Ok(incoming.connection().call(request)?.into_payload())
        }
        _ => Ok(here()),
    }
}

#[test]
fn handlers_in_place_on_both_ends_call_each_other() {
    for (threads, most) in [(1, 1000), (4, 1000)] {
        watched(move || {
            let (ours, theirs) = unix_sockets();
            let [here, there] = [ours, theirs].map(|transport| {
                Connection::builder()
                    .handler_threads(threads)
                    .max_handler_threads(most)
                    .handler(deep)
                    .open(transport)
                    .unwrap()
            });
            for round in 0..200 {
                let caller = if round % 2 == 0 { &here } else { &there };
                for depth in [0, 0, 0, 1, 0, 7] {
                    caller.call(Request::new(1).with_payload([depth])).unwrap();
                }
            }
            drop(there);
            here.close().into_result().unwrap();
        });
    }
}

/// Our end is stuck in writing answers in place, and still hears the peer.
#[test]
fn a_write_that_blocks_in_place_does_not_hold_up_the_reading() {
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let guard = Connection::builder()
            .linger(Some(Duration::ZERO))
            .handler(|incoming: Incoming| match incoming.request_type().get() {
                1 => Ok(vec![0; 64 * 1024]),
                _ => Ok(here()),
            })
            .open(transport)
            .unwrap();
        let tag = warm_by_hand(&mut peer);
        let pending = guard.submit(Request::new(9)).unwrap();
        let (tell, told) = crossbeam_channel::bounded(1);
        pending.on_complete(move |answer| tell.send(answer.map(|_| ())).unwrap());
        let asked = peer.request();
        for number in 0..50 {
            peer.send(&[request(tag + number, 1)]);
        }
        peer.answer(&asked, "heard");
        take(&told).unwrap();
    });
}

#[test]
fn handlers_in_place_that_panic_are_answered_and_leave_the_reading() {
    watched(|| {
        let (ours, theirs) = memory();
        let _server = Connection::builder()
            .handler(|incoming: Incoming| {
                assert_eq!(
                    incoming.request_type().get(),
                    u64::from(WHERE),
                    "on purpose"
                );
                Ok(here())
            })
            .open(theirs)
            .unwrap();
        let client = Connection::builder().open(ours).unwrap();
        warm(&client);
        for _ in 0..50 {
            assert!(client.call(Request::new(1)).unwrap_err().is_rejected());
            client.call(Request::new(WHERE)).unwrap();
        }
    });
}

/// What a handler in place may do to its own connection.
#[test]
fn a_handler_in_place_may_end_its_connection() {
    let deeds: [fn(&Connection); 4] = [
        |connection| drop(connection.abort()),
        |connection| drop(connection.shutdown(Some(Duration::ZERO))),
        |connection| connection.end_stream().unwrap(),
        |connection| drop(connection.open().unwrap()),
    ];
    for deed in deeds {
        watched(move || {
            let (ours, theirs) = memory();
            let server = Connection::builder()
                .linger(Some(Duration::from_secs(1)))
                .handler(move |incoming: Incoming| {
                    if incoming.request_type().get() == 1 {
                        deed(incoming.connection());
                    }
                    Ok(here())
                })
                .open(theirs)
                .unwrap();
            let client = Connection::builder().open(ours).unwrap();
            warm(&client);
            // Whether it is answered depends on the deed; that it is settled does not.
            let _ = client.call(Request::new(1));
            drop(client);
            let _ = server.close();
        });
    }
}

#[test]
fn a_close_is_bounded_while_a_handler_in_place_blocks() {
    watched(|| {
        let (ours, theirs) = memory();
        let (keep, kept) = crossbeam_channel::bounded::<()>(0);
        let (arrive, arrived) = crossbeam_channel::unbounded();
        let server = Connection::builder()
            .linger(Some(Duration::from_millis(50)))
            .handler(move |incoming: Incoming| {
                if incoming.request_type().get() == 1 {
                    arrive.send(())?;
                    let _ = kept.recv();
                }
                Ok(here())
            })
            .open(theirs)
            .unwrap();
        let client = Connection::builder().open(ours).unwrap();
        warm(&client);
        let call = start(move || client.call(Request::new(1)));
        take(&arrived);
        assert!(server.close().into_result().is_err());
        assert!(call.join().unwrap().is_err());
        drop(keep);
    });
}

/// Whoever takes the reading over leaves its place to the other: no thread is added.
#[test]
fn threads_do_not_become_more_however_often_the_reading_is_taken_over() {
    watched(|| {
        let (transport, mut peer) = ScriptedPeer::new();
        let guard = Connection::builder()
            .name("swap")
            .linger(Some(Duration::ZERO))
            .handler_threads(2)
            .handler(blocking())
            .open(transport)
            .unwrap();
        for _ in 0..30 {
            let tag = warm_or_not(&mut peer);
            peer.send(&[request(tag, 1)]);
            peer.send(&[request(tag + 1, 2)]);
            peer.next();
            peer.next();
        }
        // A sender, who reads, and two for handlers.
        assert!(pairs::threads_named("swap:") <= 4);
        drop(guard);
    });
}

/// Nobody watches any more, some moments after the last request.
#[cfg(target_os = "linux")]
#[test]
fn an_idle_connection_wakes_nobody() {
    fn switches() -> u64 {
        let mut all = 0;
        for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
            let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if name.starts_with("calm:") {
                let status = std::fs::read_to_string(task.path().join("status")).unwrap();
                let count = |line: &str| line.split_whitespace().last()?.parse::<u64>().ok();
                let lines = status
                    .lines()
                    .filter(|line| line.contains("_ctxt_switches"));
                all += lines.filter_map(count).sum::<u64>();
            }
        }
        all
    }
    watched(|| {
        let (ours, theirs) = unix_sockets();
        let _server: OpenGuard = Connection::builder()
            .name("calm")
            .handler(|_: Incoming| Ok(here()))
            .open(theirs)
            .unwrap();
        let client = Connection::builder().name("calm").open(ours).unwrap();
        warm(&client);
        assert!(Census::take().threads >= 4);
        until(
            || {
                let before = switches();
                pause(Duration::from_millis(100));
                (switches() == before).then_some(())
            },
            || "its threads are woken again and again".to_owned(),
        );
    });
}
