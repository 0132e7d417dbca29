//! The server: what is done for each request, and where clients come from.

use std::io;
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use packetstream::payload::{self, Text, Trailing, VarUint};
use packetstream::typed::{Caller, Serve, Service, ServiceError, TypedConnection};
use packetstream::{
    BoxError, Connection, ConnectionBuilder, DEFAULT_MAX_PACKET_LEN, Flags, Rejection, Response,
    Transport,
};

use crate::hash::{HashCode, Hasher};
use crate::requests::{
    self, Add, ArchiveLast, ArchiveList, ArchiveNames, ArchiveRecord, ArchiveUpdate, Contains,
    ContainsIndirect, Flush, Found, Get, HashHashcodes, HashOfHashcodes, Length, ListHashcodes,
    Progress, Statistics, StoreLock, StoreSize, Subscribe, Verdict,
};
use crate::store::{Store, StoreError, WholeError};

/// The archive that is there from the start, where [`put`](crate::put) records what it stores.
/// Others come to be by their first entry.
pub const FILES: &str = "files";

/// How long a client that has ended its stream has its answers worked on. What it left may be a
/// flush of a slow disk.
const LINGER: Duration = Duration::from_secs(60);

/// How many octets of a client's requests may wait. With a chunk of average length that is a few
/// hundred, more than keeps one thread busy.
const MAX_INBOUND: usize = 16 * 1024 * 1024;

/// How long a page of entries gets, in bytes, before it is one: long enough to make the way there
/// and back worth it, of little weight at either end.
const PAGE_LEN: usize = 256 * 1024;

/// The longest answer of several things, with room for the head of its packet.
const MAX_ANSWER_LEN: u64 = DEFAULT_MAX_PACKET_LEN - 64;

/// What the requests of one connection are served with.
#[derive(Debug)]
pub struct Session {
    store: Arc<Store>,
    /// After how many additions the client wants to be told; 0 for never.
    every: AtomicU64,
    chunks: AtomicU64,
    octets: AtomicU64,
}

impl Session {
    /// Starts a session with a store.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            store: Arc::clone(store),
            every: AtomicU64::new(0),
            chunks: AtomicU64::new(0),
            octets: AtomicU64::new(0),
        }
    }

    /// Counts an addition; returns what the client wants to be told about it.
    fn count(&self, len: usize) -> Option<Progress> {
        let octets = self.octets.fetch_add(len as u64, Ordering::Relaxed) + len as u64;
        let chunks = self.chunks.fetch_add(1, Ordering::Relaxed) + 1;
        let every = self.every.load(Ordering::Relaxed);
        (every > 0 && chunks.is_multiple_of(every)).then_some(Progress {
            chunks: VarUint(chunks),
            octets: VarUint(octets),
        })
    }
}

/// Creates the service: which request has which number, in both directions.
///
/// # Errors
///
/// None, unless the table below is wrong.
pub fn service() -> Result<Service<Session>, ServiceError> {
    Service::builder()
        .serve::<Add>(requests::ADD)
        .serve::<Get>(requests::GET)
        .serve::<Contains>(requests::CONTAINS)
        .serve::<Flush>(requests::FLUSH)
        .serve::<ListHashcodes>(requests::LIST_HASHCODES)
        .serve::<HashHashcodes>(requests::HASH_HASHCODES)
        .serve::<ArchiveLast>(requests::ARCHIVE_LAST)
        .serve::<ArchiveUpdate>(requests::ARCHIVE_UPDATE)
        .serve::<ArchiveList>(requests::ARCHIVE_LIST)
        .serve::<Length>(requests::LENGTH)
        .serve::<ContainsIndirect>(requests::CONTAINS_INDIRECT)
        .serve::<Subscribe>(requests::SUBSCRIBE)
        .serve::<Statistics>(requests::STATISTICS)
        .serve::<StoreLock>(requests::STORE_LOCK)
        .serve::<ArchiveRecord>(requests::ARCHIVE_RECORD)
        .serve::<ArchiveNames>(requests::ARCHIVE_NAMES)
        .call::<Progress>(requests::PROGRESS)
        .build()
}

