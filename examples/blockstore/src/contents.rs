//! The contents of a file that is put, which others may write to meanwhile.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Take};

use crate::files::Found;

/// How much is read of a regular file without a length: those that the kernel makes up as they are
/// read have none. It is more than any of these has, and a file that somebody has just begun to
/// write ends there too.
pub(crate) const NO_LEN_LIMIT: u64 = 16 * 1024 * 1024;

/// An open file, which is read as far as it reached when it was opened: a file that grows as fast
/// as it is read would never end.
pub(crate) struct Contents {
    file: Take<File>,
    /// What the file was when it was opened; none if it is not a regular one, which has no length.
    before: Option<Metadata>,
}

impl Contents {
    pub(crate) fn open(found: &Found) -> io::Result<Self> {
        let file = if found.is_argument {
            File::open(&found.path)?
        } else {
            open_regular(found)?
        };
        let metadata = file.metadata()?;
        let before = Some(metadata).filter(Metadata::is_file);
        let limit = before.as_ref().map_or(u64::MAX, limit);
        Ok(Self {
            file: file.take(limit),
            before,
        })
    }

    /// Returns whether there was more to read than is read of a file without a length.
    pub(crate) fn is_cut_off(&self) -> bool {
        let is_without_len = self.before.as_ref().is_some_and(|before| before.len() == 0);
        is_without_len && self.file.limit() == 0
    }

    /// Returns whether the file was changed while it was read.
    pub(crate) fn has_changed(&self) -> io::Result<bool> {
        let Some(before) = &self.before else {
            return Ok(false);
        };
        let read = limit(before) - self.file.limit();
        let after = self.file.get_ref().metadata()?;
        let is_cut_short = before.len() > 0 && read < before.len();
        // Not every system has times of files.
        let is_modified = before.modified().ok() != after.modified().ok();
        Ok(is_cut_short || is_modified || after.len() != before.len())
    }
}

impl Read for Contents {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

fn limit(metadata: &Metadata) -> u64 {
    match metadata.len() {
        0 => NO_LEN_LIMIT,
        len => len,
    }
}

/// Opens a file that was found to be a regular one. If somebody has put something else in its place
/// since, that is neither followed nor waited for.
fn open_regular(found: &Found) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;

        use rustix::fs::OFlags;

        let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
        options.custom_flags(flags.bits().cast_signed());
    }
    let file = options.open(&found.path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file any more"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::*;

    fn found(path: &Path) -> Found {
        Found {
            path: path.to_owned(),
            name: String::new(),
            len: 0,
            is_argument: false,
        }
    }

    /// Opens a file, does something to it, and reads it: how much, and whether it has changed.
    fn read_after(len: usize, change: impl FnOnce(&mut File)) -> (usize, bool) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, vec![7; len]).unwrap();
        let mut contents = Contents::open(&found(&path)).unwrap();
        change(&mut OpenOptions::new().append(true).open(&path).unwrap());
        let mut read = Vec::new();
        contents.read_to_end(&mut read).unwrap();
        (read.len(), contents.has_changed().unwrap())
    }

    #[test]
    fn a_file_is_read_to_the_length_that_it_had_when_it_was_opened() {
        assert_eq!(read_after(1000, |_| {}), (1000, false));
        let grow = |file: &mut File| file.write_all(&[8; 10]).unwrap();
        assert_eq!(read_after(1000, grow), (1000, true));
        let shrink = |file: &mut File| file.set_len(900).unwrap();
        assert_eq!(read_after(1000, shrink), (900, true));
        // As long as it was, with other contents.
        let touch = |file: &mut File| {
            let later = SystemTime::now() + Duration::from_secs(10);
            file.set_modified(later).unwrap();
        };
        assert_eq!(read_after(1000, touch), (1000, true));
    }

    #[test]
    fn a_file_without_a_length_is_read_as_far_as_it_goes_and_not_for_ever() {
        assert_eq!(read_after(0, |_| {}), (0, false));
        let begin = |file: &mut File| file.write_all(&[8; 10]).unwrap();
        assert_eq!(read_after(0, begin), (10, true));
        let limit = usize::try_from(NO_LEN_LIMIT).unwrap();
        let go_on = |file: &mut File| file.set_len(2 * NO_LEN_LIMIT).unwrap();
        assert_eq!(read_after(0, go_on), (limit, true));
        let path = Path::new("/proc/self/status");
        if path.exists() {
            let mut contents = Contents::open(&found(path)).unwrap();
            let mut read = String::new();
            contents.read_to_string(&mut read).unwrap();
            assert!(read.contains("VmRSS"), "{read}");
            assert!(!contents.has_changed().unwrap());
        }
    }
}
