//! Cancelling a request from anywhere.

use std::fmt;
use std::sync::{Arc, Weak};

use super::session::Session;
use super::state::Key;

/// Cancels a request that somebody may be waiting for.
///
/// Made by [`PendingResponse::canceller`](crate::PendingResponse::canceller). It holds neither the request nor the connection.
#[derive(Clone)]
pub struct Canceller {
    session: Weak<Session>,
    key: Key,
}

impl Canceller {
    pub(super) fn new(session: Option<&Arc<Session>>, key: Key) -> Self {
        Self {
            session: session.map(Arc::downgrade).unwrap_or_default(),
            key,
        }
    }

    /// Cancels the request and wakes who waits for it with [`Error::Cancelled`](crate::Error::Cancelled); returns `false`
    /// if it was settled before, and in a fork of the process that made the request.
    #[doc(alias = "RequestState.cancel")]
    pub fn cancel(&self) -> bool {
        self.session
            .upgrade()
            .is_some_and(|session| !session.home.is_left() && session.cancel(self.key).is_some())
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller")
            .field("channel", &self.key.0.get())
            .field("tag", &self.key.1.get())
            .finish_non_exhaustive()
    }
}
