//! Our own requests: making, cancelling and settling them.

use std::sync::Arc;
use std::time::Instant;

use log::Level;

use super::lead::TICK;
use super::logging::log;
use super::message::Request;
use super::one_shot::{Answer, Callback, OneShot, Told};
use super::open_count::Hold;
use super::outbox::MayWrite;
use super::own_answer::TakenReading;
use super::pending::PendingResponse;
use super::place;
use super::reference::Reference;
use super::session::{Closing, Session, Shared};
use super::state::{Failed, Queued, Sake};
use super::submitted::Submitted;
use super::text::caught;
use crate::error::{Error, Result};
use crate::outcome::Outcome;
use crate::sync::MutexGuard;
use crate::wire::Packet;

/// What a request is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The submitter goes on, so the sender has to know of it.
    Submit,
    /// The submitter waits for the answer at once, which sends it.
    Call,
}

/// How a request is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// When the time given to it is over.
    pub(super) deadline: Option<Instant>,
    /// Whether to block while the limits are reached, which a handler's thread never does.
    pub(super) may_wait: bool,
    pub(super) purpose: Purpose,
    pub(super) sake: Sake,
    /// Something keeps the session for this request, also if its last reference has gone.
    pub(super) is_held: bool,
}

impl Session {
    /// Registers a request and queues it. Blocks while the limits are reached, if it may. Takes what
    /// it sends out of the request; an error leaves all in it.
    ///
    /// With a call may come the reading, for who waits to read the answer.
    pub(super) fn submit(
        self: Arc<Self>,
        request: &mut Request,
        terms: Terms,
    ) -> Result<(PendingResponse, Option<TakenReading>)> {
        let Terms {
            deadline, purpose, ..
        } = terms;
        // A thread of a connection has others to see to.
        let may_read = purpose == Purpose::Call
            && self.callers_may_read
            && deadline.is_none()
            && !place::is_ours();
        let hold = if place::serves(&self) {
            Hold::Nothing
        } else {
            Hold::Result
        };
        let one_shot = Arc::new(OneShot::new());
        let (channel, bytes) = (request.channel(), request.payload().len());
        let (request_type, flags) = (request.request_type(), request.flags());

        let mut shared = self.shared.lock();
        if shared.closing != Closing::No && !terms.is_held {
            return Err(Error::Closed);
        }
        shared.state.may_request_for(terms.sake)?;
        // What answers the peer does not queue behind what waits for the peer.
        let is_free = (shared.submitters.is_empty() || terms.sake == Sake::Accepted)
            && shared.state.has_room_for(terms.sake, bytes);
        if !is_free && !place::is_worker() {
            if !terms.may_wait {
                return Err(Error::Full);
            }
            self.wait_for_room(&mut shared, bytes, terms)?;
        }
        let tag = shared.state.next_tag(channel);
        let packet = Packet::request(channel, tag, request_type, flags, request.take_payload());
        let (len, limit) = (packet.body_len(), self.config.max_packet_len);
        if len > limit {
            request.put_payload_back(packet.into_payload());
            return Err(Error::TooLong { len, limit });
        }
        one_shot.set_tag(tag);
        let key = (channel, tag);
        let number = shared.state.register(key, bytes, Arc::clone(&one_shot));
        self.outbox.push(&mut shared.run, Queued { number, packet });
        self.notify_receiver(&shared);
        // Under the lock: a close that runs now must see either the request or the refusal.
        self.refer(hold);
        let is_alone = shared.state.outstanding() == 1;
        let reading = if may_read && is_alone {
            shared.handover.take()
        } else {
            None
        };
        if reading.is_none() {
            self.want_receiver(&mut shared);
        }
        let rings = match purpose {
            Purpose::Submit => self.outbox.leave_run(&mut shared.run),
            // Who waits has it sent.
            Purpose::Call => {
                self.outbox.push_run(&mut shared.run);
                false
            }
        };
        drop(shared);
        let reading = reading.map(|side| TakenReading::new(Arc::clone(&self), side));
        if rings {
            self.outbox.ring();
        }
        let reference = Reference::counted(self, hold);
        let submitted = Submitted {
            one_shot,
            channel,
            number,
        };
        let label = request.take_label();
        let pending = PendingResponse::new(reference, submitted, label, deadline, is_alone);
        Ok((pending, reading))
    }

    fn wait_for_room(
        &self,
        shared: &mut MutexGuard<'_, Shared>,
        bytes: usize,
        terms: Terms,
    ) -> Result<()> {
        if place::must_not_wait_for(self) {
            return Err(Error::WouldDeadlock(Outcome::NotSent));
        }
        if self.home.is_left() {
            return Err(Error::OtherProcess(Outcome::NotSent));
        }
        let ticket = shared.next_submitter;
        shared.next_submitter += 1;
        shared.submitters.push_back(ticket);
        let result = loop {
            if let Err(error) = shared.state.may_request_for(terms.sake) {
                break Err(error);
            }
            let is_next = shared.submitters.front() == Some(&ticket);
            if (is_next || terms.sake == Sake::Accepted)
                && shared.state.has_room_for(terms.sake, bytes)
            {
                break Ok(());
            }
            // What fills the queue or is owed must be on its way while we wait.
            self.outbox.push_run(&mut shared.run);
            self.outbox.want(shared.state.last_queued());
            match terms.deadline {
                None => self.room.wait(shared),
                Some(deadline) => {
                    if self.room.wait_until(shared, deadline).timed_out() {
                        break Err(Error::TimedOut(Outcome::NotSent));
                    }
                }
            }
        };
        shared.submitters.retain(|waiting| *waiting != ticket);
        if !shared.submitters.is_empty() {
            self.room.notify_all();
        }
        result
    }

