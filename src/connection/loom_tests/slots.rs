//! No request is stranded, and no more run than there are slots, whoever calls, lends and ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use loom::thread::JoinHandle;

use super::{explore_within, settle, spawn};
use crate::connection::duty::{Woken, wait_for_work};
use crate::connection::lead::Lead;
use crate::connection::message::Response;
use crate::connection::one_shot::OneShot;
use crate::connection::pool::{Call, Loan, Opening, Pool, Slot};
use crate::sync::{Condvar, Mutex, MutexGuard, expire};

/// The most with which these models end within seconds; with more they take hours.
pub(super) const INTERRUPTIONS: usize = 3;

/// A request; its handler may wait for another one to be served, or rejected.
struct Job {
    number: usize,
    waits_for: Option<(usize, Waits)>,
}

/// What threads share of a session.
pub(super) struct Session {
    shared: Mutex<Shared>,
    work: Condvar,
    /// Signalled when a request has been served.
    progress: Condvar,
    pub(super) answers: Vec<OneShot>,
    threads: parking_lot::Mutex<Vec<JoinHandle<()>>>,
    threads_that_start: usize,
    /// What there is to read: which request each one waits for, and whether it says so.
    pub(super) inputs: Vec<Option<(usize, Waits)>>,
    /// How many of them are read at once.
    pub(super) batch: usize,
}

/// How a handler waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// In our interface, which lends the slot.
    Lending,
    /// In a way that nobody here knows of.
    Unseen,
}

pub(super) struct Shared {
    pool: Pool<Job>,
    lead: Lead<usize>,
    slots: usize,
    /// What the requests that run occupy.
    running: HashMap<usize, Slot>,
    live_loans: Vec<Loan>,
    done: usize,
    started_threads: usize,
}

impl Shared {
    fn parts(&mut self) -> (&mut Pool<Job>, &mut Lead<usize>) {
        (&mut self.pool, &mut self.lead)
    }

    fn start(&mut self) -> Option<(Job, Slot)> {
        let (job, slot) = self.pool.start()?;
        match slot {
            Slot::Own => {
                let own = self.running.values().filter(|slot| **slot == Slot::Own);
                assert!(own.count() < self.slots, "more run than there are slots");
            }
            Slot::Lent(loan) => {
                assert!(self.live_loans.contains(&loan), "the waiter goes on");
                let is_used = self.running.values().any(|other| *other == slot);
                assert!(!is_used, "a lent slot runs two");
            }
        }
        self.running.insert(job.number, slot);
        Some((job, slot))
    }

    fn finish(&mut self, number: usize, slot: Slot) {
        self.running.remove(&number);
        self.pool.finish(slot);
        self.done += 1;
    }
}

impl Session {
    pub(super) fn new(slots: usize, max_threads: usize, jobs: usize) -> Self {
        Self {
            shared: Mutex::new(Shared {
                pool: Pool::new(slots, max_threads),
                lead: Lead::new(),
                slots,
                running: HashMap::new(),
                live_loans: Vec::new(),
                done: 0,
                started_threads: 0,
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
            answers: (0..jobs).map(|_| OneShot::new()).collect(),
            threads: parking_lot::Mutex::default(),
            threads_that_start: usize::MAX,
            inputs: Vec::new(),
            batch: 1,
        }
    }

    /// What the receiver does with a request.
    fn receive(self: &Arc<Self>, number: usize, waits_for: Option<usize>) {
        let waits_for = waits_for.map(|other| (other, Waits::Lending));
        self.change(|shared| shared.pool.push(Job { number, waits_for }));
    }

    pub(super) fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut Shared) -> T) -> T {
        let mut shared = self.shared.lock();
        let result = change(&mut shared);
        let call = shared.pool.call();
        let stuck = shared.pool.take_stuck();
        drop(shared);
        self.reject(&stuck);
        self.call(call);
        result
    }

    fn reject(&self, jobs: &[Job]) {
        for job in jobs {
            settle(&self.answers[job.number], Ok(Response::from("busy")));
            self.shared.lock().done += 1;
            self.progress.notify_all();
        }
    }

