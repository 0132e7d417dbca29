//! A state of the database, which later commits do not change.

use std::ops::{Bound, ControlFlow, RangeInclusive};

use parking_lot::RwLockReadGuard;
use redb::{Error, ReadOnlyTable, ReadTransaction, ReadableTableMetadata};

use super::Selection;
use super::database::{ARCHIVES, BYTES, CHUNKS, FACTS, LATEST, Opened};
use crate::hash::{HashCode, HashKind};

pub(super) struct Snapshot<'a> {
    chunks: ReadOnlyTable<&'static [u8], &'static [u8]>,
    kind: HashKind,
    transaction: ReadTransaction,
    /// It cannot be opened anew below its readers. The last field, as it goes last.
    _opened: RwLockReadGuard<'a, Opened>,
}

/// Entries of some names, in the order of the names.
pub(super) struct NamePage {
    pub(super) entries: Vec<(String, Vec<u8>)>,
    /// Whether there are further names.
    pub(super) has_more: bool,
}

impl<'a> Snapshot<'a> {
    pub(super) fn new(opened: RwLockReadGuard<'a, Opened>, kind: HashKind) -> Result<Self, Error> {
        let transaction = opened.database()?.begin_read()?;
        Ok(Self {
            chunks: transaction.open_table(CHUNKS)?,
            kind,
            transaction,
            _opened: opened,
        })
    }

    pub(super) fn contains(&self, hash: &HashCode) -> Result<bool, Error> {
        Ok(self.chunks.get(hash.digest())?.is_some())
    }

    /// The number of chunks and of their bytes.
    pub(super) fn statistics(&self) -> Result<(u64, u64), Error> {
        let facts = self.transaction.open_table(FACTS)?;
        let bytes = facts.get(BYTES)?.map_or(0, |bytes| bytes.value());
        Ok((self.chunks.len()?, bytes))
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
                .ok_or_else(|| Error::Corrupted("a digest has the wrong length".to_owned()))
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

    /// Visits the entries of an archive, the oldest first, until it is enough.
    pub(super) fn visit_entries(
        &self,
        archive: &str,
        mut visit: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let archives = self.transaction.open_table(ARCHIVES)?;
        for found in archives.range(whole(archive))? {
            let (key, entry) = found?;
            if visit(key.value().1, entry.value()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The last entry of a name.
    pub(super) fn latest(&self, archive: &str, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let latest = self.transaction.open_table(LATEST)?;
        let Some(number) = latest.get((archive, name))? else {
            return Ok(None);
        };
        let archives = self.transaction.open_table(ARCHIVES)?;
        let entry = archives.get((archive, number.value()))?;
        Ok(entry.map(|entry| entry.value().to_vec()))
    }

    /// The last entries of the names after one: at least one, and no more once they have so many
    /// bytes together.
    pub(super) fn latest_after(
        &self,
        archive: &str,
        after: Option<&str>,
        enough: usize,
    ) -> Result<NamePage, Error> {
        let latest = self.transaction.open_table(LATEST)?;
        let archives = self.transaction.open_table(ARCHIVES)?;
        let start = match after {
            None => Bound::Included((archive, "")),
            Some(after) => Bound::Excluded((archive, after)),
        };
        let mut entries = Vec::new();
        let mut len = 0;
        for found in latest.range::<(&str, &str)>((start, Bound::Unbounded))? {
            let (key, number) = found?;
            let (of, name) = key.value();
            if of != archive {
                break;
            }
            if len >= enough {
                let has_more = true;
                return Ok(NamePage { entries, has_more });
            }
            let entry = archives.get((archive, number.value()))?;
            let entry = entry.ok_or_else(|| Error::Corrupted("an entry is missing".to_owned()))?;
            len += entry.value().len();
            entries.push((name.to_owned(), entry.value().to_vec()));
        }
        let has_more = false;
        Ok(NamePage { entries, has_more })
    }
}

/// The keys of an archive's entries.
fn whole(archive: &str) -> RangeInclusive<(&str, u64)> {
    (archive, 0)..=(archive, u64::MAX)
}
