//! The engine: one connection, its threads and its tables.

mod answer_packet;
mod builder;
mod builder_wire;
mod callbacks;
mod canceller;
mod company;
mod decode;
mod duty;
mod ending;
mod facts;
mod flood;
mod foreign;
mod guard;
mod handler;
mod handover;
mod judging;
mod key_hash;
mod late_thread;
mod lead;
mod logging;
#[cfg(all(test, loom))]
mod loom_tests;
mod message;
mod monitored_writer;
mod one_shot;
mod open_count;
mod opening;
mod outbox;
mod own_answer;
mod pending;
mod pending_set;
mod place;
mod pool;
mod read_side;
mod receiver;
mod reference;
mod report;
mod rest;
mod sender;
mod session;
mod sharing;
mod spare;
mod state;
mod stats;
mod submission;
mod submitted;
mod text;
mod timer;
mod try_submit_error;
mod unread;
mod watch;
mod workers;
#[cfg(test)]
#[cfg(not(loom))]
mod write_error_tests;

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use self::builder::Config;
pub use self::builder::{ConnectionBuilder, DEFAULT_FLUSH_GRACE, DEFAULT_LINGER};
pub use self::canceller::Canceller;
pub use self::guard::OpenGuard;
pub use self::handler::{Incoming, RequestHandler, Responder};
pub use self::message::{Request, Response};
use self::open_count::Hold;
use self::own_answer::TakenReading;
pub use self::pending::PendingResponse;
pub use self::pending_set::PendingSet;
pub use self::report::CloseReport;
use self::report::Summary;
use self::session::Session;
use self::state::Sake;
pub use self::stats::ConnectionStats;
use self::submission::{Purpose, Terms};
use self::text::source_text;
pub use self::try_submit_error::TrySubmitError;
use crate::error::{Error, Result};
use crate::outcome::Outcome;
use crate::transport::{Connector, Transport};

/// A bidirectional connection for requests and responses: both ends make requests and serve them,
/// at once and from any number of threads.
///
/// Cloning it is cheap, and it holds nothing open: guards and pending responses do. Between
/// [`open`](Self::open) and the end of the last of them it can carry requests.
///
/// # Threads
///
/// While it is open it has two threads, a sender and a receiver. Handler threads are started when
/// there is a handler and work for it, one more thread for the first callback that has to wait, and
/// one for the first callback or future with a [time limit](Request::with_timeout). All
/// are named after the connection and what they were started for, and gone once it is closed. A
/// receiver and a handler thread may have changed places.
///
/// # Fork
///
/// An open connection belongs to the process that opened it. A fork has a copy of it without its
/// threads, shares its streams, and has to leave both alone: open connections after `fork` or
/// `daemon`, or close them before, and end a fork that has a copy of an open one with `exec` or
/// `_exit`, without returning from a handler.
///
/// What a fork does to end a connection all the same returns at once: dropping guards, pending
/// responses and responders, closing, [`shutdown`](Self::shutdown), [`abort`](Self::abort). Nothing is
/// waited for, called, logged or written, and a child process is neither ended nor reaped. The cause
/// in the report is [`Error::OtherProcess`], which is also the error of waiting for a pending
/// response. Nothing else is looked after, since it would cost every call a system call: a request
/// that is made in a fork may never return, or be written into the stream of its parent.
///
/// # Examples
///
/// ```
/// use packetstream::{Connection, Request, Transport};
///
/// # fn main() -> packetstream::Result<()> {
/// let (ours, theirs) = Transport::pair();
/// let server = Connection::builder()
///     .handler(|incoming| Ok(incoming.payload().to_ascii_uppercase()))
///     .open(theirs)?;
/// let client = Connection::builder().open(ours)?;
///
/// let response = client.call(Request::new(0).with_payload("hello"))?;
/// assert_eq!(response.payload(), b"HELLO");
/// client.close().into_result()?;
/// server.close().into_result()?;
/// # Ok(())
/// # }
/// ```
#[doc(alias = "PacketConnection")]
#[must_use = "it holds nothing open: only a guard does"]
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
    /// Of one that came with a request: the session that it came over.
    served_by: Option<Weak<Session>>,
}

