//! What the operating system counts of this process. Where it does not, there is no figure.

#[cfg(target_os = "linux")]
use std::fs;

/// Seconds of processor time of all threads, those that have ended included.
#[cfg(target_os = "linux")]
pub(crate) fn processor_time() -> Option<f64> {
    use rustix::time::{ClockId, DynamicClockId, clock_gettime_dynamic};
    let clock = DynamicClockId::Known(ClockId::ProcessCPUTime);
    let time = clock_gettime_dynamic(clock).ok()?;
    Some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// Context switches of all threads that are there, voluntary or not.
pub(crate) fn context_switches() -> Option<f64> {
    context_switches_of(|_| true)
}

/// The same without the main thread, which is the one that measures.
pub(crate) fn context_switches_of_others() -> Option<f64> {
    let main = std::process::id().to_string();
    context_switches_of(|thread| thread != main)
}

#[cfg(target_os = "linux")]
fn context_switches_of(counts: impl Fn(&str) -> bool) -> Option<f64> {
    let mut sum = 0.0;
    for entry in fs::read_dir("/proc/self/task").ok()?.flatten() {
        if !counts(&entry.file_name().to_string_lossy()) {
            continue;
        }
        // A thread that has ended meanwhile has none.
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        sum += status
            .lines()
            .filter_map(|line| line.split_once("ctxt_switches:"))
            .filter_map(|(_, count)| count.trim().parse::<f64>().ok())
            .sum::<f64>();
    }
    Some(sum)
}

#[cfg(target_os = "linux")]
pub(crate) fn threads() -> Option<f64> {
    Some(fs::read_dir("/proc/self/task").ok()?.count() as f64)
}

/// Octets of memory that are resident.
///
/// Taken from the mappings: the counters of `statm` lag behind by up to a batch of pages per core.
#[cfg(target_os = "linux")]
pub(crate) fn resident() -> Option<f64> {
    let mappings = fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = mappings
        .lines()
        .find_map(|line| line.strip_prefix("Rss:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

/// Allows as many descriptors as the system's administrator does: a thousand connections take
/// more than the usual 1,024.
#[cfg(target_os = "linux")]
pub(crate) fn allow_many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("the limit of descriptors stays: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    pub(crate) fn processor_time() -> Option<f64> {
        None
    }

    pub(super) fn context_switches_of(_: impl Fn(&str) -> bool) -> Option<f64> {
        None
    }

    pub(crate) fn threads() -> Option<f64> {
        None
    }

    pub(crate) fn resident() -> Option<f64> {
        None
    }

    pub(crate) fn allow_many_descriptors() {}
}

#[cfg(not(target_os = "linux"))]
use elsewhere::context_switches_of;
#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::{allow_many_descriptors, processor_time, resident, threads};
