//! The store: chunks by their hashcodes, and archives, in a `redb` database.
//!
//! # Durability
//!
//! A commit that is on disk costs an `fsync`, a few milliseconds whatever its size. One for every
//! chunk would make the disk's latency the speed of the store. So:
//!
//! - An addition is answered once it is in the *overlay*, a map in memory, and in the queue of the
//!   one thread that writes. Everybody who asks sees the overlay and the database as one.
//! - The writer takes all that is queued and makes one transaction of it; meanwhile the next is
//!   gathered. So the busier the store, the larger its transactions. These commits are not durable:
//!   the database shows them, but a crash takes back all since the last durable one.
//! - Additions are numbered as they are accepted. A flush asks for what has been accepted so far:
//!   the writer makes its next commit durable, which covers all before it, and the flush returns
//!   when the durable number has passed the one it asked for. Flushes that wait at the same time
//!   share a commit. An addition that was answered before the flush was asked for has its number,
//!   or, if the chunk was there already, an older one: it is covered in both cases.
//! - Without flushes, every 64 MiB are made durable, and whatever there is after a second of quiet,
//!   so that a client that never flushes does not lose hours of work.
//! - The overlay is bounded: an addition waits while it holds 16 MiB. Then storage sets the pace.
//! - An archive entry goes the same way as a chunk. As commits keep the order of acceptance, no
//!   entry survives a crash that took back the chunks that were added before it.
//! - When a write fails (a full disk), it is not known what of it arrived. So everything that is
//!   written later fails too, flushes first of all, until the store is opened anew. What is on disk
//!   can be read all the time; what was accepted and is not on disk is gone.
//!
//! Reading looks into the overlay first and only then starts to read the database. An entry leaves
//! the overlay after its commit, so that it is always in one of the two, or in both.

#![allow(
    clippy::result_large_err,
    reason = "the size of redb's error, which is rare and ends the store"
)]

mod archives;
mod database;
mod error;
mod lock;
mod opening;
mod overlay;
mod selection;
mod snapshot;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_archives;
#[cfg(test)]
mod tests_of_failures;
mod whole;
mod writer;

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex, MutexGuard};

use self::database::Database;
pub use self::error::StoreError;
use self::lock::Lock;
pub use self::lock::is_part_of_a_store;
use self::overlay::{Addition, Overlay};
pub use self::selection::Selection;
pub use self::whole::WholeError;
use crate::hash::{HashCode, HashKind};

/// How many bytes the overlay holds before an addition waits.
const OVERLAY_LIMIT: usize = 16 * 1024 * 1024;

/// A content-addressed store of chunks, and archives.
///
/// All of its methods may be called from any number of threads.
///
/// # Threads
///
/// One thread writes. It ends, after a last durable commit, when the store is dropped.
///
/// # Drop
///
/// Blocks until everything that was added is on disk. An error is logged: flush first to see it.
///
/// # Examples
///
/// ```
/// use blockstore::hash::HashKind;
/// use blockstore::store::{Store, StoreError};
///
/// # fn main() -> Result<(), StoreError> {
/// let store = Store::temporary(HashKind::Blake3)?;
/// let hash = store.add(b"a chunk".to_vec())?;
/// assert_eq!(store.get(&hash)?.as_deref(), Some(b"a chunk".as_slice()));
/// store.flush()?;
/// # Ok(())
/// # }
/// ```
pub struct Store {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    /// None if it has no directory. Let go of when the writer has ended.
    lock: Option<Lock>,
}

/// What the callers share with the writer.
struct Shared {
    database: Database,
    state: Mutex<State>,
    /// Signalled when there is work for the writer.
    work: Condvar,
    /// Signalled when the overlay has shrunk, or a commit was durable, or writing failed.
    progress: Condvar,
}

