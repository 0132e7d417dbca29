//! Reading: packets are read and dealt out by one thread at a time, the receiver.
//!
//! It never waits for anything but input. While it runs a handler, which it does for quick ones,
//! or writes the answer of one, the reading is offered to another thread (see
//! [`lead`](super::lead)).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use log::Level;

use super::Connection;
use super::duty::{self, Duty, Work};
use super::foreign;
use super::handler::Origin;
use super::logging::{log, log_packet, logs_packets};
use super::message::Response;
use super::one_shot::{Answer, OneShot};
use super::place::{self, Role};
use super::pool::Call;
use super::read_side::{Filled, ReadSide};
use super::session::{Closing, Session, Shared};
use super::state::{Action, Key};
use super::text::caught;
use super::workers::Job;
use crate::error::Error;
use crate::rejection::{Rejection, rejection_text};
use crate::wire::skip::TooLong;
use crate::wire::{Packet, PacketKind};

pub(super) fn run(session: &Arc<Session>, connection: &Connection) {
    place::enter(session, Role::Receiver);
    let reader = session.streams.lock().reader.take();
    let Some(reader) = reader else {
        session.reading_over();
        return;
    };
    let limit = session.config.max_packet_len;
    let memory = Arc::clone(&session.spare);
    let side = Box::new(ReadSide::new(reader, limit, memory));
    let origin = Origin::new(connection, session);
    duty::run(&origin, Duty::Read(side));
}

/// Deals packets out until the input has ended, or until somebody else has taken that over: then
/// this thread has become a worker.
pub(super) fn read(origin: &Arc<Origin>, side: Box<ReadSide>) -> Option<Work> {
    place::take_role(Role::Receiver);
    let session = &origin.session;
    let mut side = Some(side);
    // The user's `BufRead` may panic, and nobody may be left waiting then.
    let ended = caught(|| receive(origin, &mut side))
        .unwrap_or_else(|text| Ended::Input(Error::Panicked(text.into())));
    let cause = match ended {
        Ended::Replaced(work) => return Some(work),
        Ended::Input(cause) => cause,
    };
    if side.is_none() {
        // A panic that got here while the reading was offered: a logger's, say.
        side = session.shared.lock().lead.take_back();
        if side.is_none() {
            return Some(Work::Replaced(None));
        }
    }
    session.input_ended(cause);
    if let Some(side) = side {
        let unwanted = session
            .streams
            .lock()
            .leave_reader(side.reader.into_inner());
        session.contained(|| drop(unwanted));
    }
    session.reading_over();
    None
}

/// Why a thread no longer reads.
enum Ended {
    Input(Error),
    Replaced(Work),
}

impl From<Error> for Ended {
    fn from(cause: Error) -> Self {
        Self::Input(cause)
    }
}

/// Deals packets out. `side` is empty while it is offered, and if it has been taken over.
fn receive(origin: &Arc<Origin>, side: &mut Option<Box<ReadSide>>) -> Ended {
    let session = &origin.session;
    while let Some(reading) = side {
        if let Err(error) = session.wait_for_inbound_room() {
            return error.into();
        }
        let undealt = reading.undealt.take();
        let filled = undealt.unwrap_or_else(|| reading.fill());
        if let Err(error) = session.judge(reading, &filled) {
            return error.into();
        }
        let (too_long, end) = match filled {
            Filled::Partial => continue,
            Filled::TooLong(too_long) => (Some(too_long), None),
            Filled::Batch { end } => (None, end),
        };
        if let Err(ended) = session.deal_out(side, too_long, end, origin) {
            return ended;
        }
    }
    // Not reached: it is there whenever `deal_out` succeeds.
    Error::Aborted.into()
}

fn packet_key(packet: &Packet) -> Key {
    (packet.channel(), packet.tag())
}

impl Shared {
    /// Whether nothing is to be expected of the peer.
    pub(super) fn is_quiet(&self) -> bool {
        self.state.outstanding() == 0 && self.closing == Closing::No && !self.is_forced
    }
}

/// What is to be done about a batch once the lock is released.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) settled: Vec<(Arc<OneShot>, Answer)>,
    /// Requests that are served on this thread.
    inline: Vec<Job>,
    /// The number of the last packet that was queued.
    urgent: Option<u64>,
    end: Option<Error>,
}

