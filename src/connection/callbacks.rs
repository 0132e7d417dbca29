//! The thread on which `on_complete` callbacks run.

use std::sync::Arc;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use super::place::Role;
use super::session::Session;
use crate::error::Result;

/// A callback with its answer.
pub(super) type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(super) struct Callbacks {
    queue: Mutex<Queue>,
}

#[derive(Default)]
enum Queue {
    #[default]
    NotStarted,
    Open(Sender<Job>),
    /// Every request has been settled.
    Closed,
}

impl Callbacks {
    /// Queues a callback; gives it back if the thread has ended.
    pub(super) fn push(&self, job: Job) -> std::result::Result<(), Job> {
        match &*self.queue.lock() {
            Queue::Open(sender) => sender.send(job).map_err(|error| error.0),
            Queue::NotStarted | Queue::Closed => Err(job),
        }
    }

    fn is_started(&self) -> bool {
        !matches!(&*self.queue.lock(), Queue::NotStarted)
    }

    /// Notes that the thread runs; `false` if it does already, or has nothing to do any more.
    fn begin(&self, jobs: Sender<Job>) -> bool {
        let mut queue = self.queue.lock();
        let begins = matches!(&*queue, Queue::NotStarted);
        if begins {
            *queue = Queue::Open(jobs);
        }
        begins
    }

    /// Lets the thread end after what is queued.
    pub(super) fn close(&self) {
        *self.queue.lock() = Queue::Closed;
    }
}

impl Session {
    /// Starts the thread if it has not been started.
    pub(super) fn start_callbacks(self: &Arc<Self>) -> Result<()> {
        if self.callbacks.is_started() {
            return Ok(());
        }
        let (sender, receiver) = crossbeam_channel::unbounded::<Job>();
        let begins = move |session: &Self| session.callbacks.begin(sender);
        let started = self.start_late("callbacks", Role::Callbacks, begins, |_| {
            for job in receiver {
                job();
            }
        });
        // Another thread may have started it, though this one could not.
        if self.callbacks.is_started() {
            return Ok(());
        }
        started
    }
}