#[derive(Default)]
struct State {
    /// What the writer has not taken yet, in the order of acceptance.
    queued: Vec<Addition>,
    /// That, and what the writer has taken and not committed.
    overlay: Overlay,
    /// How many additions have been accepted.
    accepted: u64,
    /// How many of them are on disk.
    durable: u64,
    /// How many of them somebody waits for to be on disk.
    wanted: u64,
    failure: Option<StoreError>,
    is_closing: bool,
}

impl Store {
    /// Opens the store in a directory; makes both if they do not exist.
    ///
    /// Without a `kind` it is that of the store, and BLAKE3 for a new one.
    ///
    /// # Errors
    ///
    /// - [`StoreError::InUse`] if another process has it open.
    /// - [`StoreError::OtherHash`] if the store is of another kind.
    /// - [`StoreError::Directory`] if the directory cannot be made.
    /// - [`StoreError::Damaged`] if the database is not what was written.
    /// - [`StoreError::Database`] if the database cannot be opened or made.
    /// - [`StoreError::Spawn`] if the thread cannot be started.
    pub fn open(directory: &Path, kind: Option<HashKind>) -> Result<Self, StoreError> {
        fs::create_dir_all(directory).map_err(StoreError::directory)?;
        let lock = Lock::take(directory)?;
        Self::start(opening::in_directory(directory, kind)?, Some(lock))
    }

