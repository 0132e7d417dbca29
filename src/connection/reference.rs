//! What holds a connection open.

use std::fmt;
use std::sync::Arc;

use super::session::Session;

/// One open reference: held by each guard and each pending response. The last to be dropped
/// starts the close, in the background.
pub(super) struct Reference {
    session: Option<Arc<Session>>,
}

impl Reference {
    /// Wraps a reference that the session has counted already.
    pub(super) fn counted(session: Arc<Session>) -> Self {
        Self {
            session: Some(session),
        }
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        match &self.session {
            Some(session) => session,
            // Only `release`, which consumes the reference, takes it out.
            None => unreachable!("a reference is used after its release"),
        }
    }

    /// Lets go without starting the close; returns the session if it was the last.
    pub(super) fn release(mut self) -> (Arc<Session>, bool) {
        let Some(session) = self.session.take() else {
            unreachable!("a reference is released twice")
        };
        let is_last = session.release();
        (session, is_last)
    }
}

impl Clone for Reference {
    fn clone(&self) -> Self {
        self.session().refer();
        Self {
            session: self.session.clone(),
        }
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && session.release()
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
