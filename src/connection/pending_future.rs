//! A pending response as a future, for any executor.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::{MayWrite, PendingResponse};
use crate::error::{Error, Result};

/// An executor that blocks a handler's thread with it lends the handler's place to requests that
/// come afterwards, but to those that are here already only while it polls again and again. Inside
/// of [`Incoming::lend`](crate::Incoming::lend) it is lent to all. On a connection with an
/// [inline handler](crate::ConnectionBuilder::inline_handler) it would wait for ever. Wait there
/// with [`wait`](PendingResponse::wait), which knows.
impl<T> Future for PendingResponse<T> {
    type Output = Result<T>;

    /// Polled again after it was ready, it is ready with [`Error::Taken`].
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.reference.is_none() {
            return Poll::Ready(Err(Error::Taken));
        }
        if let Some(answer) = self.shared.poll(context.waker()) {
            self.waited.end();
            Poll::Ready(self.decode(answer))
        } else {
            if let Some(session) = self.session() {
                session.flush_request(self.number, MayWrite::Never);
            }
            self.waited.poll();
            Poll::Pending
        }
    }
}
