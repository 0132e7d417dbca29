//! Serving the peer's requests: the handler, what it gets, and answers given later.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::Connection;
use super::message::{Request, Response};
use super::place;
use super::session::Session;
use super::state::Key;
use crate::error::BoxError;
use crate::rejection::Rejection;
use crate::wire::Tag;
use crate::wire::memory::LEAST_REUSED;

/// Serves the requests of the peer.
///
/// Functions and closures that take an [`Incoming`] and return `Result<R, BoxError>`, where `R`
/// converts into a [`Response`], are handlers.
///
/// | the handler | the peer gets |
/// |---|---|
/// | returns a response | ok, with its flags and payload |
/// | returns a [`Rejection`] as its error | not ok, with that text and those flags; a text that says that the handler did not run gets `handler: ` in front |
/// | returns another error, or panics | not ok, `exception during handler`; the cause is logged here |
///
/// # Threads
///
/// Several handlers run at once ([`handler_threads`](crate::ConnectionBuilder::handler_threads)),
/// on whatever thread of the connection suits: usually one that only runs handlers. Where the
/// handler has been quick and requests follow each other closely, it is the thread that has read
/// the request, since waking another takes longer. It may block there like anywhere: if it does
/// not return within a millisecond or two, or as soon as it waits for a peer, another thread takes
/// over the reading, and this one becomes a handler thread.
///
/// A handler may call back the peer over [`Incoming::connection`], to any depth: while it waits,
/// its slot serves others.
///
/// # Examples
///
/// ```
/// use packetstream::{BoxError, Connection, Flags, Incoming, Rejection, Request, RequestHandler, Response, Transport};
///
/// struct Doubler;
///
/// impl RequestHandler for Doubler {
///     fn handle(&self, incoming: Incoming) -> Result<Response, BoxError> {
///         match incoming.request_type().get() {
///             0 => Ok(incoming.payload().repeat(2).into()),
///             1 => Ok(Flags::from(2).into()),
///             _ => Err(Rejection::new("what?").into()),
///         }
///     }
/// }
///
/// # fn main() -> packetstream::Result<()> {
/// let (ours, theirs) = Transport::pair();
/// let _server = Connection::builder().request_handler(Doubler).open(theirs)?;
/// let client = Connection::builder().open(ours)?;
/// assert_eq!(client.call(Request::new(0).with_payload("ab"))?.payload(), b"abab");
/// assert!(client.call(Request::new(9)).unwrap_err().is_rejected());
/// # Ok(())
/// # }
/// ```
#[doc(alias = "request_handler")]
pub trait RequestHandler: Send + Sync + 'static {
    /// Serves one request.
    ///
    /// # Errors
    ///
    /// Any error is answered "not ok", see [above](Self).
    fn handle(&self, incoming: Incoming) -> Result<Response, BoxError>;
}

impl<F, R> RequestHandler for F
where
    F: Fn(Incoming) -> Result<R, BoxError> + Send + Sync + 'static,
    R: Into<Response>,
{
    fn handle(&self, incoming: Incoming) -> Result<Response, BoxError> {
        self(incoming).map(Into::into)
    }
}

/// What a connection was built with.
pub(super) enum Handler {
    Answers(Box<dyn RequestHandler>),
    Defers(Box<dyn Fn(Incoming, Responder) + Send + Sync>),
}

/// A request of the peer, as a handler gets it.
///
/// It dereferences to the [`Request`].
pub struct Incoming {
    request: Request,
    tag: Tag,
    origin: Arc<Origin>,
}

/// Where requests come from. Each thread that runs handlers has one, so that a request counts one
/// reference that no other thread counts.
pub(super) struct Origin {
    pub(super) connection: Connection,
    pub(super) session: Arc<Session>,
}

impl Origin {
    pub(super) fn new(connection: &Connection, session: &Arc<Session>) -> Arc<Self> {
        Arc::new(Self {
            connection: connection.for_requests_of(session),
            session: Arc::clone(session),
        })
    }
}

impl Incoming {
    pub(super) fn new(request: Request, tag: Tag, origin: &Arc<Origin>) -> Self {
        Self {
            request,
            tag,
            origin: Arc::clone(origin),
        }
    }

    /// Returns the connection that the request came over, to call back the peer.
    ///
    /// Requests made on a handler's thread count against the limits but never block at them.
    ///
    /// Until the request has been answered, requests made with what this returns, or a clone of it,
    /// are still sent when the connection is being closed, from any thread. Others are not.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::{Connection, Request, Transport};
    ///
    /// # fn main() -> packetstream::Result<()> {
    /// let (ours, theirs) = Transport::pair();
    /// let _server = Connection::builder()
    ///     .handler(|incoming| {
    ///         let name = incoming.connection().call(Request::new(0))?;
    ///         Ok([b"hello ", name.payload()].concat())
    ///     })
    ///     .open(theirs)?;
    /// let client = Connection::builder().handler(|_| Ok("client")).open(ours)?;
    /// assert_eq!(client.call(Request::new(1))?.payload(), b"hello client");
    /// # Ok(())
    /// # }
    /// ```
    pub fn connection(&self) -> &Connection {
        &self.origin.connection
    }

