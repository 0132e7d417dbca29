//! The protocol as pure data: what has been asked and not answered, in both directions, and how
//! far each direction has ended. No threads, no streams, no clocks.
//!
//! ```text
//! our direction   Open ──ERQ queued──▶ Finished ──EOF queued──▶ Ended ──EOF flushed──▶ Over
//!                   │                     └──── write error ────┴──▶ Failed ◀──┐
//!                   └── write error ──▶ Failing ── its reason known, or not in time ──┘
//!                 a forced end: Over from any but the last two
//! the peer's      Open ──ERQ read──▶ Finished ──EOF read, end of input, error──▶ Ended(cause)
//! ```
//!
//! Everything that is queued for the sender gets a number, ever growing and in the order of the
//! queue. The sender takes packets out under the same lock, so "was this request handed to the
//! transport?" is one comparison, and a request that was reported as not sent is never sent.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

mod ending;
mod serving;
mod tags;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use self::tags::Tags;
use super::key_hash::{KeyHash, release_room};
use crate::error::{Error, Result};
use crate::outcome::Outcome;
use crate::wire::{ChannelId, Packet, PacketKind, Tag};

/// What identifies a request among those of its direction.
pub(super) type Key = (ChannelId, Tag);

/// A packet in the send queue.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) number: u64,
    pub(super) packet: Packet,
}

/// The limits that are checked here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) outstanding_requests: usize,
    pub(super) outstanding_bytes: usize,
    pub(super) send_queue_len: usize,
    /// Requests of the peer that are not answered, and answers that are not sent.
    pub(super) inbound_requests: usize,
    pub(super) inbound_bytes: usize,
    /// The longest response, in bytes after the length prefix, that is dropped if it answers
    /// nothing; a longer one ends the connection.
    pub(super) unowed_response: u64,
}

/// A request of ours that the peer owes an answer to.
#[derive(Debug)]
struct Call<W> {
    /// Who waits for it; nobody, once it has been cancelled.
    waiter: Option<W>,
    number: u64,
    bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Output {
    Open,
    Finished,
    Ended,
    Over,
    /// From `Open`: why the peer has gone may still be heard, and is told to whoever asks meanwhile.
    Failing,
    Failed,
}

#[derive(Debug)]
enum Input {
    Open,
    Finished,
    Ended(Arc<Error>),
}

/// What a request of ours is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sake {
    Own,
    /// To answer a request of the peer that we have accepted.
    Accepted,
}

/// Why our direction is to end as soon as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Goodbye {
    /// It is not.
    None,
    /// The peer's direction has ended: both end packets follow the last answer.
    AfterInput,
    /// No requests follow but those that are needed to answer what we have accepted; once that is
    /// done, none at all, and the end does once our own requests are answered.
    AfterAnswers,
    /// No requests follow, and the end does once what we have accepted is answered.
    AfterServing,
}

/// What became of a request of ours, in numbers, and of the peer's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    pub(super) requests_not_sent: u64,
    pub(super) requests_unknown: u64,
    pub(super) answers_lost: u64,
    pub(super) requests_dropped: u64,
    pub(super) late_responses: u64,
}

/// What a packet of the peer asks for.
#[derive(Debug)]
pub(super) enum Action<W> {
    /// Hand the request to a handler.
    Serve,
    /// Answer it "not ok" with this text.
    Reject(Cow<'static, [u8]>),
    /// Give the answer to who waits for it.
    Settle(W),
    /// Nobody waits for it, or nothing can be said to it any more.
    Drop,
    /// The peer will make no more requests.
    RequestsFinished,
    /// Nothing more comes.
    Ended(Error),
}

/// A waiter that is told that its request has failed.
pub(super) type Failed<W> = (W, Error);

/// Both tables and both directions of one connection.
#[derive(Debug)]
pub(super) struct State<W> {
    limits: Limits,
    has_handler: bool,
    output: Output,
    input: Input,
    has_said_goodbye: bool,
    goodbye: Goodbye,
    /// The closed mark: why a request that is registered now must fail at once.
    closed: Option<Arc<Error>>,
    /// What ended the connection out of order, if anything.
    fault: Option<Arc<Error>>,
    /// Why writing has failed, if it has.
    write_error: Option<Arc<Error>>,
    calls: HashMap<Key, Call<W>, KeyHash>,
    /// Calls that somebody waits for, or has merely forgotten; not the cancelled ones.
    awaited: usize,
    owed_bytes: usize,
    requests_in_queue: usize,
    /// Cancelled while still in the queue: the sender leaves them out.
    withdrawn: HashMap<Key, usize, KeyHash>,
    tags: Tags,
    last_queued: u64,
    last_taken: u64,
    last_answered: u64,
    /// With the size of the payload.
    serving: HashMap<Key, usize, KeyHash>,
    serving_bytes: usize,
    unsent_answers: usize,
    unsent_bytes: usize,
    losses: Losses,
}

impl<W> State<W> {
    pub(super) fn new(limits: Limits, has_handler: bool) -> Self {
        Self {
            limits,
            has_handler,
            output: Output::Open,
            input: Input::Open,
            has_said_goodbye: false,
            goodbye: Goodbye::None,
            closed: None,
            fault: None,
            write_error: None,
            calls: HashMap::default(),
            awaited: 0,
            owed_bytes: 0,
            requests_in_queue: 0,
            withdrawn: HashMap::default(),
            tags: Tags::new(),
            last_queued: 0,
            last_taken: 0,
            last_answered: 0,
            serving: HashMap::default(),
            serving_bytes: 0,
            unsent_answers: 0,
            unsent_bytes: 0,
            losses: Losses::default(),
        }
    }

