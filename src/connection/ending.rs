//! How a session ends: in order, by force, in the background.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::Level;

use super::foreign;
use super::logging::log;
use super::place::{self, Role};
use super::report::{CloseReport, Summary};
use super::session::{Closing, Session, Shared};
use super::stats::ConnectionStats;
use super::text::thrown_text;
use crate::error::{Error, Result};
use crate::outcome::Outcome;
use crate::sync::MutexGuard;
use crate::transport::Transport;
use crate::wire::Packet;

/// What a forced end gives the threads: first to flush a goodbye that is due, then to end.
const LAST_WORDS: Duration = Duration::from_millis(50);

impl Session {
    /// Ends the session within `linger` (`None`: without limit) and blocks until that is done. On
    /// a thread of a connection it goes on in the background instead.
    pub(super) fn close(self: &Arc<Self>, linger: Option<Duration>) -> CloseReport {
        self.set_deadline(linger);
        if place::is_ours() {
            self.close_in_background();
            return CloseReport::unfinished(self.shared.lock().summarize(), true);
        }
        self.finish_close()
    }

    /// Lets a close take no longer than `linger` from now; one that runs already too.
    pub(super) fn set_deadline(&self, linger: Option<Duration>) {
        let deadline = linger.and_then(|linger| Instant::now().checked_add(linger));
        let mut shared = self.shared.lock();
        shared.close_by = match (shared.close_by, deadline) {
            (Some(earlier), Some(deadline)) => Some(earlier.min(deadline)),
            (earlier, deadline) => deadline.or(earlier),
        };
        let close_by = shared.close_by;
        self.progress.notify_all();
        drop(shared);
        // Who waits for a child to exit waits elsewhere.
        let hasten = self.hooks.lock().hasten.clone();
        if let (Some(hasten), Some(close_by)) = (hasten, close_by) {
            hasten(close_by);
        }
    }

    /// Has a close that runs already take no longer than that which would begin now that the last
    /// reference has gone.
    pub(super) fn limit_close(&self) {
        let closing = self.shared.lock().closing;
        if matches!(closing, Closing::Due | Closing::Running) {
            self.set_deadline(self.config.linger);
        }
    }

    /// Has the end be an abort: without a goodbye and without waiting.
    pub(super) fn set_aborted(&self) {
        self.shared.lock().is_aborted = true;
        self.set_deadline(Some(Duration::ZERO));
    }

    /// Starts the close that the last reference leaves behind.
    pub(super) fn close_of_last_reference(self: &Arc<Self>) {
        self.set_deadline(self.config.linger);
        self.close_in_background();
    }

    pub(super) fn close_in_background(self: &Arc<Self>) {
        {
            let mut shared = self.shared.lock();
            if matches!(shared.closing, Closing::Running | Closing::Done) {
                return;
            }
            shared.closing = Closing::Running;
        }
        let session = Arc::clone(self);
        let closer = self.spawn("closer", move || {
            place::enter(&session, Role::Closer);
            session.run_close();
        });
        let error = match closer {
            Ok(closer) => {
                *self.closer.lock() = Some(closer);
                return;
            }
            Err(error) => error,
        };
        let _place = place::closing(self);
        self.set_aborted();
        self.force_now(Error::Aborted);
        let transport = self.put_away();
        let mut shared = self.shared.lock();
        self.conclude(&mut shared, transport);
        drop(shared);
        log(
            Level::Error,
            format_args!("{}: {error}, so it is aborted", self.config.name),
        );
    }

    /// Closes on this thread, or waits for who does.
    fn finish_close(self: &Arc<Self>) -> CloseReport {
        let mut shared = self.shared.lock();
        if matches!(shared.closing, Closing::No | Closing::Due) {
            shared.closing = Closing::Running;
            drop(shared);
            self.run_close();
            shared = self.shared.lock();
        }
        while shared.closing != Closing::Done {
            self.progress.wait(&mut shared);
        }
        shared.final_report()
    }

    fn run_close(self: &Arc<Self>) {
        let _place = place::closing(self);
        let mut shared = self.shared.lock();
        if !shared.is_aborted {
            shared.state.close();
        }
        let urgent = self.queue_goodbyes(&mut shared);
        // Those who wait for room for requests of their own can never go now.
        self.notify_submitters(&shared);
        self.notify_receiver(&shared);
        self.want_receiver(&mut shared);
        drop(shared);
        self.ring_if(urgent);

        let mut shared = self.shared.lock();
        self.wait_until_ended(&mut shared);
        let is_late = shared.is_alive();
        let cause = if shared.is_aborted {
            Error::Aborted
        } else {
            Error::LingerExpired
        };
        drop(shared);
        if is_late {
            self.force_now(cause);
        }
        self.join_threads();
        let transport = self.put_away();
        let mut shared = self.shared.lock();
        self.conclude(&mut shared, transport);
    }

