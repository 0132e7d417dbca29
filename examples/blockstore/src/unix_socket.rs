//! Listening at a Unix socket, whose path may have been left behind by a server that was killed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How long the lock of the directory is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// How long to wait before another attempt to get it.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

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
        (Err(error), Err(reason)) if error.kind() == io::ErrorKind::AddrInUse => {
            bail!("something is there, and stays: the directory cannot be locked: {reason}");
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

/// Waits until it has the lock, not for ever: a server has a few system calls to do with it, but
/// everybody who may read a directory may lock it, and some do so as long as they use it.
fn lock(directory: &File) -> io::Result<()> {
    let start = Instant::now();
    loop {
        match flock(directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if start.elapsed() < LOCK_PATIENCE => {
                thread::park_timeout(LOCK_PAUSE);
            }
            Err(Errno::WOULDBLOCK) => {
                return Err(io::Error::other("somebody else keeps it locked"));
            }
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
