//! What keeps a connection open.

use std::fmt;
use std::ops::Deref;

use super::Connection;
use super::reference::Reference;
use super::report::CloseReport;

/// Keeps a connection open while it exists.
///
/// It dereferences to the [`Connection`]. A clone is one more reference; pending responses count
/// too. The last of them to go closes the connection.
///
/// # Drop
///
/// Dropping the last reference closes like [`close`](Self::close): it blocks until the connection
/// has ended, at most for the linger time; what was lost is logged. On a thread of any connection,
/// such as in a handler, the close goes on in the background instead, and so it does when the last
/// reference is a pending response.
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

    /// Closes the connection if this is the last reference to it; blocks until it has ended, at
    /// most for its linger time.
    ///
    /// It says that no more requests follow, lets the handlers finish what was accepted, waits for
    /// the answers to our own requests, says goodbye, and reads until the peer's goodbye. What has
    /// not ended within the linger time is ended by force, and the report says what was lost.
    ///
    /// If there are other references it returns at once, with
    /// [`is_last`](CloseReport::is_last) `false`. On a thread of any connection, such as in a
    /// handler, it returns at once too, with [`in_progress`](CloseReport::in_progress).
    pub fn close(mut self) -> CloseReport {
        self.release()
    }

    /// Serves until the peer has ended its stream, then closes; blocks as long as that takes.
    ///
    /// This is what a server does that has nothing else to do on this thread.
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
    pub fn serve(self) -> CloseReport {
        // How it ended is in the report.
        let _ = self.connection.wait_end_of_stream();
        self.close()
    }

    fn release(&mut self) -> CloseReport {
        let Some(reference) = self.reference.take() else {
            return CloseReport::unfinished(super::report::Summary::default(), false);
        };
        let (session, is_last) = reference.release();
        if is_last {
            session.close(session.config.linger)
        } else {
            CloseReport::unfinished(session.shared.lock().summarize(), false)
        }
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
        if self.reference.is_none() {
            return;
        }
        let report = self.release();
        if let Some(cause) = report.cause() {
            log::warn!(
                target: super::LOG,
                "{}: closed out of order: {cause}{}",
                self.connection.name(),
                super::source_text(cause),
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
