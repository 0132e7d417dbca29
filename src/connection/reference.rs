//! What holds a connection open.

use std::fmt;
use std::sync::Arc;

use super::open_count::Hold;
use super::session::Session;

/// One open reference: held by each guard and each pending response. The last to be dropped
/// starts the close, in the background.
pub(super) struct Reference {
    session: Option<Arc<Session>>,
    hold: Hold,
}

impl Reference {
    /// Wraps a reference that the session has counted already.
    pub(super) fn counted(session: Arc<Session>, hold: Hold) -> Self {
        Self {
            session: Some(session),
            hold,
        }
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        match &self.session {
            Some(session) => session,
            // Only `take`, whose callers consume the reference, takes it out.
            None => unreachable!("a reference is used after its release"),
        }
    }

    /// Lets go without starting the close; returns the session, and whether this was the last
    /// reference, so that the caller has to close it.
    pub(super) fn release(self) -> (Arc<Session>, bool) {
        let hold = self.hold;
        let session = self.take();
        let is_last = session.release(hold);
        (session, is_last)
    }

    /// Lets go of a guard to close; returns the session, and whether the caller has to close it,
    /// whatever results there are: `false` if other guards are left.
    pub(super) fn close(self) -> (Arc<Session>, bool) {
        let session = self.take();
        let is_last = session.release_guard();
        (session, is_last)
    }

    fn take(mut self) -> Arc<Session> {
        match self.session.take() {
            Some(session) => session,
            None => unreachable!("a reference is released twice"),
        }
    }
}

impl Clone for Reference {
    fn clone(&self) -> Self {
        self.session().refer(self.hold);
        Self {
            session: self.session.clone(),
            hold: self.hold,
        }
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && session.release(self.hold)
        {
            session.close_of_last_reference();
        }
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reference")
    }
}