    fn call(self: &Arc<Self>, call: Call) {
        match call {
            Call::Nobody => {}
            Call::Waiting => self.work.notify_one(),
            Call::New => {
                let mut shared = self.shared.lock();
                shared.started_threads += 1;
                if shared.started_threads <= self.threads_that_start {
                    drop(shared);
                    let thread = spawn(self, |session| session.work(true));
                    self.threads.lock().push(thread);
                    return;
                }
                shared.pool.started();
                shared.pool.left();
                let jobs = if shared.pool.is_stuck() {
                    shared.pool.take_all()
                } else {
                    Vec::new()
                };
                drop(shared);
                self.reject(&jobs);
            }
        }
    }

    /// A worker thread, or one that has been replaced at reading.
    fn work(self: &Arc<Self>, is_new: bool) {
        let mut shared = self.shared.lock();
        if is_new {
            shared.pool.started();
        }
        let mut next = shared.start();
        loop {
            let Some((job, slot)) = next else {
                let watches = !self.inputs.is_empty();
                match wait_for_work(&mut shared, &self.work, watches, Shared::parts) {
                    Woken::Look => {}
                    Woken::Read { reading: at, .. } => {
                        let call = shared.pool.call();
                        drop(shared);
                        self.call(call);
                        return self.read(at);
                    }
                    Woken::End => break,
                }
                next = shared.start();
                continue;
            };
            let call = shared.pool.call();
            drop(shared);
            self.call(call);
            self.serve(&job, false);
            (shared, next) = self.finish(&job, slot);
        }
        shared.pool.left();
        let call = shared.pool.call();
        drop(shared);
        self.call(call);
    }

    /// Reads from there on.
    pub(super) fn read(self: &Arc<Self>, mut at: usize) {
        while at < self.inputs.len() {
            // The first comes alone, or nobody would watch yet.
            let count = if at == 0 { 1 } else { self.batch };
            let mut shared = self.shared.lock();
            for (number, waits_for) in self.inputs.iter().enumerate().skip(at).take(count) {
                let waits_for = *waits_for;
                shared.pool.push(Job { number, waits_for });
            }
            at += count;
            let in_place = (shared.lead.is_watched() && shared.pool.may_start_own())
                .then(|| shared.start())
                .flatten();
            let Some((job, slot)) = in_place else {
                drop(shared);
                self.change(|_| ());
                continue;
            };
            shared.lead.offer(at);
            drop(shared);
            self.serve(&job, true);
            let mut shared = self.shared.lock();
            shared.finish(job.number, slot);
            // Of several, the others are left to workers.
            let reading = shared.lead.take_back();
            let call = shared.pool.call();
            drop(shared);
            self.progress.notify_all();
            self.call(call);
            match reading {
                Some(next) => at = next,
                None => return self.work(false),
            }
        }
        self.shared.lock().pool.end();
        self.work.notify_all();
    }

    fn serve(self: &Arc<Self>, job: &Job, is_in_place: bool) {
        if let Some((other, Waits::Unseen)) = job.waits_for {
            assert!(self.answers[other].wait(None));
        }
        if let Some((other, Waits::Lending)) = job.waits_for {
            let answer = &self.answers[other];
            let loan = self.change(|shared| {
                let (loan, _) = shared.pool.lend();
                shared.live_loans.push(loan);
                loan
            });
            if is_in_place && self.shared.lock().lead.want() {
                self.work.notify_all();
            }
            let has_come = [Opening::Newest, Opening::All].into_iter().any(|opening| {
                let has_come = answer.wait(Some(Instant::now()));
                if !has_come {
                    self.change(|shared| shared.pool.open(loan, opening));
                }
                has_come
            });
            if !has_come {
                assert!(answer.wait(None));
            }
            let mut shared = self.shared.lock();
            shared.live_loans.retain(|live| *live != loan);
            shared.pool.take_back(loan);
        }
        settle(&self.answers[job.number], Ok(Response::from("done")));
    }

    /// Finishes and takes the next in two steps, between which a worker sends its answer.
    fn finish(&self, job: &Job, slot: Slot) -> (MutexGuard<'_, Shared>, Option<(Job, Slot)>) {
        let mut shared = self.shared.lock();
        shared.finish(job.number, slot);
        let next = shared.start();
        drop(shared);
        self.progress.notify_all();
        let mut shared = self.shared.lock();
        let next = next.or_else(|| shared.start());
        (shared, next)
    }