/// Serves one client until it ends its stream, in order or not; blocks as long as that takes.
///
/// What the client added is on disk when this returns.
///
/// # Errors
///
/// - The connection ended out of order.
/// - What was added cannot be written.
pub fn serve(store: &Arc<Store>, transport: Transport) -> Result<(), BoxError> {
    let session = Session::new(store);
    let connection = TypedConnection::open(builder(), &service()?, session, transport)?;
    let ended = connection.serve().into_result();
    store.flush()?;
    Ok(ended?)
}

/// One handler, so that a client's requests are served in the order in which it made them: it finds
/// what it added without having waited for the answer, and a flush covers every addition before it.
fn builder() -> ConnectionBuilder {
    Connection::builder()
        .name("serve")
        .handler_threads(1)
        .max_inbound_bytes(MAX_INBOUND)
        .linger(Some(LINGER))
}

/// Serves every client that connects to a TCP socket, each with threads of its own; returns only
/// when no more clients can be accepted.
///
/// What goes wrong with one of them is logged.
///
/// # Errors
///
/// The listener fails.
pub fn serve_tcp(store: &Arc<Store>, listener: &TcpListener) -> io::Result<()> {
    let mut shortage = Shortage::default();
    loop {
        match listener.accept() {
            Ok((stream, address)) => start(store, address.to_string(), stream),
            Err(error) => shortage.pass_over(error)?,
        }
    }
}

/// Serves every client that connects to a Unix socket, like [`serve_tcp`].
///
/// # Errors
///
/// Those of [`serve_tcp`].
#[cfg(unix)]
pub fn serve_unix(
    store: &Arc<Store>,
    listener: &std::os::unix::net::UnixListener,
) -> io::Result<()> {
    let mut shortage = Shortage::default();
    loop {
        match listener.accept() {
            Ok((stream, _)) => start(store, "a client".to_owned(), stream),
            Err(error) => shortage.pass_over(error)?,
        }
    }
}

/// A time in which the system has no room for another client. It ends by itself, so the clients that
/// there are must not end with it.
#[derive(Default)]
struct Shortage {
    told: Option<Instant>,
}

impl Shortage {
    /// How long to wait before another attempt, unless a client leaves meanwhile. Others than this
    /// process may take up the room, and nobody tells when they leave some.
    const PAUSE: Duration = Duration::from_millis(100);

    /// How long one warning is enough.
    const QUIET: Duration = Duration::from_secs(60);

    /// Passes over what is no failure of the listener, such as a client that was gone before it was
    /// accepted; after a moment if the system has no room.
    fn pass_over(&mut self, error: io::Error) -> io::Result<()> {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};

        if matches!(
            error.kind(),
            ConnectionAborted | ConnectionReset | Interrupted
        ) {
            return Ok(());
        }
        if !is_shortage(&error) {
            return Err(error);
        }
        if self.told.is_none_or(|told| told.elapsed() >= Self::QUIET) {
            self.told = Some(Instant::now());
            log::warn!("cannot accept more clients for the moment: {error}");
        }
        thread::park_timeout(Self::PAUSE);
        Ok(())
    }
}

/// Whether descriptors, buffers or memory have run out, here or in the whole system.
#[cfg(unix)]
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;

    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}

#[cfg(not(unix))]
fn is_shortage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}

