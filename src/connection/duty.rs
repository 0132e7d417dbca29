//! What a thread of a connection does that is not the sender: it reads, or it works, and both in
//! turn, as the reading goes from one thread to another (see [`lead`](super::lead)).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::handler::Origin;
use super::handover::Handover;
use super::lead::{Lead, TICK, Tick};
use super::outbox::MayWrite;
use super::place;
use super::pool::{Pool, Slot};
use super::read_side::ReadSide;
use super::receiver;
use super::session::{Session, Shared};
use super::state::Key;
use super::workers::{self, Job, QueuedAnswer};
use crate::sync::{Condvar, MutexGuard};
use crate::wire::Packet;

/// What a thread is to do next.
pub(super) enum Duty {
    Read(Box<ReadSide>),
    Work(Work),
}

/// Where a worker begins.
pub(super) enum Work {
    /// A thread that was asked for.
    Started,
    /// A thread that has been replaced at reading while it served, with what is left to do about
    /// the request: the answer is not queued yet.
    Replaced(Option<(Key, Option<Packet>, Slot)>),
}

/// Does one duty after the other, until there is none.
pub(super) fn run(origin: &Arc<Origin>, mut duty: Duty) {
    loop {
        let next = match duty {
            Duty::Read(side) => receiver::read(origin, side).map(Duty::Work),
            Duty::Work(work) => workers::work(origin, work).map(Duty::Read),
        };
        match next {
            Some(next) => duty = next,
            None => return,
        }
    }
}

/// Why a thread without work no longer waits for some.
pub(super) enum Woken<R> {
    /// It was called to look for work.
    Look,
    /// It reads from now on, since who did has been held up by a handler, or just because it had
    /// other work and must not leave the reading alone.
    Read { reading: R, is_late: bool },
    /// It is to end.
    End,
}

/// Blocks a thread without work until it is called to look for some, watching the reading
/// meanwhile if it may and nobody else does. `work` is signalled for each call, and for all when
/// the reading is wanted.
pub(super) fn wait_for_work<S, J, R>(
    shared: &mut MutexGuard<'_, S>,
    work: &Condvar,
    may_watch: bool,
    parts: impl Fn(&mut S) -> (&mut Pool<J>, &mut Lead<R>),
) -> Woken<R> {
    let (pool, lead) = parts(shared);
    if !pool.may_wait() {
        return Woken::End;
    }
    let mut watch = if may_watch { lead.watch() } else { None };
    let mut next_tick = Instant::now() + TICK;
    let is_late = true;
    loop {
        let (pool, lead) = parts(shared);
        if pool.has_called() {
            pool.came();
            // Whoever watches does not leave the reading alone, whatever else there is to do.
            return match watch.and_then(|_| lead.leave()) {
                None => Woken::Look,
                Some(reading) => Woken::Read {
                    reading,
                    is_late: false,
                },
            };
        }
        let Some(ticks) = &mut watch else {
            work.wait(shared);
            continue;
        };
        if let Some(reading) = lead.take_wanted() {
            pool.replaced();
            return Woken::Read { reading, is_late };
        }
        // Calls for others wake this one too, and must not put the tick off.
        if work.wait_until(shared, next_tick).timed_out() {
            next_tick = Instant::now() + TICK;
            let (pool, lead) = parts(shared);
            match lead.tick(ticks) {
                Tick::GoOn => {}
                Tick::Rest => watch = None,
                Tick::Read(reading) => {
                    pool.replaced();
                    return Woken::Read { reading, is_late };
                }
            }
        }
    }
}

