//! The one-shot behind a pending response: settled once, told to one waiter of any kind.

use std::fmt;
use std::task::Waker;
use std::time::Instant;

use log::Level;

use super::logging::log;
use super::message::Response;
use super::text::caught;
use crate::error::{Error, Result};
use crate::sync::{AtomicU64, Condvar, Mutex, Ordering};
use crate::wire::Tag;

/// What a request was answered with, or why it was not.
pub(super) type Answer = Result<Response>;

/// What is called with the answer, on whatever thread suits it.
pub(super) type Callback = Box<dyn FnOnce(Answer) + Send>;

/// Who is told besides a thread that waits on the condition variable.
pub(super) enum Listener {
    None,
    Waker(Waker),
    Callback(Callback),
    /// Told that there is an answer, which stays here.
    Notice(Box<dyn FnOnce() + Send>),
}

enum Content {
    Waiting(Listener),
    Settled(Answer),
    Taken,
}

/// A place for one answer.
pub(super) struct OneShot {
    content: Mutex<Content>,
    settled: Condvar,
    /// The tag of the request, which changes under the session's lock.
    tag: AtomicU64,
}

/// What the settling thread has left to do.
pub(super) enum Told {
    /// Nobody else is concerned.
    Done,
    /// Who waits is to be told.
    Listener(Listener),
    /// The callback is to be called with the answer.
    Call(Callback, Answer),
}

impl Told {
    /// Whether telling may run code of the user's: wakers, and callbacks whose thread has gone.
    pub(super) fn is_foreign(&self) -> bool {
        matches!(self, Self::Listener(Listener::Waker(_)) | Self::Call(..))
    }
}

impl OneShot {
    pub(super) fn new() -> Self {
        Self {
            content: Mutex::new(Content::Waiting(Listener::None)),
            settled: Condvar::new(),
            tag: AtomicU64::new(0),
        }
    }

    /// Returns the tag of the request. It is certain not to change any more under the session's
    /// lock, and once the request has been sent or settled.
    pub(super) fn tag(&self) -> Tag {
        Tag::new(self.tag.load(Ordering::Relaxed))
    }

    /// Sets the tag of the request; under the session's lock.
    pub(super) fn set_tag(&self, tag: Tag) {
        self.tag.store(tag.get(), Ordering::Relaxed);
    }

    /// Puts the answer in, unless there is one already; returns who is to be [told](Self::tell).
    ///
    /// Of many answers that come at once all are put in before anybody is told, so that who waits
    /// for one after the other is woken once.
    pub(super) fn settle(&self, answer: Answer) -> Told {
        let mut content = self.content.lock();
        let listener = match &mut *content {
            Content::Waiting(listener) => std::mem::replace(listener, Listener::None),
            // A second answer is dropped outside the lock, at the end of this function.
            _ => return Told::Done,
        };
        if let Listener::Callback(callback) = listener {
            *content = Content::Taken;
            return Told::Call(callback, answer);
        }
        *content = Content::Settled(answer);
        Told::Listener(listener)
    }

    /// Tells who waits, but a callback, which is given back.
    pub(super) fn tell(&self, told: Told) -> Option<(Callback, Answer)> {
        let listener = match told {
            Told::Done => return None,
            Told::Call(callback, answer) => return Some((callback, answer)),
            Told::Listener(listener) => listener,
        };
        self.settled.notify_all();
        match listener {
            // A waker is the user's. Its panic must not keep the settling thread from the others.
            Listener::Waker(waker) => {
                if caught(|| waker.wake()).is_err() {
                    log(Level::Error, format_args!("a waker panicked"));
                }
            }
            Listener::Notice(notice) => notice(),
            Listener::None | Listener::Callback(_) => {}
        }
        None
    }

    pub(super) fn is_settled(&self) -> bool {
        !matches!(&*self.content.lock(), Content::Waiting(_))
    }

    /// Blocks until there is an answer, or until the deadline; `false` if it came first.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut content = self.content.lock();
        while matches!(&*content, Content::Waiting(_)) {
            match deadline {
                None => self.settled.wait(&mut content),
                Some(deadline) => {
                    if self.settled.wait_until(&mut content, deadline).timed_out() {
                        return !matches!(&*content, Content::Waiting(_));
                    }
                }
            }
        }
        true
    }

    /// Takes the answer out, if there is one.
    pub(super) fn take(&self) -> Option<Answer> {
        let mut content = self.content.lock();
        if !matches!(&*content, Content::Settled(_)) {
            return None;
        }
        match std::mem::replace(&mut *content, Content::Taken) {
            Content::Settled(answer) => Some(answer),
            Content::Waiting(_) | Content::Taken => None,
        }
    }

    /// The answer, if there is one, of a place that nobody else has any more.
    pub(super) fn into_answer(self) -> Option<Answer> {
        match self.content.into_inner() {
            Content::Settled(answer) => Some(answer),
            Content::Waiting(_) | Content::Taken => None,
        }
    }

    /// Takes the answer out, or has the waker woken when there is one.
    pub(super) fn poll(&self, waker: &Waker) -> Option<Answer> {
        // Cloning and dropping a waker is the caller's code: not under the lock.
        let mut spare = Some(waker.clone());
        let mut content = self.content.lock();
        let replaced = match &mut *content {
            Content::Waiting(listener) => {
                let waker = spare.take().map_or(Listener::None, Listener::Waker);
                Some(std::mem::replace(listener, waker))
            }
            _ => None,
        };
        drop(content);
        drop(spare);
        match replaced {
            Some(_) => None,
            None => self.take(),
        }
    }

    /// Has the callback called with the answer; gives both back if it is here already.
    pub(super) fn call_back(&self, callback: Callback) -> Option<(Callback, Answer)> {
        let mut content = self.content.lock();
        match std::mem::replace(&mut *content, Content::Taken) {
            Content::Settled(answer) => Some((callback, answer)),
            Content::Waiting(replaced) => {
                *content = Content::Waiting(Listener::Callback(callback));
                drop(content);
                drop(replaced);
                None
            }
            // Nobody else would call it.
            Content::Taken => Some((callback, Err(Error::Taken))),
        }
    }

    /// Takes back who is to be told, unless that has begun; the caller drops it.
    pub(super) fn forget(&self) -> Listener {
        let mut content = self.content.lock();
        match &mut *content {
            Content::Waiting(listener) => std::mem::replace(listener, Listener::None),
            Content::Settled(_) | Content::Taken => Listener::None,
        }
    }

    /// Has `notice` called when there is an answer; at once if there is one.
    pub(super) fn notify(&self, notice: Box<dyn FnOnce() + Send>) {
        let mut content = self.content.lock();
        if let Content::Waiting(listener) = &mut *content {
            let replaced = std::mem::replace(listener, Listener::Notice(notice));
            drop(content);
            drop(replaced);
        } else {
            drop(content);
            notice();
        }
    }
}

impl fmt::Debug for OneShot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneShot")
            .field("is_settled", &self.is_settled())
            .finish_non_exhaustive()
    }
}
