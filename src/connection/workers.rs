//! The worker threads: run the handler, one request at a time each.

use std::sync::Arc;
use std::time::Instant;

use log::Level;

use super::Connection;
use super::duty::{self, Duty, LONGEST_RUN, Woken, Work};
use super::handler::{Answered, Handler, Incoming, Origin, Responder};
use super::lead::{LONG_ANSWER, Lead, Pace, TICK};
use super::logging::log;
use super::message::Request;
use super::outbox::MayWrite;
use super::place::{self, Role};
use super::pool::{Call, Pool, Slot};
use super::read_side::ReadSide;
use super::session::{Session, Shared};
use super::state::Key;
use super::text::caught;
use crate::sync::MutexGuard;
use crate::wire::{Packet, RequestType};

/// A request that was accepted and has not been started.
pub(super) struct Job {
    pub(super) key: Key,
    pub(super) packet: Packet,
}

/// An answer in the send queue.
pub(super) struct QueuedAnswer {
    /// The number of the last packet that was queued with it.
    pub(super) last: u64,
    /// The goodbye follows it.
    is_final: bool,
}

/// How an answer in the send queue is to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sending {
    /// In the company of others, which the sender waits for already.
    Held,
    /// The same, but the sender has to see to how long that may take.
    Rings,
    /// With all up to that number.
    AtOnce(u64),
}

type NextJob = Option<(Job, Slot)>;

/// Of how many requests one is timed, to know how quick the handler is.
const TIMED: u64 = 8;

/// Serves requests until there will be none, or until the reading falls to this thread.
pub(super) fn work(origin: &Arc<Origin>, work: Work) -> Option<Box<ReadSide>> {
    let Origin {
        session,
        connection,
    } = &**origin;
    let (mut shared, mut next) = match work {
        Work::Started => {
            place::enter(session, Role::Worker);
            let mut shared = session.shared.lock();
            shared.pool.started();
            let next = shared.pool.start();
            (shared, next)
        }
        Work::Replaced(unfinished) => {
            place::take_role(Role::Worker);
            if let Some((key, answer, slot)) = unfinished {
                session.finish_job(key, answer, slot)
            } else {
                let mut shared = session.shared.lock();
                let next = shared.pool.start();
                (shared, next)
            }
        }
    };
    let mut last_rest: Option<Instant> = None;
    loop {
        let Some((job, slot)) = next else {
            let now = Instant::now();
            let is_busy = last_rest.is_some_and(|last| now.duration_since(last) < 2 * TICK);
            last_rest = Some(now);
            let may_watch = is_busy && shared.pace.is_quick(1) && !session.config.is_inline;
            match duty::wait_for_work(&mut shared, &session.work, may_watch, Shared::parts) {
                Woken::Look => {}
                Woken::Read { reading, is_late } => {
                    if is_late {
                        shared.pace.note_stall();
                    }
                    let call = shared.pool.call();
                    // Nobody else sees to it any more.
                    let held = session.take_held(&mut shared);
                    drop(shared);
                    session.call_worker_of(call, connection);
                    if let Some(held) = held {
                        session.outbox.want(held);
                    }
                    return Some(reading);
                }
                Woken::End => break,
            }
            next = shared.pool.start();
            continue;
        };
        let call = shared.pool.call();
        let held = session.release_held(&mut shared);
        drop(shared);
        session.call_worker_of(call, connection);
        if let Some(held) = held {
            session.outbox.want(held);
        }
        let key = job.key;
        let began = (key.1.get() % TIMED == 0).then(Instant::now);
        let answer = session.handle(job, origin);
        let taken = began.map(|began| began.elapsed());
        let is_long = is_long(answer.as_ref());
        let is_patient = is_long
            && taken.is_some_and(Pace::depends_on_patience)
            && session.outbox.has_one_core();
        (shared, next) = session.finish_job(key, answer, slot);
        if let Some(taken) = taken {
            shared.pace.note(taken);
        }
        // A long answer that was not timed tells nothing.
        if taken.is_some() || !is_long {
            shared.pace.be_patient(is_patient);
        }
    }
    shared.pool.left();
    // Work may have come up between the last look and the leave.
    let call = shared.pool.call();
    session.progress.notify_all();
    drop(shared);
    session.call_worker_of(call, connection);
    None
}

/// Whether an answer is one that makes it worth while to serve longer in place.
pub(super) fn is_long(answer: Option<&Packet>) -> bool {
    answer.is_some_and(|packet| packet.payload().len() >= LONG_ANSWER)
}

