//! Writes the corpus of each target, made from the recorded vectors and sessions.

#[path = "../tests/fuzzing/inputs.rs"]
mod inputs;

use std::fs;
use std::io;
use std::path::Path;

/// How many random plans start the target `faults`.
const PLANS: u64 = 200;
const PLAN_OCTETS: usize = 40;

fn main() -> io::Result<()> {
    let recorded = inputs::recorded();
    write("codec", recorded.iter().cloned())?;
    write("payloads", recorded.iter().cloned())?;
    let scripts = recorded.iter().enumerate();
    write(
        "script",
        scripts.map(|(at, octets)| [&[at as u8], &octets[..]].concat()),
    )?;
    let plans = (0..PLANS).map(|seed| {
        let mut plan = vec![0; PLAN_OCTETS];
        fastrand::Rng::with_seed(seed).fill(&mut plan);
        plan
    });
    write("faults", plans)
}

fn write(target: &str, inputs: impl Iterator<Item = Vec<u8>>) -> io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    fs::create_dir_all(&directory)?;
    for (number, input) in inputs.enumerate() {
        fs::write(directory.join(format!("recorded-{number:03}")), input)?;
    }
    Ok(())
}
