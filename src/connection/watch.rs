//! What a pending response leaves with others so that it is told of its answer.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::one_shot::OneShot;
use super::session::Session;
use super::submitted::Submitted;
use crate::error::Result;
use crate::home::Home;

/// Who listens to a one-shot, and the time limit of its request. Dropping it takes both back.
pub(super) struct Watch {
    home: Home,
    one_shot: Arc<OneShot>,
    limit: Option<Limit>,
}

struct Limit {
    session: Arc<Session>,
    deadline: Instant,
    number: u64,
}

impl Watch {
    /// Watches over a listener only.
    pub(super) fn new(one_shot: &Arc<OneShot>) -> Self {
        Self {
            home: Home::here(),
            one_shot: Arc::clone(one_shot),
            limit: None,
        }
    }

    /// Has the request given up when its time is over; does nothing if that is arranged already.
    pub(super) fn limit(
        &mut self,
        session: &Arc<Session>,
        deadline: Instant,
        submitted: &Submitted,
    ) -> Result<()> {
        if self.limit.is_none() {
            let number = submitted.number;
            session.limit(deadline, submitted)?;
            self.limit = Some(Limit {
                session: Arc::clone(session),
                deadline,
                number,
            });
        }
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // In a fork nobody gives a lock back that another thread had.
        if self.home.is_left() {
            return;
        }
        if let Some(limit) = self.limit.take() {
            limit.session.timer.remove(limit.deadline, limit.number);
        }
        // It is the user's, and dropped here, without the lock.
        drop(self.one_shot.forget());
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}