impl Session {
    /// Deals out what has been read. Requests are served here if that is quick, with the reading
    /// offered to somebody else meanwhile.
    fn deal_out(
        self: &Arc<Self>,
        side: &mut Option<Box<ReadSide>>,
        too_long: Option<TooLong>,
        end: Option<Error>,
        origin: &Arc<Origin>,
    ) -> Result<(), Ended> {
        let Some(reading) = side else {
            return Ok(());
        };
        if logs_packets() {
            for packet in &reading.batch {
                log_packet(format_args!("{}: receives {packet}", self.config.name));
            }
        }
        let mut effects = Effects::default();
        let is_one = reading.batch.len() == 1;
        let more = reading.reader.has_complete_packet();
        let octets = reading.reader.offset();
        self.spare.refill(reading.reader.used());
        let mut shared = self.shared.lock();
        shared.more_buffered = more;
        shared.stats.bytes_received = octets;
        for packet in reading.batch.drain(..) {
            self.apply(&mut shared, packet, &mut effects);
            if effects.end.is_some() {
                break;
            }
        }
        if let Some(too_long) = too_long {
            let start = reading.reader.start();
            self.apply_too_long(&mut shared, &too_long, start, &mut effects);
        }
        let end = effects.end.or(end);
        let goodbye = self.queue_goodbyes(&mut shared);
        self.notify_submitters(&shared);
        self.outbox.note_answered(shared.state.last_answered());
        if self.callers_may_read && !logs_packets() {
            let is_alone = is_one && !more && effects.settled.len() == 1 && shared.is_quiet();
            if shared
                .handover
                .note(is_alone && end.is_none() && goodbye.is_none())
                && let Some((one_shot, answer)) = effects.settled.pop()
            {
                let told = one_shot.settle(answer);
                // Nobody would watch while code of the user's runs.
                let leaves = !told.is_foreign();
                if leaves && let Some(reading) = side.take() {
                    shared.handover.leave(reading);
                }
                drop(shared);
                // Nothing may keep this thread from coming back for the reading.
                self.contained(move || self.tell(&one_shot, told));
                if leaves {
                    let mut shared = self.shared.lock();
                    let reading = duty::wait_for_reading(&mut shared, &self.inbound, |shared| {
                        &mut shared.handover
                    });
                    *side = Some(reading);
                }
                return Ok(());
            }
        }
        if !effects.settled.is_empty() {
            // Before anybody else may read: answers are told in their order. This runs wakers,
            // which may take long.
            let rings = shared.held.is_some() && self.outbox.leave_run(&mut shared.run);
            drop(shared);
            if rings {
                self.outbox.ring();
            }
            self.settle_all(effects.settled.into_iter());
            shared = self.shared.lock();
        }
        let in_place = (end.is_none() && shared.may_serve_in_place())
            .then(|| shared.pool.start())
            .flatten();
        let call = match &in_place {
            // More than quick ones can serve would be called for later.
            Some(_) => Call::Nobody,
            None => shared.pool.call(),
        };
        let stuck = shared.pool.take_stuck();
        let rejected = self.reject_jobs(&mut shared, stuck);
        let held = self.release_held(&mut shared);
        // What it is held for takes its time on other threads.
        let rings =
            shared.held.is_some() && in_place.is_none() && self.outbox.leave_run(&mut shared.run);
        if in_place.is_some()
            && let Some(reading) = side.take()
        {
            shared.lead.offer(reading);
        }
        drop(shared);

        self.call_worker_of(call, &origin.connection);
        self.ring_if(effects.urgent.max(goodbye).max(rejected).max(held));
        if rings {
            self.outbox.ring();
        }
        // Last: nobody knows how long that takes.
        self.serve_inline(effects.inline, origin);
        if let Some(first) = in_place {
            let reading = self.serve_in_place(first, origin);
            *side = Some(reading.map_err(Ended::Replaced)?);
        }
        match end {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// To be called under the lock when something is to be read, or a close goes on, and the
    /// reading may be left to callers.
    pub(super) fn want_receiver(&self, shared: &mut Shared) {
        if shared.handover.want() {
            self.inbound.notify_all();
        }
    }

    pub(super) fn apply(&self, shared: &mut Shared, packet: Packet, effects: &mut Effects) {
        let key = packet_key(&packet);
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
                effects.urgent = Some(self.queue_rejection(shared, key, &text));
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

    /// The same for a packet of which there is only the head.
    fn apply_too_long(
        &self,
        shared: &mut Shared,
        too_long: &TooLong,
        start: &[u8],
        effects: &mut Effects,
    ) {
        let (head, len, limit) = (&too_long.head, too_long.len, self.config.max_packet_len);
        match shared.state.receive_too_long(head, len, limit) {
            Action::Reject(text) => {
                shared.stats.requests_received += 1;
                effects.urgent = Some(self.queue_rejection(shared, packet_key(head), &text));
            }
            Action::Settle(one_shot) => {
                shared.stats.responses_received += 1;
                let error = Error::ResponseTooLong { len, limit };
                effects.settled.push((one_shot, Err(error)));
            }
            Action::Ended(error) => {
                effects.end = Some(foreign::diagnose_later(start).unwrap_or(error));
            }
            Action::Serve | Action::Drop | Action::RequestsFinished => {}
        }
    }

    fn queue_rejection(&self, shared: &mut Shared, key: Key, text: &[u8]) -> u64 {
        self.queue(shared, Packet::refusal(key.0, key.1, text))
    }

    /// Pauses reading while too many requests of the peer are here and nobody here waits for it,
    /// so that both ends cannot pause for each other; or while far too many answers wait to be sent.
    /// Breaks off after a forced end.
    fn wait_for_inbound_room(self: &Arc<Self>) -> Result<(), Error> {
        let mut shared = self.shared.lock();
        self.wait_for_sender(&mut shared)?;
        let may_pause = |shared: &Shared| {
            let state = &shared.state;
            (state.may_pause() || self.config.is_inline && state.may_pause_for_answers())
                && !shared.pool.has_waiters()
                && !shared.is_forced
        };
        while may_pause(&shared) {
            shared.is_paused = true;
            if let Some(held) = self.release_held(&mut shared) {
                drop(shared);
                self.outbox.want(held);
                shared = self.shared.lock();
                continue;
            }
            self.inbound.wait(&mut shared);
        }
        shared.is_paused = false;
        if shared.is_forced {
            // A stream that is only lent belongs to its owner again.
            Err(Error::Aborted)
        } else {
            Ok(())
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

    /// Nobody reads any more.
    fn reading_over(&self) {
        self.shared.lock().receiver_lives = false;
        self.progress.notify_all();
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
        let told = cause.clone();
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
        self.outbox.push_run(&mut shared.run);
        drop(shared);
        self.fail_all(failed);
        self.end_late_threads();
        self.outbox.want(last);
        let source = super::source_text(&told);
        log(
            Level::Debug,
            format_args!("{}: input ended: {told}{source}", self.config.name),
        );
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
