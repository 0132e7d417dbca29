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
    child: Mutex<Child>,
    /// Notified when the child was seen to have exited, and when it was killed.
    changed: Condvar,
    /// Whether this end has killed it.
    was_killed: AtomicBool,
    home: Home,
    pub(super) stdin: Stdin,
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
            child: Mutex::new(child),
            changed: Condvar::new(),
            was_killed: AtomicBool::new(false),
            home: Home::here(),
            stdin,
        }
    }

    /// Waits for the child to exit, until the deadline (`None`: without limit), and reaps it.
    ///
    /// `std` can wait either without limit, and then nobody can kill the child meanwhile, or not at
    /// all. So this polls, at growing intervals; killing the child wakes it.
    pub(super) fn exit_by(&self, deadline: Option<Instant>) -> Exit {
        let mut child = self.child.lock();
        let mut wait = SHORTEST_WAIT;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => {
                    self.changed.notify_all();
                    return Exit::Exited(status);
                }
                Ok(None) => {}
                Err(_no_such_child) => return Exit::Unknown,
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Exit::Running;
            }
            let next = deadline.map_or(now + wait, |deadline| deadline.min(now + wait));
            if self.changed.wait_until(&mut child, next).timed_out() {
                wait = (wait * 2).min(LONGEST_WAIT);
            } else {
                wait = SHORTEST_WAIT;
            }
        }
    }

    /// Kills the child, unless it has exited, and closes its stdin.
    pub(super) fn kill(&self) {
        self.stdin.close();
        let mut child = self.child.lock();
        // A child that was reaped behind our back must not be killed: its number may be in use
        // again.
        if matches!(child.try_wait(), Ok(None)) {
            // It fails only when there is nothing left to kill.
            let killed = child.kill().is_ok();
            self.was_killed.fetch_or(killed, Ordering::Relaxed);
        }
        drop(child);
        self.changed.notify_all();
    }

    /// Whether the exit was our own doing and says nothing of the child.
    pub(super) fn was_killed(&self, status: ExitStatus) -> bool {
        self.was_killed.load(Ordering::Relaxed) && status.code().is_none()
    }

    /// Lets the child exit until the deadline, then kills it; reaps it in any case.
    ///
    /// A fork of this process has no part in it: the child is its parent's.
    fn finish(self: Arc<Self>, deadline: Option<Instant>) {
        if self.home.is_left() {
            return;
        }
        self.stdin.close();
        if self.exit_by(deadline) != Exit::Running {
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
