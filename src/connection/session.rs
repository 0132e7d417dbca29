//! One open period of a connection: its threads, its tables, and what may wait for what.
//!
//! # Threads
//!
//! | thread | started | blocks on | ends |
//! |---|---|---|---|
//! | sender | at open | `Write`; parked when there is nothing to write; `progress` after a write error | after flushing `END_OF_STREAM`; 100 ms after a write error; by force |
//! | receiver | at open | `BufRead`; `inbound` over the inbound budget, while nobody here waits for the peer; `inbound` while callers read; with the reading offered: the handler, `Write` | at the end of input, an error of the peer, by force |
//! | worker, any number | for the first request, and when slots are lent | the handler, `work`, `Write` if that can be freed | when no request can arrive any more |
//! | callbacks | for the first `on_complete` that has to wait | its queue; the callback | once every request is settled |
//! | timer | for the first poll or `on_complete` that has to wait and has a time limit, and for the first poll of a handler | its schedule; a waker | once every request is settled |
//! | closer | for a close that must not block | `progress`, joins | when the session is closed |
//!
//! Receiver and worker are roles: the receiver serves quick requests itself and offers the reading
//! meanwhile, and a worker that watches takes it over when it does not come back in time. Then they
//! have changed places (`lead.rs`, `duty.rs`; modelled in `loom_tests/reading.rs`).
//!
//! Where nothing is served, a caller that is alone may read its own answer on its own thread, for
//! which the receiver leaves the reading (`handover.rs`; modelled in `loom_tests/handover.rs`). Of
//! all that is read there, only that answer is dealt out there.
//!
//! All are owned by the session, which joins them when it is closed; what does not end within
//! the linger time is let go. A callback, a waker, a handler or a hook runs on them, so user code
//! on any of them must be able to call everything: it may submit (which then never blocks at the
//! limits on a worker), wait (a worker lends its slot; the receiver and the sender get an error),
//! and drop the last reference (the close goes to a closer).
//!
//! # Locking rules
//!
//! 1. `life` (in `connection/mod.rs`) before `role` before `shared`. The queue of the callbacks, the
//!    schedule of the timer, `threads`, `streams`, `hooks`, the spare memory, the lock at which a
//!    caller waits for its flush, and the mutex in a one-shot are leaves: nothing is locked under them.
//! 2. `role` is the right to write. Only the sender waits for it, and only it is held across a
//!    blocking call, which is the write itself. Everybody else may try for it.
//! 3. Under `shared` there is no I/O, no logging, no user code, and no drop of anything that
//!    belongs to the user. What follows from a change is collected and done after unlocking.
//! 4. Packets are numbered and join the run, and runs are put into the send queue, under `shared`, so
//!    the order of numbers is the order on the wire. The queue itself is never full: what limits
//!    callers is counted in `shared`. Whoever queues says what becomes of the run: it is pushed, or
//!    left to the sender, which looks at it under `shared` before it rests.

use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use super::builder::Config;
use super::callbacks::Callbacks;
use super::handover::Handover;
use super::lead::{Lead, Pace};
use super::one_shot::OneShot;
use super::open_count::{Hold, OpenCount};
use super::outbox::{MayWrite, Outbox, Run, Sharing};
use super::pool::{Loan, Opening, Pool};
use super::read_side::ReadSide;
use super::reference::Reference;
use super::report::Summary;
use super::spare::Spare;
use super::state::{Queued, State};
use super::stats::ConnectionStats;
use super::timer::Timer;
use super::workers::Job;
use super::{Connection, receiver, sender};
use crate::error::{Error, Result};
use crate::home::Home;
use crate::outcome::Outcome;
use crate::sync::{Condvar, Mutex};
use crate::transport::{BoxedReader, BoxedWriter, Hooks, Transport, TransportParts};
use crate::wire::Packet;