    /// Returns the tag of the request, as it is on the wire.
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// Returns `true` if the answer can no longer be sent, so that a long handler may stop.
    ///
    /// That is so after a write error and after a forced end. A peer that merely ended its stream
    /// may still read answers.
    pub fn peer_gone(&self) -> bool {
        self.origin.session.is_peer_gone()
    }

    /// Runs code that blocks on something other than a connection, and lends the handler's place to
    /// other requests meanwhile; blocks as long as the code does.
    ///
    /// While a handler waits for an answer, or in a submit or a close, its place is lent anyway.
    /// This is for a handler that waits for what another handler of the same connection brings: a
    /// lock, a channel, a job. On other threads than a handler's it only runs the code.
    ///
    /// # Examples
    ///
    /// One handler thread, and a request that waits for a later one:
    ///
    /// ```
    /// use packetstream::{Connection, Request, Transport};
    ///
    /// # fn main() -> packetstream::Result<()> {
    /// let (ours, theirs) = Transport::pair();
    /// let (tell, told) = std::sync::mpsc::channel();
    /// let told = std::sync::Mutex::new(told);
    /// let _server = Connection::builder()
    ///     .handler_threads(1)
    ///     .handler(move |incoming| match incoming.request_type().get() {
    ///         0 => Ok(incoming.lend(|| told.lock().unwrap().recv())?),
    ///         _ => Ok(tell.send("news").map(|()| "told")?),
    ///     })
    ///     .open(theirs)?;
    /// let client = Connection::builder().open(ours)?;
    ///
    /// let waiting = client.submit(Request::new(0))?;
    /// # let waiting = waiting.wait_timeout(std::time::Duration::ZERO).unwrap_err();
    /// assert_eq!(client.call(Request::new(1))?.payload(), b"told");
    /// assert_eq!(waiting.wait()?.payload(), b"news");
    /// # Ok(())
    /// # }
    /// ```
    pub fn lend<T>(&self, code: impl FnOnce() -> T) -> T {
        place::lending(code)
    }

    /// Returns the request.
    pub fn into_request(mut self) -> Request {
        std::mem::replace(&mut self.request, Request::new(0))
    }

    /// Returns the payload of the request.
    pub fn into_payload(mut self) -> Vec<u8> {
        self.request.take_payload()
    }
}

impl Drop for Incoming {
    /// Leaves the memory of a long payload to the next one.
    fn drop(&mut self) {
        let session = &self.origin.session;
        let is_long = self.request.payload().len() >= LEAST_REUSED;
        // This may be a copy in a fork, which must not wait for a lock.
        if is_long && !session.home.is_left() && session.spare.keep(self.request.take_payload()) {
            session.outbox.ring();
        }
    }
}

impl Deref for Incoming {
    type Target = Request;

    fn deref(&self) -> &Request {
        &self.request
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("tag", &self.tag.get())
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// Answers one request of the peer, later and from anywhere.
///
/// Handed to the function of
/// [`deferred_handler`](crate::ConnectionBuilder::deferred_handler). The request counts as being
/// served until it is answered, and a close waits for that within its linger time.
///
/// # Drop
///
/// Dropping it without an answer answers as for a handler that failed: not ok,
/// `exception during handler`.
///
/// # Examples
///
/// ```
/// use packetstream::{Connection, Request, Transport};
///
/// # fn main() -> packetstream::Result<()> {
/// let (ours, theirs) = Transport::pair();
/// let (queue, queued) = std::sync::mpsc::channel();
/// let _server = Connection::builder()
///     .deferred_handler(move |incoming, responder| {
///         let _ = queue.send((incoming.into_payload(), responder));
///     })
///     .open(theirs)?;
/// let client = Connection::builder().open(ours)?;
///
/// let pending = client.submit(Request::new(0).with_payload("later"))?;
/// # let pending = pending.wait_timeout(std::time::Duration::ZERO).unwrap_err();
/// let (payload, responder) = queued.recv().expect("the request arrives");
/// responder.respond(payload);
/// assert_eq!(pending.wait()?.payload(), b"later");
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it answers that the handler failed"]
pub struct Responder {
    /// Gone once it has been used.
    session: Option<Arc<Session>>,
    key: Key,
}

/// How a request was answered.
pub(super) type Answered = Result<Response, BoxError>;

impl Responder {
    pub(super) fn new(session: Arc<Session>, key: Key) -> Self {
        Self {
            session: Some(session),
            key,
        }
    }

    /// Answers with a response; returns at once.
    pub fn respond(self, response: impl Into<Response>) {
        self.answer(Ok(response.into()));
    }

    /// Answers "not ok" with that text and those flags; returns at once. A text that says that the
    /// request was not run gets `handler: ` in front, see [`Rejection`].
    pub fn reject(self, rejection: Rejection) {
        self.answer(Err(rejection.into()));
    }

    /// Answers as for a handler that returned this error; returns at once.
    pub fn fail(self, error: impl Into<BoxError>) {
        self.answer(Err(error.into()));
    }

    fn answer(mut self, answer: Answered) {
        if let Some(session) = self.session.take() {
            session.answer(self.key, answer);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && !session.home.is_left()
        {
            session.answer(self.key, Err("its responder was dropped".into()));
        }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("channel", &self.key.0.get())
            .field("tag", &self.key.1.get())
            .finish_non_exhaustive()
    }
}
