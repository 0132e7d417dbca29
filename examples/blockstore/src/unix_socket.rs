//! Listening at a Unix socket, whose path may have been left behind by a server that was killed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Listens at a path. What is there is removed only if it is a socket, and nobody has it.
///
/// Two servers that start at the same time take turns at that, by a lock of the directory: else the
/// slower of them would remove the socket that the quicker one has just made.
pub(crate) fn listen(path: &Path) -> Result<UnixListener> {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    // Before the first attempt too: it would come between the other's removing and binding.
    let locked = File::open(parent.unwrap_or(Path::new("."))).and_then(|directory| {
        lock(&directory)?;
        Ok(directory)
    });
    match (UnixListener::bind(path), &locked) {
        (Err(error), Ok(_)) if error.kind() == io::ErrorKind::AddrInUse => {}
        (Err(error), Err(_)) if error.kind() == io::ErrorKind::AddrInUse => {
            bail!("something is there, and stays: the directory cannot be locked");
        }
        (bound, _) => return Ok(bound?),
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            bail!("what is there is no socket, and stays");
        }
        Ok(_) if !is_dead(path) => bail!("another server has it"),
        Ok(_) => fs::remove_file(path).context("cannot remove the socket that is there")?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    Ok(UnixListener::bind(path)?)
}

/// Waits until it has the lock. Whoever has it has a few system calls to do.
fn lock(directory: &File) -> io::Result<()> {
    loop {
        match flock(directory, FlockOperation::LockExclusive) {
            Err(Errno::INTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}

/// Returns whether nobody has a socket.
///
/// A datagram socket that connects to it is refused then. If somebody has it, there is another
/// error, that of the other kind, even if he does not listen yet: a stream would be refused in both
/// cases. And no server gets a client that says nothing.
fn is_dead(path: &Path) -> bool {
    UnixDatagram::unbound()
        .and_then(|socket| socket.connect(path))
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