struct Inner {
    config: Arc<Config>,
    source: Source,
    life: Mutex<Life>,
    /// Signalled when an attempt to connect has ended.
    opened: Condvar,
    /// The number of the process in which it is open, 0 for none: known without a lock.
    opener: Arc<AtomicU32>,
}

/// Where transports come from.
enum Source {
    /// Given once, when the connection was built: there is one session at most, once it is open.
    Fixed(OnceLock<Arc<Session>>),
    OnDemand(Box<dyn Connector>),
}

/// Which open period there is. The lock order stands in `session.rs`.
struct Life {
    /// The present session, or the last one.
    session: Option<Arc<Session>>,
    /// Of a connection that has not been opened.
    transport: Option<Transport>,
    /// The thread that is connecting, without the lock.
    opening: Option<ThreadId>,
}

impl Connection {
    /// Starts to set up a connection.
    pub fn builder() -> ConnectionBuilder {
        ConnectionBuilder::new()
    }

    fn new(config: Config, source: Source, transport: Option<Transport>) -> Self {
        let inner = Inner {
            config: Arc::new(config),
            source,
            life: Mutex::new(Life {
                session: None,
                transport,
                opening: None,
            }),
            opened: Condvar::new(),
            opener: Arc::default(),
        };
        Self::from_inner(Arc::new(inner))
    }

