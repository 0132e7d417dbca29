//! What travels: a request, as it is made and as it arrives, and the response to it.

use std::fmt;
use std::time::Duration;

use crate::wire::{ChannelId, Excerpt, Flags, RequestType};

/// A request to the peer: a type number, flags and a payload, whose meaning the two ends agree on.
///
/// # Examples
///
/// ```
/// use packetstream::{Flags, Request};
///
/// let request = Request::new(3)
///     .with_flags(Flags::from(1))
///     .with_payload("what is asked")
///     .with_label("for the logs");
/// assert_eq!(request.request_type().get(), 3);
/// assert_eq!(request.payload(), b"what is asked");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    request_type: RequestType,
    flags: Flags,
    channel: ChannelId,
    payload: Vec<u8>,
    label: Option<Box<str>>,
    timeout: Option<Duration>,
}

impl Request {
    /// Creates a request of the given type, with no flags, an empty payload, on channel 0.
    ///
    /// The number is the application's; the wire carries the number plus one. A literal up to
    /// 2^32 - 1 can be given as it is; for larger numbers see [`RequestType::new`].
    pub fn new(request_type: impl Into<RequestType>) -> Self {
        Self {
            request_type: request_type.into(),
            flags: Flags::NONE,
            channel: ChannelId::DEFAULT,
            payload: Vec::new(),
            label: None,
            timeout: None,
        }
    }

    /// Sets the flags, at most 62 bits. The default is none.
    #[must_use]
    pub fn with_flags(mut self, flags: impl Into<Flags>) -> Self {
        self.flags = flags.into();
        self
    }

    /// Sets the payload. The default is empty.
    ///
    /// A `Vec<u8>` or a `String` is taken over without being copied.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Sets the channel. The default is channel 0, because a Python peer refuses every other one.
    #[must_use]
    pub fn with_channel(mut self, channel: impl Into<ChannelId>) -> Self {
        self.channel = channel.into();
        self
    }

    /// Sets a label that names the request in this end's log lines; it is not sent. The default
    /// is none.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into().into_boxed_str());
        self
    }

    /// Sets how long the request may take before it fails with
    /// [`Error::TimedOut`](crate::Error::TimedOut). The default is the connection's
    /// [`timeout`](crate::ConnectionBuilder::timeout), which is none unless it was set.
    ///
    /// The time runs from the submit and covers all that may take long on the way: waiting for room,
    /// for other threads that open or close an on-demand connection, sending, and the answer, whatever
    /// takes it: [`call`](crate::Connection::call), the wait
    /// methods of [`PendingResponse`](crate::PendingResponse), a
    /// [`PendingSet`](crate::PendingSet), `await`, or a function given to
    /// [`on_complete`](crate::PendingResponse::on_complete). For the last two the connection starts
    /// a `timer` thread. A [`Connector`](crate::Connector) that connects for this request is not
    /// interrupted, but its time counts.
    ///
    /// When it is over, a request that has not been sent is never sent. The answer to one that has
    /// been sent is dropped when it comes, and until then the request counts against the limits. A
    /// request whose answer nobody asks for is not given up.
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
    /// let request = Request::new(0).with_timeout(Duration::from_millis(5));
    /// assert!(client.call(request).unwrap_err().is_timed_out());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Returns the type of the request: the application's number.
    #[doc(alias = "rq_type")]
    pub fn request_type(&self) -> RequestType {
        self.request_type
    }

    /// Returns the flags.
    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// Returns the payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Returns the payload, consuming the request.
    pub fn into_payload(self) -> Vec<u8> {
        self.payload
    }

    /// Leaves the payload empty.
    pub(super) fn take_payload(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.payload)
    }

    pub(super) fn put_payload_back(&mut self, payload: Vec<u8>) {
        self.payload = payload;
    }

    /// Returns the channel.
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// Returns the label, if one was set at this end.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Returns how long the request may take, if that was set at this end.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    pub(super) fn take_label(&mut self) -> Option<Box<str>> {
        self.label.take()
    }
}

impl fmt::Debug for Request {
    /// Shows at most 16 octets of the payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("request_type", &self.request_type.get())
            .field("flags", &self.flags)
            .field("channel", &self.channel.get())
            .field("payload", &format_args!("{}", Excerpt(&self.payload)))
            .field("label", &self.label)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// A good answer to a request: flags and a payload.
///
/// A [`RequestHandler`](crate::RequestHandler) may return anything that converts into one:
///
/// | what | flags | payload |
/// |---|---|---|
/// | `()` | none | empty |
/// | [`Flags`] | as given | empty |
/// | `Vec<u8>`, `&[u8]`, `[u8; N]`, `&[u8; N]` | none | as given |
/// | `String`, `&str` | none | its UTF-8 |
/// | `(Flags, Vec<u8>)` | as given | as given |
///
/// # Examples
///
/// ```
/// use packetstream::{Flags, Response};
///
/// assert_eq!(Response::from("yes").payload(), b"yes");
/// assert_eq!(Response::from(Flags::from(5)).flags(), Flags::from(5));
/// assert_eq!(Response::from((Flags::from(5), b"yes".to_vec())), Response::new(Flags::from(5), "yes"));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Response {
    flags: Flags,
    payload: Vec<u8>,
}

impl Response {
    /// Creates a response.
    ///
    /// A response carries at most 61 bits of flags ([`Flags::MAX_RESPONSE`]). With more, the peer
    /// is sent the answer of a handler that failed, and the cause is logged here.
    pub fn new(flags: Flags, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            flags,
            payload: payload.into(),
        }
    }

    /// Returns the application's flags.
    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// Returns the payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Returns the payload, consuming the response.
    pub fn into_payload(self) -> Vec<u8> {
        self.payload
    }
}

impl fmt::Debug for Response {
    /// Shows at most 16 octets of the payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("flags", &self.flags)
            .field("payload", &format_args!("{}", Excerpt(&self.payload)))
            .finish()
    }
}

impl From<()> for Response {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<Flags> for Response {
    fn from(flags: Flags) -> Self {
        Self::new(flags, Vec::new())
    }
}

impl From<(Flags, Vec<u8>)> for Response {
    fn from((flags, payload): (Flags, Vec<u8>)) -> Self {
        Self::new(flags, payload)
    }
}

macro_rules! from_payload {
    ($($payload:ty),+) => {$(
        impl From<$payload> for Response {
            fn from(payload: $payload) -> Self {
                Self::new(Flags::NONE, payload)
            }
        }
    )+};
}

from_payload!(Vec<u8>, &[u8], String, &str);

impl<const N: usize> From<[u8; N]> for Response {
    fn from(payload: [u8; N]) -> Self {
        Self::new(Flags::NONE, payload)
    }
}

impl<const N: usize> From<&[u8; N]> for Response {
    fn from(payload: &[u8; N]) -> Self {
        Self::new(Flags::NONE, payload.as_slice())
    }
}
