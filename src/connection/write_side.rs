//! Writing what is in the send queue: what the holder of the role does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Outbox;
use crate::connection::logging::{log_packet, logs_packets};
use crate::connection::monitored_writer::MonitoredWriter;
use crate::connection::rest::{Rest, WAITING_OCTETS};
use crate::connection::session::Session;
use crate::connection::state::Queued;
use crate::connection::text::caught;
use crate::connection::unread::Unread;
use crate::error::Error;
use crate::wire::memory::{LEAST_REUSED, Used};
use crate::wire::{PacketKind, PacketWriter};

/// How many packets are taken out of the queue at once, about.
const BATCH: usize = 128;
/// The same in octets; what is taken out counts as sent.
const BATCH_OCTETS: usize = 1024 * 1024;

/// After how many packets there is a flush, also if more are queued.
const MOST_UNFLUSHED: usize = 512;

/// How far writing has come.
#[derive(Clone, Debug)]
pub(in crate::connection) enum Fate {
    Working,
    /// `END_OF_STREAM` has been flushed.
    Ended,
    Failed(Error),
    /// Given up by a forced end.
    Abandoned,
}

/// What the holder of the role has to itself.
pub(in crate::connection) struct WriteSide {
    pub(in crate::connection) writer: Option<PacketWriter<MonitoredWriter>>,
    batch: Vec<Queued>,
    /// For a run.
    room: Vec<Queued>,
    /// Of what has been written and not been left to who reads.
    used: Used,
    last_taken: u64,
    unflushed_packets: usize,
    /// Since when something has been waiting in the buffer.
    pub(in crate::connection) waiting_since: Option<Instant>,
    unread: Unread,
    /// The requests since the last flush: number, and where the packet starts in the stream.
    unflushed: Vec<(u64, u64)>,
    /// Answers in the buffer, or in the batch that a write error cut short.
    pub(in crate::connection) answers: u64,
    pub(in crate::connection) fate: Fate,
}

impl WriteSide {
    pub(super) fn new() -> Self {
        Self {
            writer: None,
            batch: Vec::new(),
            room: Vec::new(),
            used: Used::default(),
            last_taken: 0,
            unflushed_packets: 0,
            waiting_since: None,
            unread: Unread::default(),
            unflushed: Vec::new(),
            answers: 0,
            fate: Fate::Working,
        }
    }

    /// Whether writing so many packets with so many octets of payload cannot block.
    pub(super) fn has_room(&mut self, outbox: &Outbox, (packets, octets): (usize, usize)) -> bool {
        let answered = outbox.answered.load(Ordering::Acquire);
        self.unread.has_room(answered, packets, octets as u64)
    }

    /// Writes what is queued, and flushes if that is due. With `at_most`, takes no more than that
    /// many packets, but whole runs, and flushes in any case. What comes of it is in `fate`.
    pub(in crate::connection) fn pump(&mut self, session: &Arc<Session>, at_most: Option<usize>) {
        let outbox = &session.outbox;
        if !matches!(self.fate, Fate::Working) {
            return;
        }
        if outbox.rest.is_abandoned() {
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
            outbox.rest.note_over();
        }
        // A write that panics may have written.
        if matches!(self.fate, Fate::Failed(Error::Write(_))) {
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
        // Who keeps queueing must not keep what is queued from being sent.
        while !has_ended && self.unflushed_packets < MOST_UNFLUSHED {
            let octets = pop_batch(&outbox.rest, left, &mut self.batch, &mut self.room);
            left = left.saturating_sub(self.batch.len());
            let Some(last) = self.batch.last() else {
                break;
            };
            self.last_taken = last.number;
            outbox.rest.note_popped(self.batch.len(), octets);
            let octets = octets as u64;
            let answered = outbox.answered.load(Ordering::Acquire);
            self.unread
                .note(answered, last.number, self.batch.len(), octets);
            session.take(&mut self.batch, &mut self.room);
            let answers = self
                .batch
                .iter()
                .filter(|queued| queued.packet.is_response());
            self.answers += answers.count() as u64;
            if logs_packets() {
                for queued in &self.batch {
                    let (name, packet) = (&session.config.name, &queued.packet);
                    log_packet(format_args!("{name}: sends {packet}"));
                }
            }
            // What fits the buffer is handed over together, the rest one by one: a write in between
            // may be stuck.
            let lens = self
                .batch
                .iter()
                .map(|queued| queued.packet.payload().len());
            let fits = self.batch.len() > 1 && writer.has_room(lens);
            let are_cut = fits && outbox.hand_over(self.last_taken);
            let mut rings = false;
            for queued in self.batch.drain(..) {
                let is_request = matches!(queued.packet.kind(), PacketKind::Request(_));
                if is_request && (are_cut || !fits && outbox.hand_over(queued.number)) {
                    continue;
                }
                self.unflushed_packets = self.unflushed_packets.saturating_add(1);
                if is_request {
                    let start = writer
                        .written()
                        .saturating_add(writer.buffered_len() as u64);
                    self.unflushed.push((queued.number, start));
                }
                writer.write_packet(&queued.packet)?;
                has_ended |= queued.packet.kind() == PacketKind::EndOfStream;
                let payload = queued.packet.into_payload();
                if payload.len() < LEAST_REUSED {
                    self.used.keep(payload);
                } else {
                    rings |= session.spare.keep(payload);
                }
            }
            if rings | session.spare.keep_short(&mut self.used) {
                outbox.ring();
            }
        }
        if self.unflushed_packets > 0 {
            let is_due = at_most.is_some()
                || has_ended
                || outbox.grace.is_zero()
                || writer.buffered_len() >= WAITING_OCTETS
                || self.unflushed_packets >= outbox.rest.company().sends.min(MOST_UNFLUSHED)
                || outbox.rest.is_wanted()
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
        self.unflushed_packets = 0;
        self.unflushed.clear();
        self.waiting_since = None;
        self.answers = 0;
        outbox.rest.note_flushed(self.last_taken);
        if has_ended {
            self.fate = Fate::Ended;
        }
        Ok(())
    }
}

/// Takes runs out of the queue for a batch, until that has about so many packets; returns how many
/// octets of payload are in them. What lay in the batch before is room for a run.
fn pop_batch(
    rest: &Rest,
    at_most: usize,
    batch: &mut Vec<Queued>,
    room: &mut Vec<Queued>,
) -> usize {
    let mut octets = 0;
    while batch.len() < BATCH.min(at_most)
        && octets < BATCH_OCTETS
        && let Some(mut run) = rest.pop()
    {
        octets += run
            .iter()
            .map(|queued| queued.packet.payload().len())
            .sum::<usize>();
        if batch.is_empty() {
            *room = std::mem::replace(batch, run);
        } else {
            batch.append(&mut run);
        }
    }
    octets
}
