//! What keeps a connection open.

use std::fmt;
use std::ops::Deref;

use log::Level;

use super::Connection;
use super::logging::log;
use super::reference::Reference;
use super::report::{CloseReport, Summary};
use crate::error::Error;

/// Keeps a connection open while it exists.
///
/// It dereferences to the [`Connection`]. A clone is one more guard. The last guard closes the
/// connection when it is told to, by [`close`](Self::close); if it is merely dropped, pending
/// responses that are held elsewhere keep the connection open until they are used up.
///
/// # Drop
///
/// Dropping the last guard closes like [`close`](Self::close): it blocks until the connection
/// has ended, at most for the linger time; what was lost is logged. On a thread of any connection,
/// such as in a handler, the close goes on in the background instead, and so it does when the last
/// to go is a pending response. The pending responses of a handler that serves this connection keep
/// nothing open: the close waits for that handler anyway. A [`shutdown`](Connection::shutdown) that
/// is running when the last guard is dropped is not waited for; it takes no longer than the linger
/// time from then on.
///
/// # Examples
///
/// ```
/// use packetstream::{Connection, Request, Transport};
///
/// # fn main() -> packetstream::Result<()> {
/// let (ours, theirs) = Transport::pair();
/// let _server = Connection::builder().handler(|_| Ok("yes")).open(theirs)?;
/// let client = Connection::builder().open(ours)?;
///
/// let second = client.clone();
/// assert!(!client.close().is_last());
/// assert_eq!(second.call(Request::new(0))?.payload(), b"yes");
/// let report = second.close();
/// assert!(report.is_last());
/// report.into_result()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "dropping the last guard closes the connection at once, and blocks until it has ended"]
pub struct OpenGuard {
    connection: Connection,
    /// Gone while it is being closed.
    reference: Option<Reference>,
}

impl OpenGuard {
    pub(super) fn new(connection: Connection, reference: Reference) -> Self {
        Self {
            connection,
            reference: Some(reference),
        }
    }

    /// Closes the connection if this is the last guard; blocks until it has ended, at most for its
    /// linger time.
    ///
    /// Handlers finish what was accepted, and may still call back the peer for it; then the peer is
    /// told that no more requests follow. Our own requests are answered, whatever thread holds
    /// their results. Then our stream ends, and the peer's is read to its end. What has not ended
    /// within the linger time is ended by force, and the report says what was lost.
    ///
    /// The peer's new requests are refused meanwhile (`rejecting request: shutting down`, which it
    /// sees as [not run](crate::Outcome::NotRun)), also those that its handlers make to answer ours.
    ///
    /// If there are other guards, nothing is closed: it returns at once, with
    /// [`is_last`](CloseReport::is_last) `false`. On a thread of any connection, such as in a
    /// handler, it returns at once too, with [`in_progress`](CloseReport::in_progress).
    pub fn close(mut self) -> CloseReport {
        let Some(reference) = self.reference.take() else {
            return CloseReport::unfinished(Summary::default(), false);
        };
        if reference.session().home.is_left() {
            return CloseReport::of_other_process();
        }
        let (session, is_last) = reference.close();
        if is_last {
            session.close(session.config.linger)
        } else {
            CloseReport::unfinished(session.shared.lock().summarize(), false)
        }
    }

    /// Serves until the peer has ended its stream, then closes; blocks until the connection has
    /// ended.
    ///
    /// This is what a server does that has nothing else to do on this thread. What the peer had
    /// asked is answered and our stream is ended before it returns, within the linger time, which
    /// starts when the peer's stream ends. Other guards and pending responses do not make it return
    /// earlier: the connection ends for them too.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::{Connection, Transport};
    ///
    /// # fn main() -> packetstream::Result<()> {
    /// let (ours, theirs) = Transport::pair();
    /// let client = Connection::builder().open(ours)?;
    /// let server = Connection::builder().handler(|_| Ok(())).open(theirs)?;
    /// drop(std::thread::Builder::new().spawn(move || client.close()));
    /// server.serve().into_result()?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "join_recv")]
    pub fn serve(mut self) -> CloseReport {
        let Some(reference) = self.reference.take() else {
            return CloseReport::unfinished(Summary::default(), false);
        };
        if reference.session().home.is_left() {
            return CloseReport::of_other_process();
        }
        // How it ended is in the report.
        let _ = reference.session().wait_end_of_stream();
        let (session, _) = reference.close();
        session.close(session.config.linger)
    }
}

impl Deref for OpenGuard {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        let Some(reference) = self.reference.take() else {
            return;
        };
        let (session, is_last) = reference.release();
        if !is_last {
            return;
        }
        let report = session.close(session.config.linger);
        // A logger may have been in use when the process was forked.
        let cause = report.cause();
        if let Some(cause) = cause.filter(|cause| !matches!(cause, Error::OtherProcess(_))) {
            log(
                Level::Warn,
                format_args!(
                    "{}: closed out of order: {cause}{}",
                    self.connection.name(),
                    super::source_text(cause)
                ),
            );
        }
    }
}

impl fmt::Debug for OpenGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenGuard")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}
