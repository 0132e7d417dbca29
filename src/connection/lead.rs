//! Who reads, as pure data.
//!
//! Waking another thread takes longer than most handlers. So the thread that has read requests
//! serves them itself where the handler has been quick, and *offers* the reading meanwhile: an
//! idle worker that *watches* takes it over when it is not taken back within a tick, and at once
//! when the handler begins to wait. Nothing is ever offered that nobody watches, so a handler that
//! blocks holds the reading up for a tick or two and never for longer.
//!
//! ```text
//! reading ──offer, if somebody watches──▶ offered ──take_back──▶ reading
//!                                            └──tick, leave: the watcher──▶ reading, and who
//!                                               offered it is a worker from now on
//! ```
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use std::time::Duration;

/// How long the reading may be left alone, at most two of these.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// After so many ticks without an offer the watcher rests: an idle connection wakes nobody.
const QUIET_TICKS: u8 = 3;

/// The reading, and who looks after it.
#[derive(Debug)]
pub(super) struct Lead<R> {
    offered: Option<R>,
    /// Counts the offers.
    round: u64,
    is_watched: bool,
    /// Who has offered it waits, perhaps for something that is to be read.
    is_wanted: bool,
}

/// What a watcher remembers from one tick to the next.
#[derive(Debug)]
pub(super) struct Watch {
    round: u64,
    quiet_ticks: u8,
}

/// What a watcher is to do after a tick.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tick<R> {
    GoOn,
    /// Nothing has been offered for a while.
    Rest,
    /// Nobody has come back to read: the watcher does from now on.
    Read(R),
}

impl<R> Lead<R> {
    pub(super) fn new() -> Self {
        Self {
            offered: None,
            round: 0,
            is_watched: false,
            is_wanted: false,
        }
    }

    /// Whether the reading may be offered.
    pub(super) fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// Leaves the reading to whoever watches. To be called only while somebody does.
    pub(super) fn offer(&mut self, reading: R) {
        debug_assert!(self.is_watched && self.offered.is_none());
        self.round = self.round.wrapping_add(1);
        self.offered = Some(reading);
    }

    /// Whether it has not been taken over.
    pub(super) fn is_offered(&self) -> bool {
        self.offered.is_some()
    }

    /// Goes on reading, unless somebody else does now.
    pub(super) fn take_back(&mut self) -> Option<R> {
        self.is_wanted = false;
        self.offered.take()
    }

    /// Asks for somebody to read at once; `true` if the watcher is to be woken for it.
    pub(super) fn want(&mut self) -> bool {
        self.is_wanted = self.offered.is_some();
        self.is_wanted
    }

    /// Becomes the watcher, if there is none.
    pub(super) fn watch(&mut self) -> Option<Watch> {
        if self.is_watched {
            return None;
        }
        self.is_watched = true;
        Some(Watch {
            round: self.round,
            quiet_ticks: 0,
        })
    }

    /// Looks whether the reading is wanted at once.
    pub(super) fn take_wanted(&mut self) -> Option<R> {
        if self.is_wanted { self.leave() } else { None }
    }

    /// Looks again after a tick. For `Rest` and `Read` the watcher watches no longer.
    pub(super) fn tick(&mut self, watch: &mut Watch) -> Tick<R> {
        if self.round != watch.round {
            watch.round = self.round;
            watch.quiet_ticks = 0;
            return Tick::GoOn;
        }
        if let Some(reading) = self.offered.take() {
            self.leave();
            return Tick::Read(reading);
        }
        watch.quiet_ticks = watch.quiet_ticks.saturating_add(1);
        if watch.quiet_ticks < QUIET_TICKS {
            return Tick::GoOn;
        }
        self.is_watched = false;
        Tick::Rest
    }

    /// The watcher goes; what is offered goes with it.
    pub(super) fn leave(&mut self) -> Option<R> {
        self.is_watched = false;
        self.is_wanted = false;
        self.offered.take()
    }
}

/// How long the handler takes for a request, smoothed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    nanos: u64,
    /// Nobody would gain if another thread served, not even if that takes rather long.
    is_patient: bool,
}

/// Up to which what has been read together is served by who has read it: some times what it takes
/// to wake other threads, and for how long the peer does not notice that nobody reads.
const QUICK_TOGETHER: u64 = 50_000;

/// The same with one core and long answers. While a worker writes one to a Unix socket, the thread
/// that reads is woken in its reader, for nothing, for each piece that the peer takes.
const PATIENT_TOGETHER: u64 = 200_000;

/// From so many octets an answer is long.
pub(super) const LONG_ANSWER: usize = 64 * 1024;

/// Up to which many are, each: to wake others for them takes as long.
const QUICK: u64 = 3_000;

/// What a handler counts that has been waited for.
const STALLED: u64 = 1_000_000;

impl Pace {
    /// Not known yet.
    pub(super) fn new() -> Self {
        Self {
            nanos: u64::MAX,
            is_patient: false,
        }
    }

