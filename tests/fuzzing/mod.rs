//! What the fuzz targets and the seeded tests try, with any octets.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "test helpers; each test binary uses a part of them"
)]

pub mod codec;
pub mod inputs;
pub mod payloads;
pub mod script;
pub mod sent;
