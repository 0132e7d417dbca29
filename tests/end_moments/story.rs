//! Plays one case of the table: a peer that asks, a callback that is unanswered, and the end.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crossbeam_channel::Receiver;
use packetstream::{CloseReport, Connection, Error, OpenGuard, Packet};

use super::case::{Case, Held, Moment, Place};
use super::measure::assert_no_thread_is_named;
use super::pairs::{answer_to, take};
use super::scripted::{Peer, ask, spawn};
use super::wire::{Wire, await_that};
use super::work::{Kept, Work, told};

/// More than any orderly end takes on a loaded machine, less than the peer's patience.
pub const LINGER: Duration = Duration::from_secs(12);
const BRIEFLY: Duration = Duration::from_millis(60);

/// The tag of the request whose responder is kept.
const KEPT: u64 = 8;
/// That of a request which comes after the moment.
const LATE: u64 = 9;
/// That of the innermost request; those that led to it count up from there.
const WORK: u64 = 1000;

struct Story {
    case: Case,
    name: String,
    connection: Connection,
    wire: Wire,
    kept: Kept,
    first: Packet,
    /// The request whose result is kept.
    held: Option<Packet>,
    /// The calls that led to the work, the first one first.
    down: Vec<Packet>,
}

pub fn play(case: Case) {
    let (story, guard) = Story::begin(case);
    match case.moment {
        Moment::Close | Moment::Drop | Moment::Shutdown => story.we_close(guard),
        Moment::CloseInVain | Moment::Abort => story.we_are_cut(guard),
        Moment::ServePeerFinishes => story.peer_finishes(guard),
        Moment::ServeUnread => story.peer_reads_no_more(guard),
        _ => story.peer_ends(guard),
    }
}

