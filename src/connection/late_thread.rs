//! Threads that are started for the first who needs them: for callbacks, and for time limits.

use std::sync::Arc;

use super::place::{self, Role};
use super::session::Session;
use crate::error::Result;

impl Session {
    /// Starts a thread that is needed now, and ends with the last request, unless `begins`, which
    /// is called under the lock, says that it runs already or is of no use any more.
    pub(super) fn start_late(
        self: &Arc<Self>,
        name: &str,
        role: Role,
        begins: impl FnOnce(&Self) -> bool,
        body: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) -> Result<()> {
        // It waits for a word, so that it can be started without the lock and yet counts as alive
        // before it is: no close can miss it.
        let (go, may_go) = crossbeam_channel::bounded::<()>(1);
        let session = Arc::clone(self);
        let thread = self.spawn(name, move || {
            if may_go.recv().is_err() {
                return;
            }
            place::enter(&session, role);
            body(&session);
            session.shared.lock().late_threads -= 1;
            session.progress.notify_all();
        })?;
        let mut shared = self.shared.lock();
        if begins(self) {
            shared.late_threads += 1;
            self.threads.lock().push(thread);
            drop(shared);
            // It has room for the word.
            let _ = go.send(());
        } else {
            drop(shared);
            drop(go);
            // It has been started twice, and this one does nothing.
            let _ = thread.join();
        }
        Ok(())
    }
}
