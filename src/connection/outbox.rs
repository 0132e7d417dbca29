//! The send queue, and the right to write what is in it. How the sender rests is in `rest.rs`.
//!
//! Whoever holds the role drains the queue into the buffer and flushes when that is due: the
//! sender thread, or a thread that finds the role free and is about to wait for the answer to the
//! only request there is, or has just made an answer, which saves it the way through another
//! thread. There is one queue, one order, one place that writes and one that fails.

#[path = "write_side.rs"]
mod write_side;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(super) use self::write_side::{Fate, WriteSide};
use super::logging::logs_packets;
use super::monitored_writer::WriteMonitor;
pub(super) use super::rest::Run;
use super::rest::{Gathering, Rest};
use super::session::{Session, Shared};
pub(super) use super::sharing::{MayWrite, Sharing};
use super::state::Queued;
use crate::sync::Mutex;

pub(super) struct Outbox {
    rest: Rest,
    pub(super) role: Mutex<WriteSide>,
    grace: Duration,
    /// What others than the sender may do.
    sharing: Sharing,
    pub(super) monitor: Arc<WriteMonitor>,
    /// The number of the last request of ours that has been answered.
    answered: AtomicU64,
    /// A number up to which all requests may have been given to the writer, and none after it.
    handed_over: AtomicU64,
    /// Requests that have not been handed over must not be any more.
    are_requests_cut: AtomicBool,
    pub(super) writes: AtomicU64,
    pub(super) flushes: AtomicU64,
    pub(super) octets: AtomicU64,
}

impl Outbox {
    pub(super) fn new(grace: Duration, sharing: Sharing) -> Self {
        Self {
            rest: Rest::new(),
            role: Mutex::new(WriteSide::new()),
            grace,
            sharing,
            monitor: Arc::default(),
            answered: AtomicU64::new(0),
            handed_over: AtomicU64::new(0),
            are_requests_cut: AtomicBool::new(false),
            writes: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            octets: AtomicU64::new(0),
        }
    }

    /// See [`Rest::push`].
    pub(super) fn push(&self, run: &mut Run, queued: Queued) {
        self.rest.push(run, queued);
    }

    /// Puts the run into the queue; under the session's lock.
    pub(super) fn push_run(&self, run: &mut Run) {
        self.rest.push_run(run);
    }

    /// Empties the queue, under the session's lock; returns how many answers were in it.
    pub(super) fn drop_queued(&self, run: &mut Run) -> u64 {
        self.push_run(run);
        let mut answers = 0;
        while let Some(run) = self.rest.pop() {
            answers += run
                .iter()
                .filter(|queued| queued.packet.is_response())
                .count() as u64;
        }
        answers
    }

    /// Takes note that the peer has answered the request of that number, so it has read all up to
    /// there. Under the session's lock, with growing numbers.
    pub(super) fn note_answered(&self, number: u64) {
        self.answered.store(number, Ordering::Release);
    }

    /// See [`Rest::gather`].
    pub(super) fn gather<'session>(
        &'session self,
        shared: &'session Mutex<Shared>,
    ) -> Gathering<'session, Shared> {
        self.rest.gather(shared)
    }

    /// Leaves the run to the sender; see [`Rest::leave_run`].
    pub(super) fn leave_run(&self, run: &mut Run) -> bool {
        self.rest.leave_run(run)
    }

    /// Makes the sender look again, whatever it is doing.
    pub(super) fn ring(&self) {
        self.rest.ring();
    }

    /// Sends everything up to that number at once: on this thread if it may and nobody else is
    /// writing, otherwise on the sender. While somebody [gathers](Self::gather), at its end.
    pub(super) fn flush(&self, session: &Arc<Session>, number: u64, may_write: MayWrite) {
        let write = || self.write(session, may_write);
        self.rest.flush(&session.shared, number, write);
    }

    /// Writes what is queued on this thread, if it may and nobody else does.
    fn write(&self, session: &Arc<Session>, may_write: MayWrite) -> bool {
        let Sharing {
            frees_writer,
            is_buffered,
        } = self.sharing;
        // A logger is the user's, and may call here: it is told so on the sender, nowhere else.
        let may_write = if logs_packets() {
            MayWrite::Never
        } else {
            may_write
        };
        let freely = may_write == MayWrite::Freely && frees_writer;
        let briefly = may_write != MayWrite::Never && is_buffered;
        if (freely || briefly)
            && let Some(mut role) = self.role.try_lock()
            && let waiting = self.rest.waiting()
            && (freely || role.has_room(self, waiting))
        {
            // Nothing may stay in the buffer: the sender does not know of it. What others queue
            // from now on is not ours to write.
            role.pump(session, Some(waiting.0));
            return true;
        }
        false
    }

    /// Whether everything up to that number has been sent.
    pub(super) fn is_flushed(&self, number: u64) -> bool {
        self.rest.is_flushed(number)
    }

    /// See [`Rest::wait_for_flush`].
    pub(super) fn wait_for_flush(&self, number: u64, deadline: Instant) -> bool {
        self.rest.wait_for_flush(number, deadline)
    }

    /// Has so much sent that a peer which waits for it does not notice that it was held.
    pub(super) fn limit_held(&self) {
        self.rest.limit_held();
    }

    /// Whether the sender shares one core with everybody else. Asks the operating system, once.
    pub(super) fn has_one_core(&self) -> bool {
        self.rest.company().has_one_core
    }

    /// Has everything up to that number, which is in the queue, sent by the sender.
    pub(super) fn want(&self, number: u64) {
        self.rest.want(number);
    }

    /// Parks the sender, see [`Rest::park`].
    pub(super) fn park(
        &self,
        shared: &Mutex<Shared>,
        grace_end: Option<Instant>,
        look_at: impl FnOnce() -> Option<Instant>,
    ) {
        self.rest.park(shared, grace_end, look_at);
    }

    pub(super) fn enter_sender(&self) {
        self.rest.enter_sender();
    }

    /// Lets no further request be written, also none of a batch that a stuck write holds up;
    /// returns the number of the last packet that may have been.
    pub(super) fn cut_requests(&self) -> u64 {
        self.are_requests_cut.store(true, Ordering::SeqCst);
        // The writer stores before it looks: either it sees the cut, or we see its number.
        self.handed_over.load(Ordering::SeqCst)
    }

    /// Takes note that all up to that number is given to the writer now; `true` if that is too
    /// late for requests.
    fn hand_over(&self, number: u64) -> bool {
        self.handed_over.store(number, Ordering::SeqCst);
        self.are_requests_cut.load(Ordering::SeqCst)
    }

    pub(super) fn last_handed_over(&self) -> u64 {
        self.handed_over.load(Ordering::SeqCst)
    }

    /// Has the sender end without saying goodbye.
    pub(super) fn abandon(&self) {
        self.rest.abandon();
    }

    pub(super) fn grace_end(&self, since: Instant) -> Option<Instant> {
        // A grace beyond all time is one that is only ever cut short; look in a year.
        since
            .checked_add(self.grace)
            .or_else(|| since.checked_add(Duration::from_secs(31_536_000)))
    }
}
