//! The send queue, and the right to write what is in it.
//!
//! Whoever holds the role drains the queue into the buffer and flushes when that is due: the
//! sender thread, or a thread that finds the role free and is about to wait for the answer to the
//! only request there is, or has just made an answer, which saves it the way through another
//! thread. There is one queue, one order, one place that writes and one that fails.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use log::LevelFilter;
use parking_lot::Mutex;

use super::session::Session;
pub(super) use super::sharing::{MayWrite, Sharing};
use super::state::Queued;
use super::text::caught;
use super::unread::Unread;
use crate::error::Error;
use crate::transport::BoxedWriter;
use crate::wire::{PacketKind, PacketWriter};

/// How many packets are taken out of the queue at once, at most.
const BATCH: usize = 128;
/// The same in octets; what is taken out counts as sent.
const BATCH_OCTETS: usize = 1024 * 1024;

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
    /// The octets of the payloads in the queue.
    queued_octets: AtomicU64,
    /// The number of the last request of ours that has been answered.
    answered: AtomicU64,
    is_abandoned: AtomicBool,
    /// Somebody wakes several who wait, and sees to what they queue when that is done.
    is_gathering: AtomicBool,
    /// The number of the last packet that was given to the writer.
    handed_over: AtomicU64,
    /// Requests that have not been handed over must not be any more.
    are_requests_cut: AtomicBool,
    /// The fate is no longer `Working`, so the sender must not rest.
    is_over: AtomicBool,
    pub(super) writes: AtomicU64,
    pub(super) flushes: AtomicU64,
    pub(super) octets: AtomicU64,
}

/// How far writing has come.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    Working,
    /// `END_OF_STREAM` has been flushed.
    Ended,
    Failed(Error),
    /// Given up by a forced end.
    Abandoned,
}

/// What the holder of the role has to itself.
pub(super) struct WriteSide {
    pub(super) writer: Option<PacketWriter<BoxedWriter>>,
    batch: Vec<Queued>,
    last_taken: u64,
    is_unflushed: bool,
    /// Since when something has been waiting in the buffer.
    pub(super) waiting_since: Option<Instant>,
    unread: Unread,
    /// The requests since the last flush: number, and where the packet starts in the stream.
    unflushed: Vec<(u64, u64)>,
    /// Answers in the buffer, or in the batch that a write error cut short.
    pub(super) answers: u64,
    pub(super) fate: Fate,
}

