//! Two connections over streams that fail by a seed: what the seeded tests and the fuzz targets
//! share.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "test helpers; each test binary uses a part of them"
)]

pub mod ledger;
pub mod network;
pub mod plan;
pub mod traffic;
