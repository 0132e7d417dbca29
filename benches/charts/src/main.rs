//! Draws two charts of calls with 16 octets over a Unix socket, both ends in this process and with
//! default settings: how long a lone call takes, as a distribution, and how many calls there are
//! in a second, by how many are outstanding.
//!
//! `cargo run --release -p charts`, under `taskset -c 0` to see less of the scheduler. The bench
//! `ratios` compares medians; this is to see what lies beside them.

mod draw;
#[path = "../../ratios/ends.rs"]
#[allow(dead_code, reason = "the bench uses more of it")]
mod ends;
mod measure;

use std::fs;
use std::path::PathBuf;

use clap::Parser;
use packetstream::BoxError;

/// Draws `latency.svg` and `throughput.svg`.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// The directory for the charts.
    #[arg(long, default_value = "target/charts")]
    into: PathBuf,
    /// How many calls each line is made of.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    calls: u32,
}

fn main() -> Result<(), BoxError> {
    let options = Options::parse();
    let calls = usize::try_from(options.calls)?;
    fs::create_dir_all(&options.into)?;

    let latencies = measure::latencies(calls)?;
    println!("one call after the other, us: median, 99 %, 99.9 %");
    for line in &latencies {
        let [half, two_nines, three_nines] =
            [0.5, 0.99, 0.999].map(|share| line.at_share(share) * 1e6);
        println!(
            "{half:8.1} {two_nines:8.1} {three_nines:8.1}  {}",
            line.name
        );
    }
    draw::latencies(&options.into.join("latency.svg"), &latencies)?;

    let throughputs = measure::throughputs(calls)?;
    println!("outstanding: thousand calls a second");
    for line in &throughputs {
        let points = line.points.iter();
        let points = points.map(|(window, rate)| format!("{window}: {:.0}", rate / 1e3));
        println!("{}  {}", points.collect::<Vec<_>>().join(", "), line.name);
    }
    draw::throughputs(&options.into.join("throughput.svg"), &throughputs)?;
    println!("drawn into {}", options.into.display());
    Ok(())
}