    // ---- our requests ------------------------------------------------------------------

    /// Says whether a request may be made at all.
    pub(super) fn may_request(&self) -> Result<()> {
        self.may_request_for(Sake::Own)
    }

    /// The same, of a request that is made for the sake of another one. While we close, those that
    /// are needed to answer what we have accepted may still be made.
    pub(super) fn may_request_for(&self, sake: Sake) -> Result<()> {
        if let Some(cause) = &self.closed {
            return Err(Error::unanswered(Outcome::NotSent, cause));
        }
        match self.output {
            Output::Open | Output::Failing
                if sake == Sake::Accepted || self.goodbye == Goodbye::None =>
            {
                Ok(())
            }
            _ => Err(Error::RequestsFinished),
        }
    }

    /// Says whether a request of that size may be made now, or must wait for answers. One that
    /// is larger than the whole budget goes when nothing else is outstanding.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.requests_in_queue < self.limits.send_queue_len
            && (self.calls.is_empty() && self.withdrawn.is_empty()
                || (self.calls.len() < self.limits.outstanding_requests
                    && self.owed_bytes.saturating_add(bytes) <= self.limits.outstanding_bytes))
    }

    /// The same for a request that is made for that reason, which has more room: one more may be made
    /// for each that we serve, or a chain of them would wait for itself.
    pub(super) fn has_room_for(&self, sake: Sake, bytes: usize) -> bool {
        let serving = self.serving.len();
        let most = self.limits.outstanding_requests.saturating_add(serving);
        let bytes_fit = self.owed_bytes.saturating_add(bytes) <= self.limits.outstanding_bytes;
        self.has_room(bytes)
            || (sake == Sake::Accepted
                && self.requests_in_queue < self.limits.send_queue_len
                && self.calls.len() < most
                // Of chains that all wait here, each has one that is served.
                && (bytes_fit || self.calls.len() <= serving))
    }

    /// Returns the tag that the next request on a channel gets.
    pub(super) fn next_tag(&self, channel: ChannelId) -> Tag {
        self.tags.next(channel)
    }

    /// Registers a request, under the number that its packet is queued with. Its tag is final once
    /// it has been [taken](Self::take).
    pub(super) fn register(&mut self, key: Key, bytes: usize, waiter: W) -> u64 {
        let number = self.number();
        let call = Call {
            waiter: Some(waiter),
            number,
            bytes,
        };
        self.calls.insert(key, call);
        self.tags.give(key);
        self.awaited = self.awaited.saturating_add(1);
        self.owed_bytes = self.owed_bytes.saturating_add(bytes);
        self.requests_in_queue = self.requests_in_queue.saturating_add(1);
        number
    }

    /// Forgets who waits for a request. Unsent, it is never sent; sent, its answer stays owed.
    ///
    /// Returns `None` if it has been settled already: another request may have its tag then, which
    /// has another number.
    pub(super) fn cancel(&mut self, key: Key, number: u64) -> Option<(W, Outcome)> {
        let call = self.calls.get_mut(&key)?;
        if call.number != number {
            return None;
        }
        let waiter = call.waiter.take()?;
        self.awaited = self.awaited.saturating_sub(1);
        if call.number <= self.last_taken {
            return Some((waiter, Outcome::Unknown));
        }
        // The packet takes up its room until the sender leaves it out.
        self.withdrawn.insert(key, call.bytes);
        self.calls.remove(&key);
        Some((waiter, Outcome::NotSent))
    }

    /// Forgets a request that has been answered; `None` if there is none that can have been.
    fn remove_answered(&mut self, key: Key) -> Option<Call<W>> {
        let call = self.calls.remove(&key)?;
        if call.number > self.last_taken {
            // A tag that we have not sent yet cannot have been answered: the peer made it up.
            self.calls.insert(key, call);
            return None;
        }
        release_room(&mut self.calls);
        self.owed_bytes = self.owed_bytes.saturating_sub(call.bytes);
        if call.waiter.is_some() {
            self.awaited = self.awaited.saturating_sub(1);
        }
        Some(call)
    }

    pub(super) fn outstanding(&self) -> usize {
        self.calls.len()
    }

    // ---- the peer's packets ------------------------------------------------------------

    /// Says whether a response with this key answers a request of ours.
    pub(super) fn is_owed(&self, key: Key) -> bool {
        self.calls
            .get(&key)
            .is_some_and(|call| call.number <= self.last_taken)
    }

