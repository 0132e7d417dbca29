//! The tables of the store.

use std::fs::File;
use std::io;
use std::path::Path;

use parking_lot::RwLock;
use redb::{Builder, Durability, Error, ReadableTable, TableDefinition};

use super::StoreError;
use super::opening::without_panic;
use super::overlay::{Addition, name_in};
use super::snapshot::Snapshot;
use crate::hash::{HashCode, HashKind};

/// Digest to chunk. All digests are of one kind, so it need not be told.
pub(super) const CHUNKS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("chunks");

/// Name of the archive and number of the entry, from 0 without gaps, to entry.
pub(super) const ARCHIVES: TableDefinition<'_, (&str, u64), &[u8]> =
    TableDefinition::new("archives");

/// Name of the archive and name in the entry to the number of the last entry with that name.
pub(super) const LATEST: TableDefinition<'_, (&str, &str), u64> = TableDefinition::new("latest");

/// What is known about the store as a whole.
pub(super) const FACTS: TableDefinition<'_, &str, u64> = TableDefinition::new("facts");

/// The number of the hash function.
const HASH: &str = "hash";

/// How many bytes all chunks have together.
pub(super) const BYTES: &str = "octets";

/// The database's own cache. The operating system has one too, and chunks are seldom read twice.
const CACHE_LEN: usize = 16 * 1024 * 1024;

/// A database that is opened anew for reading when its disk has failed.
///
/// After an error of the disk `redb` refuses to read too, until it is opened anew. Whoever meets
/// such an error first does that; what was committed and not durable is lost then, and so nothing
/// more is written, or a flush would seem to cover it.
pub(super) struct Database {
    opened: RwLock<Opened>,
    kind: HashKind,
    open: Box<dyn Fn() -> Result<redb::Database, Error> + Send + Sync>,
}

/// A database as it was opened last.
pub(super) struct Opened {
    /// Nothing if that failed.
    database: Option<redb::Database>,
    /// How many times it has been opened anew.
    times: u64,
}

impl Opened {
    pub(super) fn database(&self) -> Result<&redb::Database, Error> {
        self.database.as_ref().ok_or(Error::PreviousIo)
    }
}

impl Database {
    /// Opens the one in a file.
    pub(super) fn open(path: &Path, kind: Option<HashKind>) -> Result<Self, StoreError> {
        let path = path.to_owned();
        Self::open_with(kind, move || Ok(builder().open(&path)?))
    }

    /// Makes one in a new file.
    pub(super) fn make(path: &Path, kind: Option<HashKind>) -> Result<Self, StoreError> {
        let path = path.to_owned();
        Self::open_with(kind, move || Ok(builder().create(&path)?))
    }

    /// Makes one in an empty file without a name.
    pub(super) fn nameless(file: File, kind: HashKind) -> Result<Self, StoreError> {
        Self::open_with(Some(kind), move || {
            Ok(builder().create_file(file.try_clone()?)?)
        })
    }

    #[cfg(test)]
    pub(super) fn with_backend<B: redb::StorageBackend>(
        backend: impl Fn() -> B + Send + Sync + 'static,
        kind: HashKind,
    ) -> Result<Self, StoreError> {
        Self::open_with(Some(kind), move || {
            Ok(builder().create_with_backend(backend())?)
        })
    }

    /// Opens one and makes its tables, so that readers find them.
    fn open_with(
        wanted: Option<HashKind>,
        open: impl Fn() -> Result<redb::Database, Error> + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let (database, number) = without_panic(|| {
            let database = open()?;
            let number = prepare(&database, wanted.unwrap_or_default())?;
            Ok((database, number))
        })?;
        let unknown = || Error::Corrupted(format!("there is no hash function {number}"));
        let stored = HashKind::from_number(number).ok_or_else(unknown)?;
        match wanted {
            Some(wanted) if wanted != stored => Err(StoreError::OtherHash { stored, wanted }),
            _ => Ok(Self {
                opened: RwLock::new(Opened {
                    database: Some(database),
                    times: 0,
                }),
                kind: stored,
                open: Box::new(open),
            }),
        }
    }

    pub(super) fn kind(&self) -> HashKind {
        self.kind
    }

    pub(super) fn get(&self, hash: &HashCode) -> Result<Option<Vec<u8>>, Error> {
        if hash.kind() != self.kind {
            return Ok(None);
        }
        self.read(|| {
            let opened = self.opened.read();
            let chunks = opened.database()?.begin_read()?.open_table(CHUNKS)?;
            let chunk = chunks.get(hash.digest())?;
            Ok(chunk.map(|chunk| chunk.value().to_vec()))
        })
    }

