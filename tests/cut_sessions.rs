//! A session that is cut anywhere: no hang, no panic, and everybody is told the truth in time.
//!
//! A mixed session is played once, which gives the octets of both directions, and then again and
//! again with the stream cut behind every octet of either direction: the end, an error, silence, a
//! damaged octet. Meanwhile somebody waits in every way there is.
//!
//! By default what takes its time is tried at a sample of the places: silence, damage, a writer that
//! takes nothing, and the session that is closed early. `PACKETSTREAM_TEST_SIZE=large` tries all.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation of a helper fails its test"
)]
#![cfg(unix)]

mod common;
#[path = "cut_sessions/crew.rs"]
mod crew;
#[path = "cut_sessions/hearing.rs"]
mod hearing;
#[path = "cut_sessions/link.rs"]
mod link;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "cut_sessions/script.rs"]
mod script;
#[path = "cut_sessions/session.rs"]
mod session;
#[path = "common/sizes.rs"]
mod sizes;
#[path = "cut_sessions/story.rs"]
mod story;
#[path = "cut_sessions/verdict.rs"]
mod verdict;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use common::watched_for;
use link::{Cut, Direction, Fault, Link, Manner, Script};
use packetstream::{
    Connection, DEFAULT_FLUSH_GRACE, Error, OpenGuard, Outcome, Packet, PacketKind, PacketReader,
    Transport,
};
use pairs::start;
use parking_lot::Mutex;
use script::{Course, script};
use session::play;
use sizes::{Size, is_large, size};
use verdict::Verdict;

/// How many sessions run at once, of those that keep a core busy and of those that wait.
const BUSY: usize = 4;
const WAITING: usize = 48;
/// How many faults are shown.
const SHOWN: usize = 5;

/// Every octet if the size is large, else one of so many.
fn sampled(every: usize) -> usize {
    match size() {
        Size::Small => 10 * every,
        Size::Usual => every,
        Size::Large => 1,
    }
}

/// A session without a cut: what both ends say.
struct Recording {
    course: Course,
    script: Arc<Script>,
    ours: Vec<u8>,
}

impl Recording {
    fn new(course: Course) -> Self {
        let script = Arc::new(script(course));
        let manner = Manner {
            chunk: usize::MAX,
            has_hook: true,
            ..Manner::default()
        };
        let ended = play(course, &script, manner, Duration::ZERO);
        let verdict = Verdict::new(&script.octets, course, manner, &ended);
        assert!(
            verdict.faults.is_empty(),
            "{course:?}: {:#?}",
            verdict.faults
        );
        Self {
            course,
            ours: ended.link.sent(),
            script,
        }
    }

    fn cuts(&self, direction: Direction, fault: Fault, every: usize) -> Vec<Cut> {
        // Behind the last octet there is nothing to damage or to refuse.
        let has_end = direction == Direction::Input && !matches!(fault, Fault::Garbage { .. });
        let len = match direction {
            Direction::Input => self.script.octets.len(),
            Direction::Output => self.ours.len(),
        };
        (0..len + usize::from(has_end))
            .step_by(every)
            .map(|at| Cut {
                direction,
                fault,
                at,
            })
            .collect()
    }

    /// Plays it with the cut, and returns what is wrong.
    fn cut(&self, cut: Cut) -> Vec<String> {
        // The rest of what may differ goes with the place, each with a period of its own.
        let manner = Manner {
            cut: Some(cut),
            chunk: if cut.at.is_multiple_of(61) {
                1
            } else {
                [usize::MAX, 300, 64, 17][cut.at % 4]
            },
            has_hook: !cut.at.is_multiple_of(3),
            ends_both: !cut.at.is_multiple_of(5),
        };
        let grace = if cut.at % 7 < 3 {
            Duration::ZERO
        } else {
            DEFAULT_FLUSH_GRACE
        };
        // A busy machine may be late, but not a connection: not each time.
        let mut late = None;
        for _ in 0..3 {
            let ended = play(self.course, &self.script, manner, grace);
            let verdict = Verdict::new(&self.script.octets, self.course, manner, &ended);
            late = verdict.late;
            if !verdict.faults.is_empty() || late.is_none() {
                return verdict.faults;
            }
        }
        late.into_iter().collect()
    }
}

/// What is wrong with sessions.
type Found = Vec<(Course, Cut, Vec<String>)>;