/// One open period of a connection.
pub(super) struct Session {
    pub(super) config: Arc<Config>,
    pub(super) is_on_demand: bool,
    pub(super) shared: Mutex<Shared>,
    /// Signalled when a submitter may find room.
    pub(super) room: Condvar,
    /// Signalled when the pool calls a worker, when the reading is wanted, and at the end.
    pub(super) work: Condvar,
    /// Signalled when a receiver that has paused, or left the reading, is to look again.
    pub(super) inbound: Condvar,
    /// Signalled when a direction or a thread ends, or a close goes on.
    pub(super) progress: Condvar,
    pub(super) outbox: Outbox,
    pub(super) callbacks: Callbacks,
    pub(super) timer: Timer,
    pub(super) spare: Arc<Spare>,
    /// What can be done with the transport; nothing any more once it has been put away.
    pub(super) hooks: Mutex<Hooks>,
    /// Whether the writer is of no more use after our `END_OF_STREAM`.
    pub(super) ends_writer: bool,
    /// Whether callers may read their own answers: nothing is served here, they may write and
    /// wait without limit, and a forced end frees who is stuck in the reader.
    pub(super) callers_may_read: bool,
    /// Where the streams lie before their threads take them and after those have ended.
    pub(super) streams: Mutex<Streams>,
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
    /// Joined by who waits for the session to be closed; it has nothing to join it with itself.
    pub(super) closer: Mutex<Option<JoinHandle<()>>>,
    /// Nothing that a handler answers will be sent.
    pub(super) is_peer_gone: AtomicBool,
    /// The threads that need it hold it: weak, or an open connection would never be freed.
    pub(super) connection: Weak<super::Inner>,
    /// The process that opened it. In another one nothing may be done with it.
    pub(super) home: Home,
    /// The connection's, to be set to none at the end.
    pub(super) opener: Arc<AtomicU32>,
    references: OpenCount,
}

/// What all threads share.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about independent threads"
)]
pub(super) struct Shared {
    pub(super) state: State<Arc<OneShot>>,
    pub(super) pool: Pool<Job>,
    pub(super) lead: Lead<Box<ReadSide>>,
    pub(super) pace: Pace,
    pub(super) handover: Handover<Box<ReadSide>>,
    pub(super) run: Run,
    /// Whether complete packets lie in the read buffer.
    pub(super) more_buffered: bool,
    /// The last answer that waits for company in the send queue.
    pub(super) held: Option<u64>,
    /// The receiver waits for the peer's requests to become fewer.
    pub(super) is_paused: bool,
    /// Submitters that wait for room, the first one first.
    pub(super) submitters: VecDeque<u64>,
    pub(super) next_submitter: u64,
    pub(super) sender_lives: bool,
    pub(super) receiver_lives: bool,
    /// Those for callbacks and for time limits.
    pub(super) late_threads: usize,
    pub(super) closing: Closing,
    /// Until when a close may take; `None` is without limit.
    pub(super) close_by: Option<Instant>,
    pub(super) is_aborted: bool,
    pub(super) is_forced: bool,
    pub(super) stats: ConnectionStats,
    /// What the transport knows of its end.
    pub(super) diagnosis: Option<Arc<str>>,
    /// What has come of a packet that is not complete, if that is the first or looks like text.
    pub(super) partial: Vec<u8>,
    pub(super) summary: Option<Summary>,
    /// The transport, for the first who asks for the report.
    pub(super) returned: Option<Transport>,
}

impl AsMut<Run> for Shared {
    fn as_mut(&mut self) -> &mut Run {
        &mut self.run
    }
}

/// How far the close has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    No,
    /// The last reference has gone, and who let it go will close.
    Due,
    Running,
    Done,
}

impl Shared {
    /// Whether any thread is left that the end of the session waits for.
    pub(super) fn is_alive(&self) -> bool {
        self.sender_lives || self.receiver_lives || self.late_threads > 0 || self.pool.threads() > 0
    }
}

#[derive(Default)]
pub(super) struct Streams {
    pub(super) reader: Option<BoxedReader>,
    pub(super) writer: Option<BoxedWriter>,
    /// The transport has been put away: what a thread leaves later is dropped.
    pub(super) are_gone: bool,
}

impl Streams {
    /// Leaves a stream to whoever puts the transport away; gives it back, to be dropped outside
    /// the lock, if that has happened already.
    pub(super) fn leave_reader(&mut self, reader: BoxedReader) -> Option<BoxedReader> {
        if self.are_gone {
            return Some(reader);
        }
        self.reader = Some(reader);
        None
    }

    pub(super) fn leave_writer(&mut self, writer: Option<BoxedWriter>) -> Option<BoxedWriter> {
        if self.are_gone {
            return writer;
        }
        self.writer = writer;
        None
    }

    /// Gives up what nobody reads or writes any more, and what a thread leaves later; it is to be
    /// dropped outside the lock.
    pub(super) fn give_up(&mut self) -> (Option<BoxedReader>, Option<BoxedWriter>) {
        self.are_gone = true;
        (self.reader.take(), self.writer.take())
    }
}

