//! Where a fetched file goes: into a new file, in place of one that is there, or through something
//! that is no file.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use blockstore::escape;

use crate::temporary::{Access, Temporary, without_interruption};

/// How many symbolic links in a row are followed to a file that is not there yet.
const MAX_LINKS: usize = 40;

/// Where it goes.
enum Destination {
    /// Standard output, by whatever name.
    StandardOutput,
    /// Standard error, by whatever name.
    StandardError,
    /// A device, a pipe, or what else is written as it comes.
    Through(File),
    /// A file that is not there yet.
    New(PathBuf),
    /// A file that is there, by a name without symbolic links.
    Existing(PathBuf),
    /// A descriptor of some process, and the file that is behind it.
    Descriptor(PathBuf),
}

/// Lets a file be written to a path, by the function that is given; blocks until it is.
///
/// What is no regular file is written through. Under the name of a regular file there is always
/// either what there was or all of the new: it is complete in a temporary file beside it before
/// that takes its place, with its permissions and owner. If it cannot, for the file has further
/// names, which are to stay names of one file, or for another owner would get it, then it is
/// overwritten from the complete temporary file.
pub(crate) fn write(path: &Path, fetch: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let cannot_write = || format!("cannot write {}", escape::path(path));
    match Destination::of(path).with_context(cannot_write)? {
        Destination::StandardOutput => fetch(&mut io::stdout().lock()),
        // Not locked: other threads, which may have to log, would wait for this one.
        Destination::StandardError => fetch(&mut io::stderr()),
        Destination::Through(mut file) => fetch(&mut file),
        Destination::New(path) => {
            let temporary = Temporary::beside(&path, Access::NewFile).with_context(cannot_write)?;
            fetch(&mut temporary.file())?;
            let replaced = temporary.take_place_of(&path);
            replaced
                .map_err(|(error, _)| error)
                .with_context(cannot_write)
        }
        Destination::Existing(path) => match Temporary::beside(&path, Access::Private) {
            Ok(temporary) => {
                fetch(&mut temporary.file())?;
                match replace(&path, temporary).with_context(cannot_write)? {
                    Some(temporary) => overwrite(&path, temporary).with_context(cannot_write),
                    None => Ok(()),
                }
            }
            // There are directories where nobody may make files, and may write some.
            Err(_) => fetch_elsewhere(&path, fetch),
        },
        Destination::Descriptor(path) => fetch_elsewhere(&path, fetch),
    }
}

/// Lets a file be written to one that cannot be replaced.
fn fetch_elsewhere(path: &Path, fetch: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let cannot_write = || format!("cannot write {}", escape::path(path));
    let temporary = Temporary::elsewhere().with_context(cannot_write)?;
    fetch(&mut temporary.file())?;
    overwrite(path, temporary).with_context(cannot_write)
}

impl Destination {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::New(behind_links(path)?));
            }
            Err(error) => return Err(error),
        };
        if is_same(&metadata, &io::stdout()) {
            return Ok(Self::StandardOutput);
        }
        if is_same(&metadata, &io::stderr()) {
            return Ok(Self::StandardError);
        }
        // Whoever may not write a file may not replace it either.
        let file = OpenOptions::new().write(true).open(path)?;
        if !file.metadata()?.is_file() {
            return Ok(Self::Through(file));
        }
        if is_descriptor(path) {
            return Ok(Self::Descriptor(path.to_owned()));
        }
        Ok(Self::Existing(path.canonicalize()?))
    }
}

/// Returns the file that is made when a path is written where nothing is.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match behind_link(&path) {
            None => return Ok(path),
            Some(target) => path = target?,
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// Returns what a symbolic link stands for, which may be another; `None` for what is none.
fn behind_link(path: &Path) -> Option<io::Result<PathBuf>> {
    let is_link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    let parent = path.parent().unwrap_or(Path::new(""));
    is_link.then(|| Ok(parent.join(fs::read_link(path)?)))
}

