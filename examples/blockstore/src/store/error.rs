//! What can go wrong in a store.

use std::io;
use std::sync::Arc;

use crate::hash::HashKind;

/// What can go wrong in a store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be opened or read.
    #[error("the database of the store")]
    Database(#[source] Arc<redb::Error>),
    /// The database is not what was written.
    #[error("the database of the store is damaged: {0}")]
    Damaged(String),
    /// Its directory or file cannot be made.
    #[error("cannot make the store")]
    Directory(#[source] Arc<io::Error>),
    /// A write has failed; nothing more is written.
    #[error("the store cannot be written any more")]
    Failed(#[source] Arc<redb::Error>),
    /// Another process has the store open.
    #[error("{by} has it open")]
    InUse {
        /// The process.
        by: String,
    },
    /// The store has another hash function than was asked for.
    #[error("the store has the hash function {stored}, not {wanted}")]
    OtherHash {
        /// That of the store.
        stored: HashKind,
        /// What was asked for.
        wanted: HashKind,
    },
    /// The writer cannot be started.
    #[error("cannot start a thread")]
    Spawn(#[source] Arc<io::Error>),
    /// The writer has panicked; nothing more is written.
    #[error("the writer of the store panicked")]
    Panicked,
}

impl StoreError {
    pub(super) fn directory(error: io::Error) -> Self {
        Self::Directory(Arc::new(error))
    }
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(what) => Self::Damaged(what),
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                Self::Damaged("it is something else than a database".to_owned())
            }
            redb::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Damaged("it is shorter than it was".to_owned())
            }
            redb::Error::DatabaseAlreadyOpen => Self::InUse {
                by: "another process".to_owned(),
            },
            error => Self::Database(Arc::new(error)),
        }
    }
}
