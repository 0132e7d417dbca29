//! Reading by the thread that waits for the answer, as pure data.
//!
//! A caller that has to be told its answer by the receiver waits for a change of threads that
//! takes as long as all the rest of a lone call. So after some answers that were the only ones,
//! the receiver *leaves* the reading. The next caller that is alone *takes* it, reads its own
//! answer and puts the reading back. The receiver watches meanwhile and goes on reading by itself
//! when nobody has taken it for a tick, and at once when something is handed back to it: whatever
//! is not just that answer is dealt out by the receiver.
//!
//! Only connections that serve nothing do this, so that no request of the peer is kept waiting;
//! what else the peer may send, its end at most, is read within two ticks.
//!
//! ```text
//! receiver ──leave──▶ left ──take──▶ taken ──put_back, give_back──▶ back ──fetch──▶ receiver
//!                      │ ▲             │
//!     tick, want: back │ └─put_back, if the receiver watches and nobody wants it
//! ```
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

/// After so many answers that were alone the reading is left, unless that has been of no use.
const LEAST_STREAK: u32 = 8;
/// What it may come to when it was of no use again and again: to leave the reading for nothing
/// costs about one change of threads.
const MOST_STREAK: u32 = 1 << 10;
/// After so many calls that have read their own answer it has been of use.
const USEFUL: u32 = 2;

/// After so many ticks of one and the same call the receiver rests: who waits long wakes nobody.
const LONG_TICKS: u8 = 3;

/// The reading of a connection, and where it is.
#[derive(Debug)]
pub(super) struct Handover<R> {
    place: Place<R>,
    /// Counts how often it was taken.
    round: u64,
    /// The receiver has no tick any more, so it is to be woken.
    rests: bool,
    /// The receiver is to read as soon as it can.
    is_wanted: bool,
    /// How many answers were alone, one after the other.
    streak: u32,
    /// How many must be.
    needed: u32,
    /// How many calls have read their own answer since the reading was left.
    taken: u32,
}

#[derive(Debug)]
enum Place<R> {
    Receiver,
    Left(R),
    Taken,
    Back(R),
}

/// What the receiver remembers from one tick to the next.
#[derive(Debug)]
pub(super) struct Watch {
    round: u64,
    ticks: u8,
}

impl<R> Handover<R> {
    pub(super) fn new() -> Self {
        Self {
            place: Place::Receiver,
            round: 0,
            rests: false,
            is_wanted: false,
            streak: 0,
            needed: LEAST_STREAK,
            taken: 0,
        }
    }

    /// The receiver has read something; `is_alone`: an answer with which nothing is left to be
    /// answered, and nothing else. `true`: the reading may be left now.
    pub(super) fn note(&mut self, is_alone: bool) -> bool {
        self.streak = if is_alone {
            self.streak.saturating_add(1)
        } else {
            0
        };
        self.streak >= self.needed
    }

    /// The receiver leaves the reading, and waits for it from now on.
    pub(super) fn leave(&mut self, reading: R) {
        debug_assert!(matches!(self.place, Place::Receiver));
        self.place = Place::Left(reading);
        self.rests = false;
        self.is_wanted = false;
        self.streak = 0;
        self.taken = 0;
    }

    /// Takes the reading, for a caller that is alone.
    pub(super) fn take(&mut self) -> Option<R> {
        if self.is_wanted || !matches!(self.place, Place::Left(_)) {
            return None;
        }
        let place = std::mem::replace(&mut self.place, Place::Taken);
        let Place::Left(reading) = place else {
            return None;
        };
        self.round = self.round.wrapping_add(1);
        Some(reading)
    }

    /// The caller has read its own answer and nothing else. `true`: the receiver is to be woken.
    pub(super) fn put_back(&mut self, reading: R) -> bool {
        self.taken = self.taken.saturating_add(1);
        let is_back = self.rests || self.is_wanted;
        self.place = if is_back {
            Place::Back(reading)
        } else {
            Place::Left(reading)
        };
        is_back
    }

    /// The caller leaves the rest to the receiver, which is to be woken.
    pub(super) fn give_back(&mut self, reading: R) {
        self.place = Place::Back(reading);
    }

