//! What has been accepted and is not committed yet.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use packetstream::payload::{self, Text};

use super::Selection;
use crate::archive::Entry;
use crate::hash::HashCode;

/// What an addition in the overlay costs beside its bytes, so that empty ones are bounded too.
pub(super) const OVERHEAD: usize = 256;

/// An entry of an archive, in its place.
pub(super) struct NamedEntry {
    pub(super) archive: String,
    /// Its place in the archive.
    pub(super) number: u64,
    /// What it is about, if that has a name.
    pub(super) name: Option<String>,
    pub(super) entry: Vec<u8>,
}

impl NamedEntry {
    fn key(&self) -> Option<(String, String)> {
        let name = self.name.clone()?;
        Some((self.archive.clone(), name))
    }
}

/// Returns the name in an entry as it is stored.
pub(super) fn name_in(entry: &[u8]) -> Option<String> {
    let entry: Entry = payload::decode(entry).ok()?;
    entry.name.map(Text::into_inner)
}

/// What the writer writes.
pub(super) enum Addition {
    Chunk(HashCode, Arc<Vec<u8>>),
    Entry(Arc<NamedEntry>),
}

impl Addition {
    pub(super) fn cost(&self) -> usize {
        OVERHEAD
            + match self {
                Self::Chunk(_, chunk) => chunk.len(),
                Self::Entry(entry) => entry.entry.len() + entry.archive.len(),
            }
    }
}

/// Everything that is queued, or whose commit is under way.
#[derive(Default)]
pub(super) struct Overlay {
    chunks: BTreeMap<HashCode, Arc<Vec<u8>>>,
    /// The entries in the order of acceptance.
    entries: Vec<Arc<NamedEntry>>,
    /// The last of them of each name in each archive.
    latest: BTreeMap<(String, String), Arc<NamedEntry>>,
    /// What all of them cost.
    len: usize,
}

impl Overlay {
    /// What it costs.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn insert(&mut self, addition: &Addition) {
        self.len += addition.cost();
        match addition {
            Addition::Chunk(hash, chunk) => {
                self.chunks.insert(*hash, Arc::clone(chunk));
            }
            Addition::Entry(entry) => {
                self.entries.push(Arc::clone(entry));
                if let Some(key) = entry.key() {
                    self.latest.insert(key, Arc::clone(entry));
                }
            }
        }
    }

    /// Takes out what has been committed: of the entries those that came first.
    pub(super) fn remove(&mut self, additions: &[Addition]) {
        let mut written_entries = 0;
        for addition in additions {
            self.len -= addition.cost();
            match addition {
                Addition::Chunk(hash, _) => {
                    self.chunks.remove(hash);
                }
                Addition::Entry(entry) => {
                    written_entries += 1;
                    let Some(key) = entry.key() else { continue };
                    let is_last = |last: &Arc<NamedEntry>| last.number == entry.number;
                    if self.latest.get(&key).is_some_and(is_last) {
                        self.latest.remove(&key);
                    }
                }
            }
        }
        self.entries.drain(..written_entries);
    }

    pub(super) fn chunk(&self, hash: &HashCode) -> Option<&Arc<Vec<u8>>> {
        self.chunks.get(hash)
    }

    /// The chunks and how long each is.
    pub(super) fn chunk_lens(&self) -> Vec<(HashCode, usize)> {
        let chunks = self.chunks.iter();
        chunks.map(|(hash, chunk)| (*hash, chunk.len())).collect()
    }

    pub(super) fn selected(&self, selection: &Selection) -> Vec<HashCode> {
        let selected = self.chunks.range(selection.bounds());
        selected
            .map(|(hash, _)| *hash)
            .take(selection.limit())
            .collect()
    }

    /// The entries of an archive, the oldest first.
    pub(super) fn entries(&self, archive: &str) -> Vec<Arc<NamedEntry>> {
        let entries = self.entries.iter();
        entries
            .filter(|entry| entry.archive == archive)
            .cloned()
            .collect()
    }

    pub(super) fn last_entry(&self, archive: &str) -> Option<&Arc<NamedEntry>> {
        let mut newest_first = self.entries.iter().rev();
        newest_first.find(|entry| entry.archive == archive)
    }

    /// The last entry of a name.
    pub(super) fn latest(&self, archive: &str, name: &str) -> Option<&Arc<NamedEntry>> {
        self.latest.get(&(archive.to_owned(), name.to_owned()))
    }

    /// The last entries of the names after one, in the order of the names.
    pub(super) fn latest_after(&self, archive: &str, after: Option<&str>) -> Vec<Arc<NamedEntry>> {
        let start = match after {
            None => Bound::Included((archive.to_owned(), String::new())),
            Some(after) => Bound::Excluded((archive.to_owned(), after.to_owned())),
        };
        let latest = self.latest.range((start, Bound::Unbounded));
        latest
            .map(|(_, entry)| entry)
            .take_while(|entry| entry.archive == archive)
            .cloned()
            .collect()
    }
}
