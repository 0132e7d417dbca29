//! How the two directions end, in order and out of it.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Failed, Goodbye, Input, Losses, Output, State};
use crate::error::Error;
use crate::outcome::Outcome;

impl<W> State<W> {
    /// Lets the application say that it makes no more requests. `true`: `END_OF_REQUESTS` is to
    /// be queued now.
    pub(in crate::connection) fn finish_requests(&mut self) -> bool {
        match self.output {
            Output::Open => {
                self.output = Output::Finished;
                true
            }
            Output::Failing => {
                self.output = Output::Failed;
                false
            }
            _ => false,
        }
    }

    /// Ends our direction once what was accepted has been answered.
    pub(in crate::connection) fn end_stream(&mut self) {
        self.goodbye = self.goodbye.max(Goodbye::AfterServing);
    }

    /// The same, once our own requests have been answered too.
    pub(in crate::connection) fn close(&mut self) {
        self.goodbye = self.goodbye.max(Goodbye::AfterAnswers);
    }

    /// Says which end packets are to be queued now: `(END_OF_REQUESTS, END_OF_STREAM)`.
    pub(in crate::connection) fn goodbyes(&mut self) -> (bool, bool) {
        if self.goodbye == Goodbye::None {
            return (false, false);
        }
        if self.output >= Output::Ended {
            // Nothing can be queued, but no more requests are to be made all the same.
            self.finish_requests();
            return (false, false);
        }
        let is_answered = self.awaited == 0 || self.goodbye != Goodbye::AfterAnswers;
        let stream = self.serving.is_empty() && is_answered;
        let may_finish = match self.goodbye {
            Goodbye::None | Goodbye::AfterInput => false,
            // Handlers may still ask for what they need.
            Goodbye::AfterAnswers => self.serving.is_empty(),
            Goodbye::AfterServing => true,
        };
        let requests = (stream || may_finish) && self.finish_requests();
        if stream {
            self.output = Output::Ended;
        }
        (requests, stream)
    }

    /// The same, where all that was taken out of the queue has been sent.
    #[cfg(test)]
    pub(in crate::connection) fn end_input(&mut self, cause: Error) -> Vec<Failed<W>> {
        self.end_input_at(cause, self.last_taken)
    }

    /// The peer's direction has ended. What we have accepted is still answered; our requests
    /// fail. `last_sent` is the number of the last packet that may have been sent; no request behind
    /// it must be, from now on.
    pub(in crate::connection) fn end_input_at(
        &mut self,
        cause: Error,
        last_sent: u64,
    ) -> Vec<Failed<W>> {
        let orderly = matches!(cause, Error::PeerClosed | Error::EndOfInput(_));
        let cause = Arc::new(cause);
        if !orderly {
            self.fault.get_or_insert_with(|| Arc::clone(&cause));
        }
        self.has_said_goodbye = matches!(*cause, Error::PeerClosed);
        // After a forced end, what the receiver meets is of our own making.
        if !matches!(self.input, Input::Ended(_)) {
            self.input = Input::Ended(Arc::clone(&cause));
        }
        self.goodbye = self.goodbye.max(Goodbye::AfterInput);
        if matches!(*cause, Error::NotPacketstream(_)) {
            self.input = Input::Ended(Arc::clone(&cause));
            // It explains an earlier write error: the program that said this is gone.
            self.fault = Some(Arc::clone(&cause));
            self.closed = Some(Arc::clone(&cause));
        }
        // A write error is the reason for which the peer may have gone.
        let closed = Arc::clone(self.closed.get_or_insert(cause));
        self.fail_calls(&closed, last_sent, false)
    }

    /// Writing has failed: accepted requests lose their answers, and nothing is queued or accepted
    /// any more. Of our own requests those that were not handed to the transport count as not sent;
    /// [`fail_output`](Self::fail_output) tells so, once it is known why the peer has gone.
    pub(in crate::connection) fn stop_output(
        &mut self,
        cause: &Error,
        last_handed_over: u64,
        answers_in_buffer: u64,
    ) {
        if self.output == Output::Over {
            if self.fault.is_some() {
                // A forced end has settled all but these.
                self.left_unsent(answers_in_buffer);
            }
            return;
        }
        self.output = match self.output {
            Output::Open => Output::Failing,
            _ => Output::Failed,
        };
        self.last_taken = self.last_taken.min(last_handed_over);
        self.left_unsent(answers_in_buffer);
        let cause = Arc::new(cause.clone());
        if answers_in_buffer > 0 || !self.serving.is_empty() {
            self.fault.get_or_insert_with(|| Arc::clone(&cause));
        }
        self.write_error = Some(cause);
    }

