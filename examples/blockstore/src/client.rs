//! The client: a connection to a store, and what is asked over it.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use packetstream::payload::{Text, Trailing, VarUint};
use packetstream::typed::{Caller, Serve, Service, ServiceError, TypedConnection, TypedRequest};
use packetstream::{
    BoxError, Connection, ConnectionBuilder, Error, PendingResponse, Response, Result, Transport,
};

use crate::archive::{Entry, EntryOctets};
use crate::endpoint::Endpoint;
use crate::hash::{HashCode, HashKind};
use crate::requests::{
    self, Add, ArchiveLast, ArchiveList, ArchiveNames, ArchiveRecord, ArchiveUpdate, Contains,
    ContainsIndirect, Flush, Found, Get, HashHashcodes, Length, ListHashcodes, Progress,
    Statistics, StoreLock, StoreSize, Subscribe, Verdict,
};
use crate::tree::{Source, TreeError, TreeReader};

/// How long the server has to end after we have: it may have a flush to do.
const LINGER: Duration = Duration::from_secs(60);

/// The same when requests have failed.
const LINGER_AFTER_FAILURE: Duration = Duration::from_secs(5);

/// How many octets of requests may be unanswered: more than the window of a put.
const MAX_OUTSTANDING: usize = 16 * 1024 * 1024;

/// What the server has told of its own accord.
#[derive(Debug, Default)]
pub struct Told {
    times: AtomicU64,
    chunks: AtomicU64,
    octets: AtomicU64,
}

impl Told {
    /// Returns how many times it has.
    pub fn times(&self) -> u64 {
        self.times.load(Ordering::Relaxed)
    }

    /// Returns how many chunks it has told of.
    pub fn chunks(&self) -> u64 {
        self.chunks.load(Ordering::Relaxed)
    }

    /// Returns how many octets these have.
    pub fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }
}

impl Serve<Told> for Progress {
    fn serve(self, told: &Told, _: &Caller<'_>) -> Result<Response, BoxError> {
        told.times.fetch_add(1, Ordering::Relaxed);
        told.chunks.fetch_max(self.chunks.0, Ordering::Relaxed);
        told.octets.fetch_max(self.octets.0, Ordering::Relaxed);
        Ok(().into())
    }
}

/// A connection to a block store.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use blockstore::client::Client;
/// use blockstore::hash::HashKind;
/// use blockstore::serve;
/// use blockstore::store::Store;
/// use packetstream::{BoxError, Transport};
///
/// # fn main() -> Result<(), BoxError> {
/// let (ours, theirs) = Transport::pair();
/// let store = Arc::new(Store::temporary(HashKind::Blake3)?);
/// let server = std::thread::Builder::new().spawn(move || serve::serve(&store, theirs))?;
///
/// let client = Client::open(ours, HashKind::Blake3)?;
/// let hash = client.add(b"a chunk".to_vec())?;
/// assert_eq!(client.get(hash)?.as_deref(), Some(b"a chunk".as_slice()));
/// client.close()?;
/// server.join().expect("it does not panic")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Client {
    connection: TypedConnection<Told>,
    told: Arc<Told>,
    kind: HashKind,
    timeout: Option<Duration>,
}

impl Client {
    /// Connects to a server, whose store must have that hash function. With a timeout, no answer may
    /// take longer, nor the connecting, nor the end.
    ///
    /// # Errors
    ///
    /// - [`Error::Connect`] if there is no server.
    /// - [`Error::Spawn`] if threads cannot be started.
    pub fn connect(endpoint: &Endpoint, kind: HashKind, timeout: Option<Duration>) -> Result<Self> {
        let transport = endpoint
            .connect(timeout)
            .map_err(|error| Error::Connect(error.into()))?;
        Self::with_timeout(timeout, transport, kind)
    }

    /// Makes a client of a transport.
    ///
    /// # Errors
    ///
    /// - [`Error::Spawn`] if threads cannot be started.
    pub fn open(transport: Transport, kind: HashKind) -> Result<Self> {
        Self::with_timeout(None, transport, kind)
    }

    fn with_timeout(
        timeout: Option<Duration>,
        transport: Transport,
        kind: HashKind,
    ) -> Result<Self> {
        let service = service().map_err(|error| Error::Payload(BoxError::from(error).into()))?;
        let told = Arc::new(Told::default());
        Ok(Self {
            connection: TypedConnection::open(
                builder(timeout),
                &service,
                Arc::clone(&told),
                transport,
            )?,
            told,
            kind,
            timeout,
        })
    }

    /// Returns the hash function.
    pub fn kind(&self) -> HashKind {
        self.kind
    }