    pub(super) fn contains(&self, hash: &HashCode) -> Result<bool, Error> {
        if hash.kind() != self.kind {
            return Ok(false);
        }
        self.read(|| {
            let opened = self.opened.read();
            let chunks = opened.database()?.begin_read()?.open_table(CHUNKS)?;
            Ok(chunks.get(hash.digest())?.is_some())
        })
    }

    /// What is committed now. Whoever has it reads nothing else from this database meanwhile.
    ///
    /// It is taken, and used to its end, within [`read`](Self::read): a disk that fails meanwhile
    /// ends it too.
    pub(super) fn snapshot(&self) -> Result<Snapshot<'_>, Error> {
        Snapshot::new(self.opened.read(), self.kind)
    }

    /// Reads, and once more from the database opened anew if the disk has failed.
    pub(super) fn read<T>(&self, mut work: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        let times = self.opened.read().times;
        match work() {
            Err(Error::Io(_) | Error::PreviousIo) => {
                self.open_anew(times);
                work()
            }
            outcome => outcome,
        }
    }

    /// Opens it once more, unless somebody has since it was opened for the given time.
    fn open_anew(&self, times: u64) {
        let mut opened = self.opened.write();
        if opened.times == times {
            opened.times += 1;
            // It has the file locked.
            opened.database = None;
            match without_panic(&self.open) {
                Ok(database) => opened.database = Some(database),
                Err(error) => log::error!("cannot open the database anew: {error}"),
            }
        }
    }

    /// Makes one commit. A durable one covers all before it.
    pub(super) fn write(&self, additions: &[Addition], is_durable: bool) -> Result<(), Error> {
        let opened = self.opened.read();
        if opened.times > 0 {
            let lost = "the disk has failed, and what was not on it is lost";
            return Err(Error::Io(io::Error::other(lost)));
        }
        let written = opened
            .database()
            .and_then(|database| write(database, additions, is_durable));
        drop(opened);
        if written.is_err() {
            // Readers are to find it open.
            self.open_anew(0);
        }
        written
    }
}

fn write(database: &redb::Database, additions: &[Addition], is_durable: bool) -> Result<(), Error> {
    let mut transaction = database.begin_write()?;
    if is_durable {
        // Opening after a crash then takes no longer, however large the store.
        transaction.set_quick_repair(true);
    } else {
        transaction.set_durability(Durability::None);
    }
    let mut chunks = transaction.open_table(CHUNKS)?;
    let mut archives = transaction.open_table(ARCHIVES)?;
    let mut latest = transaction.open_table(LATEST)?;
    let mut bytes = 0;
    for addition in additions {
        match addition {
            Addition::Chunk(hash, chunk) => {
                if chunks.insert(hash.digest(), chunk.as_slice())?.is_none() {
                    bytes += chunk.len() as u64;
                }
            }
            Addition::Entry(entry) => {
                let archive = entry.archive.as_str();
                archives.insert((archive, entry.number), entry.entry.as_slice())?;
                if let Some(name) = &entry.name {
                    latest.insert((archive, name.as_str()), entry.number)?;
                }
            }
        }
    }
    drop((chunks, archives, latest));
    if bytes > 0 {
        let mut facts = transaction.open_table(FACTS)?;
        let before = facts.get(BYTES)?.map_or(0, |bytes| bytes.value());
        facts.insert(BYTES, before + bytes)?;
    }
    transaction.commit()?;
    Ok(())
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_LEN);
    builder
}

/// Makes the tables that are missing, and a hash function that of a new store; returns the number
/// of the one it has.
fn prepare(database: &redb::Database, kind: HashKind) -> Result<u64, Error> {
    let stored = match database.begin_read()?.open_table(LATEST) {
        Ok(_) => {
            let facts = database.begin_read()?.open_table(FACTS)?;
            facts.get(HASH)?.map(|number| number.value())
        }
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(number) = stored {
        return Ok(number);
    }
    let transaction = database.begin_write()?;
    transaction.open_table(CHUNKS)?;
    let archives = transaction.open_table(ARCHIVES)?;
    // Entries that were written before there was this table.
    let mut latest = transaction.open_table(LATEST)?;
    for found in archives.iter()? {
        let (key, entry) = found?;
        let (archive, number) = key.value();
        if let Some(name) = name_in(entry.value()) {
            latest.insert((archive, name.as_str()), number)?;
        }
    }
    drop((archives, latest));
    let mut facts = transaction.open_table(FACTS)?;
    let stored = facts.get(HASH)?.map(|number| number.value());
    let number = stored.unwrap_or(kind.number());
    facts.insert(HASH, number)?;
    drop(facts);
    transaction.commit()?;
    Ok(number)
}
