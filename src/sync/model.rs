//! Mutex and condition variable for loom, with the interface of `parking_lot`'s.
//!
//! Loom's own condition variable never times out. Here time is an event that a model makes
//! happen: from [`expire`] on, whenever that is, every deadline has passed.
//!
//! Loom runs all threads of a model on one and switches only at operations on its own objects.
//! So the lists below, which are not such objects, change at once with the operation on `order`
//! before them, and that operation tells loom that the changes depend on each other.
#![allow(
    clippy::unwrap_used,
    reason = "a panic ends the model, and a guard is only empty inside of a wait"
)]

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use loom::sync::atomic::AtomicUsize;
use loom::thread::{self, Thread};

/// A mutual exclusion without poisoning.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard {
            mutex: self,
            guard: Some(self.locked()),
        }
    }

    fn locked(&self) -> loom::sync::MutexGuard<'_, T> {
        // A panic ends the whole model.
        self.0.lock().unwrap()
    }
}

#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// Gone while a condition variable waits.
    guard: Option<loom::sync::MutexGuard<'a, T>>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().unwrap()
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().unwrap()
    }
}

/// A condition variable that never wakes anybody without a reason.
#[derive(Debug, Default)]
pub(crate) struct Condvar {
    order: AtomicUsize,
    sleepers: parking_lot::Mutex<VecDeque<Arc<Sleeper>>>,
}

const ASLEEP: u8 = 0;
const NOTIFIED: u8 = 1;
const TIMED_OUT: u8 = 2;

#[derive(Debug)]
struct Sleeper {
    thread: Thread,
    state: AtomicU8,
}

impl Sleeper {
    /// `false` if something else has woken it before.
    fn wake(&self, reason: u8) -> bool {
        let wakes =
            self.state
                .compare_exchange(ASLEEP, reason, Ordering::Relaxed, Ordering::Relaxed);
        if wakes.is_ok() {
            self.thread.unpark();
        }
        wakes.is_ok()
    }

    fn is_awake(&self) -> bool {
        self.state.load(Ordering::Relaxed) != ASLEEP
    }
}

/// Whether a timed wait ended because its time was over.
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.sleep(guard, None);
    }

    pub(crate) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        _deadline: Instant,
    ) -> WaitTimeoutResult {
        WaitTimeoutResult(self.sleep(guard, Some(&CLOCK)) == TIMED_OUT)
    }

    pub(crate) fn notify_one(&self) {
        self.order.fetch_add(1, Ordering::AcqRel);
        let mut sleepers = self.sleepers.lock();
        while let Some(sleeper) = sleepers.pop_front() {
            if sleeper.wake(NOTIFIED) {
                return;
            }
        }
    }

    pub(crate) fn notify_all(&self) {
        self.order.fetch_add(1, Ordering::AcqRel);
        for sleeper in self.sleepers.lock().drain(..) {
            sleeper.wake(NOTIFIED);
        }
    }

    fn sleep<T>(&self, guard: &mut MutexGuard<'_, T>, clock: Option<&Clock>) -> u8 {
        if let Some(clock) = clock {
            clock.order.fetch_add(1, Ordering::AcqRel);
        }
        self.order.fetch_add(1, Ordering::AcqRel);
        let sleeper = Arc::new(Sleeper {
            thread: thread::current(),
            state: AtomicU8::new(ASLEEP),
        });
        match clock.map(|clock| clock.sleepers.lock()) {
            None => self.sleepers.lock().push_back(Arc::clone(&sleeper)),
            Some(mut timed) => match &mut *timed {
                Some(timed) => {
                    timed.push(Arc::clone(&sleeper));
                    self.sleepers.lock().push_back(Arc::clone(&sleeper));
                }
                None => sleeper.state.store(TIMED_OUT, Ordering::Relaxed),
            },
        }
        guard.guard = None;
        while !sleeper.is_awake() {
            thread::park();
        }
        guard.guard = Some(guard.mutex.locked());
        sleeper.state.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Clock {
    order: AtomicUsize,
    /// Those who wait with a deadline; none any more once that has passed.
    sleepers: parking_lot::Mutex<Option<Vec<Arc<Sleeper>>>>,
}

loom::lazy_static! {
    static ref CLOCK: Clock = Clock {
        order: AtomicUsize::new(0),
        sleepers: parking_lot::Mutex::new(Some(Vec::new())),
    };
}

/// Lets every deadline of this model pass.
pub(crate) fn expire() {
    CLOCK.order.fetch_add(1, Ordering::AcqRel);
    let sleepers = CLOCK.sleepers.lock().take();
    for sleeper in sleepers.into_iter().flatten() {
        sleeper.wake(TIMED_OUT);
    }
}