fn start(
    store: &Arc<Store>,
    client: String,
    stream: impl TryInto<Transport, Error = io::Error> + Send + 'static,
) {
    let store = Arc::clone(store);
    let name = client.clone();
    let acceptor = thread::current();
    let serve_it = move || {
        let served = stream
            .try_into()
            .map_err(BoxError::from)
            .and_then(|transport| serve(&store, transport));
        if let Err(error) = served {
            log::warn!("{client}: {}", crate::chain(&*error));
        }
        // It may wait for what this client had.
        acceptor.unpark();
    };
    let thread = thread::Builder::new().name("client".to_owned());
    if let Err(error) = thread.spawn(serve_it) {
        log::warn!("{name}: cannot start a thread: {error}");
    }
}

/// What the client is told of an error of the store.
impl From<StoreError> for Rejection {
    fn from(error: StoreError) -> Self {
        Self::new(crate::chain(&error))
    }
}

impl Serve<Session> for Add {
    fn serve(self, session: &Session, caller: &Caller<'_>) -> Result<Response, BoxError> {
        let store = &session.store;
        if self.kind != store.kind() {
            let kinds = format!("the hash function of this store is {}", store.kind());
            return Err(Rejection::new(kinds).into());
        }
        let chunk = self.chunk.into_inner();
        let len = chunk.len();
        let hash = store.add(chunk).map_err(Rejection::from)?;
        if let Some(progress) = session.count(len) {
            // The client's answer is of no interest, and nothing waits for it.
            if let Err(error) = caller.submit(&progress) {
                log::debug!("cannot tell the client of its progress: {error}");
            }
        }
        Ok(payload::encode(&hash).into())
    }
}

impl Serve<Session> for Get {
    fn serve(self, session: &Session, _: &Caller<'_>) -> Result<Response, BoxError> {
        let found = session.store.get(&self.0).map_err(Rejection::from)?;
        Ok(Found(found).into())
    }
}

impl From<Found> for Response {
    fn from(found: Found) -> Self {
        let flags = Flags::from(Verdict(found.0.is_some()));
        (flags, found.0.unwrap_or_default()).into()
    }
}

impl Serve<Session> for Contains {
    fn serve(self, session: &Session, _: &Caller<'_>) -> Result<Response, BoxError> {
        let contains = session.store.contains(&self.0).map_err(Rejection::from)?;
        Ok(Flags::from(Verdict(contains)).into())
    }
}

impl Serve<Session> for Flush {
    fn serve(self, session: &Session, _: &Caller<'_>) -> Result<Response, BoxError> {
        session.store.flush().map_err(Rejection::from)?;
        Ok(().into())
    }
}

impl Serve<Session> for ListHashcodes {
    fn serve(self, session: &Session, _: &Caller<'_>) -> Result<Response, BoxError> {
        let mut answer = Vec::new();
        let mut is_too_long = false;
        if self.0.kind == session.store.kind() {
            let add = |hash: HashCode| {
                is_too_long = is_too_long || answer.len() as u64 > MAX_ANSWER_LEN;
                if !is_too_long {
                    payload::Encode::encode(&hash, &mut answer);
                }
            };
            let visited = session.store.visit(&self.0.selection, add);
            visited.map_err(Rejection::from)?;
        }
        if is_too_long {
            return Err(Rejection::new("too many hashcodes for a packet: set a limit").into());
        }
        Ok(answer.into())
    }
}

impl Serve<Session> for HashHashcodes {
    fn serve(self, session: &Session, _: &Caller<'_>) -> Result<Response, BoxError> {
        let kind = self.0.kind;
        let mut hasher = Hasher::new(kind);
        let mut last = None;
        if kind == session.store.kind() {
            let add = |hash: HashCode| {
                hasher.update(hash.digest());
                last = Some(hash);
            };
            let visited = session.store.visit(&self.0.selection, add);
            visited.map_err(Rejection::from)?;
        }
        let answer = HashOfHashcodes {
            hash: HashCode::of(kind, hasher.finish().digest()),
            last: Trailing(last),
        };
        Ok(payload::encode(&answer).into())
    }
}

