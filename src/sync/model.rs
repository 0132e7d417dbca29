//! What loom lacks: mutex and condition variable with the interface of `parking_lot`'s, a queue, a
//! place to rest, and sequentially consistent atomics.
//!
//! Loom's own condition variable never times out. Here time is an event that a model makes
//! happen: from [`expire`] on, whenever that is, every deadline has passed.
//!
//! Loom runs all threads of a model on one and switches only at operations on its own objects.
//! So the lists below, which are not such objects, change at once with the operation on an atomic
//! before them, and that operation tells loom that the changes depend on each other.
#![allow(
    clippy::unwrap_used,
    reason = "a panic ends the model, and a guard is only empty inside of a wait"
)]

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{self, Ordering};
use std::time::Instant;

use loom::sync::atomic::{AtomicUsize, fence};
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

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = Some(self.0.try_lock().ok()?);
        Some(MutexGuard { mutex: self, guard })
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap()
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
    state: atomic::AtomicU8,
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

    /// Enters this thread as one that is asleep from now on, unless its time is over. To be
    /// called at once after the operations that order the lists.
    fn lie_down(
        sleepers: &parking_lot::Mutex<VecDeque<Arc<Self>>>,
        clock: Option<&Clock>,
    ) -> Arc<Self> {
        let sleeper = Arc::new(Self {
            thread: thread::current(),
            state: atomic::AtomicU8::new(ASLEEP),
        });
        match clock.map(|clock| clock.sleepers.lock()) {
            None => sleepers.lock().push_back(Arc::clone(&sleeper)),
            Some(mut timed) => match &mut *timed {
                Some(timed) => {
                    timed.push(Arc::clone(&sleeper));
                    sleepers.lock().push_back(Arc::clone(&sleeper));
                }
                None => sleeper.state.store(TIMED_OUT, Ordering::Relaxed),
            },
        }
        sleeper
    }

    /// Returns why it is awake again.
    fn sleep(&self) -> u8 {
        loop {
            match self.state.load(Ordering::Relaxed) {
                ASLEEP => thread::park(),
                reason => return reason,
            }
        }
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
        let sleeper = Sleeper::lie_down(&self.sleepers, clock);
        guard.guard = None;
        let reason = sleeper.sleep();
        guard.guard = Some(guard.mutex.locked());
        reason
    }
}

/// Where one thread rests; one wake-up is kept for the next time.
#[derive(Debug, Default)]
pub(crate) struct Parker {
    wake_ups: AtomicUsize,
    sleeper: parking_lot::Mutex<VecDeque<Arc<Sleeper>>>,
}

impl Parker {
    #[expect(clippy::unused_self, reason = "who parks is known without it")]
    pub(crate) fn enter(&self) {}

    pub(crate) fn park(&self, deadline: Option<Instant>) {
        let clock: Option<&Clock> = deadline.map(|_| &*CLOCK);
        if let Some(clock) = clock {
            clock.order.fetch_add(1, Ordering::AcqRel);
        }
        if self.wake_ups.swap(0, Ordering::Acquire) == 0 {
            Sleeper::lie_down(&self.sleeper, clock).sleep();
            self.wake_ups.swap(0, Ordering::Acquire);
        }
    }

    pub(crate) fn unpark(&self) {
        self.wake_ups.swap(1, Ordering::Release);
        for sleeper in self.sleeper.lock().drain(..) {
            sleeper.wake(NOTIFIED);
        }
    }
}

/// Synchronizes as the queue of `crossbeam_channel` does.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// How many have been taken out.
    head: AtomicU64,
    /// How many have been put in.
    tail: AtomicU64,
    values: parking_lot::Mutex<VecDeque<T>>,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            values: parking_lot::Mutex::default(),
        }
    }

    pub(crate) fn push(&self, value: T) {
        self.tail.fetch_add(1, Ordering::SeqCst);
        self.values.lock().push_back(value);
    }

    pub(crate) fn pop(&self) -> Option<T> {
        let head = self.head.load(Ordering::Acquire);
        fence(Ordering::SeqCst);
        if self.tail.load(Ordering::Relaxed) == head {
            return None;
        }
        fence(Ordering::Acquire);
        // Only one thread at a time takes something out.
        assert_eq!(self.head.fetch_add(1, Ordering::SeqCst), head);
        self.values.lock().pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::SeqCst) == self.tail.load(Ordering::SeqCst)
    }
}

/// Atomics whose sequentially consistent accesses have one order, that in which loom runs them.
///
/// Loom itself takes such accesses for releasing and acquiring ones. Here the loads see the last
/// store: they are exchanges that fail, and the stores are exchanges, so that loom knows their
/// order. Such a store acquires nothing, but a fence after it does what it would after an exchange.
///
/// Fences do not order such accesses, so a model may fail without reason. Orders that contradict
/// what relaxed accesses have seen are not tried.
macro_rules! atomics {
    ($($name:ident: $value:ty),*) => {$(
        #[derive(Debug)]
        pub(crate) struct $name(loom::sync::atomic::$name);

        impl $name {
            /// No atomic has this value.
            const NEVER: $value = <$value>::MAX;

            pub(crate) fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, ordering: Ordering) -> $value {
                if ordering != Ordering::SeqCst {
                    return self.0.load(ordering);
                }
                self.0
                    .compare_exchange(
                        Self::NEVER,
                        Self::NEVER,
                        Ordering::Acquire,
                        Ordering::Acquire,
                    )
                    .unwrap_err()
            }

            pub(crate) fn store(&self, value: $value, ordering: Ordering) {
                if ordering == Ordering::SeqCst {
                    self.0.swap(value, Ordering::Release);
                } else {
                    self.0.store(value, ordering);
                }
            }
        }

        impl Deref for $name {
            type Target = loom::sync::atomic::$name;

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }
    )*};
}

atomics!(AtomicU8: u8, AtomicU64: u64);

#[derive(Debug)]
pub(crate) struct AtomicBool(AtomicU8);

impl AtomicBool {
    pub(crate) fn new(value: bool) -> Self {
        Self(AtomicU8::new(u8::from(value)))
    }

    pub(crate) fn load(&self, ordering: Ordering) -> bool {
        self.0.load(ordering) != 0
    }

    pub(crate) fn store(&self, value: bool, ordering: Ordering) {
        self.0.store(u8::from(value), ordering);
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
