//! The hard budget: how a peer is kept from piling up answers that it does not read.

use std::time::{Duration, Instant};

use super::monitored_writer::WriteMonitor;
use super::session::{Session, Shared};
use crate::error::Result;
use crate::sync::MutexGuard;

/// How long a write may take while the budget is exceeded.
const PATIENCE: Duration = Duration::from_secs(5);

impl Session {
    /// Waits while more answers wait to be sent than the hard budget allows. What the receiver refuses
    /// comes faster than the sender is run, so that alone is no sign of a peer that does not read: one
    /// is a write that does not return.
    pub(super) fn wait_for_sender<'session>(
        &'session self,
        shared: &mut MutexGuard<'session, Shared>,
    ) -> Result<()> {
        if shared.state.flooded().is_none() {
            return Ok(());
        }
        let monitor = &self.outbox.monitor;
        monitor.watch(true);
        shared.is_paused = true;
        let mut steps = monitor.steps();
        let mut since = Instant::now();
        let result = loop {
            let Some(error) = shared.state.flooded() else {
                break Ok(());
            };
            if shared.is_forced || !shared.sender_lives {
                break Ok(());
            }
            self.outbox.push_run(&mut shared.run);
            self.outbox.want(shared.state.last_queued());
            // Its end wakes too, and what it takes out of the queue.
            self.inbound.wait_until(shared, since + PATIENCE);
            let (now, before) = (monitor.steps(), steps);
            if now != before || !WriteMonitor::is_inside(now) {
                steps = now;
                since = Instant::now();
            } else if since.elapsed() >= PATIENCE {
                break Err(error);
            }
        };
        shared.is_paused = false;
        monitor.watch(false);
        result
    }
}
