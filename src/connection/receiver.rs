//! The receiver thread: reads packets and deals them out. It never waits for anything but input.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Connection;
use super::foreign;
use super::handler::Origin;
use super::message::Response;
use super::one_shot::{Answer, OneShot};
use super::place::{self, Role};
use super::session::{Session, Shared};
use super::state::{Action, Key};
use super::text::caught;
use super::workers::Job;
use crate::error::Error;
use crate::rejection::{Rejection, rejection_text};
use crate::transport::BoxedReader;
use crate::wire::reader::Step;
use crate::wire::{Packet, PacketKind, PacketReader};

/// How many packets, and about how many octets, are dealt out under one lock.
const BATCH: usize = 128;
const BATCH_OCTETS: usize = 256 * 1024;

pub(super) fn run(session: &Arc<Session>, connection: &Connection) {
    place::enter(session, Role::Receiver);
    let reader = session.streams.lock().reader.take();
    if let Some(reader) = reader {
        let limit = session.config.max_packet_len;
        let mut reader = PacketReader::new(reader).with_max_packet_len(limit);
        // The user's `BufRead` may panic, and nobody may be left waiting then.
        let cause = caught(|| receive(session, connection, &mut reader))
            .unwrap_or_else(|text| Error::Panicked(text.into()));
        session.input_ended(cause);
        let unwanted = session.streams.lock().leave_reader(reader.into_inner());
        session.contained(|| drop(unwanted));
    }
    session.shared.lock().receiver_lives = false;
    session.progress.notify_all();
}

/// Deals packets out until the input has ended; returns why it has.
fn receive(
    session: &Arc<Session>,
    connection: &Connection,
    reader: &mut PacketReader<BoxedReader>,
) -> Error {
    let origin = Arc::new(Origin {
        connection: connection.clone(),
        session: Arc::clone(session),
    });
    let mut batch = Vec::new();
    let mut is_first = true;
    loop {
        let mut end = None;
        // A stream that is only lent belongs to its owner again.
        if session.wait_for_inbound_room().is_break() {
            return Error::Aborted;
        }
        match reader.step() {
            Ok(Step::Packet(packet)) => {
                let mut octets = packet.payload().len();
                batch.push(packet);
                while batch.len() < BATCH && octets < BATCH_OCTETS && reader.has_complete_packet() {
                    match reader.step() {
                        Ok(Step::Packet(packet)) => {
                            octets += packet.payload().len();
                            batch.push(packet);
                        }
                        Ok(Step::Partial | Step::End) => break,
                        Err(error) => {
                            end = Some(error);
                            break;
                        }
                    }
                }
            }
            Ok(Step::Partial) => {
                if is_first {
                    session.shared.lock().first_octets = reader.first_octets().to_vec();
                }
                continue;
            }
            Ok(Step::End) => end = Some(Error::EndOfInput(None)),
            Err(error) => end = Some(error),
        }
        if is_first {
            is_first = false;
            if !batch.is_empty() {
                session.shared.lock().first_octets = Vec::new();
            }
            if let Some(error) = session.diagnose(reader.first_octets(), batch.first()) {
                return error;
            }
        }
        let more = reader.has_complete_packet();
        if let Some(error) = session.deal_out(&mut batch, more, reader.offset(), &origin) {
            return error;
        }
        if let Some(error) = end {
            return error;
        }
    }
}

/// What is to be done about a batch once the lock is released.
#[derive(Default)]
struct Effects {
    settled: Vec<(Arc<OneShot>, Answer)>,
    /// Requests that are served on this thread.
    inline: Vec<Job>,
    /// The number of the last packet that was queued.
    urgent: Option<u64>,
    end: Option<Error>,
}

impl Session {
    /// Says whether a stream that starts so is not one of ours.
    fn diagnose(&self, first: &[u8], packet: Option<&Packet>) -> Option<Error> {
        if let Some(packet) = packet {
            let key = (packet.channel(), packet.tag());
            if packet.is_response() && self.shared.lock().state.is_owed(key) {
                return None;
            }
        }
        foreign::diagnose(first)
    }

    fn deal_out(
        self: &Arc<Self>,
        batch: &mut Vec<Packet>,
        more: bool,
        octets: u64,
        origin: &Arc<Origin>,
    ) -> Option<Error> {
        if log::log_enabled!(target: super::LOG_WIRE, log::Level::Trace) {
            for packet in &*batch {
                log::trace!(target: super::LOG_WIRE, "{}: receives {packet}", self.config.name);
            }
        }
        let mut effects = Effects::default();
        let mut shared = self.shared.lock();
        shared.more_buffered = more;
        shared.stats.bytes_received = octets;
        for packet in batch.drain(..) {
            self.apply(&mut shared, packet, &mut effects);
            if effects.end.is_some() {
                break;
            }
        }
        if let Some(error) = shared.state.flooded() {
            effects.end.get_or_insert(error);
        }
        let goodbye = self.queue_goodbyes(&mut shared);
        self.notify_submitters(&shared);
        let call = shared.pool.call();
        let stuck = shared.pool.take_stuck();
        let rejected = self.reject_jobs(&mut shared, stuck);
        let held = shared.release_held();
        self.outbox.note_answered(shared.state.last_answered());
        drop(shared);

        batch.clear();
        self.settle_all(effects.settled.into_iter());
        self.call_worker_of(call, &origin.connection);
        self.serve_inline(effects.inline, origin);
        self.ring_if(effects.urgent.max(goodbye).max(rejected).max(held));
        effects.end
    }

