//! Two connections over streams that fail by a plan.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
#[path = "../driver.rs"]
mod driver;
#[path = "../../tests/faults/mod.rs"]
mod faults;
#[cfg(not(fuzzing))]
#[path = "../../tests/fuzzing/inputs.rs"]
mod inputs;

use faults::plan::Plan;
use faults::traffic;

fn check(octets: &[u8]) {
    traffic::run(&Plan::from_octets(octets));
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| check(octets));

#[cfg(not(fuzzing))]
fn main() {
    driver::run("faults", Plan::OCTETS, check);
}
