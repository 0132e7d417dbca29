//! The error of a submit that does not block: it gives the request back.

use std::error;
use std::fmt;

use super::message::Request;
use crate::error::Error;

/// Why [`try_submit`](crate::Connection::try_submit) has not submitted a request, and the request
/// itself, whole.
///
/// In every case the request was not sent. With `?` it becomes the [`Error`] alone.
///
/// # Examples
///
/// ```
/// use packetstream::{Connection, Error, Request, Transport};
///
/// # fn main() -> packetstream::Result<()> {
/// let (ours, _theirs) = Transport::pair();
/// let client = Connection::builder().max_packet_len(100).open(ours)?;
///
/// let request = Request::new(3).with_payload([0; 200]).with_label("too long");
/// let refused = client.try_submit(request).unwrap_err();
/// assert!(matches!(refused.error(), Error::TooLong { limit: 100, .. }));
///
/// let request = refused.into_request();
/// assert_eq!(request.label(), Some("too long"));
/// client.try_submit(request.with_payload([0; 20]))?;
/// # Ok(())
/// # }
/// ```
pub struct TrySubmitError {
    // Boxed: the good result that it stands beside is small.
    parts: Box<(Error, Request)>,
}

impl TrySubmitError {
    pub(super) fn new(error: Error, request: Request) -> Self {
        Self {
            parts: Box::new((error, request)),
        }
    }

    /// Returns `true` if the submit would have had to block: there is room again when answers have
    /// come.
    pub fn is_full(&self) -> bool {
        matches!(self.error(), Error::Full)
    }

    /// Returns why the request was not submitted.
    pub fn error(&self) -> &Error {
        &self.parts.0
    }

    /// Returns why the request was not submitted, and drops the request.
    pub fn into_error(self) -> Error {
        self.parts.0
    }

    /// Returns the request, as it was given.
    pub fn into_request(self) -> Request {
        self.parts.1
    }
}

impl From<TrySubmitError> for Error {
    fn from(refused: TrySubmitError) -> Self {
        refused.into_error()
    }
}

impl fmt::Display for TrySubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error().fmt(f)
    }
}

impl fmt::Debug for TrySubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrySubmitError")
            .field("error", &self.parts.0)
            .field("request", &self.parts.1)
            .finish()
    }
}

impl error::Error for TrySubmitError {
    /// The source of the [`error`](Self::error), whose text is this one's.
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.error().source()
    }
}
