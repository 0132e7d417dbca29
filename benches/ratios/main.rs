//! What the crate costs beside a bare socket that does the same work: `cargo bench --bench ratios`.
//!
//! Both ends are in this process, the server reverses the octets, every answer is checked. The
//! floor and the crate take turns, and medians are printed, because machines are shared and noisy.
//! Each work is done on one core, and on all.
//!
//! After `--`: `--quick` for a smoke test, `--markdown`, and the rows to measure, of
//! `one eight pipelined large stream codec idle size`.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "figures for people, and patterns of octets"
)]

mod child;
mod codec;
mod cores;
mod crew;
mod ends;
mod idle;
mod large;
mod measure;
mod options;
mod pipelined;
mod process;
mod report;
mod results;
mod size;
mod small;
mod stream;
mod table;
mod targets;

use packetstream::BoxError;

use crate::codec::Codec;
use crate::cores::{Cores, PLACES, Place};
use crate::large::Large;
use crate::options::{Options, Row};
use crate::results::{Comparison, Results};
use crate::size::Size;

fn main() -> Result<(), BoxError> {
    let options = Options::from_arguments()?;
    match options.section {
        Some(Row::Large) => Large::measure(&options)?.figures().print(),
        Some(Row::Idle) => idle::idle(&options)?.print(),
        Some(Row::Threads) => idle::threads_alone()?.print(),
        Some(row) => return Err(format!("{row} has no process of its own").into()),
        None => {
            let cores = Cores::available()?;
            let results = measure(&options, &cores)?;
            report::print(&results, &options, &cores)?;
        }
    }
    Ok(())
}

fn measure(options: &Options, cores: &Cores) -> Result<Results, BoxError> {
    let mut results = Results::default();
    for place in PLACES {
        cores.enter(*place)?;
        let comparisons = compare(options, *place)?;
        results
            .comparisons
            .extend(comparisons.into_iter().map(|it| (*place, it)));
    }
    cores.enter(Place::Pinned)?;
    if options.has(Row::Codec) {
        eprintln!("codec");
        results.codec = Some(Codec::measure(options)?);
    }
    if options.has(Row::Idle) {
        eprintln!("idle");
        results.idle = Some(child::measure(Row::Idle, options)?);
        results.threads = Some(child::measure(Row::Threads, options)?);
    }
    if options.has(Row::Size) {
        eprintln!("size");
        results.size = Some(Size::measure(options)?);
    }
    Ok(results)
}

/// Compares the crate with the floor, on the cores that this thread runs on.
fn compare(options: &Options, place: Place) -> Result<Vec<Comparison>, BoxError> {
    let is_asked_for = |row| {
        let has = options.has(row);
        if has {
            eprintln!("{row}, on {place}");
        }
        has
    };
    let mut comparisons = Vec::new();
    if is_asked_for(Row::One) {
        comparisons.push(small::one(options)?);
    }
    if is_asked_for(Row::Eight) {
        comparisons.push(small::eight(options)?);
    }
    if is_asked_for(Row::Pipelined) {
        comparisons.extend(pipelined::both(options)?);
    }
    if is_asked_for(Row::Large) {
        comparisons.extend(Large::measure(options)?.comparisons());
        let figures = child::measure_warm(Row::Large, options)?;
        comparisons.extend(figures.as_ref().and_then(large::warm));
    }
    if is_asked_for(Row::Stream) {
        comparisons.push(stream::stream(options)?);
    }
    Ok(comparisons)
}
