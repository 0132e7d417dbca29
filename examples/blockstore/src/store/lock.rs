//! The lock of a store's directory, and what stands in it.

#[cfg(unix)]
use std::fs::File;
use std::fs::OpenOptions;
#[cfg(unix)]
use std::io::Write;
use std::io::{self, Read};
use std::path::Path;

use super::StoreError;

/// The name of the lock in the directory of a store.
const FILE_NAME: &str = "blocks.lock";

/// Says who has a store open: one process at a time.
///
/// The lock is that of the file, which the system lets go of however the process ends; the file
/// stays. In it stands the process and when it opened the store, to the nanosecond. So the text
/// names no other opening of any store on any machine: who finds it in a directory, by whatever
/// path, has found the store that is open here.
pub(super) struct Lock {
    #[cfg(unix)]
    _file: File,
    text: String,
}

impl Lock {
    /// Takes the lock of a directory, at once or not at all.
    #[cfg(unix)]
    pub(super) fn take(directory: &Path) -> Result<Self, StoreError> {
        use rustix::fs::{FlockOperation, flock};
        use rustix::io::Errno;

        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join(FILE_NAME))
            .map_err(StoreError::directory)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(StoreError::InUse {
                    by: owner(&mut file),
                });
            }
            Err(error) => return Err(StoreError::directory(error.into())),
        }
        let text = format!("process {} since {}\n", std::process::id(), now());
        write(&mut file, &text).map_err(StoreError::directory)?;
        Ok(Self { _file: file, text })
    }

    /// There is no such lock here: the database has one of its own.
    #[cfg(not(unix))]
    #[allow(
        clippy::unnecessary_wraps,
        reason = "the signature is that of the other one"
    )]
    pub(super) fn take(_: &Path) -> Result<Self, StoreError> {
        let text = String::new();
        Ok(Self { text })
    }

    /// Returns what stands in the file; nothing if there is none.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// Returns whether a path is that of one of the files that belong to the store whose lock has that
/// text.
pub fn is_part_of_a_store(path: &Path, lock_text: &str) -> bool {
    let is_named_so = path.file_name().is_some_and(|name| {
        name == FILE_NAME || super::opening::FILE_NAMES.iter().any(|own| name == *own)
    });
    is_named_so
        && !lock_text.is_empty()
        && text_of(&path.with_file_name(FILE_NAME), lock_text.len())
            .is_ok_and(|text| text == lock_text.as_bytes())
}

/// Reads a file that is named like a lock, and a byte more than the lock would have. It may be
/// anything: a FIFO is not waited for, and a device not read to its end.
fn text_of(path: &Path, len: usize) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;

        use rustix::fs::OFlags;

        options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    }
    let mut text = Vec::new();
    let file = options.open(path)?;
    file.take(len as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// Says who has the lock, as far as that can be read.
#[cfg(unix)]
fn owner(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(256).read_to_string(&mut text);
    let process = text.split_once(" since ").map(|(process, _)| process);
    match (read, process) {
        (Ok(_), Some(process)) => process.to_owned(),
        // It has taken the lock a moment ago.
        _ => "another process".to_owned(),
    }
}

#[cfg(unix)]
fn write(file: &mut File, text: &str) -> io::Result<()> {
    // Over what is there, which takes no room: a store can be opened on a full disk too.
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

/// Seconds since 1970.
#[cfg(unix)]
fn now() -> String {
    // A clock before 1970 is wrong anyway.
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}