    /// Waits until no thread is left, or until the deadline, which may be moved meanwhile.
    fn wait_until_ended(&self, shared: &mut MutexGuard<'_, Shared>) {
        while shared.is_alive() {
            match shared.close_by {
                None => self.progress.wait(shared),
                Some(deadline) => {
                    let waited = self.progress.wait_until(shared, deadline);
                    if waited.timed_out() && shared.close_by.is_some_and(|by| Instant::now() >= by)
                    {
                        return;
                    }
                }
            }
        }
    }

    /// Ends everything now: a goodbye that is due gets a moment, then the transport is shut.
    fn force_now(self: &Arc<Self>, cause: Error) {
        let may_say_goodbye = !self.shared.lock().is_aborted;
        self.force(cause, false);
        if may_say_goodbye {
            self.wait_while(|shared| shared.sender_lives && !shared.is_aborted);
        }
        self.outbox.abandon();
        self.shut();
        self.end_late_threads();
        self.wait_while(Shared::is_alive);
    }

    fn wait_while(&self, goes_on: impl Fn(&Shared) -> bool) {
        let deadline = Instant::now() + LAST_WORDS;
        let mut shared = self.shared.lock();
        while goes_on(&shared) {
            if self.progress.wait_until(&mut shared, deadline).timed_out() {
                return;
            }
        }
    }

    /// Settles every request of ours and gives up the peer's. `shuts`: the transport too.
    pub(super) fn force(self: &Arc<Self>, cause: Error, shuts: bool) {
        self.is_peer_gone.store(true, Ordering::Relaxed);
        let mut shared = self.shared.lock();
        shared.is_forced = true;
        let (failed, says_goodbye) = shared.state.force(cause, self.outbox.cut_requests());
        let jobs = shared.pool.take_all();
        self.end_work(&mut shared);
        let goodbye = (says_goodbye && !shared.is_aborted)
            .then(|| self.queue(&mut shared, Packet::END_OF_STREAM));
        let is_over = shared.state.is_output_over();
        self.notify_submitters(&shared);
        self.notify_receiver(&shared);
        self.want_receiver(&mut shared);
        let is_taken = shared.handover.is_taken();
        self.progress.notify_all();
        drop(shared);
        if is_taken {
            // A caller that reads does not notice that it is told. It must not wait for what follows:
            // wakers are the user's, and may wait for this very caller.
            self.free_reader();
        }
        drop(jobs);
        self.fail_all(failed);
        self.ring_if(goodbye);
        if is_over {
            self.outbox.abandon();
        }
        if shuts {
            self.shut();
        }
    }

    /// Frees what is stuck in the transport, if that can be done.
    fn shut(&self) {
        let shutdown = self.hooks.lock().shutdown.clone();
        if let Some(shutdown) = shutdown {
            self.contained(|| shutdown());
        }
    }

    /// The same, except for what ends by itself once its streams are closed: a child, which would
    /// be killed.
    pub(super) fn shut_what_does_not_end(&self) {
        let ends = self.hooks.lock().finish.is_some();
        if !ends {
            self.shut();
        }
    }

    /// Frees a caller that is stuck in reading; a goodbye can still be written.
    fn free_reader(&self) {
        let free_reader = self.hooks.lock().free_reader.clone();
        if let Some(free_reader) = free_reader {
            self.contained(|| free_reader());
        }
    }

