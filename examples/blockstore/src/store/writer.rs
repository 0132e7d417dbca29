//! The thread that writes. What it promises stands at the top of the module above.

use std::mem;
use std::time::Duration;

use super::overlay::{Addition, Overlay};
use super::{Shared, StoreError};

/// How many bytes may be committed without being durable.
const DURABLE_EVERY: usize = 64 * 1024 * 1024;

/// How long it is quiet before what there is is made durable.
const QUIET: Duration = Duration::from_secs(1);

/// Writes until the store is closed, or a write fails.
pub(super) fn run(shared: &Shared) {
    let _last_words = LastWords { shared };
    let mut at_risk = AtRisk::default();
    while let Some(batch) = next_batch(shared, &at_risk) {
        if let Err(error) = shared.database.write(&batch.additions, batch.is_durable) {
            log::error!("cannot write to the store: {error}");
            fail(shared, StoreError::Failed(error.into()));
            return;
        }
        at_risk = if batch.is_durable {
            AtRisk::default()
        } else {
            AtRisk {
                bytes: at_risk.bytes + batch.cost,
                commits: at_risk.commits + 1,
            }
        };
        settle(shared, &batch);
    }
}

/// What is committed and not on disk.
#[derive(Default)]
struct AtRisk {
    bytes: usize,
    commits: usize,
}

struct Batch {
    additions: Vec<Addition>,
    cost: usize,
    /// How many additions have been accepted up to the end of it.
    up_to: u64,
    is_durable: bool,
}

/// Waits for something to do; `None` when the store is closed and everything is on disk.
fn next_batch(shared: &Shared, at_risk: &AtRisk) -> Option<Batch> {
    let mut state = shared.state.lock();
    let mut is_quiet = false;
    while state.queued.is_empty() && state.wanted <= state.durable && !state.is_closing && !is_quiet
    {
        if at_risk.commits == 0 {
            shared.work.wait(&mut state);
        } else {
            is_quiet = shared.work.wait_for(&mut state, QUIET).timed_out();
        }
    }
    if state.queued.is_empty() && at_risk.commits == 0 && state.is_closing {
        return None;
    }
    let additions = mem::take(&mut state.queued);
    let cost = additions.iter().map(Addition::cost).sum();
    Some(Batch {
        is_durable: state.wanted > state.durable
            || state.is_closing
            || additions.is_empty()
            || at_risk.bytes + cost >= DURABLE_EVERY,
        additions,
        cost,
        up_to: state.accepted,
    })
}

/// Takes out of the overlay what the database has now.
fn settle(shared: &Shared, batch: &Batch) {
    let mut state = shared.state.lock();
    state.overlay.remove(&batch.additions);
    if batch.is_durable {
        state.durable = batch.up_to;
    }
    drop(state);
    shared.progress.notify_all();
}

/// Gives up writing, and what was to be written: it is no more there than if it had never come.
fn fail(shared: &Shared, failure: StoreError) {
    let mut state = shared.state.lock();
    state.failure.get_or_insert(failure);
    state.queued = Vec::new();
    state.overlay = Overlay::default();
    drop(state);
    shared.progress.notify_all();
}

/// Lets nobody wait for a writer that panicked.
struct LastWords<'a> {
    shared: &'a Shared,
}

impl Drop for LastWords<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            fail(self.shared, StoreError::Panicked);
        }
    }
}
