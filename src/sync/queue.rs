//! A queue without an end.

use crossbeam_channel::{Receiver, Sender};

#[derive(Debug)]
pub(crate) struct Queue<T> {
    back: Sender<T>,
    front: Receiver<T>,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        let (back, front) = crossbeam_channel::unbounded();
        Self { back, front }
    }

    pub(crate) fn push(&self, value: T) {
        // Cannot fail: the other end lives as long as this one.
        let _ = self.back.send(value);
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.front.try_recv().ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.front.is_empty()
    }
}
