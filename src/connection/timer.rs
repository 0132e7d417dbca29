//! What is due at a time while no thread waits for it: the time limits of futures and callbacks, and
//! what the slot of a handler serves that sleeps until a waker wakes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::place::Role;
use super::pool::{Loan, Opening};
use super::session::Session;
use super::submitted::Submitted;
use super::text::caught;
use crate::error::{Error, Result};
use crate::sync::{Condvar, Mutex};

/// When requests are to be given up and loans to be opened, and the thread that does it.
#[derive(Default)]
pub(super) struct Timer {
    schedule: Mutex<Schedule>,
    /// Signalled when the thread has to look at the schedule earlier than it meant to.
    changed: Condvar,
}

#[derive(Default)]
struct Schedule {
    phase: Phase,
    /// By deadline, and then by the number of the request, which no two share.
    limits: BTreeMap<(Instant, u64), Submitted>,
    loans: BTreeSet<(Instant, Loan, Opening)>,
    /// Until when the thread sleeps, or has slept last; `None` is without limit.
    alarm: Option<Instant>,
}

/// What has come due.
#[derive(Debug, Default)]
pub(super) struct Due {
    requests: Vec<Submitted>,
    loans: Vec<(Loan, Opening)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    NotStarted,
    Running,
    /// Every request has its answer.
    Closed,
}

impl Timer {
    /// Adds a time limit; `false` if there is no thread yet that would heed it.
    pub(super) fn insert(&self, deadline: Instant, submitted: &Submitted) -> bool {
        let mut schedule = self.schedule.lock();
        match schedule.phase {
            Phase::NotStarted => return false,
            Phase::Closed => return true,
            Phase::Running => {}
        }
        let submitted = submitted.clone();
        schedule
            .limits
            .insert((deadline, submitted.number), submitted);
        // Most requests have the same time, so the thread sleeps on for a whole one at a time.
        if schedule.alarm.is_none_or(|alarm| deadline < alarm) {
            self.changed.notify_one();
        }
        true
    }

    /// Adds the times at which a loan is opened, if the thread runs; returns whether it does.
    fn insert_loan(&self, loan: Loan, times: [(Instant, Opening); 2]) -> Phase {
        let mut schedule = self.schedule.lock();
        if schedule.phase == Phase::Running {
            schedule
                .loans
                .extend(times.map(|(time, opening)| (time, loan, opening)));
            self.changed.notify_one();
        }
        schedule.phase
    }

    /// Takes these times back, if they are still there.
    pub(super) fn remove_loan(&self, loan: Loan, times: [(Instant, Opening); 2]) {
        let mut schedule = self.schedule.lock();
        for (time, opening) in times {
            schedule.loans.remove(&(time, loan, opening));
        }
    }

    /// Takes a time limit back, if it is still there.
    pub(super) fn remove(&self, deadline: Instant, number: u64) {
        self.schedule.lock().limits.remove(&(deadline, number));
    }

    /// Notes that the thread runs; `false` if it does already, or has nothing to do any more.
    pub(super) fn begin(&self) -> bool {
        let mut schedule = self.schedule.lock();
        let begins = schedule.phase == Phase::NotStarted;
        if begins {
            schedule.phase = Phase::Running;
        }
        begins
    }

    /// Lets the thread end; returns whether it runs.
    pub(super) fn close(&self) -> bool {
        let mut schedule = self.schedule.lock();
        let runs = schedule.phase == Phase::Running;
        schedule.phase = Phase::Closed;
        schedule.limits.clear();
        self.changed.notify_one();
        runs
    }

    /// Blocks until something is due, and takes it out; `None` once the timer is closed.
    pub(super) fn next_due(&self) -> Option<Due> {
        let mut schedule = self.schedule.lock();
        while schedule.phase != Phase::Closed {
            let due = schedule.take_due(Instant::now());
            if !due.requests.is_empty() || !due.loans.is_empty() {
                return Some(due);
            }
            schedule.alarm = schedule.first();
            match schedule.alarm {
                None => self.changed.wait(&mut schedule),
                Some(alarm) => {
                    self.changed.wait_until(&mut schedule, alarm);
                }
            }
        }
        None
    }

    /// Takes out the loans that are left once the timer is closed.
    fn take_loans(&self) -> Vec<Loan> {
        let loans = std::mem::take(&mut self.schedule.lock().loans);
        loans.into_iter().map(|(_, loan, _)| loan).collect()
    }

    /// How many time limits there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.schedule.lock().limits.len()
    }
}

impl Schedule {
    fn first(&self) -> Option<Instant> {
        let limit = self.limits.keys().next().map(|(deadline, _)| *deadline);
        let loan = self.loans.first().map(|(time, ..)| *time);
        match (limit, loan) {
            (Some(limit), Some(loan)) => Some(limit.min(loan)),
            (limit, loan) => limit.or(loan),
        }
    }

