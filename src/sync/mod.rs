//! What the engine's primitives synchronize with: the locks of `parking_lot`, the atomics of the
//! standard library, a queue and a place to rest, or a model of all these under which loom tries
//! every interleaving.

#[cfg(all(test, loom))]
mod model;
#[cfg(not(all(test, loom)))]
mod parker;
#[cfg(not(all(test, loom)))]
mod queue;

#[cfg(not(all(test, loom)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(not(all(test, loom)))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};

#[cfg(not(all(test, loom)))]
pub(crate) use self::{parker::Parker, queue::Queue};

#[cfg(all(test, loom))]
pub(crate) use self::model::{
    AtomicBool, AtomicU8, AtomicU64, Condvar, Mutex, MutexGuard, Parker, Queue, expire,
};
#[cfg(all(test, loom))]
pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering, fence};