impl Shared {
    fn parts(&mut self) -> (&mut Pool<Job>, &mut Lead<Box<ReadSide>>) {
        (&mut self.pool, &mut self.lead)
    }

    /// Whether requests of the peer that are here are still to be started.
    fn more_follow(&self) -> bool {
        self.pool.may_start_more() || self.more_buffered && !self.is_paused
    }

    /// Says whether an answer is to wait for company.
    pub(super) fn hold(&mut self, queued: &QueuedAnswer) -> bool {
        let is_held = self.more_follow() && !queued.is_final;
        self.held = is_held.then_some(queued.last);
        is_held
    }
}

impl Session {
    /// To be called when fewer requests may follow: returns the number of the last answer that
    /// waits for company, if none comes any more.
    pub(super) fn release_held(&self, shared: &mut Shared) -> Option<u64> {
        if shared.held.is_none() || shared.more_follow() {
            return None;
        }
        self.take_held(shared)
    }

    /// The number of the last answer that waits for company, which is in the queue now.
    fn take_held(&self, shared: &mut Shared) -> Option<u64> {
        let held = shared.held.take()?;
        self.outbox.push_run(&mut shared.run);
        Some(held)
    }

    /// Runs the handler; `None` if it answers later.
    pub(super) fn handle(self: &Arc<Self>, job: Job, origin: &Arc<Origin>) -> Option<Packet> {
        let Job { key, packet } = job;
        let request_type = packet.request_type().unwrap_or(RequestType::from(0));
        let request = Request::new(request_type)
            .with_flags(packet.flags())
            .with_channel(key.0)
            .with_payload(packet.into_payload());
        let incoming = Incoming::new(request, key.1, origin);
        match self.config.handler.as_ref()? {
            Handler::Answers(handler) => {
                let answer = caught(|| handler.handle(incoming))
                    .unwrap_or_else(|text| Err(format!("the handler panicked: {text}").into()));
                let answer = self.contained_answer(key, answer);
                place::end_wait();
                Some(answer)
            }
            Handler::Defers(handler) => {
                // A panic drops the responder, which answers.
                let responder = Responder::new(Arc::clone(self), key);
                let result = caught(|| handler(incoming, responder));
                place::end_wait();
                if let Err(text) = result {
                    let name = &self.config.name;
                    log(
                        Level::Error,
                        format_args!("{name}: the handler panicked: {text}"),
                    );
                }
                None
            }
        }
    }

    /// Serves requests on the receiver, and has their answers sent in batches.
    pub(super) fn serve_inline(self: &Arc<Self>, jobs: Vec<Job>, origin: &Arc<Origin>) {
        const BATCH: usize = 32;
        if jobs.is_empty() {
            return;
        }
        let mut answers = Vec::with_capacity(BATCH.min(jobs.len()));
        let mut jobs = jobs.into_iter();
        while jobs.len() > 0 {
            let began = Instant::now();
            for job in jobs.by_ref() {
                let key = job.key;
                let is_timed = key.1.get() % TIMED == 0;
                if let Some(answer) = place::inline(|| self.handle(job, origin)) {
                    answers.push((key, answer));
                }
                if answers.len() >= BATCH || is_timed && began.elapsed() >= LONGEST_RUN {
                    break;
                }
            }
            let mut last: Option<QueuedAnswer> = None;
            let mut shared = self.shared.lock();
            for (key, answer) in answers.drain(..) {
                last = self.queue_answer(&mut shared, key, answer).or(last);
            }
            let Some(last) = last else { continue };
            let is_held = jobs.len() > 0 || shared.hold(&last);
            let sending = self.sending(&mut shared, &last, is_held);
            drop(shared);
            self.send_answer(sending, MayWrite::Never);
        }
    }

    /// Answers a request from outside a worker.
    pub(super) fn answer(self: &Arc<Self>, key: Key, answer: Answered) {
        let packet = self.contained_answer(key, answer);
        let mut shared = self.shared.lock();
        let queued = self.queue_answer(&mut shared, key, packet);
        let Some(queued) = queued else {
            return;
        };
        let is_held = shared.hold(&queued);
        let sending = self.sending(&mut shared, &queued, is_held);
        drop(shared);
        self.send_answer(sending, MayWrite::Never);
    }