    /// After [`stop_output`](Self::stop_output): fails what was not sent. What was may still be
    /// answered.
    pub(in crate::connection) fn fail_output(&mut self) -> Vec<Failed<W>> {
        let Some(cause) = self.write_error.clone() else {
            // It was over before.
            return Vec::new();
        };
        self.output = Output::Failed;
        // That nothing but our goodbye was lost on a peer that had gone is no fault.
        if !matches!(self.input, Input::Ended(_)) {
            self.fault.get_or_insert_with(|| Arc::clone(&cause));
        }
        let closed = Arc::clone(self.closed.get_or_insert(cause));
        self.fail_calls(&closed, self.last_taken, true)
    }

    /// Ends everything at once, after [`close`](Self::close) or a write error: `END_OF_REQUESTS`
    /// is queued then, or never will be. `END_OF_STREAM` is still to be queued if `true` comes back: that
    /// is so when everything we had accepted has been answered.
    pub(in crate::connection) fn force(
        &mut self,
        cause: Error,
        last_handed_over: u64,
    ) -> (Vec<Failed<W>>, bool) {
        let cause = Arc::new(cause);
        // A write error that has not been told yet came first.
        let untold = self.write_error.as_ref().filter(|_| self.closed.is_none());
        let first = Arc::clone(untold.unwrap_or(&cause));
        self.fault.get_or_insert_with(|| Arc::clone(&first));
        if !matches!(self.input, Input::Ended(_)) {
            self.input = Input::Ended(cause);
        }
        let closed = Arc::clone(self.closed.get_or_insert(first));
        let failed = self.fail_calls(&closed, last_handed_over, false);
        let unanswered = self.give_up_serving();
        self.finish_requests();
        let goodbye = self.output == Output::Finished && unanswered == 0;
        if goodbye {
            self.output = Output::Ended;
        } else if self.output < Output::Ended {
            self.output = Output::Over;
        }
        (failed, goodbye)
    }

    /// Counts what has been accepted and can never be answered any more; returns how many these are.
    pub(in crate::connection) fn give_up_serving(&mut self) -> u64 {
        self.serving_bytes = 0;
        let unanswered = u64::try_from(self.serving.drain().count()).unwrap_or(u64::MAX);
        self.left_unsent(unanswered);
        unanswered
    }

    /// `END_OF_STREAM` has been flushed.
    pub(in crate::connection) fn output_over(&mut self) {
        if self.output < Output::Over {
            self.output = Output::Over;
        }
    }

    /// Fails all requests, or only those that have not been sent.
    fn fail_calls(
        &mut self,
        cause: &Arc<Error>,
        last_sent: u64,
        keeps_sent: bool,
    ) -> Vec<Failed<W>> {
        let mut failed = Vec::new();
        let mut kept = HashMap::default();
        for (key, mut call) in self.calls.drain() {
            if keeps_sent && call.number <= last_sent {
                kept.insert(key, call);
                continue;
            }
            self.owed_bytes = self.owed_bytes.saturating_sub(call.bytes);
            let Some(waiter) = call.waiter.take() else {
                continue;
            };
            self.awaited = self.awaited.saturating_sub(1);
            let outcome = if call.number > last_sent {
                self.losses.requests_not_sent = self.losses.requests_not_sent.saturating_add(1);
                Outcome::NotSent
            } else {
                self.losses.requests_unknown = self.losses.requests_unknown.saturating_add(1);
                Outcome::Unknown
            };
            failed.push((call.number, waiter, Error::unanswered(outcome, cause)));
        }
        self.calls = kept;
        failed.sort_unstable_by_key(|(number, ..)| *number);
        failed
            .into_iter()
            .map(|(_, waiter, error)| (waiter, error))
            .collect()
    }

    // ---- questions ---------------------------------------------------------------------

    /// Whether nothing more is to be written.
    pub(in crate::connection) fn is_output_over(&self) -> bool {
        self.output >= Output::Over
    }

    pub(in crate::connection) fn input_end(&self) -> Option<&Arc<Error>> {
        match &self.input {
            Input::Ended(cause) => Some(cause),
            _ => None,
        }
    }

    /// Whether the peer's `END_OF_STREAM` has been read.
    pub(in crate::connection) fn has_said_goodbye(&self) -> bool {
        self.has_said_goodbye
    }

    /// Whether both directions ended at `END_OF_STREAM`, so that the streams can be used again.
    pub(in crate::connection) fn ended_in_order(&self) -> bool {
        self.output == Output::Over
            && self.fault.is_none()
            && matches!(&self.input, Input::Ended(cause) if matches!(**cause, Error::PeerClosed))
    }

    pub(in crate::connection) fn fault(&self) -> Option<&Arc<Error>> {
        self.fault.as_ref()
    }

    pub(in crate::connection) fn losses(&self) -> Losses {
        self.losses
    }
}