/// Plays the sessions with all these cuts, so many at once.
fn all(recording: &Arc<Recording>, cuts: &Arc<Vec<Cut>>, at_once: usize) -> Found {
    let next = Arc::new(AtomicUsize::new(0));
    let all_found = Arc::new(Mutex::new(Vec::new()));
    let players: Vec<_> = (0..at_once)
        .map(|_| {
            let (recording, cuts) = (Arc::clone(recording), Arc::clone(cuts));
            let (next, all_found) = (Arc::clone(&next), Arc::clone(&all_found));
            start(move || {
                while let Some(cut) = cuts.get(next.fetch_add(1, Relaxed)) {
                    let found = recording.cut(*cut);
                    if !found.is_empty() {
                        all_found.lock().push((recording.course, *cut, found));
                    }
                }
            })
        })
        .collect();
    for player in players {
        player.join().unwrap();
    }
    let mut found = std::mem::take(&mut *all_found.lock());
    found.sort_by_key(|(_, cut, _)| cut.at);
    found
}

/// Both kinds of session, the second with some of the places.
fn both(direction: Direction, faults: Vec<Fault>, every: usize, at_once: usize) {
    let limit = Duration::from_secs(if is_large() { 3600 } else { 180 });
    watched_for(limit, move || {
        let (mut count, mut found) = (0, Vec::new());
        for (course, sparse) in [(Course::Serving, 1), (Course::Closing, 16)] {
            let recording = Arc::new(Recording::new(course));
            let every = sampled(every * sparse);
            let cuts = faults
                .iter()
                .flat_map(|fault| recording.cuts(direction, *fault, every));
            let cuts = Arc::new(cuts.collect::<Vec<_>>());
            count += cuts.len();
            found.extend(all(&recording, &cuts, at_once));
        }
        println!("{direction:?}, {faults:?}: {count} sessions");
        let wrong = found.len();
        found.truncate(SHOWN);
        assert!(
            found.is_empty(),
            "{wrong} of {count} sessions are wrong, such as {found:#?}"
        );
    });
}

#[test]
fn the_session_is_long_and_mixed_and_its_octets_are_the_same_each_time() {
    let recording = Recording::new(Course::Serving);
    assert!(
        recording.script.octets.len() >= 4096,
        "{}",
        recording.script.octets.len()
    );
    assert!(recording.ours.len() >= 4096, "{}", recording.ours.len());
    for octets in [&recording.script.octets, &recording.ours] {
        let packets: Vec<Packet> = PacketReader::new(&octets[..]).map(Result::unwrap).collect();
        let count =
            |wanted: fn(&Packet) -> bool| packets.iter().filter(|packet| wanted(packet)).count();
        assert!(count(|packet| matches!(packet.kind(), PacketKind::Request(_))) >= 8);
        assert!(count(|packet| packet.is_ok() == Some(true)) >= 6);
        assert!(count(|packet| packet.is_ok() == Some(false)) >= 3);
        assert!(count(|packet| packet.channel().get() != 0) >= 3);
    }
    assert_eq!(recording.ours, Recording::new(Course::Serving).ours);
}

#[test]
fn input_that_ends_anywhere_settles_everybody() {
    both(Direction::Input, vec![Fault::End], 1, BUSY);
}

#[test]
fn input_that_fails_anywhere_settles_everybody() {
    both(Direction::Input, vec![Fault::Fail], 1, BUSY);
}

#[test]
fn a_damaged_octet_anywhere_leaves_nobody_waiting_beyond_a_close() {
    let masks: &[u8] = if is_large() {
        &[0xff, 0x80, 1, 2, 4]
    } else {
        &[0xff]
    };
    let faults: Vec<Fault> = masks
        .iter()
        .map(|mask| Fault::Garbage { mask: *mask })
        .collect();
    both(Direction::Input, faults, 2, WAITING / 4);
}

#[test]
fn input_that_falls_silent_anywhere_leaves_nobody_waiting_beyond_a_close() {
    both(Direction::Input, vec![Fault::Stall], 13, WAITING);
}

#[test]
fn output_that_fails_anywhere_settles_everybody() {
    both(Direction::Output, vec![Fault::Fail], 1, WAITING);
}

#[test]
fn output_that_takes_no_more_anywhere_settles_everybody() {
    both(Direction::Output, vec![Fault::End], 5, WAITING);
}

#[test]
fn output_that_is_stuck_anywhere_leaves_nobody_waiting_beyond_a_close() {
    both(Direction::Output, vec![Fault::Stall], 13, WAITING);
}

/// A peer that falls silent after so many octets.
fn silent(at: usize, has_hook: bool) -> (Link, OpenGuard) {
    let mut script = Script::default();
    script.say(&pairs::request_packet(2, "never complete"), &[]);
    let script = Arc::new(script);
    let cut = Cut {
        direction: Direction::Input,
        fault: Fault::Stall,
        at,
    };
    let manner = Manner {
        cut: Some(cut),
        chunk: usize::MAX,
        has_hook,
        ends_both: false,
    };
    let (link, transport) = Link::new(&script, manner);
    (link, Connection::builder().open(transport).unwrap())
}

