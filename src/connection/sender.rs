//! The sender thread: writes what is queued, and settles who is left when it cannot.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::outbox::Fate;
use super::place::{self, Role};
use super::session::Session;
use super::state::Queued;
use crate::error::Error;
use crate::wire::{PacketKind, PacketWriter};

/// How long answers may still come in after a write error (law L10).
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// How long the end of the input is waited for if callers have been reading.
const LATE_END: Duration = Duration::from_millis(20);

pub(super) fn run(session: &Arc<Session>) {
    place::enter(session, Role::Sender);
    let outbox = &session.outbox;
    outbox.enter_sender();
    let writer = session.streams.lock().writer.take();
    outbox.role.lock().writer = writer.map(PacketWriter::new);
    let fate = loop {
        let mut role = outbox.role.lock();
        role.pump(session, None);
        let (fate, since) = (role.fate.clone(), role.waiting_since);
        drop(role);
        if !matches!(fate, Fate::Working) {
            break fate;
        }
        outbox.rest(since.and_then(|since| outbox.grace_end(since)));
    };
    match fate {
        Fate::Ended => {
            let hook = session.hooks.lock().end_of_write.take();
            if let Some(end_of_write) = hook {
                session.contained(end_of_write);
            }
            session.shared.lock().state.output_over();
        }
        Fate::Failed(error) => session.output_failed(error),
        Fate::Working | Fate::Abandoned => {
            let answers = outbox.role.lock().answers;
            let mut shared = session.shared.lock();
            let answers = answers + outbox.drop_queued();
            shared.state.left_unsent(answers);
        }
    }
    let writer = outbox.role.lock().writer.take();
    let writer = writer.map(PacketWriter::into_inner);
    let unwanted = session.streams.lock().leave_writer(writer);
    session.contained(|| drop(unwanted));
    let mut shared = session.shared.lock();
    shared.sender_lives = false;
    session.progress.notify_all();
}

impl Session {
    /// Takes packets out of the queue for good: what is left in `batch` will be written.
    pub(super) fn take(self: &Arc<Self>, batch: &mut Vec<Queued>) {
        let mut shared = self.shared.lock();
        shared.state.take(batch);
        for queued in &*batch {
            match queued.packet.kind() {
                PacketKind::Request(_) => shared.stats.requests_sent += 1,
                PacketKind::Response { ok: true } => shared.stats.responses_sent += 1,
                PacketKind::Response { ok: false } => shared.stats.rejections_sent += 1,
                PacketKind::EndOfRequests | PacketKind::EndOfStream => {}
            }
        }
        self.notify_submitters(&shared);
        self.notify_receiver(&shared);
        let is_held = shared.state.has_unsent_answers();
        if shared.pool.hold(is_held) {
            let call = shared.pool.call();
            drop(shared);
            self.call_worker(call);
        }
    }

    /// Fails what can no longer be sent, waits a moment for the answers to what was, and fails
    /// the rest.
    fn output_failed(self: &Arc<Self>, error: Error) {
        let mut answers = self.outbox.role.lock().answers;
        self.is_peer_gone.store(true, Ordering::Relaxed);

        let mut shared = self.shared.lock();
        if shared.handover.is_away() {
            // Why the peer has gone may have come already, with nobody who would have read it.
            self.want_receiver(&mut shared);
            let deadline = Instant::now() + LATE_END;
            while shared.state.input_end().is_none() && !shared.is_forced {
                if self.progress.wait_until(&mut shared, deadline).timed_out() {
                    break;
                }
            }
        }
        answers += self.outbox.drop_queued();
        let failed =
            shared
                .state
                .fail_output(error.clone(), self.outbox.last_handed_over(), answers);
        // Their answers could not be sent.
        let jobs = shared.pool.take_all();
        for job in &jobs {
            shared.state.served(job.key);
        }
        self.end_work(&mut shared);
        self.notify_submitters(&shared);
        self.notify_receiver(&shared);
        self.progress.notify_all();
        drop(shared);
        drop(jobs);
        self.fail_all(failed);
        let source = super::source_text(&error);
        log::debug!(target: super::LOG, "{}: {error}{source}", self.config.name);

        let deadline = Instant::now() + LAST_ANSWERS;
        let mut shared = self.shared.lock();
        while shared.state.input_end().is_none() && !shared.is_forced {
            if self.progress.wait_until(&mut shared, deadline).timed_out() {
                break;
            }
        }
        let has_ended = shared.state.input_end().is_some();
        drop(shared);
        if !has_ended {
            self.force(error, true);
        }
    }
}
