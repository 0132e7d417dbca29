//! What can be asked of a connection at any time.

use std::fmt;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::session::Session;
use super::{Connection, ConnectionStats};
use crate::error::{Error, Result};
use crate::outcome::Outcome;

impl Connection {
    /// Returns the counters of the present open period, or of the last one; zeros in a fork of the
    /// process that opened it.
    pub fn stats(&self) -> ConnectionStats {
        if self.is_elsewhere() {
            return ConnectionStats::default();
        }
        self.session()
            .map(|session| session.stats())
            .unwrap_or_default()
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.inner.config.name
    }

    /// Returns `true` if the connection was opened, is not being closed, and has not ended by
    /// itself: in order, once both ends have ended their streams, or by a failure of the transport.
    ///
    /// A connection that is open may have ended at the peer already; only a request shows that. One
    /// that has ended stays so while guards or pending responses are left, an on-demand one too.
    pub fn is_open(&self) -> bool {
        self.open_session()
            .is_ok_and(|session| !session.has_ended())
    }

    pub(super) fn open_session(&self) -> Result<Arc<Session>> {
        if self.is_elsewhere() {
            return Err(Error::OtherProcess(Outcome::NotSent));
        }
        self.session()
            .filter(|session| !session.is_closing())
            .ok_or(Error::Closed)
    }

    pub(super) fn opener(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.inner.opener)
    }

    /// Whether it is open in another process, of which this one is a fork: then no lock of it may be
    /// waited for, since whoever held one does not go on here.
    pub(super) fn is_elsewhere(&self) -> bool {
        let opener = self.inner.opener.load(Ordering::Relaxed);
        opener != 0 && opener != process::id()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("name", &self.name())
            .field("is_open", &self.is_open())
            .finish_non_exhaustive()
    }
}