    /// Returns what the server tells if it is asked to. It is complete once the client is closed.
    pub fn told(&self) -> Arc<Told> {
        Arc::clone(&self.told)
    }

    /// Returns how many requests have been sent.
    pub fn requests_sent(&self) -> u64 {
        self.connection.connection().stats().requests_sent
    }

    /// Makes a request and returns the future of its answer.
    ///
    /// # Errors
    ///
    /// Those of [`TypedConnection::submit`].
    pub fn submit<R: TypedRequest>(&self, request: &R) -> Result<PendingResponse<R::Response>> {
        self.connection.submit(request)
    }

    /// Adds a chunk; blocks until the server has it.
    ///
    /// # Errors
    ///
    /// Those of [`TypedConnection::call`], like those of all that follow.
    pub fn add(&self, chunk: Vec<u8>) -> Result<HashCode> {
        self.connection.call(&Add {
            kind: self.kind,
            chunk: chunk.into(),
        })
    }

    /// Returns a chunk, unchecked.
    ///
    /// # Errors
    ///
    /// Those of [`TypedConnection::call`].
    pub fn get(&self, hash: HashCode) -> Result<Option<Vec<u8>>> {
        Ok(self.connection.call(&Get(hash))?.0)
    }

    /// Returns whether a chunk is there.
    ///
    /// # Errors
    ///
    /// Those of [`TypedConnection::call`].
    pub fn contains(&self, hash: HashCode) -> Result<bool> {
        Ok(self.connection.call(&Contains(hash))?.0)
    }

    /// Returns whether everything is there that a root stands for.
    ///
    /// # Errors
    ///
    /// Those of [`TypedConnection::call`].
    pub fn contains_indirect(&self, root: HashCode) -> Result<bool> {
        Ok(self.connection.call(&ContainsIndirect(root))?.0)
    }

    /// Blocks until everything is on disk whose addition has been answered.
    ///
    /// # Errors
    ///
    /// Those of [`TypedConnection::call`].
    pub fn flush(&self) -> Result<()> {
        self.connection.call(&Flush)
    }

    /// Appends an entry to an archive.
    ///
    /// # Errors
    ///
    /// Those of [`TypedConnection::submit`].
    pub fn append(&self, archive: &str, entry: &Entry) -> Result<PendingResponse<()>> {
        self.connection.submit(&ArchiveUpdate {
            name: Text::from(archive),
            entry: EntryOctets::from(entry),
        })
    }

    /// Appends an entry to an archive, unless it says the same as the last one with its name.
    ///
    /// # Errors
    ///
    /// Those of [`TypedConnection::submit`].
    pub fn record(&self, archive: &str, entry: &Entry) -> Result<PendingResponse<Verdict>> {
        self.connection.submit(&ArchiveRecord {
            name: Text::from(archive),
            entry: EntryOctets::from(entry),
        })
    }

    /// Returns the last entries of the names after one, or of all, in the order of the names: as
    /// many as the server puts into a page, none at the end.
    ///
    /// # Errors
    ///
    /// Those of [`TypedConnection::call`]. A server of the original rejects it.
    pub fn names(&self, archive: &str, after: Option<&str>) -> Result<Vec<Entry>> {
        self.connection.call(&ArchiveNames {
            name: Text::from(archive),
            after: Trailing(after.map(Text::from)),
        })
    }

