//! The send queue, and the sender that rests while there is nothing to write: who queues, who
//! waits and who writes by itself wakes it, if it is needed.
//!
//! Packets go into the queue in runs. What nobody waits for joins the run at the end, which lies
//! under the session's lock, while somebody is certain to come for it: the sender, which looks
//! there before it rests and after, or who has taken it upon itself to see to what is queued. To
//! queue many packets then takes little more than to make them.
//!
//! Nothing that is wanted stays where it is while the sender rests. That it rests is set before
//! the last look, and what is to be seen there is done before who did it looks whether it rests.

use std::sync::OnceLock;
use std::time::Instant;

use super::company::Company;
use super::state::Queued;
use crate::sync::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Condvar, Mutex, Ordering, Parker, Queue, fence,
};

/// How much may wait for company within the flush grace before it is sent all the same.
pub(super) const WAITING_OCTETS: usize = 16 * 1024;

/// How many answers of quick handlers are held while more requests lie in the read buffer. They
/// take a millisecond or two.
const MOST_HELD: usize = 512;
const MOST_HELD_OCTETS: usize = 64 * 1024;

/// How long a run gets: enough that the queue costs little, and little enough to be taken out at
/// once.
pub(super) const LONGEST_RUN: usize = 64;
const LONGEST_RUN_OCTETS: usize = 64 * 1024;

// What the sender is doing.
const AWAKE: u8 = 0;
/// Parked until something is queued.
const IDLE: u8 = 1;
/// Parked until the grace of what is in the buffer is over.
const GRACE: u8 = 2;

pub(super) struct Rest {
    queue: Queue<Vec<Queued>>,
    /// The number of the last packet that is in the queue or was.
    last_pushed: AtomicU64,
    /// The number of the last packet that somebody waits for.
    wanted: AtomicU64,
    /// The number of the last packet that has been flushed, or left out.
    flushed: AtomicU64,
    mode: AtomicU8,
    sender: Parker,
    /// Known once packets wait for company.
    company: OnceLock<Company>,
    /// What was ever queued, the last run with it: changed under the session's lock only.
    pushed: Amount,
    /// What of that has left the queue: changed by the holder of the role only.
    popped: Amount,
    /// Somebody wakes several who wait, and sees to what they queue when that is done.
    is_gathering: AtomicBool,
    is_abandoned: AtomicBool,
    /// A caller waits for a flush.
    is_flush_awaited: AtomicBool,
    flush_lock: Mutex<()>,
    flush_done: Condvar,
    /// Nothing is written any more, so the sender must not rest.
    is_over: AtomicBool,
}

impl Rest {
    pub(super) fn new() -> Self {
        Self {
            queue: Queue::new(),
            last_pushed: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            mode: AtomicU8::new(AWAKE),
            sender: Parker::default(),
            company: OnceLock::new(),
            pushed: Amount::default(),
            popped: Amount::default(),
            is_gathering: AtomicBool::new(false),
            is_flush_awaited: AtomicBool::new(false),
            flush_lock: Mutex::new(()),
            flush_done: Condvar::new(),
            is_abandoned: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        }
    }

    /// For so many packets the sender's grace is cut short.
    #[cfg(all(test, loom))]
    pub(super) fn with_wakes(wakes: usize) -> Self {
        let rest = Self::new();
        let company = Company {
            wakes,
            sends: wakes,
            has_one_core: false,
        };
        rest.company.get_or_init(|| company);
        rest
    }

    pub(super) fn company(&self) -> Company {
        *self.company.get_or_init(Company::of_this_thread)
    }

    // ---- what is queued ----------------------------------------------------------------

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
        self.queue.push(std::mem::take(&mut run.packets));
        // Not before: who sees it takes the packet to be in the queue, and may be the one to write.
        self.last_pushed.store(last, Ordering::Release);
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

    /// Takes the first run out of the queue. Who holds the role then says that it is
    /// [taken](Self::note_popped).
    pub(super) fn pop(&self) -> Option<Vec<Queued>> {
        self.queue.pop()
    }

    /// Takes note of what has been taken out of the queue; to be called by the holder of the role.
    pub(super) fn note_popped(&self, packets: usize, octets: usize) {
        self.popped.grow(packets, octets);
    }

    /// How many packets wait to be taken out of the queue, those of the run with them, and how many
    /// octets of payload.
    pub(super) fn waiting(&self) -> (usize, usize) {
        self.pushed.minus(&self.popped)
    }

    // ---- what is wanted ----------------------------------------------------------------

    /// Sends everything up to that number at once: by `write`, which says whether it could,
    /// otherwise on the sender. While somebody [gathers](Self::gather), at its end.
    pub(super) fn flush<S: AsMut<Run>>(
        &self,
        shared: &Mutex<S>,
        number: u64,
        write: impl FnOnce() -> bool,
    ) {
        if self.is_flushed(number) {
            return;
        }
        // Who has the number has seen the lock under which it was given: too low a value at worst
        // costs looking.
        if self.last_pushed.load(Ordering::Acquire) < number {
            self.push_run(shared.lock().as_mut());
        }
        self.wanted.fetch_max(number, Ordering::SeqCst);
        if self.is_gathering.load(Ordering::SeqCst) {
            return;
        }
        let has_written = write();
        fence(Ordering::SeqCst);
        if !has_written || self.is_over.load(Ordering::SeqCst) || !self.queue.is_empty() {
            self.ring();
        }
    }

