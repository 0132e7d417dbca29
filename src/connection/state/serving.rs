//! The requests of the peer: which are served, and how many of them and of their answers may be
//! here.

use super::{Action, Goodbye, Input, Key, Output, State};
use crate::connection::key_hash::release_room;
use crate::error::Error;
use crate::rejection::rejection_text;

/// By how many times the unsent answers may exceed the inbound budget before nothing more is read.
const HARD: usize = 4;

/// The least number of answers for which that holds: a peer that asks as much as it may by default,
/// and is refused all of it, is not to wait.
const HARD_ANSWERS: usize = 32_768;

/// Why a request of the peer is not served.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    /// Nothing can be answered any more.
    Silent,
    /// Answered "not ok" with this text.
    Told(&'static [u8]),
}

impl<W> State<W> {
    pub(super) fn request(&mut self, key: Key, bytes: usize, is_waited: bool) -> Action<W> {
        let refusal = self.refusal(is_waited);
        let before = match refusal {
            // Looked up once if all is well.
            None => self.serving.insert(key, bytes),
            Some(_) => self.serving.get(&key).copied(),
        };
        if let Some(before) = before {
            self.serving.insert(key, before);
            return Action::Ended(Error::DuplicateTag {
                channel: key.0,
                tag: key.1,
            });
        }
        match refusal {
            None => {
                self.serving_bytes = self.serving_bytes.saturating_add(bytes);
                Action::Serve
            }
            Some(Refusal::Silent) => {
                self.losses.requests_dropped = self.losses.requests_dropped.saturating_add(1);
                Action::Drop
            }
            Some(Refusal::Told(text)) => Action::Reject(text.into()),
        }
    }

    /// A request of `len` bytes, which is too long to be read.
    ///
    /// It is answered with that whatever else there is against it: to ask again is of no use.
    pub(super) fn request_too_long(&mut self, key: Key, len: u64, limit: u64) -> Action<W> {
        if self.serving.contains_key(&key) {
            return Action::Ended(Error::DuplicateTag {
                channel: key.0,
                tag: key.1,
            });
        }
        if self.output >= Output::Ended {
            self.losses.requests_dropped = self.losses.requests_dropped.saturating_add(1);
            return Action::Drop;
        }
        Action::Reject(rejection_text::request_too_long(len, limit).into())
    }

    /// Why no request of the peer is served now.
    fn refusal(&self, is_waited: bool) -> Option<Refusal> {
        if self.output >= Output::Ended {
            return Some(Refusal::Silent);
        }
        let text = if matches!(self.input, Input::Finished) {
            rejection_text::NO_LONGER_ALLOWED
        } else if self.goodbye != Goodbye::None {
            rejection_text::SHUTTING_DOWN
        } else if !self.has_handler {
            rejection_text::NO_HANDLER
        } else if self.is_over_inbound_budget() && (is_waited || !self.calls.is_empty()) {
            // Where reading may pause instead, one batch over the budget is accepted.
            rejection_text::BUSY
        } else {
            return None;
        };
        Some(Refusal::Told(text))
    }

    /// Frees the tag of a request of the peer, as its answer is about to be queued. `false`: the
    /// answer can no longer be sent.
    pub(in crate::connection) fn served(&mut self, key: Key) -> bool {
        // A forced end has counted it already.
        let Some(bytes) = self.serving.remove(&key) else {
            return false;
        };
        release_room(&mut self.serving);
        self.serving_bytes = self.serving_bytes.saturating_sub(bytes);
        if self.output < Output::Ended {
            return true;
        }
        self.losses.answers_lost = self.losses.answers_lost.saturating_add(1);
        false
    }

    pub(in crate::connection) fn serving(&self) -> usize {
        self.serving.len()
    }

    fn is_over_inbound_budget(&self) -> bool {
        self.serving.len() >= self.limits.inbound_requests
            || self.serving_bytes >= self.limits.inbound_bytes
    }

    /// Whether reading is to pause, unless a handler waits: too much of the peer's is here, and
    /// we wait for nothing of it.
    pub(in crate::connection) fn may_pause(&self) -> bool {
        self.is_over_inbound_budget() && self.waits_for_nothing()
    }

    /// The same, because too many answers wait to be sent: where handlers run on the receiver there
    /// is no other way to start fewer of them.
    pub(in crate::connection) fn may_pause_for_answers(&self) -> bool {
        self.has_unsent_answers() && self.waits_for_nothing()
    }

    fn waits_for_nothing(&self) -> bool {
        self.calls.is_empty() && self.goodbye == Goodbye::None && self.output < Output::Ended
    }

    /// Whether so many answers wait to be sent that no further request is to be started.
    pub(in crate::connection) fn has_unsent_answers(&self) -> bool {
        self.unsent_answers >= self.limits.inbound_requests
            || self.unsent_bytes >= self.limits.inbound_bytes
    }

    /// Says whether so many answers wait to be sent that nothing more may be read; if they are not
    /// sent at all, this is the reason.
    pub(in crate::connection) fn flooded(&self) -> Option<Error> {
        let answers = self.limits.inbound_requests.saturating_mul(HARD);
        let is_flooded = self.unsent_answers > answers.max(HARD_ANSWERS)
            || self.unsent_bytes > self.limits.inbound_bytes.saturating_mul(HARD);
        (is_flooded && self.output < Output::Ended).then(|| Error::PeerNotReading {
            answers: u64::try_from(self.unsent_answers).unwrap_or(u64::MAX),
            octets: u64::try_from(self.unsent_bytes).unwrap_or(u64::MAX),
        })
    }
}
