//! A child process: waiting for its exit, killing and reaping it.

use std::io::{self, Write};
use std::process::{Child, ChildStdin, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::home::Home;

/// How long a child may take to exit once its transport was dropped, before it is killed.
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// How long we wait for a killed child ourselves; only one that is stuck in the kernel takes
/// longer.
const KILL_GRACE: Duration = Duration::from_secs(1);

const SHORTEST_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// A child process and our end of its stdin.
pub(super) struct Process {
    state: Mutex<State>,
    /// Notified when the child was seen to have exited, when it was killed, and when it is to be
    /// given less time.
    changed: Condvar,
    /// Whether this end has killed it.
    was_killed: AtomicBool,
    home: Home,
    pub(super) stdin: Stdin,
}

struct State {
    child: Child,
    /// Until when the child may exit by itself; `None` is without limit.
    finish_by: Option<Instant>,
}

/// What is known of a child's exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exit {
    Exited(ExitStatus),
    /// It has been reaped behind our back, as happens in a process that ignores `SIGCHLD`.
    Unknown,
    Running,
}

impl Process {
    /// Takes the child over; its stdin, if it is piped, goes to [`stdin`](Self::stdin).
    pub(super) fn new(mut child: Child) -> Self {
        let stdin = Stdin::new(child.stdin.take());
        Self {
            state: Mutex::new(State {
                child,
                finish_by: None,
            }),
            changed: Condvar::new(),
            was_killed: AtomicBool::new(false),
            home: Home::here(),
            stdin,
        }
    }

    /// Waits for the child to exit, until the deadline (`None`: without limit), and reaps it.
    pub(super) fn exit_by(&self, deadline: Option<Instant>) -> Exit {
        self.wait_for_exit(|_| deadline)
    }

    /// The same with a deadline that may change while it waits.
    ///
    /// `std` can wait either without limit, and then nobody can kill the child meanwhile, or not at
    /// all. So this polls, at growing intervals; killing the child wakes it.
    fn wait_for_exit(&self, deadline: impl Fn(&State) -> Option<Instant>) -> Exit {
        let mut state = self.state.lock();
        let mut wait = SHORTEST_WAIT;
        loop {
            match state.child.try_wait() {
                Ok(Some(status)) => {
                    self.changed.notify_all();
                    return Exit::Exited(status);
                }
                Ok(None) => {}
                Err(_no_such_child) => return Exit::Unknown,
            }
            let (now, deadline) = (Instant::now(), deadline(&state));
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Exit::Running;
            }
            let next = deadline.map_or(now + wait, |deadline| deadline.min(now + wait));
            if self.changed.wait_until(&mut state, next).timed_out() {
                wait = (wait * 2).min(LONGEST_WAIT);
            } else {
                wait = SHORTEST_WAIT;
            }
        }
    }

    /// Kills the child, unless it has exited, and closes its stdin.
    pub(super) fn kill(&self) {
        self.stdin.close();
        let mut state = self.state.lock();
        // A child that was reaped behind our back must not be killed: its number may be in use
        // again.
        if matches!(state.child.try_wait(), Ok(None)) {
            // It fails only when there is nothing left to kill.
            let killed = state.child.kill().is_ok();
            self.was_killed.fetch_or(killed, Ordering::Relaxed);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Has the child be given no more time to exit by itself than until the deadline, whenever it
    /// is [finished](Self::finish), also if that is going on. Does not block.
    pub(super) fn hasten(&self, deadline: Instant) {
        let mut state = self.state.lock();
        let earlier = state.finish_by.filter(|earlier| *earlier <= deadline);
        state.finish_by = earlier.or(Some(deadline));
        drop(state);
        self.changed.notify_all();
    }

    /// Whether the exit was our own doing and says nothing of the child.
    pub(super) fn was_killed(&self, status: ExitStatus) -> bool {
        self.was_killed.load(Ordering::Relaxed) && status.code().is_none()
    }

    /// Lets the child exit until the deadline, or an earlier one of [`hasten`](Self::hasten), then
    /// kills it; reaps it in any case.
    ///
    /// A fork of this process has no part in it: the child is its parent's.
    fn finish(self: Arc<Self>, deadline: Option<Instant>) {
        if self.home.is_left() {
            return;
        }
        self.stdin.close();
        if let Some(deadline) = deadline {
            self.hasten(deadline);
        }
        if self.wait_for_exit(|state| state.finish_by) != Exit::Running {
            return;
        }
        self.kill();
        if self.exit_by(Some(Instant::now() + KILL_GRACE)) != Exit::Running {
            return;
        }
        let process = Arc::clone(&self);
        let reaper = thread::Builder::new()
            .name("packetstream-reaper".to_owned())
            .spawn(move || process.exit_by(None));
        if reaper.is_err() {
            self.exit_by(None);
        }
    }
}

/// The duty to reap a child: done by [`finish`](Self::finish), at the latest when it is dropped.
pub(super) struct Reaper {
    process: Option<Arc<Process>>,
}

impl Reaper {
    pub(super) fn new(process: Arc<Process>) -> Self {
        Self {
            process: Some(process),
        }
    }

    /// Closes the child's stdin, lets it exit until the deadline, then kills it; and reaps it.
    pub(super) fn finish(mut self, deadline: Option<Instant>) {
        if let Some(process) = self.process.take() {
            process.finish(deadline);
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.finish(Some(Instant::now() + EXIT_GRACE));
        }
    }
}

/// Our end of a child's stdin, which another thread may close.
///
/// A write shares the pipe for as long as it lasts, so that no lock is held while it blocks; the
/// pipe closes when a write that is under way has returned.
#[derive(Clone)]
pub(super) struct Stdin {
    pipe: Arc<Mutex<Option<Arc<ChildStdin>>>>,
}

impl Stdin {
    fn new(pipe: Option<ChildStdin>) -> Self {
        Self {
            pipe: Arc::new(Mutex::new(pipe.map(Arc::new))),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.pipe.lock().is_some()
    }

    pub(super) fn close(&self) {
        let pipe = self.pipe.lock().take();
        drop(pipe);
    }
}

/// Writes to a child's stdin, and closes it when dropped.
pub(super) struct StdinWriter(pub(super) Stdin);

impl Write for StdinWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let pipe = self
            .0
            .pipe
            .lock()
            .clone()
            .ok_or(io::ErrorKind::BrokenPipe)?;
        (&*pipe).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for StdinWriter {
    fn drop(&mut self) {
        self.0.close();
    }
}