impl Serve<Session> for ArchiveLast {
    fn serve(self, session: &Session, _: &Caller<'_>) -> Result<Response, BoxError> {
        let last = session.store.last_entry(&self.name);
        match last.map_err(Rejection::from)? {
            None if self.name.as_str() != FILES => Err(unknown_archive(&self.name)),
            last => Ok(Found(last).into()),
        }
    }
}

impl Serve<Session> for ArchiveUpdate {
    fn serve(self, session: &Session, _: &Caller<'_>) -> Result<Response, BoxError> {
        let appended = session.store.append(&self.name, self.entry.as_slice());
        appended.map_err(Rejection::from)?;
        Ok(().into())
    }
}

impl Serve<Session> for ArchiveRecord {
    fn serve(self, session: &Session, _: &Caller<'_>) -> Result<Response, BoxError> {
        let recorded = session.store.record(&self.name, self.entry.as_slice());
        Ok(Flags::from(Verdict(recorded.map_err(Rejection::from)?)).into())
    }
}

impl Serve<Session> for ArchiveList {
    fn serve(self, session: &Session, _: &Caller<'_>) -> Result<Response, BoxError> {
        let mut answer = Vec::new();
        let mut is_too_long = false;
        let visited = session.store.visit_entries(&self.name, |entry| {
            is_too_long = (answer.len() + entry.len()) as u64 > MAX_ANSWER_LEN;
            if is_too_long {
                return ControlFlow::Break(());
            }
            answer.extend_from_slice(entry);
            ControlFlow::Continue(())
        });
        visited.map_err(Rejection::from)?;
        if is_too_long {
            return Err(Rejection::new("too many entries for a packet: ask for pages").into());
        }
        if answer.is_empty() && self.name.as_str() != FILES {
            return Err(unknown_archive(&self.name));
        }
        Ok(answer.into())
    }
}

impl Serve<Session> for ArchiveNames {
    fn serve(self, session: &Session, _: &Caller<'_>) -> Result<Response, BoxError> {
        let after = self.after.0.as_ref().map(|name| name.as_str());
        let page = session.store.latest_entries(&self.name, after, PAGE_LEN);
        Ok(page.map_err(Rejection::from)?.concat().into())
    }
}

fn unknown_archive(name: &str) -> BoxError {
    Rejection::new(format!("there is no archive {name:?}")).into()
}

impl Serve<Session> for Length {
    fn serve(self, session: &Session, _: &Caller<'_>) -> Result<Response, BoxError> {
        let len = session.store.len().map_err(Rejection::from)?;
        Ok(payload::encode(&VarUint(len)).into())
    }
}

impl Serve<Session> for ContainsIndirect {
    fn serve(self, session: &Session, _: &Caller<'_>) -> Result<Response, BoxError> {
        match session.store.contains_indirect(self.0) {
            Ok(contains) => Ok(Flags::from(Verdict(contains)).into()),
            Err(error @ WholeError::NotAList { .. }) => {
                Err(Rejection::new(crate::chain(&error)).into())
            }
            Err(WholeError::Store(error)) => Err(Rejection::from(error).into()),
        }
    }
}

impl Serve<Session> for StoreLock {
    fn serve(self, session: &Session, _: &Caller<'_>) -> Result<Response, BoxError> {
        Ok(payload::encode(&Text(session.store.lock_text())).into())
    }
}

impl Serve<Session> for Subscribe {
    fn serve(self, session: &Session, _: &Caller<'_>) -> Result<Response, BoxError> {
        session.every.store(self.every.0, Ordering::Relaxed);
        Ok(().into())
    }
}

impl Serve<Session> for Statistics {
    fn serve(self, session: &Session, _: &Caller<'_>) -> Result<Response, BoxError> {
        let (chunks, octets) = session.store.statistics().map_err(Rejection::from)?;
        let size = StoreSize {
            chunks: VarUint(chunks),
            octets: VarUint(octets),
        };
        Ok(payload::encode(&size).into())
    }
}