    /// Whether [`be_patient`](Self::be_patient) makes a difference for a handler that takes so long.
    pub(super) fn depends_on_patience(taken: Duration) -> bool {
        let quick = Duration::from_nanos(QUICK_TOGETHER);
        let patient = Duration::from_nanos(PATIENT_TOGETHER);
        (quick..patient).contains(&taken)
    }

    /// Says whether there is one core only, and the answers are long.
    pub(super) fn be_patient(&mut self, is_patient: bool) {
        self.is_patient = is_patient;
    }

    /// Whether so many requests are better served by the thread that has read them.
    pub(super) fn is_quick(self, requests: usize) -> bool {
        let requests = u64::try_from(requests).unwrap_or(u64::MAX);
        let together = if self.is_patient {
            PATIENT_TOGETHER
        } else {
            QUICK_TOGETHER
        };
        self.nanos <= QUICK || self.nanos.saturating_mul(requests) <= together
    }

    /// Takes note of how long the handler took for one request.
    pub(super) fn note(&mut self, taken: Duration) {
        let nanos = u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX);
        let nanos = nanos.min(STALLED);
        self.nanos = match self.nanos {
            u64::MAX => nanos,
            before => (before / 8).saturating_mul(7).saturating_add(nanos / 8),
        };
    }

    /// Takes note that the handler has held up the reading.
    pub(super) fn note_stall(&mut self) {
        self.nanos = STALLED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_that_is_taken_back_in_time_stays_where_it_is() {
        let mut lead = Lead::new();
        let mut watch = lead.watch().unwrap();
        for number in 0..10 {
            lead.offer(number);
            assert_eq!(lead.take_back(), Some(number));
            assert_eq!(lead.tick(&mut watch), Tick::GoOn);
        }
    }

    #[test]
    fn watcher_reads_when_the_reading_is_left_alone_for_a_whole_tick() {
        let mut lead = Lead::new();
        let mut watch = lead.watch().unwrap();
        lead.offer('r');
        assert_eq!(
            lead.tick(&mut watch),
            Tick::GoOn,
            "it has just been offered"
        );
        assert_eq!(lead.tick(&mut watch), Tick::Read('r'));
        assert_eq!(lead.take_back(), None);
        assert!(!lead.is_watched());
    }

    #[test]
    fn watcher_rests_after_a_while_and_only_if_nothing_is_offered() {
        let mut lead = Lead::<()>::new();
        let mut watch = lead.watch().unwrap();
        assert!(lead.watch().is_none(), "one is enough");
        for _ in 1..QUIET_TICKS {
            assert_eq!(lead.tick(&mut watch), Tick::GoOn);
        }
        assert_eq!(lead.tick(&mut watch), Tick::Rest);
        assert!(!lead.is_watched());
    }

    #[test]
    fn reading_is_wanted_only_while_it_is_offered() {
        let mut lead = Lead::new();
        lead.watch().unwrap();
        assert!(!lead.want());
        assert_eq!(lead.take_wanted(), None);
        lead.offer(1);
        assert_eq!(lead.take_wanted(), None);
        assert!(lead.want());
        assert_eq!(lead.take_back(), Some(1));
        assert_eq!(lead.take_wanted(), None, "it has come back meanwhile");
        lead.offer(2);
        assert!(lead.want());
        assert_eq!(lead.take_wanted(), Some(2));
    }

    #[test]
    fn watcher_that_goes_takes_along_what_is_offered() {
        let mut lead = Lead::new();
        lead.watch().unwrap();
        lead.offer('r');
        assert_eq!(lead.leave(), Some('r'));
        assert!(!lead.is_watched() && !lead.is_offered());
    }

    #[test]
    fn unknown_handler_is_slow_until_it_has_been_timed() {
        let mut pace = Pace::new();
        assert!(!pace.is_quick(1));
        pace.note(Duration::from_micros(20));
        assert!(pace.is_quick(2) && !pace.is_quick(3));
        pace.note_stall();
        assert!(!pace.is_quick(1));
        let mut quick_ones = 0;
        while !pace.is_quick(1000) {
            pace.note(Duration::from_nanos(100));
            quick_ones += 1;
        }
        assert!((10..100).contains(&quick_ones), "{quick_ones}");
    }

    #[test]
    fn handler_of_long_answers_may_take_longer_on_one_core() {
        let long = Duration::from_micros(90);
        let mut pace = Pace::new();
        pace.note(long);
        assert!(!pace.is_quick(1) && Pace::depends_on_patience(long));
        pace.be_patient(true);
        assert!(pace.is_quick(2) && !pace.is_quick(3));
        pace.be_patient(false);
        assert!(!pace.is_quick(1));
        assert!(!Pace::depends_on_patience(Duration::from_micros(20)));
        assert!(!Pace::depends_on_patience(Duration::from_millis(1)));
    }
}
