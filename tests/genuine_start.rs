//! Nothing genuine is taken for text: whatever an end has given up before it sent anything, and
//! whatever tags, channels and types a peer begins with.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation of a helper fails its test"
)]

mod common;
#[path = "common/scripted.rs"]
mod scripted;

use std::time::Duration;

use common::watched;
use packetstream::wire::{Flags, Packet, RequestType};
use packetstream::{ChannelId, Connection, OpenGuard, Outcome, Request, Tag};
use scripted::{Peer, ask};

/// So long that nothing is sent before somebody waits.
const GRACE: Duration = Duration::from_secs(3600);

/// How a request is given up before it is sent.
#[derive(Clone, Copy, Debug)]
enum Way {
    Cancelled,
    TimedOut,
    CancelledElsewhere,
}

/// Gives up a request at once; returns whether it was never sent.
fn give_up(guard: &OpenGuard, way: Way, channel: u64) -> bool {
    let request = ask("given up").with_channel(channel);
    let outcome = match way {
        Way::Cancelled => guard.submit(request).unwrap().cancel(),
        Way::TimedOut => {
            let request = request.with_timeout(Duration::from_nanos(1));
            let (send, told) = crossbeam_channel::bounded(1);
            guard.submit(request).unwrap().on_complete(move |result| {
                send.send(result.map(drop)).unwrap();
            });
            told.recv().unwrap().unwrap_err().outcome()
        }
        Way::CancelledElsewhere => {
            let pending = guard.submit(request).unwrap();
            assert!(pending.canceller().cancel());
            pending.wait().unwrap_err().outcome()
        }
    };
    outcome == Outcome::NotSent
}

/// Gives up so many requests before the first that is sent, and expects that to look as if there
/// had been no other; `false` if the sender was quick, and sent one that was given up.
fn begins_genuinely(way: Way, channel: u64, count: usize) -> bool {
    let (guard, mut peer) = Peer::open(Connection::builder().flush_grace(GRACE));
    let are_unsent = (0..count).all(|_| give_up(&guard, way, channel));
    if !are_unsent {
        let _ = guard.abort();
        return false;
    }
    let pending = guard.submit(ask("genuine").with_channel(channel)).unwrap();
    let waiting = scripted::spawn("waits", move || pending.wait());
    let tag = if channel == 0 { 2 } else { 0 };
    let first = peer.next_packet();
    assert_eq!(first.payload(), b"genuine");
    assert_eq!(first.tag().get(), tag, "{way:?}, {count} on {channel}");
    peer.answer(channel, tag, "yes");
    assert_eq!(waiting.join().unwrap().unwrap().payload(), b"yes");
    true
}

#[test]
fn requests_that_are_given_up_unsent_do_not_change_the_first_packet() {
    watched(|| {
        for way in [Way::Cancelled, Way::TimedOut, Way::CancelledElsewhere] {
            for channel in [0, 5, 300] {
                for count in [1, 7, 30, 95] {
                    // The sender takes a request as soon as it runs, so this takes some attempts.
                    while !begins_genuinely(way, channel, count) {}
                }
            }
        }
    });
}

/// What a peer that numbers and words its requests as ours do may begin with.
fn genuine() -> impl Iterator<Item = Packet> {
    let tags = (0..300)
        .chain((9..64).map(|bit| 1 << bit))
        .chain([u64::MAX]);
    let channels = [0, 5, 9, 32, 97, 116, 28_787];
    tags.filter_map(move |tag| {
        let channel = channels[usize::try_from(tag % 7).unwrap()];
        let request_type = u32::try_from(tag % 256).unwrap();
        let payload = "printable text from start to end\n";
        let is_end = channel == 0 && tag < 2;
        (!is_end).then(|| {
            Packet::request(
                ChannelId::from(channel),
                Tag::new(tag),
                RequestType::from(request_type),
                Flags::NONE,
                payload,
            )
        })
    })
}

#[test]
fn request_without_flags_is_served_whatever_its_tag_channel_and_type() {
    watched(|| {
        for (number, packet) in genuine().enumerate() {
            let (_guard, mut peer) = Peer::open(Connection::builder().handler(|_| Ok("R")));
            let bytes = packet.transcribe();
            if number % 3 == 0 {
                for byte in &bytes {
                    peer.send([*byte]);
                }
            } else {
                peer.send(&bytes);
            }
            let answer = peer.next_packet();
            assert_eq!(
                (answer.channel(), answer.tag(), answer.payload()),
                (packet.channel(), packet.tag(), &b"R"[..]),
                "{packet}"
            );
        }
    });
}

#[test]
fn end_packets_may_come_first() {
    watched(|| {
        for ends in ["0301020003000200", "03000200"] {
            let (guard, mut peer) = Peer::open(Connection::builder().handler(|_| Ok("R")));
            peer.send_hex(ends);
            peer.expect_goodbye();
            guard.wait_end_of_stream().unwrap();
            assert!(guard.submit(Request::new(0)).is_err());
        }
    });
}
