//! Finding the files to put.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use blockstore::escape;
use blockstore::store;
use walkdir::WalkDir;

use crate::contents::NO_LEN_LIMIT;

/// A file to put.
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    /// The name that it gets in the store.
    pub(crate) name: String,
    /// Its length when it was found.
    pub(crate) len: u64,
    /// Whether it was named itself; it need not be a regular file then.
    pub(crate) is_argument: bool,
}

/// An argument of a put that is not there: nothing is put then.
#[derive(Debug, thiserror::Error)]
#[error("{}", cannot_read(.path))]
pub(crate) struct MissingArgument {
    path: PathBuf,
    source: io::Error,
}

/// What cannot be put: told of by name, counted, and left out.
#[derive(Default)]
pub(crate) struct Troubles {
    count: u64,
}

impl Troubles {
    pub(crate) fn tell(&mut self, path: &Path, reason: &str) {
        log::warn!("{}: {reason}; left out", cannot_read(path));
        self.count += 1;
    }

    /// Tells of a file without a length, of which only the beginning is stored.
    pub(crate) fn tell_of_rest(&mut self, path: &Path) {
        log::warn!(
            "cannot read all of {}: it does not say how long it is; its first {} bytes are stored",
            escape::path(path),
            NO_LEN_LIMIT
        );
        self.count += 1;
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

/// Looks whether the arguments of a put are there.
pub(crate) fn check(paths: &[PathBuf]) -> Result<(), MissingArgument> {
    for path in paths {
        fs::metadata(path).map_err(|source| {
            let path = path.clone();
            MissingArgument { path, source }
        })?;
    }
    Ok(())
}

/// What is found, and what is not looked for.
pub(crate) struct Search<'a> {
    /// Names of files and directories that are left out.
    pub(crate) skip: &'a [&'a str],
    /// The text in the lock of the store that it is all put into. Its own files are left out: each
    /// of them would grow by what is read from it.
    pub(crate) store_lock: &'a str,
    pub(crate) troubles: &'a mut Troubles,
    pub(crate) found: Vec<Found>,
    /// How many things are neither file nor directory.
    left_out: u64,
}

impl<'a> Search<'a> {
    pub(crate) fn new(
        skip: &'a [&'a str],
        store_lock: &'a str,
        troubles: &'a mut Troubles,
    ) -> Self {
        Self {
            skip,
            store_lock,
            troubles,
            found: Vec::new(),
            left_out: 0,
        }
    }

    /// Finds what the arguments of a put stand for, in the order of their names.
    ///
    /// A file has its own name, one in a directory the path from there, with the directory's name
    /// in front; `.` has none. Symbolic links in directories are not followed, and other things
    /// than files are left out.
    pub(crate) fn find(mut self, paths: &[PathBuf]) -> Vec<Found> {
        for path in paths {
            let name = path.file_name().map_or(Path::new(""), Path::new);
            match fs::metadata(path) {
                Ok(metadata) if metadata.is_dir() => self.find_in(path, name),
                Ok(metadata) => self.take(path, name, metadata.len(), true),
                Err(error) => self.troubles.tell(path, &error.to_string()),
            }
        }
        if self.left_out > 0 {
            log::warn!(
                "left out what is neither file nor directory: {}; --verbose names them",
                self.left_out
            );
        }
        self.found
    }

    fn find_in(&mut self, directory: &Path, name: &Path) {
        let mut entries = WalkDir::new(directory).sort_by_file_name().into_iter();
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.tell(directory, &error);
                    continue;
                }
            };
            let is_skipped = entry.depth() > 0
                && self
                    .skip
                    .iter()
                    .any(|skipped| entry.file_name() == *skipped);
            let kind = entry.file_type();
            if kind.is_dir() {
                if is_skipped {
                    entries.skip_current_dir();
                } else if entry.depth() > 0 && entry.file_name().to_str().is_none() {
                    // Nothing in it has a name either.
                    self.troubles.tell(entry.path(), NOT_UTF_8);
                    entries.skip_current_dir();
                }
            } else if is_skipped {
            } else if kind.is_file() {
                let below = entry.path().strip_prefix(directory).unwrap_or(entry.path());
                match entry.metadata() {
                    Ok(metadata) => {
                        self.take(entry.path(), &name.join(below), metadata.len(), false);
                    }
                    Err(error) => self.tell(entry.path(), &error),
                }
            } else {
                log::debug!("{} is left out", escape::path(entry.path()));
                self.left_out += 1;
            }
        }
    }

    fn take(&mut self, path: &Path, name: &Path, len: u64, is_argument: bool) {
        if store::is_part_of_a_store(path, self.store_lock) {
            log::warn!(
                "{} belongs to the store itself; left out",
                escape::path(path)
            );
            return;
        }
        match name.to_str() {
            Some(name) => self.found.push(Found {
                path: path.to_owned(),
                name: name.to_owned(),
                len,
                is_argument,
            }),
            None => self.troubles.tell(path, NOT_UTF_8),
        }
    }

    fn tell(&mut self, directory: &Path, error: &walkdir::Error) {
        // Without the path, which is told once.
        let reason = error
            .io_error()
            .map_or_else(|| error.to_string(), io::Error::to_string);
        self.troubles
            .tell(error.path().unwrap_or(directory), &reason);
    }
}

const NOT_UTF_8: &str = "its name is not UTF-8";

pub(crate) fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", escape::path(path))
}