    fn from_inner(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            served_by: None,
        }
    }

    /// Returns a handle for what serves requests of that session.
    fn for_requests_of(&self, session: &Arc<Session>) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            served_by: Some(Arc::downgrade(session)),
        }
    }

    fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.inner)
    }

    fn config(&self) -> &Arc<Config> {
        &self.inner.config
    }

    fn is_on_demand(&self) -> bool {
        matches!(self.inner.source, Source::OnDemand(_))
    }

    /// Opens the connection, or adds a reference if it is open.
    ///
    /// An on-demand connection connects when it is opened first, which blocks for as long as its
    /// connector takes; if it is just being closed, until that is done. Others that open it
    /// meanwhile wait for that attempt.
    ///
    /// # Errors
    ///
    /// - [`Error::Closed`] if the connection has been closed and is not on demand, or if it is
    ///   being closed and this is one of its own threads, or is asked with what
    ///   [`Incoming::connection`] returned for a request that the close waits for.
    /// - [`Error::Connect`] if the connector fails. The next attempt connects anew.
    /// - [`Error::OtherProcess`] in a fork of the process that opened it.
    /// - [`Error::Spawn`] if the threads cannot be started.
    pub fn open(&self) -> Result<OpenGuard> {
        if self.is_elsewhere() {
            return Err(Error::OtherProcess(Outcome::NotSent));
        }
        let reference = self.refer(Hold::Guard, None)?;
        Ok(OpenGuard::new(self.clone(), reference))
    }

    /// Returns the present session, or the last one.
    fn session(&self) -> Option<Arc<Session>> {
        match &self.inner.source {
            Source::Fixed(session) => session.get().cloned(),
            Source::OnDemand(_) => self.inner.life.lock().session.clone(),
        }
    }

    /// Queues a request and returns the future of its answer.
    ///
    /// Blocks while the limits of unanswered requests or of the send queue are reached, but never
    /// on a handler's thread. The request is sent within the flush grace, and at once when somebody
    /// begins to wait for the answer.
    ///
    /// On a closed on-demand connection it opens that for the life of the pending response.
    ///
    /// # Errors
    ///
    /// In every case the request was not sent.
    ///
    /// - [`Error::Closed`] if the connection is not open.
    /// - [`Error::RequestsFinished`] after [`finish_requests`](Self::finish_requests), or while it
    ///   is being closed.
    /// - [`Error::TooLong`] if the packet is longer than the limit.
    /// - [`Error::Unanswered`] if the connection has ended; its source says why.
    /// - [`Error::TimedOut`] if the [time given to it](Request::with_timeout) passed before.
    /// - [`Error::WouldDeadlock`] if it would have to block on a thread that has to make room.
    /// - [`Error::Connect`], [`Error::Spawn`] like [`open`](Self::open).
    pub fn submit(&self, mut request: Request) -> Result<PendingResponse> {
        Ok(self.submit_with(&mut request, true, Purpose::Submit)?.0)
    }

    /// Queues a request like [`submit`](Self::submit), but does not block at the limits.
    ///
    /// # Errors
    ///
    /// A [`TrySubmitError`], which gives the request back: with [`Error::Full`] if it would have to
    /// block, else with one of the errors of [`submit`](Self::submit).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use packetstream::{Connection, Request, Transport};
    ///
    /// # fn main() -> packetstream::Result<()> {
    /// let (ours, _silent) = Transport::pair();
    /// let client = Connection::builder()
    ///     .max_outstanding_requests(1)
    ///     .linger(Some(Duration::ZERO))
    ///     .open(ours)?;
    /// let _first = client.try_submit(Request::new(0))?;
    ///
    /// let refused = client.try_submit(Request::new(0).with_payload("second")).unwrap_err();
    /// assert!(refused.is_full());
    /// assert_eq!(refused.into_request().payload(), b"second");
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_submit(&self, mut request: Request) -> Result<PendingResponse, TrySubmitError> {
        match self.submit_with(&mut request, false, Purpose::Submit) {
            Ok((pending, _)) => Ok(pending),
            Err(error) => Err(TrySubmitError::new(error, request)),
        }
    }

    /// Makes a request and blocks until its answer is here.
    ///
    /// While calls follow each other with no other request beside them, this thread may itself
    /// write to the stream and read from it, which takes two thirds of the time. That is so only
    /// on connections without a handler and without a [`timeout`](ConnectionBuilder::timeout), over
    /// sockets and in memory. The end of the peer may be noticed two milliseconds later then.
    ///
    /// # Errors
    ///
    /// Those of [`submit`](Self::submit) and of [`PendingResponse::wait`].
    #[doc(alias = "__call__")]
    pub fn call(&self, mut request: Request) -> Result<Response> {
        let is_stuck = || {
            self.session()
                .is_some_and(|session| place::must_not_wait_for(&session))
        };
        if place::must_not_block() || place::is_ours() && is_stuck() {
            return Err(Error::WouldDeadlock(Outcome::NotSent));
        }
        // The wait that follows sends it.
        let (pending, reading) = self.submit_with(&mut request, true, Purpose::Call)?;
        if let Some(reading) = reading {
            pending.read_answer(reading);
        }
        pending.wait_in_call()
    }

    /// Takes what it sends out of the request; an error leaves all in it.
    fn submit_with(
        &self,
        request: &mut Request,
        may_wait: bool,
        purpose: Purpose,
    ) -> Result<(PendingResponse, Option<TakenReading>)> {
        let timeout = request.timeout().or(self.config().timeout);
        let mut terms = Terms {
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            may_wait,
            purpose,
            sake: Sake::Own,
            is_held: false,
        };
        if let Some((session, sake)) = self.session_at_hand() {
            (terms.sake, terms.is_held) = (sake, true);
            return session.submit(request, terms);
        }
        if !self.is_on_demand() {
            let session = self.session().ok_or(Error::Closed)?;
            return session.submit(request, terms);
        }
        // The reference keeps it from being closed between here and there.
        let reference = self.refer_for_request(terms.deadline)?;
        terms.is_held = true;
        Arc::clone(reference.session()).submit(request, terms)
    }

    /// Returns the session that a request belongs to whose maker serves one: it goes to the peer
    /// that asked, also while the connection closes and when it has been opened anew. So do those
    /// made on other threads of a session.
    fn session_at_hand(&self) -> Option<(Arc<Session>, Sake)> {
        let of_thread = place::session_of(&self.inner);
        if of_thread.is_some() && (place::is_worker() || place::must_not_block()) {
            return of_thread.map(|session| (session, Sake::Accepted));
        }
        let served_by = self.served_by.as_ref().and_then(Weak::upgrade);
        served_by
            .filter(|session| session.is_serving())
            .map(|session| (session, Sake::Accepted))
            .or_else(|| of_thread.map(|session| (session, Sake::Own)))
    }

    /// Says to the peer that no more requests follow; returns at once.
    ///
    /// Answers still come in and the peer's requests are still served. Doing it again changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// - [`Error::Closed`] if the connection is not open.
    /// - [`Error::OtherProcess`] in a fork of the process that opened it.
    /// - What ended the connection, if it has ended out of order.
    #[doc(alias = "send_erq")]
    #[doc(alias = "end_requests")]
    pub fn finish_requests(&self) -> Result<()> {
        self.open_session()?.finish_requests()
    }

    /// Ends our direction of the stream; returns at once.
    ///
    /// No more requests may be made. What was accepted from the peer is still answered, then the
    /// goodbye goes out; later requests of the peer are answered not ok. Answers to our own
    /// requests still come in, if the peer goes on.
    ///
    /// # Errors
    ///
    /// Those of [`finish_requests`](Self::finish_requests).
    #[doc(alias = "send_eof")]
    pub fn end_stream(&self) -> Result<()> {
        self.open_session()?.end_stream()
    }

    /// Blocks until the peer has ended its stream, however it did.
    ///
    /// What it has asked may still be in the hands of handlers then. Returns at once if the
    /// connection was never open.
    ///
    /// # Errors
    ///
    /// - What ended the stream, if it did not end between two packets.
    /// - [`Error::OtherProcess`] in a fork of the process that opened it.
    /// - [`Error::WouldDeadlock`] on a thread that has to end it.
    #[doc(alias = "join_recv")]
    pub fn wait_end_of_stream(&self) -> Result<()> {
        if self.is_elsewhere() {
            return Err(Error::OtherProcess(Outcome::NotSent));
        }
        match self.session() {
            Some(session) => session.wait_end_of_stream(),
            None => Ok(()),
        }
    }

    /// Blocks until the connection has ended: both directions, and all its threads.
    ///
    /// It closes nothing by itself. After the peer's goodbye a connection ends without our doing.
    /// On one of its own threads it returns at once, with
    /// [`in_progress`](CloseReport::in_progress).
    #[doc(alias = "join")]
    pub fn wait_closed(&self) -> CloseReport {
        if self.is_elsewhere() {
            return CloseReport::of_other_process();
        }
        match self.session() {
            Some(session) => session.wait_closed(),
            None => CloseReport::finished(Summary::default(), None),
        }
    }

    /// Closes the connection whatever references there are; blocks until it has ended, at most for
    /// the given time (`None`: without limit).
    ///
    /// What holds it open finds it closed. If a close is running, on whatever thread, it is given no
    /// longer than that, wherever it waits. A child process that has not exited by then is killed, and
    /// reaped. On a thread of any connection it goes on in the background.
    pub fn shutdown(&self, linger: Option<Duration>) -> CloseReport {
        if self.is_elsewhere() {
            return CloseReport::of_other_process();
        }
        match self.session() {
            Some(session) => session.close(linger),
            None => CloseReport::finished(Summary::default(), None),
        }
    }

    /// Ends the connection at once and without a goodbye, whatever references there are.
    ///
    /// Every pending request fails with [`Error::Aborted`] as its cause, and the transport is shut: a
    /// child process is killed, and reaped. A close that is running, on whatever thread, ends at once
    /// too, also if only the child's exit was left to wait for; then nothing has been lost, and the
    /// report says so.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::{Connection, Error, Request, Transport};
    ///
    /// # fn main() -> packetstream::Result<()> {
    /// let (ours, _silent) = Transport::pair();
    /// let client = Connection::builder().open(ours)?;
    /// let pending = client.submit(Request::new(0))?;
    /// let report = client.abort();
    /// assert!(matches!(report.cause(), Some(Error::Aborted)));
    /// assert!(matches!(pending.wait().unwrap_err().cause(), Error::Aborted));
    /// # Ok(())
    /// # }
    /// ```
    pub fn abort(&self) -> CloseReport {
        if self.is_elsewhere() {
            return CloseReport::of_other_process();
        }
        match self.session() {
            Some(session) => {
                session.set_aborted();
                session.close(Some(Duration::ZERO))
            }
            None => CloseReport::finished(Summary::default(), None),
        }
    }
}
