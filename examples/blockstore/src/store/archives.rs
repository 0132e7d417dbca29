//! Archives: entries in the order in which they came, and the last one of each name.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::overlay::{Addition, NamedEntry, name_in};
use super::{State, Store, StoreError};
use crate::archive;

impl Store {
    /// Appends an entry to an archive, which is made by its first.
    ///
    /// # Errors
    ///
    /// Those of [`add`](Self::add).
    pub fn append(&self, archive: &str, entry: &[u8]) -> Result<(), StoreError> {
        let mut state = self.shared.room()?;
        self.append_to(&mut state, archive, entry, name_in(entry))
    }

    /// Appends an entry to an archive, unless it says the same as the last one with its name, at
    /// another time; returns whether it has.
    ///
    /// # Errors
    ///
    /// Those of [`add`](Self::add).
    pub fn record(&self, archive: &str, entry: &[u8]) -> Result<bool, StoreError> {
        let name = name_in(entry);
        let mut state = self.shared.room()?;
        if let Some(name) = &name {
            let is_same = |last: &[u8]| archive::without_time(last) == archive::without_time(entry);
            let is_recorded = if let Some(last) = state.overlay.latest(archive, name) {
                is_same(&last.entry)
            } else {
                let database = &self.shared.database;
                let last = database.read(|| database.snapshot()?.latest(archive, name))?;
                last.is_some_and(|last| is_same(&last))
            };
            if is_recorded {
                return Ok(false);
            }
        }
        self.append_to(&mut state, archive, entry, name)?;
        Ok(true)
    }

    fn append_to(
        &self,
        state: &mut State,
        archive: &str,
        entry: &[u8],
        name: Option<String>,
    ) -> Result<(), StoreError> {
        let database = &self.shared.database;
        let last = match state.overlay.last_entry(archive) {
            Some(entry) => Some(entry.number),
            None => database.read(|| database.snapshot()?.last_number(archive))?,
        };
        let entry = NamedEntry {
            archive: archive.to_owned(),
            number: last.map_or(0, |last| last + 1),
            name,
            entry: entry.to_vec(),
        };
        self.shared.accept(state, Addition::Entry(Arc::new(entry)));
        Ok(())
    }

    /// Visits the entries of an archive, the oldest first, until it is enough; none if there is no
    /// such archive.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Database`] if the database cannot be read.
    pub fn visit_entries(
        &self,
        archive: &str,
        mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        // The number of the next one, from which it goes on if the disk fails on the way. They are
        // numbered without gaps, so those before it are the ones that are in both, too.
        let mut next = 0;
        let visited = self.shared.database.read(|| {
            let state = self.shared.state.lock();
            let snapshot = self.shared.database.snapshot()?;
            let overlaid = state.overlay.entries(archive);
            drop(state);
            let mut visit_next = |number, entry: &[u8]| {
                if number < next {
                    return ControlFlow::Continue(());
                }
                next = number + 1;
                visit(entry)
            };
            let is_enough = snapshot.visit_entries(archive, &mut visit_next)?;
            if is_enough.is_continue() {
                let mut overlaid = overlaid.iter();
                let _ = overlaid.try_for_each(|entry| visit_next(entry.number, &entry.entry));
            }
            Ok(())
        });
        Ok(visited?)
    }

    /// Returns the entries of an archive, the oldest first; none if there is no such archive.
    ///
    /// # Errors
    ///
    /// Those of [`visit_entries`](Self::visit_entries).
    pub fn entries(&self, archive: &str) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut entries = Vec::new();
        self.visit_entries(archive, |entry| {
            entries.push(entry.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok(entries)
    }

    /// Returns the last entry of an archive; `None` if there is no such archive.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Database`] if the database cannot be read.
    pub fn last_entry(&self, archive: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let last = self.shared.database.read(|| {
            let state = self.shared.state.lock();
            if let Some(entry) = state.overlay.last_entry(archive) {
                return Ok(Some(entry.entry.clone()));
            }
            let snapshot = self.shared.database.snapshot()?;
            drop(state);
            snapshot.last_entry(archive)
        });
        Ok(last?)
    }

    /// Returns the last entries of the names after one, or of all, in the order of the names.
    ///
    /// It is at least one if there is any, and no more once they have `enough` bytes together.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Database`] if the database cannot be read.
    pub fn latest_entries(
        &self,
        archive: &str,
        after: Option<&str>,
        enough: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let (overlaid, page) = self.shared.database.read(|| {
            let state = self.shared.state.lock();
            let snapshot = self.shared.database.snapshot()?;
            let overlaid = state.overlay.latest_after(archive, after);
            drop(state);
            Ok((overlaid, snapshot.latest_after(archive, after, enough)?))
        })?;
        // Beyond its end there may be names that are in the database alone.
        let end = page.entries.last().map(|(name, _)| name.clone());
        let end = end.filter(|_| page.has_more);
        let mut entries: BTreeMap<String, Vec<u8>> = page.entries.into_iter().collect();
        for entry in overlaid {
            let Some(name) = &entry.name else { continue };
            if end.as_ref().is_none_or(|end| name <= end) {
                entries.insert(name.clone(), entry.entry.clone());
            }
        }
        let mut len = 0;
        let entries = entries.into_values();
        let is_wanted = |entry: &Vec<u8>| {
            let has_room = len < enough;
            len += entry.len();
            has_room
        };
        Ok(entries.take_while(is_wanted).collect())
    }
}