    /// Makes a store in a temporary file without a name, which goes with it, however it ends.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn temporary(kind: HashKind) -> Result<Self, StoreError> {
        let file = tempfile::tempfile().map_err(StoreError::directory)?;
        Self::start(Database::nameless(file, kind)?, None)
    }

    fn start(database: Database, lock: Option<Lock>) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            database,
            state: Mutex::default(),
            work: Condvar::new(),
            progress: Condvar::new(),
        });
        let writer = thread::Builder::new()
            .name("store writer".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || writer::run(&shared)
            })
            .map_err(|error| StoreError::Spawn(Arc::new(error)))?;
        Ok(Self {
            shared,
            writer: Some(writer),
            lock,
        })
    }

    /// Returns the text in the lock of the store's directory, by which [`is_part_of_a_store`]
    /// knows the directory again; empty if the store has no directory.
    pub fn lock_text(&self) -> &str {
        self.lock.as_ref().map_or("", Lock::text)
    }

    /// Returns the hash function of the store.
    pub fn kind(&self) -> HashKind {
        self.shared.database.kind()
    }

    /// Adds a chunk, unless it is there, and returns its hashcode.
    ///
    /// Blocks while the overlay is full.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Failed`] if a write has failed, this or an earlier one.
    /// - [`StoreError::Database`] if the database cannot be read.
    pub fn add(&self, chunk: Vec<u8>) -> Result<HashCode, StoreError> {
        let hash = HashCode::of(self.kind(), &chunk);
        if self.contains(&hash)? {
            return Ok(hash);
        }
        let chunk = Arc::new(chunk);
        let mut state = self.shared.room()?;
        if state.overlay.chunk(&hash).is_none() {
            self.shared.accept(&mut state, Addition::Chunk(hash, chunk));
        }
        Ok(hash)
    }

    /// Returns a chunk; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Database`] if the database cannot be read.
    pub fn get(&self, hash: &HashCode) -> Result<Option<Vec<u8>>, StoreError> {
        let overlaid = self.shared.state.lock().overlay.chunk(hash).cloned();
        match overlaid {
            Some(chunk) => Ok(Some(chunk.to_vec())),
            None => Ok(self.shared.database.get(hash)?),
        }
    }

    /// Returns whether a chunk is there.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Database`] if the database cannot be read.
    pub fn contains(&self, hash: &HashCode) -> Result<bool, StoreError> {
        let is_overlaid = self.shared.state.lock().overlay.chunk(hash).is_some();
        Ok(is_overlaid || self.shared.database.contains(hash)?)
    }

    /// Blocks until everything is on disk whose addition returned before this was called.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Failed`] if that cannot be said, because a write has failed.
    pub fn flush(&self) -> Result<(), StoreError> {
        let mut state = self.shared.state.lock();
        let target = state.accepted;
        if state.wanted < target {
            state.wanted = target;
            self.shared.work.notify_one();
        }
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if state.durable >= target {
                return Ok(());
            }
            self.shared.progress.wait(&mut state);
        }
    }

    /// Returns the number of chunks.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Database`] if the database cannot be read.
    pub fn len(&self) -> Result<u64, StoreError> {
        Ok(self.statistics()?.0)
    }

    /// Returns whether there is no chunk.
    ///
    /// # Errors
    ///
    /// Those of [`len`](Self::len).
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.len()? == 0)
    }

    /// Returns the number of chunks, and the bytes that they have together.
    ///
    /// # Errors
    ///
    /// Those of [`len`](Self::len).
    pub fn statistics(&self) -> Result<(u64, u64), StoreError> {
        let counted = self.shared.database.read(|| {
            let state = self.shared.state.lock();
            let snapshot = self.shared.database.snapshot()?;
            let overlaid = state.overlay.chunk_lens();
            drop(state);
            let (mut chunks, mut bytes) = snapshot.statistics()?;
            for (hash, len) in &overlaid {
                if !snapshot.contains(hash)? {
                    chunks += 1;
                    bytes += *len as u64;
                }
            }
            Ok((chunks, bytes))
        });
        Ok(counted?)
    }

    /// Visits the selected hashcodes in ascending order.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Database`] if the database cannot be read.
    pub fn visit(
        &self,
        selection: &Selection,
        mut visit: impl FnMut(HashCode),
    ) -> Result<(), StoreError> {
        // Where to go on if the disk fails on the way.
        let mut rest = *selection;
        let visited = self.shared.database.read(|| {
            self.visit_once(rest, |hash| {
                rest.start = Some(hash);
                rest.after = true;
                rest.limit = rest.limit.map(|limit| limit - 1);
                visit(hash);
            })
        });
        Ok(visited?)
    }

    fn visit_once(
        &self,
        selection: Selection,
        mut visit: impl FnMut(HashCode),
    ) -> Result<(), redb::Error> {
        let state = self.shared.state.lock();
        let snapshot = self.shared.database.snapshot()?;
        let overlaid = state.overlay.selected(&selection);
        drop(state);
        let mut overlaid = overlaid.into_iter().peekable();
        let mut room = selection.limit();
        let mut stored = snapshot.range(&selection)?.peekable();
        while room > 0 {
            let next = match (stored.peek(), overlaid.peek()) {
                (Some(Ok(stored)), Some(overlaid)) => Some(*stored.min(overlaid)),
                (Some(Ok(stored)), None) => Some(*stored),
                (None, Some(overlaid)) => Some(*overlaid),
                (None, None) => None,
                (Some(Err(_)), _) => {
                    stored.next().transpose()?;
                    None
                }
            };
            let Some(next) = next else { break };
            // It may be in both.
            overlaid.next_if_eq(&next);
            stored.next_if(|stored| stored.as_ref().is_ok_and(|stored| *stored == next));
            visit(next);
            room -= 1;
        }
        Ok(())
    }
}

impl Shared {
    /// Waits until there is room in the overlay.
    fn room(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let mut state = self.state.lock();
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if state.overlay.len() < OVERLAY_LIMIT {
                return Ok(state);
            }
            self.progress.wait(&mut state);
        }
    }

    fn accept(&self, state: &mut State, addition: Addition) {
        state.overlay.insert(&addition);
        state.accepted += 1;
        state.queued.push(addition);
        self.work.notify_one();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.state.lock().is_closing = true;
        self.shared.work.notify_one();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            log::error!("the writer of the store panicked");
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("kind", &self.kind())
            .finish_non_exhaustive()
    }
}