    fn apply(&self, shared: &mut Shared, packet: Packet, effects: &mut Effects) {
        let key = (packet.channel(), packet.tag());
        let is_waited = shared.pool.has_waiters();
        match shared.state.receive(&packet, is_waited) {
            Action::Serve => {
                shared.stats.requests_received += 1;
                let job = Job { key, packet };
                if self.config.is_inline {
                    effects.inline.push(job);
                } else {
                    shared.pool.push(job);
                }
            }
            Action::Reject(text) => {
                shared.stats.requests_received += 1;
                effects.urgent = Some(self.queue_rejection(shared, key, text));
            }
            Action::Settle(one_shot) => {
                shared.stats.responses_received += 1;
                let flags = packet.flags();
                let answer = if packet.kind() == (PacketKind::Response { ok: true }) {
                    Ok(Response::new(flags, packet.into_payload()))
                } else {
                    let rejection = Rejection::with_parts(flags, packet.into_payload());
                    Err(Error::Rejected(rejection))
                };
                effects.settled.push((one_shot, answer));
            }
            Action::Drop | Action::RequestsFinished => {}
            Action::Ended(error) => effects.end = Some(error),
        }
    }

    fn queue_rejection(&self, shared: &mut Shared, key: Key, text: &[u8]) -> u64 {
        self.queue(shared, Packet::refusal(key.0, key.1, text))
    }

    /// Pauses reading while too many requests of the peer are here and nobody here waits for it,
    /// so that both ends cannot pause for each other. Breaks off after a forced end.
    fn wait_for_inbound_room(self: &Arc<Self>) -> ControlFlow<()> {
        let mut shared = self.shared.lock();
        let may_pause = |shared: &Shared| {
            let state = &shared.state;
            (state.may_pause() || self.config.is_inline && state.may_pause_for_answers())
                && !shared.pool.has_waiters()
                && !shared.is_forced
        };
        while may_pause(&shared) {
            shared.is_paused = true;
            if let Some(held) = shared.release_held() {
                drop(shared);
                self.outbox.want(held);
                shared = self.shared.lock();
                continue;
            }
            self.inbound.wait(&mut shared);
        }
        shared.is_paused = false;
        if shared.is_forced {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// To be called under the lock when a pause may have to end.
    pub(super) fn notify_receiver(&self, shared: &Shared) {
        if shared.is_paused {
            self.inbound.notify_all();
        }
    }

    /// Answers requests that were accepted and will not be run.
    pub(super) fn reject_jobs(&self, shared: &mut Shared, jobs: Vec<Job>) -> Option<u64> {
        let mut last = None;
        for job in jobs {
            if shared.state.served(job.key) {
                last = Some(self.queue_rejection(shared, job.key, rejection_text::BUSY));
            }
        }
        last.max(self.queue_goodbyes(shared))
    }

    /// The peer's direction has ended: settles everybody, and ends ours in turn.
    fn input_ended(self: &Arc<Self>, cause: Error) {
        let diagnosis = match cause {
            Error::PeerClosed => None,
            _ => self.ask_for_diagnosis(),
        };
        let cause = match cause {
            Error::EndOfInput(_) => Error::EndOfInput(diagnosis.clone()),
            cause => cause,
        };
        let source = super::source_text(&cause);
        log::debug!(target: super::LOG, "{}: input ended: {cause}{source}", self.config.name);
        let mut shared = self.shared.lock();
        shared.more_buffered = false;
        shared.diagnosis = diagnosis;
        // Nobody could answer what has not been sent by now.
        let last_sent = self.outbox.cut_requests();
        let failed = shared.state.end_input_at(cause, last_sent);
        let urgent = self.queue_goodbyes(&mut shared);
        self.end_work(&mut shared);
        self.notify_submitters(&shared);
        self.progress.notify_all();
        // A response that was held for company gets none any more.
        let last = urgent.unwrap_or(shared.state.last_queued());
        drop(shared);
        self.fail_all(failed);
        self.callbacks.close();
        self.outbox.want(last);
    }

    fn ask_for_diagnosis(&self) -> Option<Arc<str>> {
        let ask = self.hooks.lock().diagnosis.clone()?;
        // A hook that panics has nothing to say.
        let said = caught(|| ask()).ok()??;
        Some(Arc::from(said))
    }

    pub(super) fn is_peer_gone(&self) -> bool {
        self.is_peer_gone.load(Ordering::Relaxed)
    }
}
