//! Which request may start on which handler slot, as pure data (law L5).
//!
//! There are as many slots as handlers are configured to run at once. A handler that waits lends
//! its slot: another request may run on it meanwhile. A lent slot first serves requests that
//! arrived after the wait began, since what the waiter needs may depend on one of them.
//!
//! It may also depend on an older one. Where handlers of both ends call back, each may wait for a
//! request that the other end had received before its own wait began; that is then one of the
//! newest in the queue, as the peer sends no more of them than it has handlers that wait. So the
//! newest is tried after a moment, which grows with the number of slots that are lent, and the
//! oldest once the wait has lasted a while. Without such delays a queue of requests that all call
//! back would become as many threads.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use std::collections::VecDeque;

/// Identifies a handler that waits.
pub(super) type Loan = u64;

/// What a running request occupies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// One of the configured slots.
    Own,
    /// The slot of a handler that waited when the request was started.
    Lent(Loan),
}

/// Which requests older than the wait a lent slot may serve; more and more, as the wait lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Opening {
    None,
    Newest,
    /// In the order in which they came, so none is left behind for ever.
    All,
}

#[derive(Debug)]
struct LentSlot {
    loan: Loan,
    /// How many requests had arrived when the wait began.
    began: u64,
    opening: Opening,
    is_used: bool,
}

/// The requests that have not been started, the slots, and the threads that serve them.
#[derive(Debug)]
pub(super) struct Pool<J> {
    jobs: VecDeque<(u64, J)>,
    arrived: u64,
    free: usize,
    lent: Vec<LentSlot>,
    next_loan: Loan,
    threads: usize,
    /// Threads that wait for work and have not been told of any.
    idle: usize,
    /// Threads that have been told to look for work and have not looked yet.
    called: usize,
    /// Threads that have been asked for and do not run yet.
    starting: usize,
    slots: usize,
    max_threads: usize,
    is_ending: bool,
    /// Too many answers wait to be sent: nothing more is started.
    is_held: bool,
}

/// What is to be done after the pool has changed, once it is unlocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Nobody,
    /// Wake one thread that waits for work.
    Waiting,
    /// Start a thread; it is counted already.
    New,
}

impl<J> Pool<J> {
    pub(super) fn new(slots: usize, max_threads: usize) -> Self {
        Self {
            jobs: VecDeque::new(),
            arrived: 0,
            free: slots,
            lent: Vec::new(),
            next_loan: 0,
            threads: 0,
            idle: 0,
            called: 0,
            starting: 0,
            slots,
            max_threads: max_threads.max(slots),
            is_ending: false,
            is_held: false,
        }
    }

    pub(super) fn push(&mut self, job: J) {
        self.arrived = self.arrived.saturating_add(1);
        self.jobs.push_back((self.arrived, job));
    }

    pub(super) fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Whether requests wait that may be started before an answer has been sent.
    pub(super) fn may_start_more(&self) -> bool {
        self.has_jobs() && !self.is_held
    }

    /// Whether a request may start on one of the configured slots.
    pub(super) fn may_start_own(&self) -> bool {
        self.free > 0 && self.has_jobs() && !self.is_held
    }

    pub(super) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Takes the next request that may start, and what it occupies from now on.
    pub(super) fn start(&mut self) -> Option<(J, Slot)> {
        if self.is_held {
            return None;
        }
        if self.free > 0 {
            let (_, job) = self.jobs.pop_front()?;
            self.free = self.free.saturating_sub(1);
            return Some((job, Slot::Own));
        }
        let (index, at) = self.lendable()?;
        let (_, job) = self.jobs.remove(at)?;
        let lent = self.lent.get_mut(index)?;
        lent.is_used = true;
        Some((job, Slot::Lent(lent.loan)))
    }

    /// Finds a lent slot, and the position of the request that may run on it.
    fn lendable(&self) -> Option<(usize, usize)> {
        if self.jobs.is_empty() {
            return None;
        }
        let unused = || {
            self.lent
                .iter()
                .enumerate()
                .filter(|(_, lent)| !lent.is_used)
        };
        if let Some((index, _)) = unused().find(|(_, lent)| lent.opening == Opening::All) {
            return Some((index, 0));
        }
        let (index, oldest) = unused().min_by_key(|(_, lent)| lent.began)?;
        let at = self
            .jobs
            .partition_point(|(arrival, _)| *arrival <= oldest.began);
        if at < self.jobs.len() {
            return Some((index, at));
        }
        let (index, _) = unused().find(|(_, lent)| lent.opening == Opening::Newest)?;
        Some((index, self.jobs.len().saturating_sub(1)))
    }

