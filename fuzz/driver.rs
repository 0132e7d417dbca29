//! Runs a target without libFuzzer: on recorded inputs that are damaged by chance, for a while.

use std::panic;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::inputs;

static HAS_PANICKED: AtomicBool = AtomicBool::new(false);

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().expect("a number"))
}

/// Runs `check` on one input after the other; ends the process at the first panic of any thread.
pub fn run(target: &str, prefix: usize, check: impl Fn(&[u8])) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        before(info);
        HAS_PANICKED.store(true, Ordering::SeqCst);
    }));
    let recorded = inputs::recorded();
    let seconds = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(60));
    let first = number("FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..) >> 16);
    let began = Instant::now();
    let mut seed = first;
    while began.elapsed() < seconds {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut input: Vec<u8> = (0..prefix).map(|_| random.u8(..)).collect();
        input.extend(inputs::mutated(&mut random, &recorded));
        let result = panic::catch_unwind(panic::AssertUnwindSafe(|| check(&input)));
        if result.is_err() || HAS_PANICKED.load(Ordering::SeqCst) {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("artifacts")
                .join(target);
            let file = directory.join(format!("seed-{seed}"));
            let written =
                std::fs::create_dir_all(&directory).and_then(|()| std::fs::write(&file, &input));
            eprintln!("{target}: FUZZ_SEED={seed} fails: {input:02x?} ({file:?}: {written:?})");
            std::process::exit(1);
        }
        seed += 1;
    }
    println!(
        "{target}: {} executions in {} s from FUZZ_SEED={first}",
        seed - first,
        began.elapsed().as_secs()
    );
}
