//! How many packets wait for company within the flush grace, which depends on the cores there are.

use std::thread;

/// How many packets may wait for company before they are sent all the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Company {
    /// For so many the sender is woken.
    pub(super) wakes: usize,
    /// So many it sends.
    pub(super) sends: usize,
    /// Whether whoever writes shares one core with everybody else.
    pub(super) has_one_core: bool,
}

impl Company {
    /// So few that the peer, and the sender, have begun before who makes them has finished.
    const CORES: Self = Self {
        wakes: 64,
        sends: 64,
        has_one_core: false,
    };
    /// With one core nobody begins earlier for that, and each change of threads takes as long as
    /// some packets.
    const ONE_CORE: Self = Self {
        wakes: 512,
        sends: 512,
        has_one_core: true,
    };

    /// Takes some twenty microseconds: it asks the operating system for files.
    pub(super) fn of_this_thread() -> Self {
        match thread::available_parallelism() {
            Ok(cores) if cores.get() == 1 => Self::ONE_CORE,
            // What is not known is no reason to wait.
            _ => Self::CORES,
        }
    }
}
