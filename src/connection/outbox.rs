//! The send queue, and the right to write what is in it.
//!
//! Whoever holds the role drains the queue into the buffer and flushes when that is due: the
//! sender thread, or a thread that finds the role free and is about to wait for the answer to the
//! only request there is, or has just made an answer, which saves it the way through another
//! thread. There is one queue, one order, one place that writes and one that fails.
//!
//! Packets go into the queue in runs. What nobody waits for joins the run at the end, which lies
//! under the session's lock, while somebody is certain to come for it: the sender, which looks
//! there before it rests and after, or who has taken it upon itself to see to what is queued. To
//! queue many packets then takes little more than to make them.

#[path = "write_side.rs"]
mod write_side;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

pub(super) use self::write_side::{Fate, WriteSide};
use super::session::{Session, Shared};
pub(super) use super::sharing::{MayWrite, Sharing};
use super::state::Queued;
use crate::sync::Mutex;
use crossbeam_channel::{Receiver, Sender};
use log::LevelFilter;

/// How much may wait for company within the flush grace before it is sent all the same.
const WAITING_OCTETS: usize = 16 * 1024;

/// The same in packets.
#[derive(Clone, Copy, Debug)]
struct Company {
    /// For so many the sender is woken.
    wakes: usize,
    /// So many it sends.
    sends: usize,
}

impl Company {
    /// So few that the peer, and the sender, have begun before who makes them has finished.
    const CORES: Self = Self {
        wakes: 32,
        sends: 48,
    };
    /// With one core nobody begins earlier for that, and each change of threads takes as long as
    /// some packets.
    const ONE_CORE: Self = Self {
        wakes: 512,
        sends: 512,
    };

    /// Takes some twenty microseconds: it asks the operating system for files.
    fn of_this_thread() -> Self {
        match thread::available_parallelism() {
            Ok(cores) if cores.get() == 1 => Self::ONE_CORE,
            // What is not known is no reason to wait.
            _ => Self::CORES,
        }
    }
}

/// How many answers of quick handlers are held while more requests lie in the read buffer. They
/// take a millisecond or two.
const MOST_HELD: usize = 512;
const MOST_HELD_OCTETS: usize = 64 * 1024;

/// How long a run gets: enough that the queue costs little, and little enough to be taken out at
/// once.
const LONGEST_RUN: usize = 64;
const LONGEST_RUN_OCTETS: usize = 64 * 1024;

// What the sender is doing.
const AWAKE: u8 = 0;
/// Parked until something is queued.
const IDLE: u8 = 1;
/// Parked until the grace of what is in the buffer is over.
const GRACE: u8 = 2;

pub(super) struct Outbox {
    queue: Sender<Vec<Queued>>,
    queued: Receiver<Vec<Queued>>,
    /// The number of the last packet that is in the queue or was.
    last_pushed: AtomicU64,
    pub(super) role: Mutex<WriteSide>,
    /// The number of the last packet that somebody waits for.
    wanted: AtomicU64,
    /// The number of the last packet that has been flushed, or left out.
    flushed: AtomicU64,
    mode: AtomicU8,
    sender: OnceLock<Thread>,
    grace: Duration,
    /// Known once packets wait for company.
    company: OnceLock<Company>,
    /// What others than the sender may do.
    sharing: Sharing,
    /// What was ever queued, the last run with it: changed under the session's lock only.
    pushed: Amount,
    /// What of that has left the queue: changed by the holder of the role only.
    popped: Amount,
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
            last_pushed: AtomicU64::new(0),
            role: Mutex::new(WriteSide::new()),
            wanted: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            mode: AtomicU8::new(AWAKE),
            sender: OnceLock::new(),
            grace,
            company: OnceLock::new(),
            sharing,
            pushed: Amount::default(),
            popped: Amount::default(),
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

    /// Puts a packet at the end of the run; under the session's lock, which makes the order of the
    /// numbers that of the queue. What is to become of the run is then to be said:
    /// [`push_run`](Self::push_run) or [`leave_run`](Self::leave_run).
    pub(super) fn push(&self, run: &mut Run, queued: Queued) {
        let octets = queued.packet.payload().len();
        self.pushed.grow(1, octets);
        run.octets = run.octets.saturating_add(octets);
        run.packets.push(queued);
        if run.packets.len() >= LONGEST_RUN || run.octets >= LONGEST_RUN_OCTETS {
            self.push_run(run);
        }
    }

    /// Puts the run into the queue; under the session's lock.
    pub(super) fn push_run(&self, run: &mut Run) {
        let Some(last) = run.packets.last() else {
            return;
        };
        let last = last.number;
        run.octets = 0;
        // Cannot fail: the other end of the queue lives as long as this one.
        let _ = self.queue.send(std::mem::take(&mut run.packets));
        // Not before: who reads it does not look any further.
        self.last_pushed.store(last, Ordering::Release);
    }

