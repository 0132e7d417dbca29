//! Which cores the threads that are started next run on.

use std::fmt;

/// Where a section runs.
///
/// Pinned and not, because unpinned a single call has two speeds, depending on where its threads
/// land.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Pinned,
    AllCores,
}

/// All places that can be chosen here.
pub(crate) const PLACES: &[Place] = if cfg!(target_os = "linux") {
    &[Place::Pinned, Place::AllCores]
} else {
    &[Place::AllCores]
};

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pinned => "one core",
            Self::AllCores => "all cores",
        })
    }
}

#[cfg(target_os = "linux")]
pub(crate) use linux::Cores;

#[cfg(target_os = "linux")]
mod linux {
    use std::io;

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use super::Place;

    /// The cores that this process was given.
    pub(crate) struct Cores {
        all: CpuSet,
    }

    impl Cores {
        pub(crate) fn available() -> io::Result<Self> {
            let all = sched_getaffinity(None)?;
            Ok(Self { all })
        }

        pub(crate) fn count(&self) -> usize {
            self.all.count() as usize
        }

        /// Moves this thread; the threads that it starts from now on inherit the place.
        pub(crate) fn enter(&self, place: Place) -> io::Result<()> {
            let cores = match place {
                Place::Pinned => self.first(),
                Place::AllCores => self.all,
            };
            Ok(sched_setaffinity(None, &cores)?)
        }

        fn first(&self) -> CpuSet {
            let mut first = CpuSet::new();
            if let Some(core) = (0..CpuSet::MAX_CPU).find(|core| self.all.is_set(*core)) {
                first.set(core);
            }
            first
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::Cores;

#[cfg(not(target_os = "linux"))]
#[allow(
    clippy::unused_self,
    clippy::unnecessary_wraps,
    reason = "the same functions as on Linux"
)]
mod elsewhere {
    use std::{io, thread};

    use super::Place;

    /// The cores of the machine, among which nothing can be chosen.
    pub(crate) struct Cores;

    impl Cores {
        pub(crate) fn available() -> io::Result<Self> {
            Ok(Self)
        }

        pub(crate) fn count(&self) -> usize {
            thread::available_parallelism().map_or(1, usize::from)
        }

        pub(crate) fn enter(&self, _: Place) -> io::Result<()> {
            Ok(())
        }
    }
}
