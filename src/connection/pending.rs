//! The result of a request that has been submitted: the future of its answer.

#[path = "pending_callback.rs"]
mod callback;
#[path = "pending_facts.rs"]
mod facts;
#[path = "pending_future.rs"]
mod future;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::canceller::Canceller;
use super::decode::{Decode, decode};
use super::message::Response;
use super::one_shot::Answer;
use super::outbox::MayWrite;
use super::own_answer::TakenReading;
use super::place::{self, Waited};
use super::reference::Reference;
use super::session::Session;
use super::submitted::Submitted;
use super::watch::Watch;
use crate::error::{BoxError, Error, Result};
use crate::outcome::Outcome;

/// The answer to a request that has been submitted, now or later.
///
/// It has one owner, like a [`JoinHandle`](std::thread::JoinHandle), and there are many ways to
/// use it up:
///
/// | to | use |
/// |---|---|
/// | block until the answer is here | [`wait`](Self::wait), [`wait_timeout`](Self::wait_timeout), [`wait_deadline`](Self::wait_deadline) |
/// | be called with it | [`on_complete`](Self::on_complete) |
/// | `await` it, with any executor | it is a [`Future`] |
/// | collect many in the order in which they complete | [`PendingSet`](crate::PendingSet) |
/// | give up | [`cancel`](Self::cancel), or [`canceller`](Self::canceller) from elsewhere |
/// | forget the answer | drop it |
///
/// Whatever ends the connection settles it: no waiter outlives its connection.
///
/// A request that was submitted is sent within the connection's flush grace, and at once when
/// somebody begins to wait for its answer.
///
/// # Drop
///
/// Dropping it forgets the answer, not the request, which is still sent, served and counted
/// against the limits. It also holds the connection open until it is used up or dropped. If it was
/// the last to do so, the connection is closed in the background.
///
/// # Examples
///
/// ```
/// use packetstream::{Connection, Request, Transport};
///
/// # fn main() -> packetstream::Result<()> {
/// let (ours, theirs) = Transport::pair();
/// let _server = Connection::builder()
///     .handler(|incoming| Ok(incoming.into_payload()))
///     .open(theirs)?;
/// let client = Connection::builder().open(ours)?;
///
/// let first = client.submit(Request::new(0).with_payload("first"))?;
/// let second = client.submit(Request::new(0).with_payload("second"))?;
/// assert_eq!(second.wait()?.payload(), b"second");
/// assert_eq!(first.wait()?.payload(), b"first");
/// # Ok(())
/// # }
/// ```
#[doc(alias = "Result")]
#[must_use = "dropping it forgets the answer, and whether there was one"]
pub struct PendingResponse<T = Response> {
    submitted: Submitted,
    /// When the time given to the request is over.
    deadline: Option<Instant>,
    /// No other request was unanswered when this was made.
    is_alone: bool,
    waited: Waited,
    decode: Option<Decode<T>>,
    /// Most have none, which takes little room.
    extras: Option<Box<Extras>>,
    /// Gone once the answer has been taken.
    reference: Option<Reference>,
}

/// What few pending responses have.
#[derive(Default)]
struct Extras {
    label: Option<Box<str>>,
    /// Made by the first poll, callback or set.
    watch: Option<Watch>,
}

/// Who waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiter {
    /// A call that has just made the request, and must be quick.
    Call,
    /// Perhaps a fork of the process that made it.
    Any,
}

impl PendingResponse {
    pub(super) fn new(
        reference: Reference,
        submitted: Submitted,
        label: Option<Box<str>>,
        deadline: Option<Instant>,
        is_alone: bool,
    ) -> Self {
        Self {
            submitted,
            deadline,
            is_alone,
            waited: Waited::default(),
            // Without a size, so boxing it does not allocate.
            decode: Some(Box::new(Ok)),
            extras: label.map(|label| {
                Box::new(Extras {
                    label: Some(label),
                    watch: None,
                })
            }),
            reference: Some(reference),
        }
    }
}

impl<T> PendingResponse<T> {
    /// Blocks until the answer is here, or the connection has ended.
    ///
    /// On the thread of a handler, of this or another connection, the handler's slot serves other
    /// requests meanwhile.
    ///
    /// # Errors
    ///
    /// - [`Error::Rejected`] if the peer answered "not ok".
    /// - [`Error::Unanswered`] if the connection ended first.
    /// - [`Error::Cancelled`] if a [`Canceller`] was used.
    /// - [`Error::TimedOut`] if the [time given to the request](crate::Request::with_timeout) passed.
    /// - [`Error::OtherProcess`] in a fork of the process that opened the connection.
    /// - [`Error::Payload`] if a decode function of [`and_then`](Self::and_then) failed.
    /// - [`Error::WouldDeadlock`] on a thread that the answer would have to come through; the
    ///   request is cancelled.
    ///
    /// # Panics
    ///
    /// If the decode function does: it runs on this thread.
    #[doc(alias = "join")]
    pub fn wait(self) -> Result<T> {
        self.wait_in(Waiter::Any)
    }

