//! Lines for the logger, which is the user's: it may panic, and nobody's result hangs on a line.

use std::fmt;

use log::Level;

use super::text::caught;

/// The target of what is said about connections.
const TARGET: &str = "packetstream::connection";

/// The target of what is said about each packet.
const PACKETS: &str = "packetstream::wire";

/// Logs a line. What showing it throws, or the logger, ends here.
pub(super) fn log(level: Level, line: fmt::Arguments<'_>) {
    let _ = caught(|| log::log!(target: TARGET, level, "{line}"));
}

/// Whether a logger may want to see each packet.
pub(super) fn logs_packets() -> bool {
    log::max_level() == log::LevelFilter::Trace
}

/// The same for a packet.
pub(super) fn log_packet(line: fmt::Arguments<'_>) {
    let _ = caught(|| log::trace!(target: PACKETS, "{line}"));
}