impl Outbox {
    pub(super) fn new(grace: Duration, sharing: Sharing) -> Self {
        let (queue, queued) = crossbeam_channel::unbounded();
        Self {
            queue,
            queued,
            role: Mutex::new(WriteSide {
                writer: None,
                batch: Vec::new(),
                last_taken: 0,
                is_unflushed: false,
                waiting_since: None,
                unread: Unread::default(),
                unflushed: Vec::new(),
                answers: 0,
                fate: Fate::Working,
            }),
            wanted: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            mode: AtomicU8::new(AWAKE),
            sender: OnceLock::new(),
            grace,
            sharing,
            queued_octets: AtomicU64::new(0),
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
        self.queued_octets.fetch_add(octets, Ordering::Relaxed);
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
    pub(super) fn gather(&self) -> Gathering<'_> {
        self.is_gathering.store(true, Ordering::SeqCst);
        Gathering { outbox: self }
    }

    /// Lets the sender know of a packet that nobody waits for.
    pub(super) fn notify(&self, octets: usize) {
        // Pairs with the fence in `rest`: either we see that it rests, or it sees the packet.
        fence(Ordering::SeqCst);
        if self.is_gathering.load(Ordering::SeqCst) {
            return;
        }
        let wakes = match self.mode.load(Ordering::SeqCst) {
            IDLE => true,
            GRACE => octets >= WAITING_OCTETS || self.queued.len() >= WAITING_PACKETS,
            _ => false,
        };
        if wakes {
            self.ring();
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
    pub(super) fn rest(&self, deadline: Option<Instant>) {
        let mode = if deadline.is_some() { GRACE } else { IDLE };
        self.mode.store(mode, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let is_wanted = match deadline {
            None => !self.queued.is_empty(),
            Some(_) => {
                self.wanted.load(Ordering::SeqCst) > self.flushed.load(Ordering::SeqCst)
                    || self.queued.len() >= WAITING_PACKETS
            }
        };
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

/// While it lives, the sender is not woken for what is queued or wanted.
pub(super) struct Gathering<'outbox> {
    outbox: &'outbox Outbox,
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        self.outbox.is_gathering.store(false, Ordering::SeqCst);
        // Pairs with who queues, or wants, and then looks: either it sees that this is over, or it
        // is seen here.
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

impl WriteSide {
    /// Whether writing what is queued cannot block.
    fn has_room(&mut self, outbox: &Outbox) -> bool {
        let answered = outbox.answered.load(Ordering::Acquire);
        let octets = outbox.queued_octets.load(Ordering::Relaxed);
        self.unread.has_room(answered, outbox.queued.len(), octets)
    }

    /// Writes what is queued, and flushes if that is due. With `at_most`, takes no more than that
    /// many packets and flushes in any case. What comes of it is in `fate`.
    pub(super) fn pump(&mut self, session: &Arc<Session>, at_most: Option<usize>) {
        let outbox = &session.outbox;
        if !matches!(self.fate, Fate::Working) {
            return;
        }
        if outbox.is_abandoned.load(Ordering::SeqCst) {
            self.fate = Fate::Abandoned;
            return;
        }
        // The user's `Write` may panic. The role is released all the same, and the connection
        // fails like after any other write error.
        match caught(|| self.write(session, at_most)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fate = Fate::Failed(Error::Write(Arc::new(error))),
            Err(text) => self.fate = Fate::Failed(Error::Panicked(text.into())),
        }
        if !matches!(self.fate, Fate::Working) {
            outbox.is_over.store(true, Ordering::SeqCst);
        }
        if matches!(self.fate, Fate::Failed(_)) {
            let sent = self.last_sent();
            outbox.handed_over.fetch_min(sent, Ordering::SeqCst);
        }
        if let Some(writer) = &self.writer {
            outbox.writes.store(writer.writes(), Ordering::Relaxed);
            outbox.octets.store(writer.written(), Ordering::Relaxed);
        }
    }

    /// The number up to which the transport took something of each request. What it took nothing
    /// of was not sent, though it was in the buffer.
    fn last_sent(&self) -> u64 {
        let taken = self.writer.as_ref().map_or(0, PacketWriter::written);
        let unsent = self.unflushed.iter().find(|(_, start)| *start >= taken);
        unsent.map_or(u64::MAX, |(number, _)| number.saturating_sub(1))
    }

    fn write(&mut self, session: &Arc<Session>, at_most: Option<usize>) -> io::Result<()> {
        let outbox = &session.outbox;
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let mut has_ended = false;
        let mut left = at_most.unwrap_or(usize::MAX);
        while !has_ended {
            let mut octets = 0;
            while self.batch.len() < BATCH.min(left)
                && octets < BATCH_OCTETS
                && let Some(queued) = outbox.pop()
            {
                octets += queued.packet.payload().len();
                self.batch.push(queued);
            }
            left -= self.batch.len();
            let Some(last) = self.batch.last() else {
                break;
            };
            self.last_taken = last.number;
            let octets = octets as u64;
            outbox.queued_octets.fetch_sub(octets, Ordering::Relaxed);
            self.unread.note(last.number, self.batch.len(), octets);
            session.take(&mut self.batch);
            let answers = self
                .batch
                .iter()
                .filter(|queued| queued.packet.is_response());
            self.answers += answers.count() as u64;
            for queued in self.batch.drain(..) {
                log::trace!(target: super::LOG_WIRE, "{}: sends {}", session.config.name, queued.packet);
                outbox.handed_over.store(queued.number, Ordering::SeqCst);
                let is_request = matches!(queued.packet.kind(), PacketKind::Request(_));
                if is_request && outbox.are_requests_cut.load(Ordering::SeqCst) {
                    continue;
                }
                self.is_unflushed = true;
                if is_request {
                    let start = writer
                        .written()
                        .saturating_add(writer.buffered_len() as u64);
                    self.unflushed.push((queued.number, start));
                    if self.unflushed.len() > BATCH * 8 {
                        let taken = writer.written();
                        self.unflushed.retain(|(_, start)| *start >= taken);
                    }
                }
                writer.write_packet(&queued.packet)?;
                has_ended |= queued.packet.kind() == PacketKind::EndOfStream;
            }
        }
        if self.is_unflushed {
            let is_due = at_most.is_some()
                || has_ended
                || outbox.grace.is_zero()
                || writer.buffered_len() >= WAITING_OCTETS
                || outbox.wanted.load(Ordering::SeqCst) > outbox.flushed.load(Ordering::SeqCst)
                || self.waiting_since.is_some_and(|since| {
                    outbox
                        .grace_end(since)
                        .is_some_and(|end| Instant::now() >= end)
                });
            if !is_due {
                self.waiting_since.get_or_insert_with(Instant::now);
                return Ok(());
            }
            writer.flush()?;
            outbox.flushes.fetch_add(1, Ordering::Relaxed);
        }
        self.is_unflushed = false;
        self.unflushed.clear();
        self.unflushed.shrink_to(BATCH * 8);
        self.waiting_since = None;
        self.answers = 0;
        outbox.flushed.store(self.last_taken, Ordering::SeqCst);
        if has_ended {
            self.fate = Fate::Ended;
        }
        Ok(())
    }
}