    /// Joins the threads that have ended; lets go of those that are stuck.
    fn join_threads(&self) {
        let all_have_ended = !self.shared.lock().is_alive();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            if all_have_ended || thread.is_finished() {
                Self::join(thread);
            } else {
                log(
                    Level::Warn,
                    format_args!(
                        "{}: lets go of a stuck thread: {}",
                        self.config.name,
                        thread.thread().name().unwrap_or_default()
                    ),
                );
            }
        }
    }

    fn join(thread: JoinHandle<()>) {
        // A panic of ours has been reported by the log's panic hook; here it can only be told.
        if let Err(thrown) = thread.join() {
            log(
                Level::Error,
                format_args!("a thread panicked: {}", thrown_text(thrown)),
            );
        }
    }

    /// Gives the transport back if it can be used again, else ends it.
    fn put_away(&self) -> Option<Transport> {
        let shared = self.shared.lock();
        let (in_order, close_by) = (shared.state.ended_in_order(), shared.close_by);
        drop(shared);
        if in_order && !self.is_on_demand && !self.ends_writer {
            return self.take_transport();
        }
        if self.is_on_demand {
            self.shut_what_does_not_end();
        }
        let finish = self.hooks.lock().finish.take();
        // A child ends when it finds its pipes closed, so these go first.
        let streams = self.streams.lock().give_up();
        self.contained(|| drop(streams));
        if let Some(finish) = finish {
            self.contained(|| finish(close_by));
        }
        // They may hold the stream open, however long this connection is remembered.
        let hooks = std::mem::take(&mut *self.hooks.lock());
        self.contained(|| drop(hooks));
        None
    }

    fn conclude(&self, shared: &mut Shared, transport: Option<Transport>) {
        // After a write error there is nobody who could answer what a responder still holds.
        shared.state.give_up_serving();
        shared.summary = Some(shared.summarize());
        shared.returned = transport;
        shared.closing = Closing::Done;
        self.opener.store(0, Ordering::Relaxed);
        self.progress.notify_all();
    }

    // ---- what others can ask and wait for ----------------------------------------------

    /// Blocks until the peer's direction has ended.
    pub(super) fn wait_end_of_stream(self: &Arc<Self>) -> Result<()> {
        if place::must_not_wait_for(self) {
            return Err(Error::WouldDeadlock(Outcome::NotSent));
        }
        self.wait_for(None, |shared| {
            let state = &shared.state;
            let has_failed = state.fault().is_some() && state.is_output_over();
            state.input_end().is_some() || has_failed || shared.closing == Closing::Done
        });
        let shared = self.shared.lock();
        match shared.state.input_end().or(shared.state.fault()) {
            Some(end) if !matches!(**end, Error::PeerClosed | Error::EndOfInput(_)) => {
                Err((**end).clone())
            }
            _ => Ok(()),
        }
    }

    /// Blocks until the threads have ended.
    pub(super) fn wait_closed(self: &Arc<Self>) -> CloseReport {
        if place::belongs_to(self) || place::must_not_block() {
            return CloseReport::unfinished(self.shared.lock().summarize(), true);
        }
        self.wait_for(None, |shared| match shared.closing {
            Closing::No => !shared.is_alive(),
            Closing::Due | Closing::Running => false,
            Closing::Done => true,
        });
        // What it had to do is done.
        let closer = self.closer.lock().take();
        if let Some(closer) = closer {
            Self::join(closer);
        }
        self.shared.lock().final_report()
    }

    /// Blocks until a close that runs is done; leaves its report to others.
    /// `false` if that is not so by the deadline.
    pub(super) fn wait_closed_quietly(&self, deadline: Option<Instant>) -> bool {
        self.wait_for(deadline, |shared| shared.closing == Closing::Done)
    }

    fn wait_for(&self, deadline: Option<Instant>, has_come: impl Fn(&Shared) -> bool) -> bool {
        let has_come = place::wait_lending(deadline, None, |deadline| {
            let mut shared = self.shared.lock();
            while !has_come(&shared) {
                match deadline {
                    None => self.progress.wait(&mut shared),
                    Some(deadline) => {
                        if self.progress.wait_until(&mut shared, deadline).timed_out() {
                            return has_come(&shared);
                        }
                    }
                }
            }
            true
        });
        if !has_come {
            // Nobody goes on waiting for it.
            place::end_wait();
        }
        has_come
    }

    /// Makes no more requests.
    pub(super) fn finish_requests(self: &Arc<Self>) -> Result<()> {
        self.end_ours(|session, shared| {
            shared
                .state
                .finish_requests()
                .then(|| session.queue(shared, Packet::END_OF_REQUESTS))
        })
    }

    /// Ends our direction once what we have accepted is answered.
    pub(super) fn end_stream(self: &Arc<Self>) -> Result<()> {
        self.end_ours(|session, shared| {
            shared.state.end_stream();
            session.queue_goodbyes(shared)
        })
    }

    fn end_ours(
        self: &Arc<Self>,
        end: impl FnOnce(&Self, &mut Shared) -> Option<u64>,
    ) -> Result<()> {
        let mut shared = self.shared.lock();
        if let Err(error @ Error::Unanswered { .. }) = shared.state.may_request() {
            // The peer may have ended, which has ended ours too: nothing is left to do.
            if !matches!(error.cause(), Error::PeerClosed | Error::EndOfInput(_)) {
                return Err(error.cause().clone());
            }
        }
        let urgent = end(self, &mut shared);
        self.notify_submitters(&shared);
        self.notify_receiver(&shared);
        self.want_receiver(&mut shared);
        drop(shared);
        self.ring_if(urgent);
        Ok(())
    }

    pub(super) fn stats(&self) -> ConnectionStats {
        let shared = self.shared.lock();
        let mut stats = shared.stats;
        stats.late_responses = shared.state.losses().late_responses;
        stats.outstanding = shared.state.outstanding() as u64;
        stats.serving = shared.state.serving() as u64;
        drop(shared);
        stats.bytes_sent = self.outbox.octets.load(Ordering::Relaxed);
        stats.writes = self.outbox.writes.load(Ordering::Relaxed);
        stats.flushes = self.outbox.flushes.load(Ordering::Relaxed);
        stats
    }
}

impl Shared {
    /// The report of a session that has ended; the transport goes to the first who asks.
    fn final_report(&mut self) -> CloseReport {
        let summary = match &self.summary {
            Some(summary) => summary.clone(),
            None => self.summarize(),
        };
        CloseReport::finished(summary, self.returned.take())
    }

    pub(super) fn summarize(&self) -> Summary {
        // Text whose packet never becomes complete is what nobody would guess.
        let partial = (!self.partial.is_empty()).then(|| {
            let quote = foreign::quoted(&self.partial);
            Arc::from(format!("the peer's last packet is incomplete: {quote}"))
        });
        Summary {
            cause: self.state.fault().cloned(),
            losses: self.state.losses(),
            peer_said_goodbye: self.state.has_said_goodbye(),
            diagnosis: self.diagnosis.clone().or(partial),
        }
    }
}
