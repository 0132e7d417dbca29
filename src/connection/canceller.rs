//! Cancelling a request from anywhere.

use std::fmt;
use std::sync::{Arc, Weak};

use super::one_shot::OneShot;
use super::session::Session;
use super::submitted::Submitted;
use crate::wire::ChannelId;

/// Cancels a request that somebody may be waiting for.
///
/// Made by [`PendingResponse::canceller`](crate::PendingResponse::canceller). It holds neither the request nor the connection.
#[derive(Clone)]
pub struct Canceller {
    session: Weak<Session>,
    one_shot: Weak<OneShot>,
    channel: ChannelId,
    number: u64,
}

impl Canceller {
    pub(super) fn new(session: Option<&Arc<Session>>, submitted: &Submitted) -> Self {
        Self {
            session: session.map(Arc::downgrade).unwrap_or_default(),
            one_shot: Arc::downgrade(&submitted.one_shot),
            channel: submitted.channel,
            number: submitted.number,
        }
    }

    /// Cancels the request and wakes who waits for it with [`Error::Cancelled`](crate::Error::Cancelled); returns `false`
    /// if it was settled before, and in a fork of the process that made the request.
    #[doc(alias = "RequestState.cancel")]
    pub fn cancel(&self) -> bool {
        let Some(session) = self.session.upgrade() else {
            return false;
        };
        // Who waits has the one-shot, and so has the table until the request is settled.
        let Some(one_shot) = self.one_shot.upgrade() else {
            return false;
        };
        let submitted = Submitted {
            one_shot,
            channel: self.channel,
            number: self.number,
        };
        !session.home.is_left() && session.cancel(&submitted).is_some()
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller")
            .field("channel", &self.channel.get())
            .finish_non_exhaustive()
    }
}