    fn take_due(&mut self, now: Instant) -> Due {
        let mut due = Due::default();
        while let Some(first) = self.limits.first_entry()
            && first.key().0 <= now
        {
            due.requests.push(first.remove());
        }
        while self.loans.first().is_some_and(|(time, ..)| *time <= now)
            && let Some((_, loan, opening)) = self.loans.pop_first()
        {
            due.loans.push((loan, opening));
        }
        due
    }
}

impl Session {
    /// Has the request given up at the deadline, whether anybody waits for it or not.
    pub(super) fn limit(self: &Arc<Self>, deadline: Instant, submitted: &Submitted) -> Result<()> {
        if self.timer.insert(deadline, submitted) {
            return Ok(());
        }
        let started = self.start_timer();
        // Another thread may have started it, though this one could not.
        if self.timer.insert(deadline, submitted) {
            return Ok(());
        }
        started
    }

    /// Has a loan opened at these times, though the handler may sleep then; `false` if there is
    /// nobody to do it.
    pub(super) fn open_loan_at(
        self: &Arc<Self>,
        loan: Loan,
        times: [(Instant, Opening); 2],
    ) -> bool {
        let mut phase = self.timer.insert_loan(loan, times);
        if phase == Phase::NotStarted && self.start_timer().is_ok() {
            phase = self.timer.insert_loan(loan, times);
        }
        phase == Phase::Running
    }

    fn start_timer(self: &Arc<Self>) -> Result<()> {
        let body = |session: &Arc<Self>| {
            while let Some(due) = session.timer.next_due() {
                // Whatever a waker does, the other limits hold.
                for (loan, opening) in due.loans {
                    session.open_loan(loan, opening);
                }
                let _ = caught(|| session.give_up_all(due.requests, Error::TimedOut));
            }
            for loan in session.timer.take_loans() {
                session.open_loan(loan, Opening::All);
            }
            // It may have had callbacks called until now.
            session.callbacks.close();
        };
        let begins = |session: &Self| session.timer.begin();
        self.start_late("timer", Role::Timer, begins, body)
    }

    /// Lets the threads end that are of use only while a request has no answer.
    pub(super) fn end_late_threads(&self) {
        if !self.timer.close() {
            self.callbacks.close();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::connection::one_shot::OneShot;
    use crate::wire::ChannelId;

    fn submitted(number: u64) -> Submitted {
        Submitted {
            one_shot: Arc::new(OneShot::new()),
            channel: ChannelId::DEFAULT,
            number,
        }
    }

    fn next_due(timer: &Timer) -> Option<Vec<u64>> {
        let due = timer.next_due()?;
        Some(
            due.requests
                .iter()
                .map(|submitted| submitted.number)
                .collect(),
        )
    }

    #[test]
    fn answered_requests_leave_no_time_limit_behind() {
        let timer = Timer::default();
        let later = Instant::now() + Duration::from_secs(3600);
        assert!(!timer.insert(later, &submitted(0)), "nobody would heed it");
        assert!(timer.begin() && !timer.begin());
        for number in 0..1000 {
            assert!(timer.insert(later, &submitted(number)));
            timer.remove(later, number);
        }
        assert_eq!(timer.len(), 0);
    }

    #[test]
    fn time_limits_are_due_in_their_order_whatever_that_of_their_requests() {
        let timer = Timer::default();
        timer.begin();
        let past = Instant::now();
        timer.insert(past, &submitted(2));
        timer.insert(past, &submitted(1));
        timer.insert(past + Duration::from_secs(3600), &submitted(0));
        assert_eq!(next_due(&timer), Some(vec![1, 2]));
        assert!(timer.close());
        assert_eq!((next_due(&timer), timer.len()), (None, 0));
        assert!(timer.insert(past, &submitted(3)), "all are answered");
    }

    #[test]
    fn loans_are_due_beside_time_limits_unless_they_are_taken_back() {
        let timer = Timer::default();
        let past = Instant::now();
        let later = past + Duration::from_secs(3600);
        let openings = [(past, Opening::Newest), (later, Opening::All)];
        assert_eq!(timer.insert_loan(1, openings), Phase::NotStarted);
        timer.begin();
        for loan in 1..=3 {
            assert_eq!(timer.insert_loan(loan, openings), Phase::Running);
        }
        timer.remove_loan(2, openings);
        let due = timer.next_due().unwrap();
        assert_eq!(due.loans, [(1, Opening::Newest), (3, Opening::Newest)]);
        timer.close();
        assert_eq!(timer.insert_loan(4, openings), Phase::Closed);
        assert_eq!(timer.take_loans(), [1, 3]);
    }
}