impl Session {
    /// Starts a session, with one reference. If a thread cannot be started, the transport comes
    /// back unused.
    pub(super) fn start(
        connection: &Connection,
        transport: Transport,
        hold: Hold,
    ) -> Result<Reference, (Error, Option<Box<Transport>>)> {
        let config = Arc::clone(connection.config());
        let TransportParts {
            reader,
            writer,
            hooks,
        } = transport.split();
        let sharing = Sharing {
            frees_writer: hooks.shutdown.is_some() && hooks.frees_writer,
            is_buffered: hooks.is_buffered,
        };
        let shared = Shared {
            state: State::new(config.limits, config.handler.is_some()),
            pool: Pool::new(config.handler_threads, config.max_handler_threads),
            lead: Lead::new(),
            pace: Pace::new(),
            handover: Handover::new(),
            run: Run::default(),
            more_buffered: false,
            held: None,
            is_paused: false,
            submitters: VecDeque::new(),
            next_submitter: 0,
            sender_lives: true,
            receiver_lives: true,
            late_threads: 0,
            closing: Closing::No,
            close_by: None,
            is_aborted: false,
            is_forced: false,
            stats: ConnectionStats::default(),
            diagnosis: None,
            partial: Vec::new(),
            summary: None,
            returned: None,
        };
        let session = Arc::new(Self {
            is_on_demand: connection.is_on_demand(),
            shared: Mutex::new(shared),
            room: Condvar::new(),
            work: Condvar::new(),
            inbound: Condvar::new(),
            progress: Condvar::new(),
            outbox: Outbox::new(config.flush_grace, sharing),
            callbacks: Callbacks::default(),
            timer: Timer::default(),
            spare: Arc::default(),
            ends_writer: hooks.end_of_write.is_some(),
            callers_may_read: config.handler.is_none()
                && config.timeout.is_none()
                && hooks.free_reader.is_some()
                && hooks.is_buffered,
            hooks: Mutex::new(hooks),
            streams: Mutex::new(Streams {
                reader: Some(reader),
                writer: Some(writer),
                are_gone: false,
            }),
            threads: Mutex::default(),
            closer: Mutex::default(),
            is_peer_gone: AtomicBool::new(false),
            connection: connection.downgrade(),
            home: Home::here(),
            opener: connection.opener(),
            references: OpenCount::one(hold),
            config,
        });
        match session.start_threads(connection) {
            Ok(()) => Ok(Reference::counted(session, hold)),
            Err(error) => Err((error, session.take_transport().map(Box::new))),
        }
    }

    fn start_threads(self: &Arc<Self>, connection: &Connection) -> Result<()> {
        // Both wait for a word before they touch the streams, so that a failure leaves those
        // unused.
        let (go, gone) = crossbeam_channel::bounded::<()>(0);
        let session = Arc::clone(self);
        let may_go = gone.clone();
        let sender = self.spawn("sender", move || {
            if may_go.recv().is_ok() {
                sender::run(&session);
            }
        })?;
        let session = Arc::clone(self);
        let its_connection = connection.clone();
        let receiver = self.spawn("receiver", move || {
            if gone.recv().is_ok() {
                receiver::run(&session, &its_connection);
            }
        });
        match receiver {
            Ok(receiver) => self.threads.lock().extend([sender, receiver]),
            Err(error) => {
                drop(go);
                let _ = sender.join();
                return Err(error);
            }
        }
        // From the first request on, a handler must find the connection open.
        let last = connection.publish(self);
        // The two receive one each; neither can be gone.
        let _ = go.send(());
        let _ = go.send(());
        // With it the user's streams and hooks may go.
        self.contained(|| drop(last));
        Ok(())
    }