    /// The same, in a call that has just made the request.
    pub(super) fn wait_in_call(self) -> Result<T> {
        self.wait_in(Waiter::Call)
    }

    fn wait_in(mut self, waiter: Waiter) -> Result<T> {
        // Who waits need not be told in another way.
        self.unwatch();
        // Nobody else has it any more once the answer is there.
        match Arc::try_unwrap(self.submitted.one_shot) {
            Ok(settled) => {
                let answer = settled.into_answer().unwrap_or(Err(Error::Taken));
                return decode(answer, self.decode.take(), &mut self.reference);
            }
            Err(one_shot) => self.submitted.one_shot = one_shot,
        }
        match self.wait_until(self.deadline, waiter) {
            Some(result) => result,
            None => self.time_out(),
        }
    }

    /// Blocks until the answer is here, at most for the given time; gives itself back if that
    /// passes first, to be waited for again.
    ///
    /// The request goes on meanwhile. To give it up, [`cancel`](Self::cancel) what comes back.
    ///
    /// # Errors
    ///
    /// The outer error is this pending response itself, if the time has passed. The inner errors
    /// are those of [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use packetstream::{Connection, Request, Transport};
    ///
    /// # fn main() -> packetstream::Result<()> {
    /// let (ours, _silent) = Transport::pair();
    /// let client = Connection::builder().linger(Some(Duration::ZERO)).open(ours)?;
    ///
    /// let pending = client.submit(Request::new(0))?;
    /// let pending = pending.wait_timeout(Duration::from_millis(5)).unwrap_err();
    /// pending.cancel();
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_timeout(self, timeout: Duration) -> Result<Result<T>, Self> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.wait_deadline(deadline),
            None => Ok(self.wait()),
        }
    }

    /// Blocks until the answer is here, at most until the deadline; otherwise like
    /// [`wait_timeout`](Self::wait_timeout).
    ///
    /// # Errors
    ///
    /// Those of [`wait_timeout`](Self::wait_timeout).
    pub fn wait_deadline(mut self, deadline: Instant) -> Result<Result<T>, Self> {
        match self.deadline {
            Some(own) if own <= deadline => Ok(self.wait()),
            _ => self.wait_until(Some(deadline), Waiter::Any).ok_or(self),
        }
    }

    /// Gives the request up because its time is over, unless the answer comes at this moment.
    fn time_out(&mut self) -> Result<T> {
        if let Some(session) = self.session() {
            session.give_up(&self.submitted, Error::TimedOut);
        }
        // It has left the table, so somebody settles it now, if that is not done.
        self.submitted.one_shot.wait(None);
        let answer = self.submitted.one_shot.take().unwrap_or(Err(Error::Taken));
        self.decode(answer)
    }

    /// Gives the request up because nobody may wait for it here.
    pub(super) fn would_deadlock(&self) -> Error {
        let cancelled = self
            .session()
            .and_then(|session| session.cancel(&self.submitted));
        // If it has left the table, its answer is about to be here, for nobody.
        Error::WouldDeadlock(cancelled.unwrap_or(Outcome::Unknown))
    }

    /// Reads the answer on this thread. If that does not succeed, it comes like any other.
    pub(super) fn read_answer(&self, reading: TakenReading) {
        if let Some(session) = self.session()
            && session.send_alone(self.submitted.number)
        {
            reading.read_answer((self.channel(), self.tag()));
        }
    }

    fn wait_until(&mut self, deadline: Option<Instant>, waiter: Waiter) -> Option<Result<T>> {
        if let Some(answer) = self.submitted.one_shot.take() {
            return Some(self.decode(answer));
        }
        if let Some(session) = self.session()
            && place::must_not_wait_for(session)
        {
            return Some(Err(self.would_deadlock()));
        }
        if waiter == Waiter::Any && self.is_elsewhere() {
            return Some(Err(Error::OtherProcess(Outcome::Unknown)));
        }
        let may_write = match deadline {
            None if self.is_alone => MayWrite::Briefly,
            _ => MayWrite::Never,
        };
        // The slot is lent before the request goes out: what it makes the peer ask comes after the
        // wait began.
        let has_come = place::wait_lending(deadline, Some(&self.waited), |until| {
            if let Some(session) = self.session() {
                session.flush_request(self.submitted.number, may_write);
            }
            self.submitted.one_shot.wait(until)
        });
        if !has_come {
            return None;
        }
        self.waited.end();
        let answer = self.submitted.one_shot.take().unwrap_or(Err(Error::Taken));
        Some(self.decode(answer))
    }

    fn decode(&mut self, answer: Answer) -> Result<T> {
        self.unwatch();
        decode(answer, self.decode.take(), &mut self.reference)
    }

    /// Gives the request up; returns whether it may still be run.
    ///
    /// A request that has not been sent is never sent. The protocol has no way to tell the peer
    /// about the others: they are run, count against the limits until their answer comes, and
    /// that is dropped. [`Outcome::Unknown`] is also returned if the answer is here already.
    pub fn cancel(mut self) -> Outcome {
        if self.is_elsewhere() {
            return Outcome::Unknown;
        }
        // Nobody is left who has to be told.
        self.unwatch();
        let outcome = match self.session() {
            Some(session) => session.cancel(&self.submitted),
            None => None,
        };
        outcome.unwrap_or_else(|| {
            // It has left the table, so somebody settles it now, if that is not done.
            self.submitted.one_shot.wait(None);
            match self.submitted.one_shot.take() {
                Some(Err(error)) => error.outcome(),
                _ => Outcome::Unknown,
            }
        })
    }

    /// Creates a handle that cancels the request while somebody waits for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::{Connection, Request, Transport};
    /// # use std::time::Duration;
    ///
    /// # fn main() -> packetstream::Result<()> {
    /// let (ours, _silent) = Transport::pair();
    /// let client = Connection::builder().linger(Some(Duration::ZERO)).open(ours)?;
    ///
    /// let pending = client.submit(Request::new(0))?;
    /// let canceller = pending.canceller();
    /// assert!(canceller.cancel());
    /// assert!(pending.wait().unwrap_err().is_cancelled());
    /// assert!(!canceller.cancel(), "it was settled already");
    /// # Ok(())
    /// # }
    /// ```
    pub fn canceller(&self) -> Canceller {
        Canceller::new(self.session(), &self.submitted)
    }

    /// Adds a step that turns the answer into something else, such as a decoded payload.
    ///
    /// It runs on the thread that waits for the answer, and only for a good one.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::{Connection, Error, Request, Transport};
    ///
    /// # fn main() -> packetstream::Result<()> {
    /// let (ours, theirs) = Transport::pair();
    /// let _server = Connection::builder().handler(|_| Ok("42")).open(theirs)?;
    /// let client = Connection::builder().open(ours)?;
    ///
    /// let text = client
    ///     .submit(Request::new(0))?
    ///     .and_then(|response| String::from_utf8(response.into_payload()));
    /// let number = text.and_then(|text| text.parse::<u32>());
    /// assert_eq!(number.wait()?, 42);
    ///
    /// let refused = client.submit(Request::new(0))?.and_then(|_| Err::<(), _>("not today"));
    /// assert!(matches!(refused.wait(), Err(Error::Payload(_))));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("decode_response", "post_notify"))]
    pub fn and_then<U, E>(
        mut self,
        decode: impl FnOnce(T) -> Result<U, E> + Send + 'static,
    ) -> PendingResponse<U>
    where
        T: 'static,
        E: Into<BoxError>,
    {
        let first = self.decode.take();
        let both = move |response| {
            let value = match first {
                Some(first) => first(response)?,
                None => return Err(Error::Taken),
            };
            decode(value).map_err(|error| Error::Payload(Arc::from(error.into())))
        };
        PendingResponse {
            submitted: self.submitted,
            deadline: self.deadline,
            is_alone: self.is_alone,
            waited: self.waited,
            decode: Some(Box::new(both)),
            extras: self.extras,
            reference: self.reference,
        }
    }

    /// Takes note that it has left something with others; returns what takes that back.
    fn watched(&mut self) -> &mut Watch {
        let extras = self.extras.get_or_insert_default();
        extras
            .watch
            .get_or_insert_with(|| Watch::new(&self.submitted.one_shot))
    }

    /// Takes back what it has left with others.
    fn unwatch(&mut self) {
        if let Some(extras) = &mut self.extras {
            extras.watch = None;
        }
    }

    fn session(&self) -> Option<&Arc<Session>> {
        self.reference.as_ref().map(Reference::session)
    }

    /// For a set: has `notice` called when waiting would not block.
    pub(super) fn notify(&mut self, notice: impl FnOnce() + Send + 'static) {
        self.submitted.one_shot.notify(Box::new(notice));
        self.watched();
    }

    /// For a set: says that somebody begins to wait.
    pub(super) fn flush(&self) -> Result<()> {
        match self.session() {
            Some(session) if !self.submitted.one_shot.is_settled() => {
                if place::must_not_wait_for(session) {
                    return Err(self.would_deadlock());
                }
                session.flush_request(self.submitted.number, MayWrite::Never);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