    pub(super) fn finish(&mut self, slot: Slot) {
        match slot {
            Slot::Own => self.free = self.free.saturating_add(1),
            // A loan that has been taken back leaves nothing to return.
            Slot::Lent(loan) => {
                if let Some(lent) = self.lent.iter_mut().find(|lent| lent.loan == loan) {
                    lent.is_used = false;
                }
            }
        }
    }

    /// A handler begins to wait. Returns also how many do now.
    pub(super) fn lend(&mut self) -> (Loan, usize) {
        self.next_loan = self.next_loan.saturating_add(1);
        self.lent.push(LentSlot {
            loan: self.next_loan,
            began: self.arrived,
            opening: Opening::None,
            is_used: false,
        });
        (self.next_loan, self.lent.len())
    }

    /// The handler has waited for a while. The handler and the timer may both say so.
    pub(super) fn open(&mut self, loan: Loan, opening: Opening) {
        if let Some(lent) = self.lent.iter_mut().find(|lent| lent.loan == loan) {
            lent.opening = lent.opening.max(opening);
        }
    }

    /// The handler goes on, whether or not its slot is in use.
    pub(super) fn take_back(&mut self, loan: Loan) {
        self.lent.retain(|lent| lent.loan != loan);
    }

    /// Says who is to look for work. To be asked after every change that may let a request start.
    pub(super) fn call(&mut self) -> Call {
        let startable = self.free > 0 && self.has_jobs() || self.lendable().is_some();
        if self.is_held || !startable || self.called > 0 || self.starting > 0 {
            Call::Nobody
        } else if self.idle > 0 {
            self.idle = self.idle.saturating_sub(1);
            self.called = self.called.saturating_add(1);
            Call::Waiting
        } else if self.threads < self.max_threads {
            self.threads = self.threads.saturating_add(1);
            self.starting = self.starting.saturating_add(1);
            Call::New
        } else {
            Call::Nobody
        }
    }

    /// Holds requests back, or no longer; `true` if some may start now that could not.
    pub(super) fn hold(&mut self, is_held: bool) -> bool {
        let is_freed = self.is_held && !is_held;
        self.is_held = is_held;
        is_freed && self.has_jobs()
    }

    /// Whether some handler waits for something.
    pub(super) fn has_waiters(&self) -> bool {
        !self.lent.is_empty()
    }

    /// Takes out the requests that no thread can ever start: all threads there may be have
    /// handlers that wait.
    pub(super) fn take_stuck(&mut self) -> Vec<J> {
        if self.threads < self.max_threads || !self.is_stuck() {
            return Vec::new();
        }
        self.take_all()
    }

    /// Whether every thread has a handler that waits.
    pub(super) fn is_stuck(&self) -> bool {
        self.lent.len() >= self.threads
    }

    pub(super) fn take_all(&mut self) -> Vec<J> {
        self.jobs.drain(..).map(|(_, job)| job).collect()
    }

    /// A new thread runs and looks for work now, or could not be started.
    pub(super) fn started(&mut self) {
        self.starting = self.starting.saturating_sub(1);
    }

    /// A thread that was called looks for work now.
    pub(super) fn came(&mut self) {
        self.called = self.called.saturating_sub(1);
    }

    pub(super) fn has_called(&self) -> bool {
        self.called > 0
    }

    /// Says whether a thread without work is to wait for more. If so, it is counted as idle.
    pub(super) fn may_wait(&mut self) -> bool {
        let wait = !self.is_ending && self.idle < self.slots;
        if wait {
            self.idle = self.idle.saturating_add(1);
        }
        wait
    }

    /// A thread that waits for work goes to read instead, and another comes in its place.
    pub(super) fn replaced(&mut self) {
        // Which of those that wait was called cannot be told: who goes takes the call along, and
        // the pool is to be asked again.
        if self.called > 0 {
            self.came();
        } else {
            self.idle = self.idle.saturating_sub(1);
        }
    }