    /// Says whether a response with this tag, on whatever channel, answers a request of ours.
    pub(super) fn is_owed_somewhere(&self, tag: Tag) -> bool {
        let mut keys = self.calls.keys();
        keys.any(|key| key.1 == tag && self.is_owed(*key))
    }

    /// Says whether the rest of a response that announces this length may be waited for.
    pub(super) fn may_read_response(&self, key: Key, len: u64) -> Result<()> {
        // What a forced end has given up may still be answered.
        let has_ended = matches!(self.input, Input::Ended(_));
        if len <= self.limits.unowed_response || has_ended || self.is_owed(key) {
            return Ok(());
        }
        Err(Error::UnknownResponse {
            channel: key.0,
            tag: key.1,
            len,
        })
    }

    /// Takes note of a packet and says what it asks for. `is_waited`: some handler here waits,
    /// perhaps for the peer.
    pub(super) fn receive(&mut self, packet: &Packet, is_waited: bool) -> Action<W> {
        let key = (packet.channel(), packet.tag());
        match packet.kind() {
            PacketKind::Response { .. } => self.response(key, packet.body_len()),
            PacketKind::Request(_) => self.request(key, packet.payload().len(), is_waited),
            PacketKind::EndOfRequests => {
                if matches!(self.input, Input::Open) {
                    self.input = Input::Finished;
                }
                Action::RequestsFinished
            }
            PacketKind::EndOfStream => Action::Ended(Error::PeerClosed),
        }
    }

    /// The same of the head of a packet that is too long to be read: `len` bytes where `limit` are
    /// allowed.
    pub(super) fn receive_too_long(&mut self, head: &Packet, len: u64, limit: u64) -> Action<W> {
        let key = (head.channel(), head.tag());
        if head.is_response() {
            self.response(key, len)
        } else {
            self.request_too_long(key, len, limit)
        }
    }

    fn response(&mut self, key: Key, len: u64) -> Action<W> {
        if let Err(error) = self.may_read_response(key, len) {
            return Action::Ended(error);
        }
        let waiter = self.remove_answered(key).and_then(|call| {
            self.last_answered = self.last_answered.max(call.number);
            call.waiter
        });
        if let Some(waiter) = waiter {
            return Action::Settle(waiter);
        }
        self.losses.late_responses = self.losses.late_responses.saturating_add(1);
        Action::Drop
    }

    /// The number of the last packet of ours that the peer has read for certain.
    pub(super) fn last_answered(&self) -> u64 {
        self.last_answered
    }

    // ---- the send queue ----------------------------------------------------------------

    pub(super) fn last_queued(&self) -> u64 {
        self.last_queued
    }

    /// Numbers and counts a packet that is queued for the sender and is not a request.
    pub(super) fn queue(&mut self, packet: &Packet) -> u64 {
        if packet.is_response() {
            self.unsent_answers = self.unsent_answers.saturating_add(1);
            self.unsent_bytes = self.unsent_bytes.saturating_add(packet.payload().len());
        }
        self.number()
    }

    fn number(&mut self) -> u64 {
        self.last_queued = self.last_queued.saturating_add(1);
        self.last_queued
    }

    /// The sender takes these out of the queue: leaves out what must not be sent any more, and gives
    /// the rest the tags with which they are sent. `renumbered` is told of each that is not what it
    /// was.
    pub(super) fn take(&mut self, batch: &mut Vec<Queued>, renumbered: impl Fn(&W, Tag)) {
        if let Some(last) = batch.last() {
            self.last_taken = last.number;
        }
        let closed = self.closed.is_some();
        batch.retain_mut(|queued| {
            if queued.packet.is_response() {
                self.unsent_answers = self.unsent_answers.saturating_sub(1);
                let bytes = queued.packet.payload().len();
                self.unsent_bytes = self.unsent_bytes.saturating_sub(bytes);
            }
            if !matches!(queued.packet.kind(), PacketKind::Request(_)) {
                return true;
            }
            self.requests_in_queue = self.requests_in_queue.saturating_sub(1);
            let key = (queued.packet.channel(), queued.packet.tag());
            // With the closed mark set, all requests that were in the queue have been failed.
            if self.withdrawn.is_empty() && self.tags.are_exact() {
                return !closed;
            }
            let withdrawn = self.withdrawn.remove(&key);
            release_room(&mut self.withdrawn);
            self.owed_bytes = self.owed_bytes.saturating_sub(withdrawn.unwrap_or(0));
            let tag = self.tags.leave(key, withdrawn.is_some());
            if closed || withdrawn.is_some() {
                return false;
            }
            if tag != key.1
                && let Some(call) = self.calls.remove(&key)
            {
                if let Some(waiter) = &call.waiter {
                    renumbered(waiter, tag);
                }
                self.calls.insert((key.0, tag), call);
                queued.packet.set_tag(tag);
            }
            true
        });
    }

    /// Counts what was left in the queue, or in the buffer, when sending ended.
    pub(super) fn left_unsent(&mut self, answers: u64) {
        self.losses.answers_lost = self.losses.answers_lost.saturating_add(answers);
    }
}
