//! Threads for those who wait, used again and again: there are a dozen in each of many thousand
//! sessions.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

type Job = Box<dyn FnOnce() + Send>;

struct Crew {
    jobs: Sender<Job>,
    queue: Receiver<Job>,
    /// The threads that wait for a job and have none coming.
    idle: AtomicUsize,
}

static CREW: LazyLock<Crew> = LazyLock::new(|| {
    let (jobs, queue) = unbounded();
    Crew {
        jobs,
        queue,
        idle: AtomicUsize::new(0),
    }
});

/// A task that runs on a thread of the crew.
pub struct Task<T> {
    name: &'static str,
    result: Receiver<T>,
}

impl<T> Task<T> {
    /// Blocks until it has ended; fails with its name if it panicked.
    pub fn join(self) -> Result<T, &'static str> {
        self.result.recv().map_err(|_| self.name)
    }
}

/// Runs a task on a thread that is free, or on a new one.
pub fn run<T: Send + 'static>(
    name: &'static str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Task<T> {
    let (done, result) = bounded(1);
    // A panic drops the sender, which is how it is noticed, and ends the thread.
    let job: Job = Box::new(move || drop(done.send(body())));
    let one_less = |idle: usize| idle.checked_sub(1);
    if CREW.idle.fetch_update(SeqCst, SeqCst, one_less).is_ok() {
        CREW.jobs.send(job).unwrap();
    } else {
        let work = move || {
            job();
            loop {
                CREW.idle.fetch_add(1, SeqCst);
                CREW.queue.recv().unwrap()();
            }
        };
        let thread = thread::Builder::new().name("crew".to_owned());
        thread.spawn(work).unwrap();
    }
    Task { name, result }
}
