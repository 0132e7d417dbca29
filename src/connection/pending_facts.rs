//! What can be asked of a pending response at any time.

use std::fmt;
use std::time::Instant;

use super::{PendingResponse, Waited};
use crate::wire::{ChannelId, Tag};

impl<T> PendingResponse<T> {
    /// Returns `true` if waiting would not block: the answer is here, or the
    /// [time given to the request](crate::Request::with_timeout) is over.
    #[doc(alias = "ready")]
    pub fn is_finished(&self) -> bool {
        let is_finished = self.submitted.one_shot.is_settled()
            || self
                .deadline
                .is_some_and(|deadline| deadline <= Instant::now());
        if !is_finished {
            self.waited.poll();
        }
        is_finished
    }

    /// Returns the tag of the request, as it is on the wire.
    ///
    /// Until the request is sent, it may become less, when requests ahead of it are given up unsent.
    /// One that is itself given up unsent has none: what is returned may be the tag of another.
    pub fn tag(&self) -> Tag {
        self.submitted.one_shot.tag()
    }

    /// Returns the channel of the request.
    pub fn channel(&self) -> ChannelId {
        self.submitted.channel
    }

    /// Returns the label of the request, if it has one.
    pub fn label(&self) -> Option<&str> {
        self.extras.as_ref()?.label.as_deref()
    }

    pub(in crate::connection) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(in crate::connection) fn waited(&self) -> &Waited {
        &self.waited
    }

    /// Whether it belongs to another process, of which this one is a fork. To be asked where a wait
    /// begins, or less often.
    pub(in crate::connection) fn is_elsewhere(&self) -> bool {
        self.session().is_some_and(|session| session.home.is_left())
    }
}

impl<T> fmt::Debug for PendingResponse<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingResponse")
            .field("channel", &self.channel().get())
            .field("tag", &self.tag().get())
            .field("label", &self.label())
            .field("is_finished", &self.submitted.one_shot.is_settled())
            .finish_non_exhaustive()
    }
}
