//! A live connection whose peer says anything.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
#[path = "../driver.rs"]
mod driver;
#[path = "../../tests/fuzzing/mod.rs"]
mod fuzzing;

#[cfg(not(fuzzing))]
use fuzzing::inputs;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| fuzzing::script::check(octets));

#[cfg(not(fuzzing))]
fn main() {
    driver::run("script", 1, fuzzing::script::check);
}
