//! How a connection is set up.

use std::fmt;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::builder_wire::LONGEST_UNOWED_RESPONSE;
use super::guard::OpenGuard;
use super::handler::{Handler, Incoming, RequestHandler, Responder};
use super::message::Response;
use super::state::Limits;
use super::{Connection, Source};
use crate::error::{BoxError, Error, Result};
use crate::transport::{Connector, Transport};
use crate::wire::DEFAULT_MAX_PACKET_LEN;

/// The longest that a queued packet waits for company unless
/// [`flush_grace`](ConnectionBuilder::flush_grace) says otherwise: 10 ms.
#[doc(alias = "DEFAULT_PACKET_GRACE")]
pub const DEFAULT_FLUSH_GRACE: Duration = Duration::from_millis(10);

/// How long a close takes at most unless [`linger`](ConnectionBuilder::linger) says otherwise:
/// 5 seconds.
pub const DEFAULT_LINGER: Duration = Duration::from_secs(5);

const DEFAULT_SEND_QUEUE_LEN: usize = 1024;
const DEFAULT_HANDLER_THREADS: usize = 4;
const DEFAULT_MAX_HANDLER_THREADS: usize = 1024;
const DEFAULT_MAX_OUTSTANDING_REQUESTS: usize = 16 * 1024;
const DEFAULT_MAX_OUTSTANDING_BYTES: usize = 64 * 1024 * 1024;
const DEFAULT_MAX_INBOUND_REQUESTS: usize = 2 * DEFAULT_MAX_OUTSTANDING_REQUESTS;
const DEFAULT_MAX_INBOUND_BYTES: usize = 2 * DEFAULT_MAX_OUTSTANDING_BYTES;

/// Sets up a [`Connection`].
///
/// Made by [`Connection::builder`]. Every setting has a default that suits most programs.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use packetstream::{Connection, Request, Transport};
///
/// # fn main() -> packetstream::Result<()> {
/// let (ours, theirs) = Transport::pair();
/// let _server = Connection::builder()
///     .name("server")
///     .handler_threads(2)
///     .handler(|incoming| Ok(incoming.into_payload()))
///     .open(theirs)?;
/// let client = Connection::builder()
///     .name("client")
///     .linger(Some(Duration::from_secs(1)))
///     .open(ours)?;
/// assert_eq!(client.call(Request::new(0).with_payload("echo"))?.payload(), b"echo");
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing happens before it is built or opened"]
pub struct ConnectionBuilder {
    name: Option<String>,
    handler: Option<Handler>,
    flush_grace: Duration,
    linger: Option<Duration>,
    timeout: Option<Duration>,
    pub(super) max_packet_len: u64,
    handler_threads: usize,
    max_handler_threads: usize,
    is_inline: bool,
    pub(super) refuses_text: bool,
    pub(super) limits: Limits,
}

/// The settings of a connection, as its threads use them.
pub(super) struct Config {
    pub(super) name: Arc<str>,
    pub(super) handler: Option<Handler>,
    pub(super) flush_grace: Duration,
    pub(super) linger: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    pub(super) max_packet_len: u64,
    pub(super) handler_threads: usize,
    pub(super) max_handler_threads: usize,
    /// Handlers run on the receiver.
    pub(super) is_inline: bool,
    /// A first packet that looks like text ends the connection.
    pub(super) refuses_text: bool,
    pub(super) limits: Limits,
}

