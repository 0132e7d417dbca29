//! A pending response whose answer is given to a function.

use std::sync::Arc;

use super::super::one_shot::Callback;
use super::super::submission::contained;
use super::super::text::caught;
use super::PendingResponse;
use crate::error::{BoxError, Error, Result};

impl<T> PendingResponse<T> {
    /// Has the function called with the answer, or with the error that stands for it.
    ///
    /// Returns at once. The function runs on the connection's `callbacks` thread, one at a time
    /// and in the order of the answers, or immediately on the calling thread if the answer is
    /// here already. A panic in it is contained and logged.
    ///
    /// The [time given to the request](crate::Request::with_timeout) holds here too: when it is over,
    /// the function is called with [`Error::TimedOut`], and an answer that comes later is dropped.
    ///
    /// If a thread that this needs cannot be started, the request is given up, and the function is
    /// called at once with [`Error::Spawn`], which says whether the request may have been run. If
    /// the answer is here already, or comes at this moment, it is called with that.
    ///
    /// If the answer was taken by polling it before, the function is called at once with
    /// [`Error::Taken`].
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::{Connection, Request, Transport};
    ///
    /// # fn main() -> packetstream::Result<()> {
    /// let (ours, theirs) = Transport::pair();
    /// let _server = Connection::builder().handler(|_| Ok("done")).open(theirs)?;
    /// let client = Connection::builder().open(ours)?;
    ///
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// client.submit(Request::new(0))?.on_complete(move |result| {
    ///     let _ = sender.send(result.map(|response| response.into_payload()));
    /// });
    /// assert_eq!(receiver.recv().expect("it is called")?, b"done");
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "notify")]
    pub fn on_complete(mut self, callback: impl FnOnce(Result<T>) + Send + 'static)
    where
        T: 'static,
    {
        // Nobody waits for it here any more.
        self.waited.end();
        self.prepare_callback();
        let submitted = self.submitted.clone();
        let session = self.session().map(Arc::clone);
        let callback: Callback = Box::new(move |answer| {
            let released_last = self.reference.take();
            // Whoever decodes, the callback is to hear of it.
            let result = caught(|| self.decode(answer)).unwrap_or_else(|text| {
                let error = BoxError::from(format!("the decode function panicked: {text}"));
                Err(Error::Payload(Arc::from(error)))
            });
            callback(result);
            drop(released_last);
        });
        match session {
            Some(session) => session.call_back(&submitted, callback),
            None => contained("a finished request", move || callback(Err(Error::Taken))),
        }
    }

    /// Makes sure that the callback will be called, and in time; else the request is settled, and
    /// the callback called at once.
    fn prepare_callback(&mut self) {
        self.hold_deadline();
        if let Some(session) = self.session()
            && !self.submitted.one_shot.is_settled()
            && let Err(error) = session.start_callbacks()
        {
            session.give_up(&self.submitted, |outcome| error.about(outcome));
            // It has left the table, so somebody settles it now, if that is not done.
            self.submitted.one_shot.wait(None);
        }
    }
}
