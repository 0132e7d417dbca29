//! The sender thread: writes what is queued, and settles who is left when it cannot.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::Level;

use super::logging::log;
use super::monitored_writer::MonitoredWriter;
use super::outbox::Fate;
use super::place::{self, Role};
use super::session::{Session, Shared};
use super::state::Queued;
use crate::error::Error;
use crate::sync::MutexGuard;
use crate::wire::{PacketKind, PacketWriter};

/// How long answers may still come in after a write error, and the end of the peer, which may be
/// the reason for it (law L10).
const LAST_ANSWERS: Duration = Duration::from_millis(100);

pub(super) fn run(session: &Arc<Session>) {
    place::enter(session, Role::Sender);
    let outbox = &session.outbox;
    outbox.enter_sender();
    let writer = session.streams.lock().writer.take();
    outbox.role.lock().writer = writer.map(|writer| {
        let monitor = Arc::clone(&outbox.monitor);
        PacketWriter::new(MonitoredWriter::new(writer, monitor))
    });
    let fate = loop {
        outbox.push_run(&mut session.shared.lock().run);
        let mut role = outbox.role.lock();
        role.pump(session, None);
        let (fate, since) = (role.fate.clone(), role.waiting_since);
        drop(role);
        if !matches!(fate, Fate::Working) {
            break fate;
        }
        let deadline = since.and_then(|since| outbox.grace_end(since));
        outbox.park(&session.shared, deadline, || session.spare.expire());
    };
    let has_failed = matches!(fate, Fate::Failed(_));
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
            let answers = answers + outbox.drop_queued(&mut shared.run);
            shared.state.left_unsent(answers);
        }
    }
    session.spare.close();
    let writer = outbox.role.lock().writer.take();
    let writer = writer.map(|writer| writer.into_inner().into_inner());
    let mut streams = session.streams.lock();
    let unwanted = streams.leave_writer(writer);
    // The peer may wait for the end of what we write.
    let dead = has_failed.then(|| streams.give_up());
    drop(streams);
    session.contained(|| drop((dead, unwanted)));
    let mut shared = session.shared.lock();
    shared.sender_lives = false;
    session.notify_receiver(&shared);
    session.progress.notify_all();
}

impl Session {
    /// Takes packets out of the queue for good: what is left in `batch` will be written. Room for
    /// the next run comes with it.
    pub(super) fn take(self: &Arc<Self>, batch: &mut Vec<Queued>, room: &mut Vec<Queued>) {
        let mut shared = self.shared.lock();
        shared
            .state
            .take(batch, |one_shot, tag| one_shot.set_tag(tag));
        shared.run.reuse(room);
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

    /// Gives up serving at once. Fails what can no longer be sent, which waits for nothing but the end
    /// of a peer that has gone; then waits a moment for the answers to what was sent, and fails the
    /// rest.
    fn output_failed(self: &Arc<Self>, error: Error) {
        let deadline = Instant::now() + LAST_ANSWERS;
        let mut answers = self.outbox.role.lock().answers;
        self.is_peer_gone.store(true, Ordering::Relaxed);

        let mut shared = self.shared.lock();
        answers += self.outbox.drop_queued(&mut shared.run);
        let sent = self.outbox.last_handed_over();
        shared.state.stop_output(&error, sent, answers);
        // Their answers could not be sent.
        let jobs = shared.pool.take_all();
        for job in &jobs {
            shared.state.served(job.key);
        }
        self.end_work(&mut shared);
        // Also one that has paused: what there is to be said of the end is behind what it has read.
        self.notify_receiver(&shared);
        self.want_receiver(&mut shared);
        self.progress.notify_all();
        drop(shared);
        drop(jobs);

        let mut shared = self.shared.lock();
        if has_peer_gone(&error) {
            // What it has said tells more than that it has gone: that there is no such command, say.
            self.wait_for_end_of_input(&mut shared, deadline);
        }
        self.outbox.drop_queued(&mut shared.run);
        let failed = shared.state.fail_output();
        self.notify_submitters(&shared);
        self.progress.notify_all();
        drop(shared);
        self.fail_all(failed);
        let source = super::source_text(&error);
        log(
            Level::Debug,
            format_args!("{}: {error}{source}", self.config.name),
        );

        let mut shared = self.shared.lock();
        self.wait_for_end_of_input(&mut shared, deadline);
        let has_ended = shared.state.input_end().is_some();
        drop(shared);
        if has_ended {
            // Of a socket the peer sees the end only when it is shut.
            self.shut_what_does_not_end();
        } else {
            self.force(error, true);
        }
    }

    fn wait_for_end_of_input(&self, shared: &mut MutexGuard<'_, Shared>, deadline: Instant) {
        while shared.state.input_end().is_none() && !shared.is_forced {
            if self.progress.wait_until(shared, deadline).timed_out() {
                break;
            }
        }
    }
}

/// Whether a write has failed because nobody reads at the other end any more.
fn has_peer_gone(error: &Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};

    matches!(error, Error::Write(error)
        if matches!(error.kind(), BrokenPipe | ConnectionReset | ConnectionAborted))
}
