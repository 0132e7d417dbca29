//! The send queue, and the right to write what is in it.
//!
//! Whoever holds the role drains the queue into the buffer and flushes when that is due: the
//! sender thread, or a thread that finds the role free and is about to wait for the answer to the
//! only request there is, or has just made an answer, which saves it the way through another
//! thread. There is one queue, one order, one place that writes and one that fails.

#[path = "write_side.rs"]
mod write_side;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use log::LevelFilter;
pub(super) use self::write_side::{Fate, WriteSide};
use super::session::{Session, Shared};
pub(super) use super::sharing::{MayWrite, Sharing};
use super::state::Queued;
use crate::sync::Mutex;

/// How much may wait for company within the flush grace before it is sent all the same: about
/// what one write takes.
const WAITING_PACKETS: usize = 64;
const WAITING_OCTETS: usize = 16 * 1024;

/// How many answers of quick handlers are held while more requests lie in the read buffer. They
/// take a millisecond or two.
const MOST_HELD: usize = 512;

// What the sender is doing.
const AWAKE: u8 = 0;
/// Parked until something is queued.
const IDLE: u8 = 1;
/// Parked until the grace of what is in the buffer is over.
const GRACE: u8 = 2;

pub(super) struct Outbox {
    queue: Sender<Queued>,
    queued: Receiver<Queued>,
    pub(super) role: Mutex<WriteSide>,
    /// The number of the last packet that somebody waits for.
    wanted: AtomicU64,
    /// The number of the last packet that has been flushed, or left out.
    flushed: AtomicU64,
    mode: AtomicU8,
    sender: OnceLock<Thread>,
    grace: Duration,
    /// What others than the sender may do.
    sharing: Sharing,
    /// The octets of all payloads that were ever queued: changed under the session's lock only.
    pushed_octets: AtomicU64,
    /// Those of them that have left the queue: changed by the holder of the role only.
    popped_octets: AtomicU64,
    /// The number of the last request of ours that has been answered.
    answered: AtomicU64,
    is_abandoned: AtomicBool,
    /// Somebody wakes several who wait, and sees to what they queue when that is done.
    is_gathering: AtomicBool,
    /// A number up to which all requests may have been given to the writer, and none after it.
    handed_over: AtomicU64,
    /// Requests that have not been handed over must not be any more.
    are_requests_cut: AtomicBool,
    /// The fate is no longer `Working`, so the sender must not rest.
    is_over: AtomicBool,
    pub(super) writes: AtomicU64,
    pub(super) flushes: AtomicU64,
    pub(super) octets: AtomicU64,
}

impl Outbox {
    pub(super) fn new(grace: Duration, sharing: Sharing) -> Self {
        let (queue, queued) = crossbeam_channel::unbounded();
        Self {
            queue,
            queued,
            role: Mutex::new(WriteSide::new()),
            wanted: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            mode: AtomicU8::new(AWAKE),
            sender: OnceLock::new(),
            grace,
            sharing,
            pushed_octets: AtomicU64::new(0),
            popped_octets: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            is_abandoned: AtomicBool::new(false),
            is_gathering: AtomicBool::new(false),
            handed_over: AtomicU64::new(0),
            are_requests_cut: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            writes: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            octets: AtomicU64::new(0),
        }
    }

    /// Queues a packet; under the session's lock, which makes the order of the numbers that of
    /// the queue.
    pub(super) fn push(&self, queued: Queued) {
        let octets = queued.packet.payload().len() as u64;
        grow(&self.pushed_octets, octets);
        // Cannot fail: the other end of the queue lives as long as this one.
        let _ = self.queue.send(queued);
    }

    pub(super) fn pop(&self) -> Option<Queued> {
        self.queued.try_recv().ok()
    }

    /// Empties the queue; returns how many answers were in it.
    pub(super) fn drop_queued(&self) -> u64 {
        let mut answers = 0;
        while let Some(queued) = self.pop() {
            answers += u64::from(queued.packet.is_response());
        }
        answers
    }

    /// Takes note that the peer has answered the request of that number, so it has read all up to
    /// there. Under the session's lock, with growing numbers.
    pub(super) fn note_answered(&self, number: u64) {
        self.answered.store(number, Ordering::Release);
    }