/// Blocks the receiver, which has [left](Handover::leave) the reading, until it comes back.
/// `inbound` is signalled when it is wanted or handed back.
pub(super) fn wait_for_reading<S, R>(
    shared: &mut MutexGuard<'_, S>,
    inbound: &Condvar,
    part: impl Fn(&mut S) -> &mut Handover<R>,
) -> R {
    let mut watch = part(shared).watch();
    let mut next_tick = Instant::now() + TICK;
    loop {
        let handover = part(shared);
        if let Some(reading) = handover.fetch() {
            return reading;
        }
        if handover.rests() {
            inbound.wait(shared);
        } else if inbound.wait_until(shared, next_tick).timed_out() {
            next_tick = Instant::now() + TICK;
            if let Some(reading) = part(shared).tick(&mut watch) {
                return reading;
            }
        }
    }
}

/// How long the reading may be offered, or the answers of inline handlers be gathered, while
/// several requests are served.
pub(super) const LONGEST_RUN: Duration = Duration::from_micros(200);
/// After how many requests the clock is asked.
const LOOK_AFTER: usize = 16;

impl Shared {
    /// Whether the requests that are here are to be served by the thread that has read them.
    pub(super) fn may_serve_in_place(&self) -> bool {
        self.lead.is_watched()
            && !self.lead.is_offered()
            && self.pool.may_start_own()
            && self.pace.is_quick(self.pool.jobs())
    }
}

impl Session {
    /// Serves requests on the thread that has read them, which has offered the reading. Gives the
    /// reading back, or says where to go on if somebody else has taken it.
    pub(super) fn serve_in_place(
        self: &Arc<Self>,
        first: (Job, Slot),
        origin: &Arc<Origin>,
    ) -> Result<Box<ReadSide>, Work> {
        let began = Instant::now();
        let mut served = 0;
        let mut are_long = true;
        let mut last: Option<QueuedAnswer> = None;
        let mut next = Some(first);
        let mut shared = loop {
            let Some((job, slot)) = next else {
                break self.shared.lock();
            };
            let key = job.key;
            let answer = place::in_place(|| self.handle(job, origin));
            served += 1;
            are_long &= workers::is_long(answer.as_ref());
            let mut shared = self.shared.lock();
            if !shared.lead.is_offered() {
                drop(shared);
                return Err(Work::Replaced(Some((key, answer, slot))));
            }
            if let Some(packet) = answer
                && let Some(queued) = self.queue_answer(&mut shared, key, packet)
            {
                last = Some(queued);
            }
            shared.pool.finish(slot);
            let is_long = served % LOOK_AFTER == 0 && began.elapsed() >= LONGEST_RUN;
            next = if is_long || !shared.pool.may_start_own() {
                None
            } else {
                shared.pool.start()
            };
            if next.is_none() {
                break shared;
            }
            // If the next one takes long, whoever takes the reading over has this one sent. Other
            // threads may have left an answer to be sent, too.
            if let Some(last) = &last {
                shared.held = Some(last.last);
            }
        };
        let taken = began.elapsed();
        shared
            .pace
            .note(taken / u32::try_from(served).unwrap_or(u32::MAX));
        if !are_long {
            shared.pace.be_patient(false);
        }
        let Some(last) = last else {
            if let Some(held) = self.release_held(&mut shared) {
                drop(shared);
                self.outbox.want(held);
                shared = self.shared.lock();
            }
            return self.go_on(shared, origin);
        };
        let is_held = shared.hold(&last);
        if is_held && !shared.pool.has_jobs() {
            // Nobody has to see to the grace: the next batch lies here already.
            self.outbox.limit_held();
            return self.go_on(shared, origin);
        }
        let sending = self.sending(&mut shared, &last, is_held);
        drop(shared);
        self.send_answer(sending, MayWrite::Freely);
        self.go_on(self.shared.lock(), origin)
    }

    /// Takes the reading back, if it is still there.
    fn go_on(
        self: &Arc<Self>,
        mut shared: MutexGuard<'_, Shared>,
        origin: &Arc<Origin>,
    ) -> Result<Box<ReadSide>, Work> {
        let Some(side) = shared.lead.take_back() else {
            return Err(Work::Replaced(None));
        };
        let call = shared.pool.call();
        drop(shared);
        self.call_worker_of(call, &origin.connection);
        Ok(side)
    }
}
