//! What the crate is meant to reach, and whether it does. On one core unless it says otherwise.

use crate::child::Figures;
use crate::codec::Codec;
use crate::cores::Place;
use crate::results::{Results, Work};
use crate::size::{Size, growth};

pub(crate) struct Target {
    pub(crate) text: &'static str,
    pub(crate) measured: String,
    pub(crate) holds: bool,
}

/// The targets of everything that was measured.
pub(crate) fn targets(results: &Results) -> Vec<Target> {
    let mut targets = Vec::new();
    small(results, &mut targets);
    pipelined(results, &mut targets);
    large(results, &mut targets);
    if let Some(codec) = &results.codec {
        of_codec(codec, &mut targets);
    }
    if let Some(idle) = &results.idle {
        of_idle(idle, &mut targets);
    }
    if let Some(size) = &results.size {
        of_size(size, &mut targets);
    }
    targets
}

fn at_most(text: &'static str, figure: f64, most: f64, unit: &str) -> Target {
    Target {
        text,
        measured: tell(figure, unit),
        holds: figure <= most,
    }
}

fn at_least(text: &'static str, figure: f64, least: f64, unit: &str) -> Target {
    Target {
        text,
        measured: tell(figure, unit),
        holds: figure >= least,
    }
}

fn tell(figure: f64, unit: &str) -> String {
    let digits = match figure {
        ..=0.0 | 100.0.. => 0,
        0.1.. => 2,
        _ => 4,
    };
    format!("{figure:.digits$}{unit}")
}

fn small(results: &Results, targets: &mut Vec<Target>) {
    let texts = [
        (Work::One, 1.8, "one caller: at most 1.8 x floor"),
        (
            Work::Eight,
            0.8,
            "8 callers, one connection: at most 0.8 x floor",
        ),
    ];
    for (work, most, text) in texts {
        if let Some(it) = results.comparison(Place::Pinned, work) {
            targets.push(at_most(text, it.ratio(), most, " x"));
        }
    }
}

fn pipelined(results: &Results, targets: &mut Vec<Target>) {
    let texts = [
        (
            Place::Pinned,
            "256 outstanding: at least 2,000 k calls/s",
            "inline handlers: not less",
        ),
        (
            Place::AllCores,
            "256 outstanding, all cores: at least 2,000 k calls/s",
            "inline handlers, all cores: not less",
        ),
    ];
    for (place, text, inline_text) in texts {
        let Some(it) = results.comparison(place, Work::Pipelined) else {
            continue;
        };
        let calls = it.thousand_calls();
        targets.push(at_least(text, calls, 2_000.0, " k calls/s"));
        if let Some(inline) = results.comparison(place, Work::PipelinedInline) {
            // Of two figures that are the same, one is a little less.
            let tolerated = 0.97 * calls;
            let inline = inline.thousand_calls();
            targets.push(at_least(inline_text, inline, tolerated, " k calls/s"));
        }
    }
    let Some(it) = results.comparison(Place::Pinned, Work::Pipelined) else {
        return;
    };
    if let Some(processor) = it.ours.processor {
        let text = "256 outstanding, both ends: at most 0.5 us cpu a call";
        targets.push(at_most(text, processor * 1e6, 0.5, " us"));
    }
    if let Some(writes) = it.writes {
        let text = "256 outstanding: at most 0.02 writes a call";
        targets.push(at_most(text, writes, 0.02, ""));
    }
}

fn large(results: &Results, targets: &mut Vec<Target>) {
    if let Some(it) = results.comparison(Place::Pinned, Work::LargeWarm) {
        let text = "1 MiB echo, warm allocator: at most 1.25 x floor";
        targets.push(at_most(text, it.ratio(), 1.25, " x"));
    }
    if let Some(it) = results.comparison(Place::Pinned, Work::LargeFresh) {
        let text = "1 MiB echo: at least 0.93 of the floor with fresh buffers";
        targets.push(at_least(text, it.ratio().recip(), 0.93, ""));
    }
    if let Some(it) = results.comparison(Place::Pinned, Work::Stream) {
        let text = "64 KiB one way: at least 0.8 of the raw socket";
        targets.push(at_least(text, it.ratio().recip(), 0.8, ""));
    }
}

fn of_codec(codec: &Codec, targets: &mut Vec<Target>) {
    let text = "decode a request of 16 octets: at most 15 ns";
    targets.push(at_most(text, codec.decode * 1e9, 15.0, " ns"));
    let text = "encode it: at most 10 ns";
    targets.push(at_most(text, codec.encode * 1e9, 10.0, " ns"));
}

fn of_idle(idle: &Figures, targets: &mut Vec<Target>) {
    if let Some(threads) = idle.of("threads_before") {
        let text = "idle connection, both ends: 4 threads";
        targets.push(at_most(text, threads, 4.0, ""));
    }
    if let Some(wakeups) = idle.of("wakeups_before") {
        let text = "100 idle connections: no wake-ups";
        targets.push(at_most(text, wakeups, 0.0, " /s"));
    }
    if let Some(wakeups) = idle.of("wakeups_after") {
        let text = "100 idle connections after a call: no wake-ups";
        targets.push(at_most(text, wakeups, 0.0, " /s"));
    }
    if let Some(resident) = idle.of("resident_before") {
        let text = "idle connection, both ends: at most 40 KiB before first use";
        targets.push(at_most(text, resident / 1024.0, 40.0, " KiB"));
    }
}

/// One outstanding call pays for a whole round trip, so growth counts from 256 on.
fn of_size(size: &Size, targets: &mut Vec<Target>) {
    let texts = [
        (
            &size.outstanding,
            256,
            "cost from 256 to 100,000 outstanding: at most 1.5 x",
        ),
        (
            &size.submitted,
            256,
            "cost from 256 to 100,000 submitted: at most 1.5 x",
        ),
        (
            &size.connections,
            1,
            "cost from 1 to 1,000 connections, a call on each: at most 1.5 x",
        ),
        (
            &size.bursts,
            1,
            "cost from 1 to 1,000 connections, 100 calls on each: at most 1.5 x",
        ),
    ];
    for (costs, base, text) in texts {
        if let Some(growth) = growth(costs, base) {
            targets.push(at_most(text, growth, 1.5, " x"));
        }
    }
}