    /// Has nobody wake the sender, or write by itself, for what is queued or wanted from now on,
    /// until the guard is dropped: to be held only while the thread cannot block. If several do,
    /// the first to drop it ends that for all, which costs a wake-up and no more.
    pub(super) fn gather<'session>(
        &'session self,
        shared: &'session Mutex<Shared>,
    ) -> Gathering<'session> {
        self.is_gathering.store(true, Ordering::SeqCst);
        Gathering {
            outbox: self,
            shared,
        }
    }

    /// Says whether the sender is to be [rung](Self::ring) for packets of so many octets that
    /// nobody waits for. To be asked under the session's lock, after they were queued: the sender
    /// looks at the queue under that lock before it rests, so either we see that it does, or it
    /// sees them.
    pub(super) fn rests_for(&self, octets: usize) -> bool {
        if self.is_gathering.load(Ordering::Relaxed) {
            return false;
        }
        match self.mode.load(Ordering::Relaxed) {
            IDLE => true,
            GRACE => octets >= WAITING_OCTETS || self.queued.len() >= WAITING_PACKETS,
            _ => false,
        }
    }

    /// Makes the sender look again, whatever it is doing.
    pub(super) fn ring(&self) {
        // One wake-up is enough until it rests again.
        if self.mode.swap(AWAKE, Ordering::SeqCst) != AWAKE
            && let Some(sender) = self.sender.get()
        {
            sender.unpark();
        }
    }

    /// Sends everything up to that number at once: on this thread if it may and nobody else is
    /// writing, otherwise on the sender. While somebody [gathers](Self::gather), at its end.
    pub(super) fn flush(&self, session: &Arc<Session>, number: u64, may_write: MayWrite) {
        if self.flushed.load(Ordering::Acquire) >= number {
            return;
        }
        self.wanted.fetch_max(number, Ordering::SeqCst);
        if self.is_gathering.load(Ordering::SeqCst) {
            return;
        }
        let Sharing {
            frees_writer,
            is_buffered,
        } = self.sharing;
        // A logger is the user's, and may call here: it is told so on the sender, nowhere else.
        let may_write = if log::max_level() == LevelFilter::Trace {
            MayWrite::Never
        } else {
            may_write
        };
        let freely = may_write == MayWrite::Freely && frees_writer;
        let briefly = may_write != MayWrite::Never && is_buffered;
        if (freely || briefly)
            && let Some(mut role) = self.role.try_lock()
            && (freely || role.has_room(self))
        {
            // Nothing may stay in the buffer: the sender does not know of it. What others queue
            // from now on is not ours to write.
            role.pump(session, Some(self.queued.len()));
            drop(role);
            fence(Ordering::SeqCst);
            if self.is_over.load(Ordering::SeqCst) || !self.queued.is_empty() {
                self.ring();
            }
            return;
        }
        fence(Ordering::SeqCst);
        self.ring();
    }

    /// Whether everything up to that number has been sent.
    pub(super) fn is_flushed(&self, number: u64) -> bool {
        self.flushed.load(Ordering::Acquire) >= number
    }

    /// Has so much sent that a peer which waits for it does not notice that it was held.
    pub(super) fn limit_held(&self) {
        if self.queued.len() >= MOST_HELD {
            self.ring();
        }
    }

    /// Has everything up to that number sent, by the sender.
    pub(super) fn want(&self, number: u64) {
        self.wanted.fetch_max(number, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.ring();
    }

    /// Parks the sender until something is to be done, or until the deadline.
    pub(super) fn rest(&self, shared: &Mutex<Shared>, deadline: Option<Instant>) {
        let queue_is_due = {
            // See `rests_for`.
            let _shared = shared.lock();
            let mode = if deadline.is_some() { GRACE } else { IDLE };
            self.mode.store(mode, Ordering::SeqCst);
            let least = if deadline.is_some() {
                WAITING_PACKETS
            } else {
                1
            };
            self.queued.len() >= least
        };
        // Pairs with those in `flush` and `want`.
        fence(Ordering::SeqCst);
        let is_wanted = queue_is_due
            || deadline.is_some()
                && self.wanted.load(Ordering::SeqCst) > self.flushed.load(Ordering::SeqCst);
        let is_over = || self.is_over.load(Ordering::SeqCst);
        if !is_wanted && !is_over() && !self.is_abandoned.load(Ordering::SeqCst) {
            match deadline {
                None => thread::park(),
                Some(deadline) => {
                    thread::park_timeout(deadline.saturating_duration_since(Instant::now()));
                }
            }
        }
        self.mode.store(AWAKE, Ordering::SeqCst);
    }

    pub(super) fn enter_sender(&self) {
        let _ = self.sender.set(thread::current());
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
        self.is_abandoned.store(true, Ordering::SeqCst);
        self.ring();
    }

    pub(super) fn grace_end(&self, since: Instant) -> Option<Instant> {
        // A grace beyond all time is one that is only ever cut short; look in a year.
        since
            .checked_add(self.grace)
            .or_else(|| since.checked_add(Duration::from_secs(31_536_000)))
    }
}

/// Adds to a number that nobody else changes meanwhile, for others to read.
fn grow(number: &AtomicU64, by: u64) {
    let sum = number.load(Ordering::Relaxed).wrapping_add(by);
    number.store(sum, Ordering::Relaxed);
}

/// While it lives, the sender is not woken for what is queued or wanted.
pub(super) struct Gathering<'session> {
    outbox: &'session Outbox,
    shared: &'session Mutex<Shared>,
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        self.outbox.is_gathering.store(false, Ordering::SeqCst);
        // Pairs with who queues under the lock, or wants, and then looks: either it sees that this
        // is over, or it is seen here.
        let is_queued = {
            let _shared = self.shared.lock();
            !self.outbox.queued.is_empty()
        };
        fence(Ordering::SeqCst);
        // What is wanted may have left the queue for the buffer, where the sender leaves it for
        // the grace.
        let wanted = self.outbox.wanted.load(Ordering::SeqCst);
        let is_wanted = wanted > self.outbox.flushed.load(Ordering::SeqCst);
        if is_wanted || is_queued {
            self.outbox.ring();
        }
    }
}