    /// Answers, frees the slot and takes the next request, all under one lock.
    fn finish_job(
        self: &Arc<Self>,
        key: Key,
        answer: Option<Packet>,
        slot: Slot,
    ) -> (MutexGuard<'_, Shared>, NextJob) {
        let mut shared = self.shared.lock();
        let queued = answer.and_then(|packet| self.queue_answer(&mut shared, key, packet));
        shared.pool.finish(slot);
        let mut next = shared.pool.start();
        let Some(queued) = queued else {
            if let Some(held) = self.release_held(&mut shared) {
                drop(shared);
                self.outbox.want(held);
                shared = self.shared.lock();
                // As below.
                next = next.or_else(|| shared.pool.start());
            }
            return (shared, next);
        };
        let is_held = shared.hold(&queued);
        let sending = self.sending(&mut shared, &queued, is_held);
        drop(shared);
        // A request that has its slot must not wait for a write.
        let may_write = match next {
            None => MayWrite::Freely,
            Some(_) => MayWrite::Never,
        };
        self.send_answer(sending, may_write);
        let mut shared = self.shared.lock();
        // Somebody may have seen a free slot and no idle thread meanwhile, and left it to us.
        let next = next.or_else(|| shared.pool.start());
        (shared, next)
    }

    /// Queues an answer, unless it can no longer be sent, and the goodbye that it was the last
    /// to hold up.
    pub(super) fn queue_answer(
        &self,
        shared: &mut Shared,
        key: Key,
        packet: Packet,
    ) -> Option<QueuedAnswer> {
        let can_be_sent = shared.state.served(key);
        self.notify_receiver(shared);
        if !can_be_sent {
            return None;
        }
        let number = self.queue(shared, packet);
        let goodbye = self.queue_goodbyes(shared);
        Some(QueuedAnswer {
            last: goodbye.unwrap_or(number),
            is_final: goodbye.is_some(),
        })
    }

    /// Says how an answer is to be sent: at once, or in the company of those that follow (law
    /// L11). To be asked under the lock.
    pub(super) fn sending(
        &self,
        shared: &mut Shared,
        queued: &QueuedAnswer,
        is_held: bool,
    ) -> Sending {
        if !is_held {
            self.outbox.push_run(&mut shared.run);
            Sending::AtOnce(queued.last)
        } else if self.outbox.leave_run(&mut shared.run) {
            Sending::Rings
        } else {
            Sending::Held
        }
    }

    /// Has an answer sent.
    pub(super) fn send_answer(self: &Arc<Self>, sending: Sending, may_write: MayWrite) {
        match sending {
            Sending::Held => {}
            Sending::Rings => self.outbox.ring(),
            Sending::AtOnce(number) => self.outbox.flush(self, number, may_write),
        }
    }

    /// Does what the pool asks for, from a thread that does not hold the connection.
    pub(super) fn call_worker(self: &Arc<Self>, call: Call) {
        if call == Call::New {
            if let Some(inner) = self.connection.upgrade() {
                self.call_worker_of(call, &Connection::from_inner(inner));
                return;
            }
            return self.start_failed(&"the connection is gone");
        }
        if call == Call::Waiting {
            self.work.notify_one();
        }
    }

    pub(super) fn call_worker_of(self: &Arc<Self>, call: Call, connection: &Connection) {
        match call {
            Call::Nobody => {}
            Call::Waiting => {
                self.work.notify_one();
            }
            Call::New => {
                let origin = Origin::new(connection, self);
                match self.spawn("worker", move || {
                    duty::run(&origin, Duty::Work(Work::Started));
                }) {
                    Ok(thread) => self.keep_thread(thread),
                    Err(error) => self.start_failed(&error),
                }
            }
        }
    }

    /// Keeps a thread to be joined, and forgets those that have retired.
    fn keep_thread(&self, thread: std::thread::JoinHandle<()>) {
        let mut threads = self.threads.lock();
        threads.push(thread);
        // Not joined: they may still be running destructors of the user's thread-local values,
        // which may wait for this thread.
        threads.retain(|thread| !thread.is_finished());
    }

    /// Without any worker, what waits for one would wait for ever.
    fn start_failed(self: &Arc<Self>, error: &dyn std::fmt::Display) {
        let mut shared = self.shared.lock();
        shared.pool.started();
        shared.pool.left();
        let jobs = if shared.pool.is_stuck() {
            shared.pool.take_all()
        } else {
            Vec::new()
        };
        let urgent = self.reject_jobs(&mut shared, jobs);
        self.progress.notify_all();
        drop(shared);
        self.ring_if(urgent);
        log(
            Level::Error,
            format_args!("{}: cannot start a worker: {error}", self.config.name),
        );
    }
}