/// Returns whether a path is that of a descriptor, such as `/dev/fd/3`, or of a link to one. Its
/// file may have no name any more, or be one that the shell has opened for several programs.
fn is_descriptor(path: &Path) -> bool {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
        if parent.is_some_and(|parent| {
            parent == Path::new("/dev/fd") || parent.starts_with("/proc") && parent.ends_with("fd")
        }) {
            return true;
        }
        match behind_link(&path) {
            Some(Ok(target)) => path = target,
            _ => break,
        }
    }
    false
}

/// Returns whether a path has led to what one of our own streams is connected to.
#[cfg(unix)]
fn is_same(metadata: &Metadata, stream: &impl std::os::fd::AsFd) -> bool {
    use std::os::unix::fs::MetadataExt;

    let stream = stream.as_fd().try_clone_to_owned();
    stream
        .and_then(|stream| File::from(stream).metadata())
        .is_ok_and(|own| (own.dev(), own.ino()) == (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn is_same<S>(_: &Metadata, _: &S) -> bool {
    false
}

/// Puts the temporary file in the place of one that is there; returns it if it cannot be.
#[cfg(unix)]
fn replace(path: &Path, temporary: Temporary) -> io::Result<Option<Temporary>> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

    // As they are now: fetching may have taken long.
    let replaced = fs::metadata(path)?;
    let own = temporary.file().metadata()?;
    let owner = (replaced.uid(), replaced.gid());
    let is_owner_kept = owner == (own.uid(), own.gid())
        || fchown(temporary.file(), Some(owner.0), Some(owner.1)).is_ok();
    if replaced.nlink() > 1 || !is_owner_kept {
        return Ok(Some(temporary));
    }
    // Without the bits that make a program run as its owner: it is another program now.
    let mode = PermissionsExt::from_mode(replaced.mode() & 0o777);
    temporary.file().set_permissions(mode)?;
    // There are names that cannot be given to another file, those of mount points for example.
    let outcome = temporary.take_place_of(path);
    Ok(outcome.err().map(|(_, temporary)| temporary))
}

#[cfg(not(unix))]
fn replace(path: &Path, temporary: Temporary) -> io::Result<Option<Temporary>> {
    let outcome = temporary.take_place_of(path);
    Ok(outcome.err().map(|(_, temporary)| temporary))
}

/// Writes over a file, which stays the one it is.
///
/// What needs more room comes first: if there is none, the file is left as it was. If it fails
/// later, the temporary file is kept, as there is no other complete one.
fn overwrite(path: &Path, temporary: Temporary) -> Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let mut source = temporary.file();
    let copied = without_interruption(|| {
        let before = match extend(&mut file, source) {
            Ok(before) => before,
            Err(error) => return Ok(Err(error)),
        };
        let len = source.metadata()?.len();
        source.rewind()?;
        file.rewind()?;
        io::copy(&mut source.take(before.min(len)), &mut file)?;
        file.set_len(len)?;
        file.sync_all()?;
        Ok(Ok(()))
    });
    match copied {
        Ok(outcome) => Ok(outcome?),
        Err(error) => {
            let error: io::Error = error;
            let kept = temporary.keep()?;
            let all_of_it = format!("all of it is in {}", escape::path(&kept));
            Err(error).context(all_of_it)
        }
    }
}

/// Makes a file as long as another that is longer, with what that one has there; returns how long it
/// was. If there is no room for that, it stays as it was.
fn extend(file: &mut File, mut source: &File) -> io::Result<u64> {
    let before = file.metadata()?.len();
    source.seek(SeekFrom::Start(before))?;
    file.seek(SeekFrom::Start(before))?;
    // Some systems find out only now that there is no room.
    let extended = io::copy(&mut source, file).and_then(|_| file.sync_all());
    if let Err(error) = extended {
        file.set_len(before)?;
        return Err(error);
    }
    Ok(before)
}