    /// Waits until that many have been served, before anything else could wake the workers.
    pub(super) fn wait_until_done(&self, jobs: usize) {
        let mut shared = self.shared.lock();
        while shared.done < jobs {
            self.progress.wait(&mut shared);
        }
    }

    /// No request follows; returns once all threads have ended, with how many were served.
    pub(super) fn end(&self) -> usize {
        self.shared.lock().pool.end();
        self.work.notify_all();
        // A worker may start another as its last deed.
        while let Some(thread) = { self.threads.lock().pop() } {
            thread.join().unwrap();
        }
        let shared = self.shared.lock();
        assert_eq!(shared.pool.threads(), 0);
        assert!(shared.running.is_empty());
        shared.done
    }
}

#[test]
fn request_is_never_left_to_a_thread_that_does_not_look() {
    explore_within("slots, one slot and two requests", INTERRUPTIONS, || {
        let session = Arc::new(Session::new(1, 2, 2));
        session.receive(0, None);
        session.receive(1, None);
        session.wait_until_done(2);
        assert_eq!(session.end(), 2);
    });
}

#[test]
fn two_threads_share_three_requests() {
    explore_within("slots, two slots and three requests", INTERRUPTIONS, || {
        let session = Arc::new(Session::new(2, 2, 3));
        for number in 0..3 {
            session.receive(number, None);
        }
        session.wait_until_done(3);
        assert_eq!(session.end(), 3);
    });
}

#[test]
fn end_leaves_no_request_unserved_and_no_thread_waiting() {
    explore_within(
        "slots, the end while requests are queued",
        INTERRUPTIONS,
        || {
            let session = Arc::new(Session::new(1, 2, 2));
            session.receive(0, None);
            session.receive(1, None);
            assert_eq!(session.end(), 2);
        },
    );
}

#[test]
fn handler_that_waits_for_a_later_or_an_older_request_gets_its_answer() {
    explore_within("slots, one lent, the wait outlasts", INTERRUPTIONS, || {
        let session = Arc::new(Session::new(1, 2, 2));
        session.receive(0, Some(1));
        session.receive(1, None);
        expire();
        session.wait_until_done(2);
        assert_eq!(session.end(), 2);
    });
}

/// The third request may run on the lent slot, or after one of the others, but not beside a waiter
/// that goes on.
#[test]
fn waiter_that_goes_on_has_its_slot_back() {
    explore_within("slots, one lent, a third request", INTERRUPTIONS, || {
        let session = Arc::new(Session::new(1, 2, 3));
        session.receive(0, Some(1));
        session.receive(1, None);
        session.receive(2, None);
        expire();
        session.wait_until_done(3);
        assert_eq!(session.end(), 3);
    });
}

#[test]
fn request_that_no_thread_can_serve_is_rejected_and_frees_who_waits() {
    explore_within("slots, all threads wait", INTERRUPTIONS, || {
        let session = Arc::new(Session::new(1, 1, 2));
        session.receive(0, Some(1));
        session.receive(1, None);
        expire();
        session.wait_until_done(2);
        assert_eq!(session.end(), 2);
    });
}

#[test]
fn request_whose_thread_cannot_be_started_is_served_or_rejected() {
    explore_within("slots, a thread that does not start", INTERRUPTIONS, || {
        let mut session = Session::new(1, 2, 2);
        session.threads_that_start = 1;
        let session = Arc::new(session);
        session.receive(0, Some(1));
        session.receive(1, None);
        expire();
        session.wait_until_done(2);
        assert_eq!(session.end(), 2);
    });
}

/// Unsent answers hold requests back; the sender lets them go.
#[test]
fn requests_that_were_held_back_are_started_when_answers_have_gone() {
    explore_within("slots, held back and let go", INTERRUPTIONS, || {
        let session = Arc::new(Session::new(1, 2, 2));
        session.receive(0, None);
        let sender = spawn(&session, |session| {
            session.shared.lock().pool.hold(true);
            session.change(|shared| {
                shared.pool.hold(false);
            });
        });
        session.receive(1, None);
        session.wait_until_done(2);
        sender.join().unwrap();
        assert_eq!(session.end(), 2);
    });
}