    /// Whether a caller has the reading.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self.place, Place::Taken)
    }

    /// Asks for the receiver to read as soon as it can; `true` if it is to be woken for it.
    pub(super) fn want(&mut self) -> bool {
        self.is_wanted = matches!(self.place, Place::Left(_) | Place::Taken);
        matches!(self.place, Place::Left(_))
    }

    /// Takes the reading back, if that is due.
    pub(super) fn fetch(&mut self) -> Option<R> {
        match std::mem::replace(&mut self.place, Place::Receiver) {
            Place::Back(reading) => Some(self.settle_up(reading)),
            Place::Left(reading) if self.is_wanted => Some(self.settle_up(reading)),
            place => {
                self.place = place;
                None
            }
        }
    }

    /// Whether the receiver is to wait without a tick, until it is woken.
    pub(super) fn rests(&self) -> bool {
        self.rests
    }

    pub(super) fn watch(&self) -> Watch {
        Watch {
            round: self.round,
            ticks: 0,
        }
    }

    /// Looks again after a tick; the reading comes back if nobody has taken it meanwhile.
    pub(super) fn tick(&mut self, watch: &mut Watch) -> Option<R> {
        if self.round != watch.round {
            *watch = self.watch();
            return None;
        }
        match std::mem::replace(&mut self.place, Place::Receiver) {
            Place::Left(reading) => return Some(self.settle_up(reading)),
            place => self.place = place,
        }
        watch.ticks = watch.ticks.saturating_add(1);
        self.rests = watch.ticks >= LONG_TICKS;
        None
    }

    /// Learns from how often the reading has been of use to callers.
    fn settle_up(&mut self, reading: R) -> R {
        let needed = if self.taken < USEFUL {
            self.needed.saturating_mul(2)
        } else {
            self.needed.checked_div(2).unwrap_or_default()
        };
        self.needed = needed.clamp(LEAST_STREAK, MOST_STREAK);
        self.is_wanted = false;
        reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left() -> (Handover<char>, Watch) {
        let mut handover = Handover::new();
        handover.leave('r');
        let watch = handover.watch();
        (handover, watch)
    }

    #[test]
    fn reading_is_left_after_a_streak_of_answers_that_were_alone() {
        let mut handover = Handover::<char>::new();
        for _ in 1..LEAST_STREAK {
            assert!(!handover.note(true));
        }
        assert!(!handover.note(false));
        for _ in 1..LEAST_STREAK {
            assert!(!handover.note(true));
        }
        assert!(handover.note(true));
    }

    #[test]
    fn reading_that_nobody_takes_comes_back_with_the_tick() {
        let (mut handover, mut watch) = left();
        assert_eq!(handover.tick(&mut watch), Some('r'));
        assert_eq!(handover.take(), None);
    }

    #[test]
    fn reading_stays_with_callers_that_come_in_time() {
        let (mut handover, mut watch) = left();
        for _ in 0..10 {
            assert_eq!(handover.take(), Some('r'));
            assert_eq!(handover.take(), None, "one at a time");
            assert!(!handover.put_back('r'));
            assert_eq!(handover.fetch(), None);
            assert_eq!(handover.tick(&mut watch), None);
        }
        assert_eq!(handover.tick(&mut watch), Some('r'));
    }

    #[test]
    fn receiver_rests_while_a_call_takes_long_and_is_woken_after_it() {
        let (mut handover, mut watch) = left();
        handover.take();
        assert_eq!(handover.tick(&mut watch), None);
        for _ in 0..LONG_TICKS {
            assert!(!handover.rests);
            assert_eq!(handover.tick(&mut watch), None);
        }
        assert!(handover.rests);
        assert!(handover.put_back('r'));
        assert_eq!(handover.take(), None);
        assert_eq!(handover.fetch(), Some('r'));
    }

    #[test]
    fn reading_that_is_wanted_is_not_taken() {
        let (mut handover, _) = left();
        assert!(handover.want());
        assert_eq!(handover.take(), None);
        assert_eq!(handover.fetch(), Some('r'));
        assert!(!handover.want(), "the receiver reads");

        handover.leave('r');
        assert_eq!(handover.take(), Some('r'));
        assert!(!handover.want(), "the caller will see to it");
        assert!(handover.put_back('r'));
        assert_eq!(handover.fetch(), Some('r'));
    }

    #[test]
    fn what_a_caller_hands_back_goes_to_the_receiver() {
        let (mut handover, _) = left();
        handover.take();
        handover.give_back('r');
        assert_eq!(handover.take(), None);
        assert_eq!(handover.fetch(), Some('r'));
    }

    #[test]
    fn reading_is_left_less_often_when_that_is_of_no_use() {
        let mut handover = Handover::new();
        let streak = |handover: &mut Handover<char>| {
            let answers = (1..=MOST_STREAK).find(|_| handover.note(true));
            answers.unwrap_or(0)
        };
        let mut last = streak(&mut handover);
        for _ in 0..20 {
            handover.leave('r');
            handover.want();
            handover.fetch();
            let next = streak(&mut handover);
            assert!(next == last * 2 || next == MOST_STREAK, "{last}, {next}");
            last = next;
        }
        while last > LEAST_STREAK {
            handover.leave('r');
            for _ in 0..USEFUL {
                handover.take();
                handover.put_back('r');
            }
            handover.want();
            handover.fetch();
            let next = streak(&mut handover);
            assert_eq!(next, last / 2);
            last = next;
        }
    }
}
