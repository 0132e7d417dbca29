//! The thread on which `on_complete` callbacks run.

use std::sync::Arc;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use super::place::{self, Role};
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
        let mut shared = self.shared.lock();
        let mut queue = self.callbacks.queue.lock();
        if !matches!(&*queue, Queue::NotStarted) {
            return Ok(());
        }
        // It counts as alive before it is, so that no close can miss it.
        shared.callbacks_live = true;
        drop(shared);
        let (sender, receiver) = crossbeam_channel::unbounded::<Job>();
        let session = Arc::clone(self);
        let thread = self.spawn("callbacks", move || {
            place::enter(&session, Role::Callbacks);
            for job in receiver {
                job();
            }
            session.shared.lock().callbacks_live = false;
            session.progress.notify_all();
        });
        match thread {
            Ok(thread) => {
                self.threads.lock().push(thread);
                *queue = Queue::Open(sender);
                Ok(())
            }
            Err(error) => {
                drop(queue);
                let mut shared = self.shared.lock();
                let queue = self.callbacks.queue.lock();
                // Somebody else may have started it meanwhile.
                if !matches!(&*queue, Queue::Open(_)) {
                    shared.callbacks_live = false;
                    self.progress.notify_all();
                }
                Err(error)
            }
        }
    }
}
