//! Opening a database: what there is to be made first, and what a damaged one does.

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;

use redb::Error;

use super::StoreError;
use super::database::Database;
use crate::hash::HashKind;

/// The name of the database in the directory of a store.
pub(super) const FILE_NAME: &str = "blocks.redb";

/// The name that it has while it is being made.
const NEW_FILE_NAME: &str = "blocks.redb.new";

/// The files of a store, beside its lock.
pub(super) const FILE_NAMES: [&str; 2] = [FILE_NAME, NEW_FILE_NAME];

/// Opens the database in a directory, whose lock the caller has; makes it if it is not there.
///
/// It is made under another name, and gets its own when it is complete. So one that is empty has
/// lost what it had, however its making may have been cut short.
pub(super) fn in_directory(
    directory: &Path,
    kind: Option<HashKind>,
) -> Result<Database, StoreError> {
    let path = directory.join(FILE_NAME);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() == 0 => {
            return Err(StoreError::Damaged("it is empty".to_owned()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(directory, kind)?,
        Err(error) => return Err(StoreError::directory(error)),
    }
    Database::open(&path, kind)
}

fn make(directory: &Path, kind: Option<HashKind>) -> Result<(), StoreError> {
    let new = directory.join(NEW_FILE_NAME);
    // It is there if its making was cut short, and nothing is in it.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::directory(error));
        }
        _ => {}
    }
    drop(Database::make(&new, kind)?);
    fs::rename(&new, directory.join(FILE_NAME)).map_err(StoreError::directory)?;
    // The name is durable with the first flush at the latest where directories cannot be synced.
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
    Ok(())
}

/// Runs what opens a database; its panics, with which `redb` meets some kinds of damage, are errors
/// and print nothing.
pub(super) fn without_panic<T>(open: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    static HOOK: Once = Once::new();
    thread_local! {
        static IS_OPENING: Cell<bool> = const { Cell::new(false) };
    }
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !IS_OPENING.get() {
                usual(panic);
            }
        }));
    });
    IS_OPENING.set(true);
    let opened = panic::catch_unwind(AssertUnwindSafe(open));
    IS_OPENING.set(false);
    opened.unwrap_or_else(|_| {
        let text = "it is shorter than it was, or something else was written over it";
        Err(Error::Corrupted(text.to_owned()))
    })
}
