//! Prints what was measured.

use std::fs;
use std::process::Command;

use packetstream::BoxError;

use crate::cores::{Cores, PLACES, Place};
use crate::options::Options;
use crate::results::Results;
use crate::size::BySize;
use crate::table::Table;
use crate::targets::targets;

pub(crate) fn print(results: &Results, options: &Options, cores: &Cores) -> Result<(), BoxError> {
    let is_markdown = options.is_markdown;
    println!("{}\n", machine(cores)?);
    for place in PLACES {
        print_comparisons(results, *place, is_markdown);
    }
    print_codec(results, is_markdown);
    print_idle(results, is_markdown);
    print_sizes(results, is_markdown);
    print_targets(results, is_markdown);
    Ok(())
}

fn print_comparisons(results: &Results, place: Place, is_markdown: bool) {
    let mut table = Table::new([
        &format!("on {place}"),
        "floor",
        "packetstream",
        "x floor",
        "cpu us/call (floor)",
        "switches/call (floor)",
        "writes/call",
    ]);
    let here = results.comparisons.iter().filter(|(at, _)| *at == place);
    let mut is_empty = true;
    for (_, it) in here {
        is_empty = false;
        let (ours, floor) = (it.ours, it.floor);
        let micros = |seconds: Option<f64>| seconds.map(|it| it * 1e6);
        table.push([
            it.work.name().to_owned(),
            it.work.tell(floor),
            it.work.tell(ours),
            format!("{:.2}", it.ratio()),
            beside(micros(ours.processor), micros(floor.processor)),
            beside(ours.switches, floor.switches),
            some(it.writes, 4),
        ]);
    }
    if !is_empty {
        table.print(is_markdown);
    }
}

fn print_codec(results: &Results, is_markdown: bool) {
    if let Some(codec) = &results.codec {
        let mut table = Table::new(["a request of 16 octets", "ns"]);
        let nanos = |seconds: f64| format!("{:.1}", seconds * 1e9);
        table.push(["decode, payload allocated".to_owned(), nanos(codec.decode)]);
        table.push(["encode".to_owned(), nanos(codec.encode)]);
        table.print(is_markdown);
    }
}

fn print_idle(results: &Results, is_markdown: bool) {
    if let Some(idle) = &results.idle {
        let mut table = Table::new([
            "an idle connection, both ends",
            "threads",
            "KiB resident",
            "wake-ups/s of 100",
        ]);
        if let Some(resident) = results.threads.as_ref().and_then(|it| it.of("resident")) {
            table.push([
                "as many threads that only wait".to_owned(),
                "4.0".to_owned(),
                some(Some(resident / 1024.0), 1),
                "-".to_owned(),
            ]);
        }
        for (name, when) in [
            ("before the first call", "before"),
            ("after it", "after"),
            ("after 1,024 calls, 256 at a time", "burst"),
        ] {
            let figure = |what: &str| idle.of(&format!("{what}_{when}"));
            table.push([
                name.to_owned(),
                some(figure("threads"), 1),
                some(figure("resident").map(|octets| octets / 1024.0), 1),
                some(figure("wakeups"), 1),
            ]);
        }
        table.print(is_markdown);
    }
}

fn print_sizes(results: &Results, is_markdown: bool) {
    if let Some(size) = &results.size {
        print_size("outstanding", &size.outstanding, is_markdown);
        print_size(
            "submitted before the first wait",
            &size.submitted,
            is_markdown,
        );
        print_size(
            "connections, one call on each in turn",
            &size.connections,
            is_markdown,
        );
        print_size("bare sockets, the same", &size.sockets, is_markdown);
        print_size("connections, 100 calls on each", &size.bursts, is_markdown);
    }
}

fn print_size(title: &str, costs: &BySize, is_markdown: bool) {
    let mut table = Table::new([title, "us/call"]);
    for (size, seconds) in costs {
        table.push([size.to_string(), format!("{:.2}", seconds * 1e6)]);
    }
    table.print(is_markdown);
}

fn print_targets(results: &Results, is_markdown: bool) {
    let mut table = Table::new(["target", "measured", ""]);
    for target in targets(results) {
        let verdict = if target.holds { "holds" } else { "missed" };
        table.push([target.text.to_owned(), target.measured, verdict.to_owned()]);
    }
    table.print(is_markdown);
}

/// A figure of ours, and that of the floor in parentheses.
fn beside(ours: Option<f64>, floor: Option<f64>) -> String {
    match (ours, floor) {
        (Some(ours), Some(floor)) => format!("{ours:.2} ({floor:.2})"),
        _ => "-".to_owned(),
    }
}

fn some(figure: Option<f64>, digits: usize) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.digits$}"))
}

/// The machine in a line.
fn machine(cores: &Cores) -> Result<String, BoxError> {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == "model name")
        .map_or("unknown processor", |(_, model)| model.trim());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let compiler = Command::new("rustc").arg("--version").output()?;
    Ok(format!(
        "{model}, {} cores, {} {}, {}",
        cores.count(),
        std::env::consts::OS,
        kernel.trim(),
        String::from_utf8_lossy(&compiler.stdout).trim()
    ))
}
