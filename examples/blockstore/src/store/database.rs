//! The tables of the store.
#![allow(
    clippy::result_large_err,
    reason = "the size of redb's error, which is rare and ends the store"
)]

use std::fs::File;
use std::ops::Bound;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{
    Builder, Durability, Error, ReadOnlyTable, ReadTransaction, ReadableTable,
    ReadableTableMetadata, StorageBackend, TableDefinition,
};

use super::{Addition, Selection, StoreError};
use crate::hash::{HashCode, HashKind};

/// Digest to chunk. All digests are of one kind, so it need not be told.
const CHUNKS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("chunks");

/// Name of the archive and number of the entry, from 0 without gaps, to entry.
const ARCHIVES: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("archives");

/// What is known about the store as a whole.
const FACTS: TableDefinition<'_, &str, u64> = TableDefinition::new("facts");

/// The number of the hash function.
const HASH: &str = "hash";

/// How many octets all chunks have together.
const OCTETS: &str = "octets";

/// The database's own cache. The operating system has one too, and chunks are seldom read twice.
const CACHE_LEN: usize = 16 * 1024 * 1024;

pub(super) struct Database {
    database: redb::Database,
    kind: HashKind,
}

impl Database {
    pub(super) fn open(path: &Path, kind: Option<HashKind>) -> Result<Self, StoreError> {
        let database = builder().create(path).map_err(Error::from)?;
        Self::prepare(database, kind)
    }

    /// Makes a new one in an empty file.
    pub(super) fn create(file: File, kind: HashKind) -> Result<Self, StoreError> {
        Self::create_with(FileBackend::new(file).map_err(Error::from)?, kind)
    }

    pub(super) fn create_with(
        backend: impl StorageBackend,
        kind: HashKind,
    ) -> Result<Self, StoreError> {
        let database = builder().create_with_backend(backend);
        Self::prepare(database.map_err(Error::from)?, Some(kind))
    }

    /// Makes the tables, so that readers find them.
    fn prepare(database: redb::Database, wanted: Option<HashKind>) -> Result<Self, StoreError> {
        let number = note_hash(&database, wanted.unwrap_or_default())?;
        let unknown = || Error::Corrupted(format!("there is no hash function {number}"));
        let stored = HashKind::from_number(number).ok_or_else(unknown)?;
        match wanted {
            Some(wanted) if wanted != stored => Err(StoreError::OtherHash { stored, wanted }),
            _ => Ok(Self {
                database,
                kind: stored,
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
        let chunks = self.database.begin_read()?.open_table(CHUNKS)?;
        let chunk = chunks.get(hash.digest())?;
        Ok(chunk.map(|chunk| chunk.value().to_vec()))
    }

    pub(super) fn contains(&self, hash: &HashCode) -> Result<bool, Error> {
        Ok(hash.kind() == self.kind && self.snapshot()?.contains(hash)?)
    }

    /// What is committed now.
    pub(super) fn snapshot(&self) -> Result<Snapshot, Error> {
        let transaction = self.database.begin_read()?;
        Ok(Snapshot {
            chunks: transaction.open_table(CHUNKS)?,
            kind: self.kind,
            transaction,
        })
    }

    /// Makes one commit. A durable one covers all before it.
    pub(super) fn write(&self, additions: &[Addition], is_durable: bool) -> Result<(), Error> {
        let mut transaction = self.database.begin_write()?;
        if is_durable {
            // Opening after a crash then takes no longer, however large the store.
            transaction.set_quick_repair(true);
        } else {
            transaction.set_durability(Durability::None);
        }
        let mut chunks = transaction.open_table(CHUNKS)?;
        let mut archives = transaction.open_table(ARCHIVES)?;
        let mut octets = 0;
        for addition in additions {
            match addition {
                Addition::Chunk(hash, chunk) => {
                    if chunks.insert(hash.digest(), chunk.as_slice())?.is_none() {
                        octets += chunk.len() as u64;
                    }
                }
                Addition::Entry(entry) => {
                    let key = (entry.archive.as_str(), entry.number);
                    archives.insert(key, entry.entry.as_slice())?;
                }
            }
        }
        drop((chunks, archives));
        if octets > 0 {
            let mut facts = transaction.open_table(FACTS)?;
            let before = facts.get(OCTETS)?.map_or(0, |octets| octets.value());
            facts.insert(OCTETS, before + octets)?;
        }
        transaction.commit()?;
        Ok(())
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_LEN);
    builder
}

/// Makes a hash function that of a new store; returns the number of the one it has.
fn note_hash(database: &redb::Database, kind: HashKind) -> Result<u64, Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(CHUNKS)?;
    transaction.open_table(ARCHIVES)?;
    let mut facts = transaction.open_table(FACTS)?;
    let stored = facts.get(HASH)?.map(|number| number.value());
    if let Some(number) = stored {
        return Ok(number);
    }
    facts.insert(HASH, kind.number())?;
    drop(facts);
    transaction.commit()?;
    Ok(kind.number())
}

/// A state of the database, which later commits do not change.
pub(super) struct Snapshot {
    chunks: ReadOnlyTable<&'static [u8], &'static [u8]>,
    kind: HashKind,
    transaction: ReadTransaction,
}

impl Snapshot {
    pub(super) fn contains(&self, hash: &HashCode) -> Result<bool, Error> {
        Ok(self.chunks.get(hash.digest())?.is_some())
    }

    /// The number of chunks and of their octets.
    pub(super) fn statistics(&self) -> Result<(u64, u64), Error> {
        let facts = self.transaction.open_table(FACTS)?;
        let octets = facts.get(OCTETS)?.map_or(0, |octets| octets.value());
        Ok((self.chunks.len()?, octets))
    }

    /// The selected hashcodes in ascending order, without regard to the limit.
    pub(super) fn range(
        &self,
        selection: &Selection,
    ) -> Result<impl Iterator<Item = Result<HashCode, Error>>, Error> {
        let (start, _) = selection.bounds();
        let start = start.as_ref().map(HashCode::digest);
        let kind = self.kind;
        let range = self.chunks.range::<&[u8]>((start, Bound::Unbounded))?;
        Ok(range.map(move |found| {
            let (digest, _) = found?;
            HashCode::from_digest(kind, digest.value())
                .ok_or_else(|| Error::Corrupted("a digest of the wrong length".to_owned()))
        }))
    }

    pub(super) fn last_number(&self, archive: &str) -> Result<Option<u64>, Error> {
        let archives = self.transaction.open_table(ARCHIVES)?;
        let last = archives.range(whole(archive))?.next_back().transpose()?;
        Ok(last.map(|(key, _)| key.value().1))
    }

    pub(super) fn last_entry(&self, archive: &str) -> Result<Option<Vec<u8>>, Error> {
        let archives = self.transaction.open_table(ARCHIVES)?;
        let last = archives.range(whole(archive))?.next_back().transpose()?;
        Ok(last.map(|(_, entry)| entry.value().to_vec()))
    }

    pub(super) fn entries(&self, archive: &str) -> Result<Vec<Vec<u8>>, Error> {
        let archives = self.transaction.open_table(ARCHIVES)?;
        archives
            .range(whole(archive))?
            .map(|found| Ok(found?.1.value().to_vec()))
            .collect()
    }
}

/// The keys of an archive's entries.
fn whole(archive: &str) -> std::ops::RangeInclusive<(&str, u64)> {
    (archive, 0)..=(archive, u64::MAX)
}