impl Story {
    /// Goes on until the first callback is here, and unanswered.
    fn begin(case: Case) -> (Self, OpenGuard) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("m{}:", NUMBER.fetch_add(1, Ordering::Relaxed));
        let linger = match case.moment {
            Moment::CloseInVain => BRIEFLY,
            _ => LINGER,
        };
        let builder = Connection::builder()
            .name(&name)
            .linger(Some(linger))
            .handler_threads(2);
        let (builder, kept) = Work::for_case(case, builder);
        let (guard, peer) = Peer::open(builder);
        let mut wire = Wire::new(peer);
        if case.held == Held::Responder {
            wire.ask(KEPT, "keep");
        }
        let depth = case.place.depth();
        let mut down = Vec::new();
        for level in (1..=depth).rev() {
            wire.ask(WORK + u64::from(level), &format!("nest {level}"));
            down.push(wire.request(&format!("down {level}")));
        }
        wire.ask(WORK, if depth > 0 { "nest 0" } else { "work" });
        if matches!(case.place, Place::Callback | Place::Waker | Place::Decode) {
            let start = wire.request("start");
            wire.answer(&start, "");
        }
        let first = wire.request("first");
        let story = Self {
            case,
            name,
            connection: Connection::clone(&guard),
            kept: take(&kept),
            first,
            held: case.held.is_awaited().then(|| wire.request("held")),
            down,
            wire,
        };
        (story, guard)
    }

    fn we_close(mut self, guard: OpenGuard) {
        let mut closing = self.end(guard);
        let held_open = self.case.is_held_open();
        if held_open {
            if let Some(report) = take(&closing) {
                assert!(!report.is_last() && !report.in_progress(), "{report:?}");
                let error = report.into_result().unwrap_err();
                assert!(!error.is_closed(), "{error:?}");
            }
            self.assert_late("late");
        } else {
            let connection = self.connection.clone();
            await_that("the close begins", || !connection.is_open());
            self.probe_until_refused();
        }

        let second = self.answer_first();
        assert!(held_open || closing.is_empty(), "closed before the answer");
        self.finish_work(&second);
        match std::mem::replace(&mut self.kept, Kept::Nothing) {
            Kept::Guard(guard) if held_open => closing = self.end(guard),
            kept => self.kept = kept,
        }
        self.release_responder(&closing);
        if held_open && self.case.held.is_awaited() {
            // The last reference.
            self.release("kept");
        }
        self.wire.read_to_end_of_stream();
        assert!(
            held_open || closing.is_empty(),
            "closed before the peer's end"
        );
        self.wire.part();
        let report = match self.case.moment {
            // Where a result was the last reference it goes on behind our back.
            Moment::Drop if held_open => self.connection.wait_closed(),
            Moment::Drop => {
                take(&closing);
                self.connection.wait_closed()
            }
            _ => take(&closing).unwrap(),
        };
        assert!(report.is_last() && !report.in_progress(), "{report:?}");
        assert_nothing_lost(&report);
        assert!(report.peer_said_goodbye(), "{report:?}");
        assert_eq!(report.requests_unknown(), 0, "{report:?}");
        self.release("kept");
        self.assert_over(report);
        self.wire.assert_orderly();
    }

    fn we_are_cut(mut self, guard: OpenGuard) {
        let report = take(&self.end(guard)).unwrap();
        match self.case.moment {
            Moment::Abort => assert!(matches!(report.cause(), Some(Error::Aborted))),
            _ => assert!(matches!(report.cause(), Some(Error::LingerExpired))),
        }
        let unanswered = 1 + u64::from(self.case.place.depth());
        let held = u64::from(self.case.held.is_awaited());
        let kept = u64::from(self.case.held == Held::Responder);
        assert_eq!(report.requests_unknown(), unanswered + held, "{report:?}");
        assert_eq!(report.answers_lost(), unanswered + kept, "{report:?}");
        self.release("unknown");
        self.assert_over(report);
        match self.case.moment {
            Moment::Abort => self.wire.assert_no_end_packets(),
            _ => self.wire.assert_cut(),
        }
    }

    /// The write error is told, and what it has lost is counted.
    fn peer_reads_no_more(mut self, guard: OpenGuard) {
        let serving = self.end(guard);
        self.wire.stop_reading();
        self.wire.part();
        let is_kept = self.case.held == Held::Responder;
        if is_kept {
            self.release("");
        }
        let report = take(&serving).unwrap();
        let is_write = |cause: &Error| matches!(cause, Error::Write(_));
        assert!(report.cause().is_some_and(is_write), "{report:?}");
        let unanswered = 1 + u64::from(self.case.place.depth()) + u64::from(is_kept);
        assert_eq!(report.answers_lost(), unanswered, "{report:?}");
        self.release("unknown");
        self.assert_over(report);
    }

    fn peer_finishes(mut self, guard: OpenGuard) {
        let serving = self.end(guard);
        self.wire.send(&[Packet::END_OF_REQUESTS]);
        self.assert_late("not ok: requests no longer allowed");
        let second = self.answer_first();
        self.finish_work(&second);
        self.release_responder(&serving);
        assert!(serving.is_empty(), "served no longer than the requests");
        assert!(!self.wire.has_ended(), "ended before the peer");
        self.wire.send(&[Packet::END_OF_STREAM]);
        self.wire.read_to_end_of_stream();
        let report = take(&serving).unwrap();
        assert_nothing_lost(&report);
        assert!(report.peer_said_goodbye(), "{report:?}");
        assert_eq!(report.requests_unknown(), 0, "{report:?}");
        self.release("kept");
        self.assert_over(report);
        self.wire.assert_orderly();
    }

    /// What we had asked fails, what the peer had asked is answered all the same.
    fn peer_ends(mut self, guard: OpenGuard) {
        let Case { held, moment, .. } = self.case;
        let is_ours_to_close = matches!(moment, Moment::PeerParts | Moment::PeerPartsThenClose);
        let mut guard = Some(guard);
        let mut serving = match guard.take_if(|_| !is_ours_to_close) {
            Some(guard) => self.end(guard),
            None => crossbeam_channel::never(),
        };
        match moment {
            Moment::ServeInputEnds => self.wire.end_input(),
            Moment::ServeAllAtOnce => self.wire.send(&[
                answer_to(&self.first, "one"),
                Packet::END_OF_REQUESTS,
                Packet::END_OF_STREAM,
            ]),
            _ => self.wire.part(),
        }
        if moment == Moment::PeerPartsThenClose
            && let Some(guard) = guard.take()
        {
            serving = self.end(guard);
        }
        let work = self.wire.response(WORK);
        let expected: &[_] = match moment {
            // Whether the end was known when the second one was made is a race.
            Moment::ServeAllAtOnce => &["one not-sent", "one unknown"],
            _ => &["unknown not-sent"],
        };
        assert!(expected.contains(&work.as_str()), "{work}");
        for level in 1..=u64::from(self.case.place.depth()) {
            assert_eq!(self.wire.response(WORK + level), "unknown");
        }
        let may_be_early = held == Held::Guard && moment == Moment::PeerPartsThenClose;
        if !may_be_early {
            self.release_responder(&serving);
        }
        self.wire.read_to_end_of_stream();
        let reported = match moment {
            Moment::PeerParts => None,
            _ => take(&serving),
        };
        let report = match reported {
            Some(report) if !may_be_early => report,
            _ => self.connection.wait_closed(),
        };
        assert_nothing_lost(&report);
        let said_goodbye = moment != Moment::ServeInputEnds;
        assert_eq!(report.peer_said_goodbye(), said_goodbye, "{report:?}");
        self.release("unknown");
        drop(guard);
        self.assert_over(report);
        self.wire.assert_orderly();
    }

    /// Ends our side in the way of the case, on a thread of its own, which hands over its report.
    fn end(&self, guard: OpenGuard) -> Receiver<Option<CloseReport>> {
        let (ended, end) = crossbeam_channel::bounded(1);
        let moment = self.case.moment;
        spawn("ends", move || {
            let report = match moment {
                Moment::Drop => {
                    drop(guard);
                    None
                }
                Moment::Shutdown => Some(guard.shutdown(Some(LINGER))),
                Moment::Abort => Some(guard.abort()),
                Moment::Close | Moment::CloseInVain | Moment::PeerPartsThenClose => {
                    Some(guard.close())
                }
                _ => Some(guard.serve()),
            };
            // A test that has failed does not want to know.
            drop(ended.send(report));
        });
        end
    }

    /// Asks until it is refused: the close may not have come so far when it can be seen from here.
    fn probe_until_refused(&mut self) {
        for tag in 100_000.. {
            self.wire.ask(tag, "late");
            let response = self.wire.response(tag);
            if response != "late" {
                assert_eq!(response, "not ok: rejecting request: shutting down");
                return;
            }
        }
    }

    fn assert_late(&mut self, expected: &str) {
        self.wire.ask(LATE, "late");
        assert_eq!(self.wire.response(LATE), expected);
    }

    fn answer_first(&mut self) -> Packet {
        let first = self.first.clone();
        self.wire.answer(&first, "one");
        self.wire.request("second")
    }

    /// Answers all that is left, and sees all answers to what led here.
    fn finish_work(&mut self, second: &Packet) {
        self.wire.answer(second, "two");
        assert_eq!(self.wire.response(WORK), "one two");
        for (level, down) in (1..).zip(self.down.iter().rev()) {
            self.wire.answer(down, &format!("up {level}"));
            assert_eq!(self.wire.response(WORK + level), format!("up {level}"));
        }
        if let Some(held) = &self.held {
            self.wire.answer(held, "kept");
        }
    }

    /// A request whose responder is kept is unanswered: nothing has ended.
    fn release_responder(&mut self, ending: &Receiver<Option<CloseReport>>) {
        match std::mem::replace(&mut self.kept, Kept::Nothing) {
            Kept::Responder(responder) => {
                assert!(ending.is_empty(), "ended with a request unanswered");
                assert!(!self.wire.has_ended(), "ended with a request unanswered");
                responder.respond("kept");
                assert_eq!(self.wire.response(KEPT), "kept");
            }
            kept => self.kept = kept,
        }
    }

    /// Lets go what the work has kept; a result tells `expected`.
    fn release(&mut self, expected: &str) {
        match std::mem::replace(&mut self.kept, Kept::Nothing) {
            Kept::Result(pending) => assert_eq!(told(&pending.wait()), expected),
            Kept::Set(mut set) => {
                let (_, result) = set.next().unwrap();
                assert_eq!(told(&result), expected);
            }
            Kept::Clone(connection) => {
                let result = connection.call(ask("after the end"));
                assert_eq!(told(&result), "not-sent");
            }
            Kept::Responder(responder) => responder.respond("too late"),
            Kept::Nothing | Kept::Guard(_) => {}
        }
    }

    /// The transport has ended, and no thread of the connection is left.
    fn assert_over(&mut self, report: CloseReport) {
        assert!(!self.connection.is_open());
        let error = self.connection.call(ask("after the end")).unwrap_err();
        assert!(error.is_closed() && told(&Err(error)) == "not-sent");
        drop(report);
        self.wire.read_to_end();
        assert_no_thread_is_named(&self.name);
    }
}

pub fn assert_nothing_lost(report: &CloseReport) {
    assert!(report.cause().is_none(), "{report:?}");
    assert_eq!(report.answers_lost(), 0, "{report:?}");
    assert_eq!(report.requests_dropped(), 0, "{report:?}");
    assert_eq!(report.late_responses(), 0, "{report:?}");
}