/// Neither is it the peer's fault, nor an end in order: it is ours.
#[test]
fn who_waits_for_the_end_of_a_stream_that_is_forced_is_told_so() {
    common::watched(|| {
        // Between two packets and inside one, with a reader that can be freed and one that cannot.
        for (at, has_hook) in [(0, true), (0, false), (5, true), (5, false)].repeat(20) {
            let (link, guard) = silent(at, has_hook);
            let connection = Connection::clone(&guard);
            let waiting = start(move || connection.wait_end_of_stream());
            let _ = link.cuts().recv_timeout(common::PATIENCE);
            let report = guard.shutdown(Some(Duration::ZERO));
            assert!(
                matches!(report.cause(), Some(Error::LingerExpired)),
                "{report:?}"
            );
            link.shut();
            let end = waiting.join().unwrap();
            assert!(
                matches!(end, Err(Error::LingerExpired)),
                "after {at} octets, hook {has_hook}: {end:?}"
            );
        }
    });
}

/// It is known that it was never sent, so nothing is gained by saying that it may have been.
#[test]
fn to_cancel_what_has_failed_unsent_says_so() {
    common::watched(|| {
        let script = Arc::new(Script::default());
        let cut = Cut {
            direction: Direction::Output,
            fault: Fault::Stall,
            at: 0,
        };
        let manner = Manner {
            cut: Some(cut),
            chunk: usize::MAX,
            has_hook: true,
            ends_both: false,
        };
        let (link, transport) = Link::new(&script, manner);
        let guard = Connection::builder()
            .flush_grace(Duration::ZERO)
            .open(transport)
            .unwrap();
        let _stuck = guard.submit(pairs::asking("stuck in the writer")).unwrap();
        let _ = link.cuts().recv_timeout(common::PATIENCE);
        let unsent = [(); 2].map(|()| guard.submit(pairs::asking("queued")).unwrap());
        let _ = guard.abort();
        let [waited, cancelled] = unsent;
        assert_eq!(waited.wait().unwrap_err().outcome(), Outcome::NotSent);
        assert_eq!(cancelled.cancel(), Outcome::NotSent);
    });
}

/// As when a disk is full: `server < requests > answers`.
#[test]
fn answers_that_cannot_be_written_after_the_input_has_ended_are_an_error() {
    for goodbye in [false, true] {
        common::watched(move || {
            let mut script = Script::default();
            script.say(&pairs::request_packet(2, "asked"), &[]);
            if goodbye {
                script.say(&Packet::END_OF_STREAM, &[]);
            }
            let octets = script.octets;
            let (gate, handler) = pairs::Gate::new();
            let cut = Cut {
                direction: Direction::Output,
                fault: Fault::Fail,
                at: 0,
            };
            let manner = Manner {
                cut: Some(cut),
                chunk: usize::MAX,
                ..Manner::default()
            };
            let (_link, transport) = Link::new(&Arc::new(Script::default()), manner);
            let (_, writer) = transport.into_parts();
            let guard = Connection::builder()
                .handler(handler)
                .open(Transport::new(std::io::Cursor::new(octets), writer))
                .unwrap();
            gate.arrived();
            guard.wait_end_of_stream().unwrap();
            gate.release_one();
            let report = guard.serve();
            assert_eq!(report.answers_lost(), 1, "{report:?}");
            assert!(
                matches!(report.cause(), Some(Error::Write(_))),
                "goodbye: {goodbye}; {report:?}"
            );
        });
    }
}

/// They were only ready to be sent: it is known that the peer has none of them.
#[test]
fn requests_of_which_the_transport_took_nothing_were_not_sent() {
    common::watched(|| {
        let cut = Cut {
            direction: Direction::Output,
            fault: Fault::Fail,
            at: 0,
        };
        let manner = Manner {
            cut: Some(cut),
            chunk: usize::MAX,
            has_hook: true,
            ends_both: false,
        };
        let (_link, transport) = Link::new(&Arc::new(Script::default()), manner);
        let guard = Connection::builder()
            .flush_grace(Duration::from_secs(3600))
            .open(transport)
            .unwrap();
        // Nobody waits for the first ones, so all leave in one write, which is refused.
        let pending = [(); 5].map(|()| guard.submit(pairs::asking("x")).unwrap());
        let last = guard.call(pairs::asking("x")).unwrap_err();
        assert_eq!(last.outcome(), Outcome::NotSent, "{last:?}");
        for pending in pending {
            let error = pending.wait().unwrap_err();
            assert_eq!(error.outcome(), Outcome::NotSent, "{error:?}");
        }
    });
}
