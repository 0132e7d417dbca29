//! Threads that do their jobs at once, as often as that is asked for.

use std::thread::Builder;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use packetstream::BoxError;

/// What one thread does each time.
pub(crate) type Job = Box<dyn FnMut() -> Result<(), BoxError> + Send>;

/// The threads.
///
/// They stay from round to round, because the context switches of threads that have ended are not
/// counted.
///
/// # Drop
///
/// The threads end, and nobody waits for that.
pub(crate) struct Crew {
    starts: Vec<Sender<()>>,
    done: Receiver<Result<(), BoxError>>,
}

impl Crew {
    pub(crate) fn start(jobs: Vec<Job>) -> Result<Self, BoxError> {
        let (tell, done) = unbounded();
        let mut starts = Vec::with_capacity(jobs.len());
        for mut job in jobs {
            let (start, started) = bounded(1);
            let tell = tell.clone();
            Builder::new().name("caller".to_owned()).spawn(move || {
                for () in started {
                    if tell.send(job()).is_err() {
                        break;
                    }
                }
            })?;
            starts.push(start);
        }
        Ok(Self { starts, done })
    }

    /// Has each thread do its job once, and blocks until all have.
    pub(crate) fn run(&self) -> Result<(), BoxError> {
        for start in &self.starts {
            start.send(())?;
        }
        self.starts.iter().try_for_each(|_| self.done.recv()?)
    }
}
