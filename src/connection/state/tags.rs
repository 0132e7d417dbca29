//! The tags of our own requests.
//!
//! A request gets a tag when it is made, under which it stands in the table. It is final once the
//! request is taken out of the queue for writing. Requests that are withdrawn before that use up
//! no tag: those behind them in the queue move up, so that the tags on the wire have no gaps. The
//! first request that is sent has the first tag, whatever became of others before it, and that is
//! what tells the start of our stream from text.

use std::collections::HashMap;

use super::Key;
use crate::connection::key_hash::KeyHash;
use crate::wire::{ChannelId, Tag};

/// The first tag on the default channel: the two end packets of the original have 0 and 1 there.
const FIRST_TAG: u64 = 2;

/// Which tags have been given, and by how much those in the queue are too high.
#[derive(Debug)]
pub(super) struct Tags {
    /// Of the default channel, which most use, and of all others that are in use.
    next: u64,
    next_of_others: HashMap<ChannelId, u64, KeyHash>,
    /// How many requests of a channel were withdrawn ahead of those that are in the queue; absent
    /// where there is none of either.
    withdrawn: HashMap<ChannelId, u64, KeyHash>,
}

impl Tags {
    pub(super) fn new() -> Self {
        Self {
            next: FIRST_TAG,
            next_of_others: HashMap::default(),
            withdrawn: HashMap::default(),
        }
    }

    /// Returns the tag that the next request on a channel gets.
    pub(super) fn next(&self, channel: ChannelId) -> Tag {
        let next = if channel == ChannelId::DEFAULT {
            self.next
        } else {
            self.next_of_others.get(&channel).copied().unwrap_or(0)
        };
        Tag::new(next)
    }

    /// Takes note that a request has got its tag.
    pub(super) fn give(&mut self, (channel, tag): Key) {
        // 2^64 requests take longer than any machine lasts.
        self.set_next(channel, tag.get().saturating_add(1));
    }

    fn set_next(&mut self, channel: ChannelId, next: u64) {
        if channel == ChannelId::DEFAULT {
            self.next = next;
        } else {
            self.next_of_others.insert(channel, next);
        }
    }

    /// Whether all tags in the queue are those under which the requests will be sent, unless further
    /// ones are withdrawn.
    pub(super) fn are_exact(&self) -> bool {
        self.withdrawn.is_empty()
    }

    /// Takes note that a request leaves the queue, and returns the tag with which it is sent,
    /// unless it is withdrawn. The requests of a channel leave in the order of their tags.
    pub(super) fn leave(&mut self, (channel, tag): Key, is_withdrawn: bool) -> Tag {
        let before = self.withdrawn.get(&channel).copied().unwrap_or(0);
        let now = before.saturating_add(u64::from(is_withdrawn));
        let next = self.next(channel).get();
        if tag.get().saturating_add(1) == next {
            // The queue has no more of the channel, so nothing stands in the way of the tags that
            // were not used.
            self.withdrawn.remove(&channel);
            if now > 0 {
                self.set_next(channel, next.saturating_sub(now));
            }
        } else if is_withdrawn {
            self.withdrawn.insert(channel, now);
        }
        Tag::new(tag.get().saturating_sub(before))
    }
}