    /// Starts a thread that carries the connection's name.
    pub(super) fn spawn(
        &self,
        role: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle<()>> {
        std::thread::Builder::new()
            .name(format!("{}:{role}", self.config.name))
            .spawn(body)
            .map_err(|error| Error::Spawn {
                outcome: Outcome::NotSent,
                source: Arc::new(error),
            })
    }

    /// Puts the transport together again, from the streams that its threads have left.
    pub(super) fn take_transport(&self) -> Option<Transport> {
        let mut streams = self.streams.lock();
        let (reader, writer) = (streams.reader.take()?, streams.writer.take()?);
        drop(streams);
        let hooks = std::mem::take(&mut *self.hooks.lock());
        Some(Transport::from_parts(TransportParts {
            reader,
            writer,
            hooks,
        }))
    }

    // ---- references --------------------------------------------------------------------

    /// Counts one more reference; the caller holds one, or `shared`.
    pub(super) fn refer(&self, hold: Hold) {
        self.references.refer(hold);
    }

    /// Counts one reference less; `true` if the caller has to close the session.
    pub(super) fn release(self: &Arc<Self>, hold: Hold) -> bool {
        let mut was_last = false;
        let has_to_close = self.references.release(
            hold,
            || {
                was_last = self.is_here_or_stays();
                was_last
            },
            &self.shared,
            |shared| &mut shared.closing,
        );
        if was_last && !has_to_close {
            self.limit_close();
        }
        has_to_close
    }

    /// Counts one guard less, to close; `true` if the caller has to close the session.
    pub(super) fn release_guard(&self) -> bool {
        self.references
            .close(&self.shared, |shared| &mut shared.closing)
    }

    /// Whether this is the process that opened it. If not, nothing of it is ever dropped here: that
    /// may flush into a stream of the process which it belongs to.
    fn is_here_or_stays(self: &Arc<Self>) -> bool {
        let is_here = !self.home.is_left();
        if !is_here {
            let _stays = ManuallyDrop::new(Arc::clone(self));
        }
        is_here
    }

    /// Counts one more reference unless the session is being closed.
    pub(super) fn try_refer(self: &Arc<Self>, hold: Hold) -> Option<Reference> {
        let is_open = |shared: &Shared| shared.closing == Closing::No && !shared.is_aborted;
        self.references
            .try_refer(hold, &self.shared, is_open)
            .then(|| Reference::counted(Arc::clone(self), hold))
    }

    /// Whether requests of the peer are here that have not been answered.
    pub(super) fn is_serving(&self) -> bool {
        self.shared.lock().state.serving() > 0
    }

    /// Whether both directions have ended, in whatever way.
    pub(super) fn has_ended(&self) -> bool {
        let shared = self.shared.lock();
        shared.state.input_end().is_some() && shared.state.is_output_over()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.shared.lock().closing != Closing::No
    }

    // ---- the send queue ----------------------------------------------------------------

    /// Numbers and queues a packet that is not a request.
    pub(super) fn queue(&self, shared: &mut Shared, packet: Packet) -> u64 {
        let number = shared.state.queue(&packet);
        self.outbox.push(&mut shared.run, Queued { number, packet });
        shared.pool.hold(shared.state.has_unsent_answers());
        number
    }

    /// Queues the end packets that are due. They are urgent: returns the number of the last.
    pub(super) fn queue_goodbyes(&self, shared: &mut Shared) -> Option<u64> {
        if shared.is_aborted {
            return None;
        }
        let (requests, stream) = shared.state.goodbyes();
        let mut last = None;
        if requests {
            last = Some(self.queue(shared, Packet::END_OF_REQUESTS));
            // Those who wait for room can never go now.
            self.notify_submitters(shared);
        }
        if stream {
            last = Some(self.queue(shared, Packet::END_OF_STREAM));
            self.end_work(shared);
        }
        last
    }

    /// No request of the peer is accepted any more: workers end when they have no work.
    pub(super) fn end_work(&self, shared: &mut Shared) {
        shared.pool.end();
        self.work.notify_all();
    }

    pub(super) fn ring_if(self: &Arc<Self>, urgent: Option<u64>) {
        if let Some(number) = urgent {
            self.outbox.flush(self, number, MayWrite::Never);
        }
    }

    // ---- lent slots --------------------------------------------------------------------

    pub(super) fn lend_slot(self: &Arc<Self>) -> (Loan, usize) {
        self.change_pool(Pool::lend)
    }

    /// Has the watcher read at once, since a handler on the thread that has read begins to wait.
    pub(super) fn want_reading(&self) {
        if self.shared.lock().lead.want() {
            self.work.notify_all();
        }
    }

    pub(super) fn open_loan(self: &Arc<Self>, loan: Loan, opening: Opening) {
        self.change_pool(|pool| pool.open(loan, opening));
    }

    pub(super) fn take_slot_back(&self, loan: Loan) {
        self.shared.lock().pool.take_back(loan);
    }

    fn change_pool<T>(self: &Arc<Self>, change: impl FnOnce(&mut Pool<Job>) -> T) -> T {
        let mut shared = self.shared.lock();
        let result = change(&mut shared.pool);
        let call = shared.pool.call();
        let stuck = shared.pool.take_stuck();
        let urgent = self.reject_jobs(&mut shared, stuck);
        self.notify_receiver(&shared);
        drop(shared);
        self.call_worker(call);
        self.ring_if(urgent);
        result
    }
}