impl ConnectionBuilder {
    pub(super) fn new() -> Self {
        Self {
            name: None,
            handler: None,
            flush_grace: DEFAULT_FLUSH_GRACE,
            linger: Some(DEFAULT_LINGER),
            timeout: None,
            max_packet_len: DEFAULT_MAX_PACKET_LEN,
            handler_threads: DEFAULT_HANDLER_THREADS,
            max_handler_threads: DEFAULT_MAX_HANDLER_THREADS,
            is_inline: false,
            refuses_text: true,
            limits: Limits {
                outstanding_requests: DEFAULT_MAX_OUTSTANDING_REQUESTS,
                outstanding_bytes: DEFAULT_MAX_OUTSTANDING_BYTES,
                send_queue_len: DEFAULT_SEND_QUEUE_LEN,
                inbound_requests: DEFAULT_MAX_INBOUND_REQUESTS,
                inbound_bytes: DEFAULT_MAX_INBOUND_BYTES,
                unowed_response: LONGEST_UNOWED_RESPONSE,
            },
        }
    }

    /// Sets the name that log lines and thread names carry.
    ///
    /// A thread is called `name:role`, after what it was started for; Linux shows the first 15 octets of that. The default is
    /// `conn` and a number, so that two connections of a process can be told apart.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        // A thread's name is a C string.
        self.name = Some(name.into().replace('\0', ""));
        self
    }

    /// Sets the function that serves the peer's requests.
    ///
    /// What it returns converts into a [`Response`], see there. Its error is answered "not ok", see
    /// [`RequestHandler`]. The default is none: requests are answered not ok,
    /// `no request handler`.
    pub fn handler<F, R>(self, handler: F) -> Self
    where
        F: Fn(Incoming) -> Result<R, BoxError> + Send + Sync + 'static,
        R: Into<Response>,
    {
        self.request_handler(handler)
    }

    /// Sets what serves the peer's requests, if that is a type of its own.
    ///
    /// The default is none, see [`handler`](Self::handler), which it replaces.
    pub fn request_handler(mut self, handler: impl RequestHandler) -> Self {
        self.handler = Some(Handler::Answers(Box::new(handler)));
        self
    }

    /// Sets what serves the peer's requests, with answers given later through a [`Responder`].
    ///
    /// The function runs on a handler's thread and is meant to return soon. The default is none,
    /// see [`handler`](Self::handler), which it replaces.
    pub fn deferred_handler(
        mut self,
        handler: impl Fn(Incoming, Responder) + Send + Sync + 'static,
    ) -> Self {
        self.handler = Some(Handler::Defers(Box::new(handler)));
        self
    }

    /// Sets the longest that a queued packet waits for company before it is flushed.
    ///
    /// It is cut short as soon as somebody waits: a request goes out at once when its answer is
    /// waited for, a response when no further request of the peer is here to be answered. It ends
    /// also when 16 KiB or 64 packets have come together, or 512 packets where there is one core to
    /// run on and nobody would begin earlier for fewer. Zero flushes whenever the queue is empty.
    ///
    /// The default is [`DEFAULT_FLUSH_GRACE`], 10 ms, like the Python original's; here it costs
    /// nobody anything.
    #[doc(alias = "packet_grace")]
    pub fn flush_grace(mut self, grace: Duration) -> Self {
        self.flush_grace = grace;
        self
    }

    /// Sets how long a close may take before the connection is ended by force.
    ///
    /// `None` waits for as long as the peer takes, which may be for ever. Zero gives it no time at
    /// all. The default is [`DEFAULT_LINGER`], 5 seconds: enough for handlers and answers that are
    /// under way, and an end to waiting for a peer that does not answer.
    pub fn linger(mut self, linger: Option<Duration>) -> Self {
        self.linger = linger;
        self
    }

    /// Sets how long each request may take that has no
    /// [timeout of its own](crate::Request::with_timeout), which says what the time covers.
    ///
    /// The default is `None`, without limit, because only the application knows how long its
    /// requests take; the end of the connection settles every request anyway.
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many requests may wait in the send queue before a submit blocks, at least 1.
    ///
    /// Answers are not limited by it. The default is 1,024, because short queues cost wake-ups:
    /// with the Python original's 16, a quarter as many calls go through per second.
    pub fn send_queue_len(mut self, packets: usize) -> Self {
        self.limits.send_queue_len = packets.max(1);
        self
    }

    /// Sets how many handlers run at once, at least 1, not counting those that wait for the peer. One
    /// that has looked for an answer in vain ([`PendingResponse::is_finished`](crate::PendingResponse::is_finished),
    /// [`wait_timeout`](crate::PendingResponse::wait_timeout)) counts as waiting until it has the
    /// answer, gives it up or returns, so one handler thread is no lock.
    ///
    /// The default is 4, like the Python original's, whose programs may rely on four.
    #[doc(alias = "Later")]
    pub fn handler_threads(mut self, threads: usize) -> Self {
        self.handler_threads = threads.max(1);
        self
    }

    /// Sets how many handler threads there may be at most, counting those that wait for the peer.
    ///
    /// When all of them wait, requests that have not been started are answered not ok,
    /// `rejecting request: busy`. The default is 1,024, far above what nested calls between sane
    /// programs need, and still what an operating system bears.
    pub fn max_handler_threads(mut self, threads: usize) -> Self {
        self.max_handler_threads = threads.max(1);
        self
    }

    /// Sets whether the handler runs on the receiver's own thread, one request after the other,
    /// rather than on threads of its own.
    ///
    /// Then there are no handler threads at all. Quick handlers mostly
    /// [run there anyway](crate::RequestHandler#threads), with somebody to take over when they are
    /// not; this is for handlers that always return at once: while one runs, nothing is received,
    /// not even answers, and up to 31 answers that were made just before may not be sent.
    ///
    /// Whatever would block on a connection there, such as calling back, is an error
    /// ([`Error::WouldDeadlock`]) and not a hang; submitting is possible while there is room. The
    /// default is `false`, because a handler that blocks on anything else would hold up the peer.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::{Connection, Request, Transport};
    ///
    /// # fn main() -> packetstream::Result<()> {
    /// let (ours, theirs) = Transport::pair();
    /// let _server = Connection::builder()
    ///     .inline_handler(true)
    ///     .handler(|incoming| Ok(incoming.connection().call(Request::new(0)).unwrap_err().to_string()))
    ///     .open(theirs)?;
    /// let client = Connection::builder().open(ours)?;
    /// let answer = client.call(Request::new(0))?;
    /// assert!(answer.payload().starts_with(b"waiting here would block"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn inline_handler(mut self, is_inline: bool) -> Self {
        self.is_inline = is_inline;
        self
    }

    /// Sets how many requests of ours may be unanswered before a submit blocks, at least 1.
    ///
    /// A request that was sent and then cancelled counts until its answer comes. Those that are made
    /// to answer requests of the peer, by a handler or with [`Incoming::connection`], count too, but
    /// a handler's thread never blocks for them, and on other threads there is room for one more for
    /// each request that is served. The default is 16,384.
    pub fn max_outstanding_requests(mut self, requests: usize) -> Self {
        self.limits.outstanding_requests = requests.max(1);
        self
    }

    /// Sets how many octets of payload our unanswered requests may have before a submit blocks.
    ///
    /// A request with more goes when nothing else is unanswered. The default is 64 MiB, the size
    /// of the longest packet.
    pub fn max_outstanding_bytes(mut self, octets: usize) -> Self {
        self.limits.outstanding_bytes = octets;
        self
    }

    /// Sets how many requests of the peer may be here unanswered, at least 1.
    ///
    /// Over that number reading pauses, or, while this end waits for an answer of the peer, further
    /// requests are answered not ok, `rejecting request: busy`. As many answers may wait to be sent
    /// before no further request is started. With four times as many (but at least 32,768), nothing
    /// more is read until the peer has read some, and the connection ends with
    /// [`Error::PeerNotReading`] if that takes 5 s.
    ///
    /// The default is 32,768: twice what an end of ours leaves unanswered, so that two of them
    /// never see it.
    pub fn max_inbound_requests(mut self, requests: usize) -> Self {
        self.limits.inbound_requests = requests.max(1);
        self
    }

    /// Sets how many octets of payload such requests, and such answers, may have; otherwise like
    /// [`max_inbound_requests`](Self::max_inbound_requests).
    ///
    /// The default is 128 MiB.
    pub fn max_inbound_bytes(mut self, octets: usize) -> Self {
        self.limits.inbound_bytes = octets.max(1);
        self
    }

    /// Builds a connection over a transport and opens it.
    ///
    /// # Errors
    ///
    /// - [`Error::Spawn`] if its threads cannot be started.
    pub fn open(self, transport: Transport) -> Result<OpenGuard> {
        self.build(transport).open()
    }

    /// Starts a program and opens a connection over its standard input and output.
    ///
    /// The child's stdin is closed after our goodbye, and the close waits for its exit within the
    /// linger time, then kills it. See [`Transport::spawn`].
    ///
    /// # Errors
    ///
    /// - [`Error::Connect`] if the program cannot be started.
    /// - [`Error::Spawn`] if threads cannot be started.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::process::Command;
    /// use packetstream::Connection;
    ///
    /// let error = Connection::builder().spawn(Command::new("/no/such/program")).unwrap_err();
    /// assert!(error.is_transport());
    /// ```
    pub fn spawn(self, mut command: Command) -> Result<OpenGuard> {
        let transport =
            Transport::spawn(&mut command).map_err(|error| Error::Connect(Arc::new(error)))?;
        self.open(transport)
    }

    /// Builds a connection over a transport, to be opened later, and once.
    pub fn build(self, transport: Transport) -> Connection {
        Connection::new(
            self.into_config(),
            Source::Fixed(OnceLock::new()),
            Some(transport),
        )
    }

    /// Builds a connection that makes its transport when it is first opened, and again when it is
    /// opened after it was closed.
    ///
    /// The transport is shut (its shutdown hook is called) and dropped when the last reference
    /// goes. A request on a closed one opens it until the answer has been taken.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::{Connection, Request, Transport};
    ///
    /// # fn main() -> packetstream::Result<()> {
    /// let connection = Connection::builder().build_on_demand(|| {
    ///     let (ours, theirs) = Transport::pair();
    ///     let server = Connection::builder().handler(|_| Ok("served")).open(theirs);
    ///     std::thread::Builder::new().spawn(move || server.map(|server| server.serve()))?;
    ///     Ok(ours)
    /// });
    /// for _ in 0..2 {
    ///     assert_eq!(connection.call(Request::new(0))?.payload(), b"served");
    ///     connection.wait_closed().into_result()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn build_on_demand(self, connector: impl Connector) -> Connection {
        Connection::new(
            self.into_config(),
            Source::OnDemand(Box::new(connector)),
            None,
        )
    }

    fn into_config(self) -> Config {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let name = self
            .name
            .unwrap_or_else(|| format!("conn{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        Config {
            name: name.into(),
            handler: self.handler,
            flush_grace: self.flush_grace,
            linger: self.linger,
            timeout: self.timeout,
            max_packet_len: self.max_packet_len,
            handler_threads: self.handler_threads,
            max_handler_threads: self.max_handler_threads,
            is_inline: self.is_inline,
            refuses_text: self.refuses_text,
            limits: self.limits,
        }
    }
}

impl fmt::Debug for ConnectionBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionBuilder")
            .field("name", &self.name)
            .field("has_handler", &self.handler.is_some())
            .field("flush_grace", &self.flush_grace)
            .field("linger", &self.linger)
            .field("timeout", &self.timeout)
            .field("max_packet_len", &self.max_packet_len)
            .field("handler_threads", &self.handler_threads)
            .field("max_handler_threads", &self.max_handler_threads)
            .field("is_inline", &self.is_inline)
            .field("refuses_text", &self.refuses_text)
            .field("limits", &self.limits)
            .finish()
    }
}
