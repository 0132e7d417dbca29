//! The codec on any stream.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
#[path = "../driver.rs"]
mod driver;
#[path = "../../tests/fuzzing/mod.rs"]
mod fuzzing;

#[cfg(not(fuzzing))]
use fuzzing::inputs;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| fuzzing::codec::check(octets));

#[cfg(not(fuzzing))]
fn main() {
    driver::run("codec", 0, fuzzing::codec::check);
}
