//! What an open connection costs that nobody uses, both ends together.
//!
//! In processes of their own, because memory that others have used and freed is resident already.

use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, never};
use packetstream::BoxError;

use crate::child::Figures;
use crate::ends::{Ends, pipelined_calls};
use crate::measure::difference;
use crate::options::Options;
use crate::pipelined::WINDOW;
use crate::process::{context_switches_of_others, resident, threads};
use crate::small::lone_calls;

const PAIRS: usize = 100;

/// Of both ends.
const THREADS: usize = 4;

/// Enough that all buffers have the length that they get for small calls.
const BURST: usize = 4 * WINDOW;

/// For all processes of the bench: that the threads have started, or that nothing more happens.
const SETTLING: Duration = Duration::from_millis(300);

/// The figures of a pair before its first call, after it, and after many at once: `threads`,
/// `resident` octets, and `wakeups` of all pairs in a second.
pub(crate) fn idle(options: &Options) -> Result<Figures, BoxError> {
    let mut figures = Figures::default();
    let (threads_before, resident_before) = (threads(), resident());
    let mut pairs = Vec::with_capacity(PAIRS);
    for _ in 0..PAIRS {
        pairs.push(Ends::open()?);
    }
    let mut add = |when: &str| {
        pause(SETTLING);
        let each = |amount: f64| amount / PAIRS as f64;
        let resident = difference(resident(), resident_before).map(each);
        let threads = difference(threads(), threads_before).map(each);
        figures.add(&format!("resident_{when}"), resident);
        figures.add(&format!("threads_{when}"), threads);
        figures.add(&format!("wakeups_{when}"), wakeups(options.idle_time()));
    };
    add("before");
    for pair in &pairs {
        lone_calls(&pair.client, 1)?;
    }
    add("after");
    for pair in &pairs {
        pipelined_calls(&pair.client, BURST, WINDOW)?;
    }
    add("burst");
    pairs.into_iter().try_for_each(Ends::close)?;
    Ok(figures)
}

/// What as many threads cost that only wait: `resident` octets of those of a pair.
pub(crate) fn threads_alone() -> Result<Figures, BoxError> {
    let mut figures = Figures::default();
    let before = resident();
    let (end, ended) = bounded::<()>(0);
    let mut all: Vec<JoinHandle<()>> = Vec::with_capacity(PAIRS * THREADS);
    for _ in 0..PAIRS * THREADS {
        let ended = ended.clone();
        all.push(Builder::new().name("idle".to_owned()).spawn(move || {
            let _ = ended.recv();
        })?);
    }
    pause(SETTLING);
    let each = difference(resident(), before).map(|all| all / PAIRS as f64);
    figures.add("resident", each);
    drop(end);
    for thread in all {
        thread.join().map_err(|_| "a thread that waits panicked")?;
    }
    Ok(figures)
}

/// How often threads of this process begin to run again within a second, other than this one.
fn wakeups(time: Duration) -> Option<f64> {
    let start = Instant::now();
    let before = context_switches_of_others();
    pause(time);
    let woken = difference(context_switches_of_others(), before)?;
    Some(woken / start.elapsed().as_secs_f64())
}

fn pause(time: Duration) {
    let _ = never::<()>().recv_timeout(time);
}