    /// A thread ends, or could not be started.
    pub(super) fn left(&mut self) {
        self.threads = self.threads.saturating_sub(1);
    }

    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// No request will arrive any more: threads end instead of waiting for work. All that wait
    /// are to be woken.
    pub(super) fn end(&mut self) {
        self.is_ending = true;
        self.called = self.called.saturating_add(self.idle);
        self.idle = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(slots: usize, max_threads: usize, jobs: u32) -> Pool<u32> {
        let mut pool = Pool::new(slots, max_threads);
        for job in 0..jobs {
            pool.push(job);
        }
        pool
    }

    #[test]
    fn requests_start_in_order_up_to_the_number_of_slots() {
        let mut pool = pool(2, 8, 3);
        assert_eq!(pool.start(), Some((0, Slot::Own)));
        assert_eq!(pool.start(), Some((1, Slot::Own)));
        assert_eq!(pool.start(), None);
        pool.finish(Slot::Own);
        assert_eq!(pool.start(), Some((2, Slot::Own)));
    }

    #[test]
    fn lent_slot_serves_what_arrived_after_the_wait_began() {
        let mut pool = pool(1, 8, 3);
        assert_eq!(pool.start(), Some((0, Slot::Own)));
        let (loan, _) = pool.lend();
        assert_eq!(pool.start(), None, "1 and 2 are older than the wait");
        pool.push(3);
        assert_eq!(pool.start(), Some((3, Slot::Lent(loan))));
        pool.push(4);
        assert_eq!(pool.start(), None, "the lent slot is in use");
        pool.finish(Slot::Lent(loan));
        assert_eq!(pool.start(), Some((4, Slot::Lent(loan))));
    }

    #[test]
    fn lent_slot_serves_older_requests_once_the_wait_has_lasted() {
        let mut pool = pool(1, 8, 3);
        pool.start();
        let (loan, _) = pool.lend();
        pool.open(loan, Opening::All);
        assert_eq!(pool.start(), Some((1, Slot::Lent(loan))));
        let (nested, _) = pool.lend();
        assert_eq!(pool.start(), None, "the wait of request 1 has just begun");
        pool.open(nested, Opening::All);
        assert_eq!(pool.start(), Some((2, Slot::Lent(nested))));
    }

    #[test]
    fn lent_slot_serves_the_newest_of_the_older_requests_before_all_of_them() {
        let mut pool = pool(1, 8, 4);
        pool.start();
        let (loan, _) = pool.lend();
        pool.open(loan, Opening::Newest);
        pool.push(4);
        pool.push(5);
        for expected in [4, 5, 3, 2] {
            assert_eq!(pool.start(), Some((expected, Slot::Lent(loan))));
            assert_eq!(pool.start(), None, "the lent slot is in use");
            pool.finish(Slot::Lent(loan));
        }
    }

    #[test]
    fn waiter_is_told_how_many_wait() {
        let mut pool = pool(2, 8, 2);
        pool.start();
        pool.start();
        let (first, lent) = pool.lend();
        assert_eq!(lent, 1);
        assert_eq!(pool.lend().1, 2);
        pool.take_back(first);
        assert_eq!(pool.lend().1, 2);
    }

    #[test]
    fn waiter_that_goes_on_leaves_its_slot_to_who_uses_it() {
        let mut pool = pool(1, 8, 1);
        pool.start();
        let (loan, _) = pool.lend();
        pool.push(1);
        assert_eq!(pool.start(), Some((1, Slot::Lent(loan))));
        pool.take_back(loan);
        pool.push(2);
        pool.finish(Slot::Lent(loan));
        assert_eq!(pool.start(), None, "the first one is still running");
        pool.finish(Slot::Own);
        assert_eq!(pool.start(), Some((2, Slot::Own)));
    }

    #[test]
    fn one_thread_at_a_time_is_called() {
        let mut pool = pool(2, 8, 2);
        assert_eq!(pool.call(), Call::New);
        assert_eq!(
            pool.call(),
            Call::Nobody,
            "the one that was called calls the next"
        );
        pool.started();
        pool.start();
        assert_eq!(pool.call(), Call::New);
        pool.started();
        pool.start();
        assert_eq!(pool.call(), Call::Nobody);
        pool.finish(Slot::Own);
        assert!(pool.may_wait());
        pool.push(2);
        assert_eq!(pool.call(), Call::Waiting);
    }

    /// A thread that becomes idle while another is being started is not taken for it: it would
    /// be counted as idle for ever, and calls would go to nobody.
    #[test]
    fn call_for_a_new_thread_is_not_answered_by_an_idle_one() {
        let mut pool = pool(4, 8, 1);
        assert_eq!(pool.call(), Call::New);
        pool.started();
        pool.start();
        pool.push(1);
        assert_eq!(pool.call(), Call::New);
        pool.finish(Slot::Own);
        assert!(pool.start().is_some());
        pool.finish(Slot::Own);
        assert!(pool.start().is_none());
        assert!(pool.may_wait());
        assert!(!pool.has_called());
        pool.started();
        assert!(pool.start().is_none());
        assert!(pool.may_wait());
        assert_eq!((pool.threads, pool.idle), (2, 2));
    }

    #[test]
    fn requests_are_stuck_when_every_thread_there_may_be_waits() {
        let mut pool = pool(1, 1, 2);
        assert_eq!(pool.call(), Call::New);
        pool.started();
        pool.start();
        assert!(pool.take_stuck().is_empty());
        pool.lend();
        assert_eq!(pool.take_stuck(), [1]);
    }
}