    pub(super) fn pop(&self) -> Option<Vec<Queued>> {
        self.queued.try_recv().ok()
    }

    /// Empties the queue, under the session's lock; returns how many answers were in it.
    pub(super) fn drop_queued(&self, run: &mut Run) -> u64 {
        self.push_run(run);
        let mut answers = 0;
        while let Some(run) = self.pop() {
            answers += run
                .iter()
                .filter(|queued| queued.packet.is_response())
                .count() as u64;
        }
        answers
    }

    /// How many packets wait to be taken out of the queue, those of the run with them, and how many
    /// octets of payload.
    fn waiting(&self) -> (usize, usize) {
        self.pushed.minus(&self.popped)
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

    /// Leaves the run, which nobody waits for, to the sender. Under the session's lock; returns
    /// `true` if the sender is to be [rung](Self::ring) once that is released.
    ///
    /// The sender looks at the run under that lock before it rests: either we see that it does, or
    /// it sees the run.
    pub(super) fn leave_run(&self, run: &mut Run) -> bool {
        if self.is_gathering.load(Ordering::Relaxed) {
            return false;
        }
        let rings = match self.mode.load(Ordering::Relaxed) {
            IDLE => true,
            GRACE => {
                let (packets, octets) = self.waiting();
                packets >= self.company().wakes || octets >= WAITING_OCTETS
            }
            _ => false,
        };
        if rings {
            self.push_run(run);
        }
        rings
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
        if self.last_pushed.load(Ordering::Acquire) < number {
            self.push_run(&mut session.shared.lock().run);
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
            && let waiting = self.waiting()
            && (freely || role.has_room(self, waiting))
        {
            // Nothing may stay in the buffer: the sender does not know of it. What others queue
            // from now on is not ours to write.
            role.pump(session, Some(waiting.0));
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

    fn company(&self) -> Company {
        *self.company.get_or_init(Company::of_this_thread)
    }

    /// Has so much sent that a peer which waits for it does not notice that it was held.
    pub(super) fn limit_held(&self) {
        let (packets, octets) = self.waiting();
        if packets >= MOST_HELD || octets >= MOST_HELD_OCTETS {
            self.ring();
        }
    }

    /// Has everything up to that number, which is in the queue, sent by the sender.
    pub(super) fn want(&self, number: u64) {
        self.wanted.fetch_max(number, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.ring();
    }

    /// Parks the sender until something is to be done, or until the deadline.
    pub(super) fn rest(&self, shared: &Mutex<Shared>, deadline: Option<Instant>) {
        let (mode, least) = match deadline {
            None => (IDLE, 1),
            Some(_) => (GRACE, self.company().wakes),
        };
        let queue_is_due = {
            // See `leave_run`.
            let _shared = shared.lock();
            self.mode.store(mode, Ordering::SeqCst);
            let (packets, octets) = self.waiting();
            packets >= least || deadline.is_some() && octets >= WAITING_OCTETS
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

/// The packets that were queued last and are not in the queue yet.
#[derive(Default)]
pub(super) struct Run {
    packets: Vec<Queued>,
    octets: usize,
}

impl Run {
    /// Takes over the room of a run that has been written, if it has none.
    pub(super) fn reuse(&mut self, room: &mut Vec<Queued>) {
        if self.packets.capacity() == 0 {
            self.packets = std::mem::take(room);
        }
    }
}

/// How much has come by so far, counted by one thread at a time and read by all.
#[derive(Default)]
struct Amount {
    packets: AtomicUsize,
    octets: AtomicUsize,
}

impl Amount {
    fn grow(&self, packets: usize, octets: usize) {
        let add = |number: &AtomicUsize, more| {
            let sum = number.load(Ordering::Relaxed).wrapping_add(more);
            number.store(sum, Ordering::Relaxed);
        };
        add(&self.packets, packets);
        add(&self.octets, octets);
    }

    /// What is left of it.
    fn minus(&self, less: &Self) -> (usize, usize) {
        // In this order: it is part of the rest.
        let (packets, octets) = less.load();
        let all = self.load();
        (all.0.wrapping_sub(packets), all.1.wrapping_sub(octets))
    }

    fn load(&self) -> (usize, usize) {
        (
            self.packets.load(Ordering::Relaxed),
            self.octets.load(Ordering::Relaxed),
        )
    }
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
        self.outbox.push_run(&mut self.shared.lock().run);
        fence(Ordering::SeqCst);
        // What is wanted may have left the queue for the buffer, where the sender leaves it for
        // the grace.
        let wanted = self.outbox.wanted.load(Ordering::SeqCst);
        let is_wanted = wanted > self.outbox.flushed.load(Ordering::SeqCst);
        if is_wanted || !self.outbox.queued.is_empty() {
            self.outbox.ring();
        }
    }
}
