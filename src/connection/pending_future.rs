//! A pending response as a future, for any executor.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::{MayWrite, PendingResponse};
use crate::error::{Error, Result};

/// The [time given to the request](crate::Request::with_timeout) holds here too: the task is woken
/// when it is over. If the thread for that cannot be started, the first poll is ready with
/// [`Error::Spawn`], which says whether the request may have been run.
///
/// Wakers are called on the connection's threads, so one that blocks holds up other answers. Once
/// the future is dropped, its waker is too, although the answer has not come.
///
/// An executor that blocks a handler's thread with it lends the handler's place to other requests
/// meanwhile, as [`wait`](PendingResponse::wait) does. On a connection with an
/// [inline handler](crate::ConnectionBuilder::inline_handler) it would wait for ever. Wait there
/// with [`wait`](PendingResponse::wait), which knows.
impl<T> Future for PendingResponse<T> {
    type Output = Result<T>;

    /// Polled again after it was ready, it is ready with [`Error::Taken`].
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.reference.is_none() {
            return Poll::Ready(Err(Error::Taken));
        }
        // Before the waker is left there, which would be woken at once if the time is over.
        self.hold_deadline();
        if let Some(answer) = self.submitted.one_shot.poll(context.waker()) {
            self.waited.end();
            Poll::Ready(self.decode(answer))
        } else {
            self.watched();
            // The slot is lent before the request goes out: what it makes the peer ask comes later.
            self.waited.leave_to_timer();
            if let Some(session) = self.session() {
                session.flush_request(self.submitted.number, MayWrite::Never);
            }
            Poll::Pending
        }
    }
}

impl<T> PendingResponse<T> {
    /// Has the time given to the request hold though no thread waits for the answer. What cannot be
    /// watched fails, as does what is too late already.
    pub(super) fn hold_deadline(&mut self) {
        let (Some(deadline), Some(reference)) = (self.deadline, &self.reference) else {
            return;
        };
        if self.submitted.one_shot.is_settled() {
            return;
        }
        let session = Arc::clone(reference.session());
        if deadline <= Instant::now() {
            session.give_up(&self.submitted, Error::TimedOut);
            return;
        }
        let submitted = self.submitted.clone();
        if let Err(error) = self.watched().limit(&session, deadline, &submitted) {
            session.give_up(&self.submitted, |outcome| error.about(outcome));
        }
    }
}