    /// Returns the text in the lock of the store's directory; `None` if the server does not know
    /// that request, nor others of ours.
    ///
    /// # Errors
    ///
    /// Those of [`TypedConnection::call`].
    pub fn store_lock(&self) -> Result<Option<String>> {
        match self.connection.call(&StoreLock) {
            Ok(text) => Ok(Some(text.into_inner())),
            Err(error) if error.is_rejected() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns all entries of an archive, the oldest first.
    ///
    /// # Errors
    ///
    /// Those of [`TypedConnection::call`].
    pub fn entries(&self, archive: &str) -> Result<Vec<Entry>> {
        self.connection.call(&ArchiveList {
            name: Text::from(archive),
        })
    }

    /// Returns the number of chunks.
    ///
    /// # Errors
    ///
    /// Those of [`TypedConnection::call`].
    pub fn chunk_count(&self) -> Result<u64> {
        Ok(self.connection.call(&Length)?.0)
    }

    /// Returns how large the store is; `None` if the server does not know that request.
    ///
    /// # Errors
    ///
    /// Those of [`TypedConnection::call`].
    pub fn size(&self) -> Result<Option<StoreSize>> {
        match self.connection.call(&Statistics) {
            Ok(size) => Ok(Some(size)),
            Err(error) if error.is_rejected() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks to be told of every so many additions. See [`told`](Self::told).
    ///
    /// # Errors
    ///
    /// Those of [`TypedConnection::call`].
    pub fn subscribe(&self, every: u64) -> Result<()> {
        self.connection.call(&Subscribe {
            every: VarUint(every),
        })
    }

    /// Writes what a root stands for; returns the number of octets.
    ///
    /// `observe` gets how many octets have been written, and how many there are.
    ///
    /// # Errors
    ///
    /// - [`GetError::Tree`] if it cannot be read.
    /// - [`GetError::Write`] if it cannot be written.
    pub fn read(
        &self,
        root: HashCode,
        out: &mut impl Write,
        mut observe: impl FnMut(u64, u64),
    ) -> Result<u64, GetError> {
        let mut reader = TreeReader::open(self, root)?;
        let span = reader.span();
        let mut written = 0;
        observe(written, span);
        while let Some(octets) = reader.next_run()? {
            out.write_all(&octets).map_err(GetError::Write)?;
            written += octets.len() as u64;
            observe(written, span);
        }
        out.flush().map_err(GetError::Write)?;
        Ok(written)
    }

    /// Closes the connection; blocks until the server has ended too.
    ///
    /// # Errors
    ///
    /// What ended it out of order.
    pub fn close(self) -> Result<()> {
        self.connection.close().into_result()
    }

    /// Ends the connection after something has failed, and returns what the end tells beyond
    /// that; blocks for five seconds at the most.
    ///
    /// A request fails as soon as it cannot be written, which says no more than that the server
    /// is gone. Why it is gone is known when the input has ended too.
    pub fn end_after(self, failure: &(dyn std::error::Error + 'static)) -> Option<String> {
        let linger = within(self.timeout, LINGER_AFTER_FAILURE);
        let report = self.connection.connection().shutdown(Some(linger));
        // That there was no time for an orderly end explains nothing.
        let cause = report
            .cause()
            .filter(|cause| !matches!(cause, Error::LingerExpired))
            .map(|cause| crate::chain(cause));
        let mut told = crate::chain(failure);
        let mut beyond = Vec::new();
        for text in cause
            .into_iter()
            .chain(report.diagnosis().map(str::to_owned))
        {
            if !told.contains(&text) {
                told.push_str(&text);
                beyond.push(text);
            }
        }
        (!beyond.is_empty()).then(|| beyond.join(": "))
    }
}

/// Why a file does not come back.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The store does not deliver it.
    #[error(transparent)]
    Tree(#[from] TreeError<Error>),
    /// It cannot be written here.
    #[error("cannot write")]
    Write(#[source] io::Error),
}

fn service() -> Result<Service<Told>, ServiceError> {
    Service::builder()
        .call::<Add>(requests::ADD)
        .call::<Get>(requests::GET)
        .call::<Contains>(requests::CONTAINS)
        .call::<Flush>(requests::FLUSH)
        .call::<ListHashcodes>(requests::LIST_HASHCODES)
        .call::<HashHashcodes>(requests::HASH_HASHCODES)
        .call::<ArchiveLast>(requests::ARCHIVE_LAST)
        .call::<ArchiveUpdate>(requests::ARCHIVE_UPDATE)
        .call::<ArchiveList>(requests::ARCHIVE_LIST)
        .call::<Length>(requests::LENGTH)
        .call::<ContainsIndirect>(requests::CONTAINS_INDIRECT)
        .call::<Subscribe>(requests::SUBSCRIBE)
        .call::<Statistics>(requests::STATISTICS)
        .call::<StoreLock>(requests::STORE_LOCK)
        .call::<ArchiveRecord>(requests::ARCHIVE_RECORD)
        .call::<ArchiveNames>(requests::ARCHIVE_NAMES)
        .serve::<Progress>(requests::PROGRESS)
        .build()
}

fn builder(timeout: Option<Duration>) -> ConnectionBuilder {
    Connection::builder()
        .name("client")
        .max_outstanding_bytes(MAX_OUTSTANDING)
        .timeout(timeout)
        .linger(Some(within(timeout, LINGER)))
}

/// Returns how long something may take that takes no longer than an answer.
fn within(timeout: Option<Duration>, limit: Duration) -> Duration {
    timeout.map_or(limit, |timeout| timeout.min(limit))
}

impl Source for &Client {
    type Pending = PendingResponse<Found>;
    type Error = Error;

    fn request(&self, hash: HashCode) -> Result<Self::Pending> {
        self.connection.submit(&Get(hash))
    }

    fn is_ready(&self, pending: &Self::Pending) -> bool {
        pending.is_finished()
    }

    fn wait(&self, pending: Self::Pending) -> Result<Option<Vec<u8>>> {
        Ok(pending.wait()?.0)
    }
}