    /// Has everything up to that number, which is in the queue, sent by the sender.
    pub(super) fn want(&self, number: u64) {
        self.wanted.fetch_max(number, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.ring();
    }

    /// Whether somebody waits for what has not been flushed.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst) > self.flushed.load(Ordering::SeqCst)
    }

    /// Whether everything up to that number has been sent.
    pub(super) fn is_flushed(&self, number: u64) -> bool {
        self.flushed.load(Ordering::Acquire) >= number
    }

    /// Takes note that everything up to that number has been flushed, or left out; to be called by
    /// the holder of the role.
    pub(super) fn note_flushed(&self, number: u64) {
        self.flushed.store(number, Ordering::SeqCst);
        self.tell_of_flush();
    }

    /// Blocks until everything up to that number, which is wanted, has been sent; `false` if it
    /// has not been by the deadline, or never will. For one thread at a time.
    pub(super) fn wait_for_flush(&self, number: u64, deadline: Instant) -> bool {
        let mut lock = self.flush_lock.lock();
        // Before it looks: either it sees the flush, or who flushes sees that it waits.
        self.is_flush_awaited.store(true, Ordering::SeqCst);
        let mut is_late = false;
        let is_flushed = loop {
            if self.flushed.load(Ordering::SeqCst) >= number {
                break true;
            }
            if is_late || self.is_over.load(Ordering::SeqCst) {
                break false;
            }
            is_late = self.flush_done.wait_until(&mut lock, deadline).timed_out();
        };
        self.is_flush_awaited.store(false, Ordering::Relaxed);
        is_flushed
    }

    fn tell_of_flush(&self) {
        if self.is_flush_awaited.load(Ordering::SeqCst) {
            // Who is about to wait holds the lock until it does.
            drop(self.flush_lock.lock());
            self.flush_done.notify_one();
        }
    }

    /// Has so much sent that a peer which waits for it does not notice that it was held.
    pub(super) fn limit_held(&self) {
        let (packets, octets) = self.waiting();
        if packets >= MOST_HELD || octets >= MOST_HELD_OCTETS {
            self.ring();
        }
    }

    /// Has nobody wake the sender, or write by itself, for what is queued or wanted from now on,
    /// until the guard is dropped: to be held only while the thread cannot block. If several do,
    /// the first to drop it ends that for all, which costs a wake-up and no more.
    pub(super) fn gather<'session, S: AsMut<Run>>(
        &'session self,
        shared: &'session Mutex<S>,
    ) -> Gathering<'session, S> {
        self.is_gathering.store(true, Ordering::SeqCst);
        Gathering { rest: self, shared }
    }

    // ---- the sender --------------------------------------------------------------------

    pub(super) fn enter_sender(&self) {
        self.sender.enter();
    }

    /// Parks the sender until something is to be done, or until the grace of what is in the buffer
    /// ends, or until it is to look for another reason: who changes that
    /// [rings](Self::ring).
    pub(super) fn park<S>(
        &self,
        shared: &Mutex<S>,
        grace_end: Option<Instant>,
        look_at: impl FnOnce() -> Option<Instant>,
    ) {
        let (mode, least) = match grace_end {
            None => (IDLE, 1),
            Some(_) => (GRACE, self.company().wakes),
        };
        let queue_is_due = {
            // See `leave_run`.
            let _shared = shared.lock();
            self.mode.store(mode, Ordering::SeqCst);
            let (packets, octets) = self.waiting();
            packets >= least || grace_end.is_some() && octets >= WAITING_OCTETS
        };
        // Pairs with those in `flush` and `want`.
        fence(Ordering::SeqCst);
        let is_due = queue_is_due || grace_end.is_some() && self.is_wanted();
        if !is_due && !self.is_over.load(Ordering::SeqCst) && !self.is_abandoned() {
            let deadline = match (grace_end, look_at()) {
                (Some(grace_end), Some(look_at)) => Some(grace_end.min(look_at)),
                (grace_end, look_at) => grace_end.or(look_at),
            };
            self.sender.park(deadline);
        }
        self.mode.store(AWAKE, Ordering::SeqCst);
    }

    /// Makes the sender look again, whatever it is doing.
    pub(super) fn ring(&self) {
        // One wake-up is enough until it rests again.
        if self.mode.swap(AWAKE, Ordering::SeqCst) != AWAKE {
            self.sender.unpark();
        }
    }

    /// Takes note that nothing is written any more; who was writing then has the sender look.
    pub(super) fn note_over(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.tell_of_flush();
    }

    /// Has the sender end without saying goodbye.
    pub(super) fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::SeqCst);
        self.ring();
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::SeqCst)
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
pub(super) struct Gathering<'session, S: AsMut<Run>> {
    rest: &'session Rest,
    shared: &'session Mutex<S>,
}

impl<S: AsMut<Run>> Drop for Gathering<'_, S> {
    fn drop(&mut self) {
        self.rest.is_gathering.store(false, Ordering::SeqCst);
        // Pairs with who queues under the lock, or wants, and then looks: either it sees that this
        // is over, or it is seen here.
        self.rest.push_run(self.shared.lock().as_mut());
        fence(Ordering::SeqCst);
        // What is wanted may have left the queue for the buffer, where the sender leaves it for
        // the grace.
        if self.rest.is_wanted() || !self.rest.queue.is_empty() {
            self.rest.ring();
        }
    }
}