    /// To be called under the lock after room may have appeared, or the connection has ended.
    pub(super) fn notify_submitters(&self, shared: &Shared) {
        if !shared.submitters.is_empty() {
            self.room.notify_all();
        }
    }

    /// Sends the packet with that number at once, because somebody begins to wait.
    pub(super) fn flush_request(self: &Arc<Self>, number: u64, may_write: MayWrite) {
        self.outbox.flush(self, number, may_write);
    }

    /// Sends the packet with that number, on this thread if that cannot block, and otherwise blocks
    /// until the sender has; `false` if that takes longer than the reading may be left alone.
    ///
    /// To read while it is being sent would be of no use: a thread that waits for input from a Unix
    /// socket is woken, for nothing, for each piece that the peer takes out of the socket.
    pub(super) fn send_alone(self: &Arc<Self>, number: u64) -> bool {
        self.outbox.flush(self, number, MayWrite::Briefly);
        self.outbox.is_flushed(number) || self.outbox.wait_for_flush(number, Instant::now() + TICK)
    }

    /// Settles a request with [`Error::Cancelled`]; `None` if it was settled already.
    pub(super) fn cancel(self: &Arc<Self>, submitted: &Submitted) -> Option<Outcome> {
        self.give_up(submitted, Error::Cancelled)
    }

    /// Settles a request with an error of this end; `None` if it was settled already, or is just
    /// being settled.
    pub(super) fn give_up(
        self: &Arc<Self>,
        submitted: &Submitted,
        error: impl FnOnce(Outcome) -> Error,
    ) -> Option<Outcome> {
        let mut shared = self.shared.lock();
        let key = submitted.key();
        let (one_shot, outcome) = shared.state.cancel(key, submitted.number)?;
        let urgent = self.queue_goodbyes(&mut shared);
        self.notify_submitters(&shared);
        drop(shared);
        let told = one_shot.settle(Err(error(outcome)));
        self.tell(&one_shot, told);
        self.ring_if(urgent);
        Some(outcome)
    }

    /// Does the same with many, except those that are settled already. None of them depends on what
    /// telling another does.
    pub(super) fn give_up_all(
        self: &Arc<Self>,
        all: Vec<Submitted>,
        error: impl Fn(Outcome) -> Error,
    ) {
        let mut shared = self.shared.lock();
        let given_up = all
            .into_iter()
            .filter_map(|submitted| shared.state.cancel(submitted.key(), submitted.number));
        let failed = given_up
            .map(|(one_shot, outcome)| (one_shot, error(outcome)))
            .collect();
        let urgent = self.queue_goodbyes(&mut shared);
        self.notify_submitters(&shared);
        drop(shared);
        self.ring_if(urgent);
        self.fail_all(failed);
    }

    /// Has a callback called with the answer, at once if that is here, and else on the callbacks
    /// thread, which has been started.
    pub(super) fn call_back(self: &Arc<Self>, submitted: &Submitted, callback: Callback) {
        match submitted.one_shot.call_back(callback) {
            Some((callback, answer)) => self.contained(move || callback(answer)),
            None => self.flush_request(submitted.number, MayWrite::Never),
        }
    }

    /// Does what settling has left to do.
    pub(super) fn tell(&self, one_shot: &OneShot, told: Told) {
        if let Some((callback, answer)) = one_shot.tell(told) {
            let name = Arc::clone(&self.config.name);
            let job = Box::new(move || contained(&name, move || callback(answer)));
            if let Err(job) = self.callbacks.push(job) {
                // Only a cancellation that races the end of the session gets here.
                job();
            }
        }
    }

    /// Runs a hook, or drops what is the user's; a panic in it ends there.
    pub(super) fn contained(&self, code: impl FnOnce()) {
        contained(&self.config.name, code);
    }

    pub(super) fn fail_all(&self, failed: Vec<Failed<Arc<OneShot>>>) {
        let answers = failed.into_iter();
        self.settle_all(answers.map(|(one_shot, error)| (one_shot, Err(error))));
    }

    /// Puts all answers in, and then tells who waits for them.
    pub(super) fn settle_all(&self, answers: impl Iterator<Item = (Arc<OneShot>, Answer)>) {
        let settle = |(one_shot, answer): (Arc<OneShot>, Answer)| {
            let told = one_shot.settle(answer);
            (one_shot, told)
        };
        let settled: Vec<_> = answers.map(settle).collect();
        // Those who are woken may well ask the next thing: that goes out in one write. Not with
        // code of the user's in between, which may block.
        let gathers = settled.len() > 1 && !settled.iter().any(|(_, told)| told.is_foreign());
        let gathering = gathers.then(|| self.outbox.gather(&self.shared));
        for (one_shot, told) in settled {
            self.tell(&one_shot, told);
        }
        drop(gathering);
    }
}

/// Runs a user's code; a panic in it ends there.
pub(super) fn contained(name: &str, code: impl FnOnce()) {
    if let Err(text) = caught(code) {
        log(
            Level::Error,
            format_args!("{name}: a callback or a hook panicked: {text}"),
        );
    }
}
