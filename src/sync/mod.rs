//! What the engine's primitives synchronize with: the locks of `parking_lot` and the atomics of
//! the standard library, or a model of both under which loom tries every interleaving.

#[cfg(all(test, loom))]
mod model;

#[cfg(not(all(test, loom)))]
pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(not(all(test, loom)))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};

#[cfg(all(test, loom))]
pub(crate) use self::model::{Condvar, Mutex, MutexGuard, expire};
#[cfg(all(test, loom))]
pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};
