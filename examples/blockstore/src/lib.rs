//! A content-addressed block store, served and used over [`packetstream`].
//!
//! It speaks the protocol of the Python package `cs.vt`, so that either end may be that. Start
//! reading at [`requests`] and [`serve`], then [`put`] and [`tree`]; [`store`] is about the disk.
#![allow(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "only the program and the tests of this package use it"
)]

pub mod archive;
pub mod block;
pub mod client;
pub mod endpoint;
pub mod escape;
pub mod hash;
pub mod put;
pub mod requests;
pub mod serve;
pub mod store;
pub mod tree;

#[cfg(test)]
#[path = "../../../tests/common/mod.rs"]
mod common;

/// Returns the text of an error and of all that caused it, on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        // Some put the cause's text into their own.
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        source = cause.source();
    }
    text
}
