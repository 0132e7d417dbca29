//! Temporary files that are gone however the program ends, unless it is killed.

use std::env;
#[cfg(unix)]
use std::fs;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use tempfile::NamedTempFile;

/// The names begin and end so, for whoever finds one that was left behind after all.
const PREFIX: &str = ".blockstore-get-";
const SUFFIX: &str = ".part";

/// The file to be removed when a signal ends the program: there is one at a time. Whoever holds the
/// lock puts such an end off.
static CURRENT: Mutex<Option<PathBuf>> = Mutex::new(None);

/// A file for what is not complete yet, removed when this is dropped or a signal ends the program.
pub(crate) struct Temporary {
    file: NamedTempFile,
    registered: Registered,
}

/// Who may read a temporary file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nobody else, until it has the permissions of another file.
    Private,
    /// Whoever may read any new file.
    NewFile,
}

impl Temporary {
    /// Makes one in the directory of another file.
    pub(crate) fn beside(path: &Path, access: Access) -> io::Result<Self> {
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        Self::within(parent.unwrap_or(Path::new(".")), access)
    }

    /// Makes one where the system has its temporary files.
    pub(crate) fn elsewhere() -> io::Result<Self> {
        Self::within(&env::temp_dir(), Access::Private)
    }

    fn within(directory: &Path, access: Access) -> io::Result<Self> {
        signals::watch()?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX);
        #[cfg(unix)]
        if access == Access::NewFile {
            use std::os::unix::fs::PermissionsExt;
            // Those of any new file, as far as the umask lets them.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let mut current = CURRENT.lock();
        let file = builder.tempfile_in(directory)?;
        *current = Some(file.path().to_owned());
        Ok(Self {
            file,
            registered: Registered,
        })
    }

    pub(crate) fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Gives it the name of another file, whose place it takes; comes back if it cannot be.
    pub(crate) fn take_place_of(self, path: &Path) -> Result<(), (io::Error, Self)> {
        let Self { file, registered } = self;
        // Or a crash may leave a name with nothing behind it.
        let persisted = match file.as_file().sync_all() {
            Ok(()) => file
                .persist(path)
                .map_err(|failed| (failed.error, failed.file)),
            Err(error) => Err((error, file)),
        };
        match persisted {
            Ok(_) => Ok(()),
            Err((error, file)) => Err((error, Self { file, registered })),
        }
    }

    /// Leaves it where it is and returns its name.
    pub(crate) fn keep(self) -> io::Result<PathBuf> {
        let (_, path) = self.file.keep().map_err(|failed| failed.error)?;
        Ok(path)
    }
}

/// Does what must not be done by half; a signal ends the program afterwards. If it fails, no signal
/// removes the temporary file any more.
pub(crate) fn without_interruption<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let mut current = CURRENT.lock();
    let outcome = work();
    if outcome.is_err() {
        *current = None;
    }
    outcome
}

/// Goes after the file.
struct Registered;

impl Drop for Registered {
    fn drop(&mut self) {
        *CURRENT.lock() = None;
    }
}

#[cfg(unix)]
mod signals {
    use std::fs;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use parking_lot::Mutex;
    use signal_hook::consts::{
        SIGALRM, SIGHUP, SIGINT, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU,
        SIGXFSZ,
    };
    use signal_hook::flag;
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    use super::CURRENT;

    /// What others may send, or the system for what has lasted too long, and what ends a program
    /// that does not watch for it.
    const WATCHED: [i32; 10] = [
        SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGALRM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGPROF, SIGXCPU,
    ];

    /// Starts the thread that a signal wakes, unless it runs.
    pub(super) fn watch() -> io::Result<()> {
        static IS_WATCHING: Mutex<bool> = Mutex::new(false);
        let mut is_watching = IS_WATCHING.lock();
        if *is_watching {
            return Ok(());
        }
        let ignored = ignored();
        let watched = WATCHED.iter();
        let watched = watched.filter(|signal| ignored >> (*signal - 1) & 1 == 0);
        let mut signals = Signals::new(watched)?;
        // For a write beyond the limit of a file's length, which fails then: nobody asks for it.
        flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    let current = CURRENT.lock();
                    if let Some(path) = &*current {
                        // It may have got its name meanwhile.
                        let _ = fs::remove_file(path);
                    }
                    // Ends the process: nothing is made any more, as the lock is held.
                    let _ = emulate_default_handler(signal);
                }
            })?;
        *is_watching = true;
        Ok(())
    }

    /// The signals that whoever started the program wants ignored, as `nohup` does; bit 0 is signal
    /// 1. None are known where the system does not tell.
    fn ignored() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .unwrap_or(0)
    }
}

#[cfg(not(unix))]
mod signals {
    pub(super) fn watch() -> std::io::Result<()> {
        Ok(())
    }
}
