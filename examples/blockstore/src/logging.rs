//! The logger, which writes to standard error: standard output may belong to the packets.

use blockstore::escape;

use crate::print;

/// Starts to log; a server also tells what the connections warn of.
pub(crate) fn start(verbose: u8, is_server: bool) {
    log::set_max_level(match verbose {
        0 => log::LevelFilter::Warn,
        1 => log::LevelFilter::Debug,
        _ => log::LevelFilter::Trace,
    });
    let logger = Box::leak(Box::new(StandardError {
        // In a client what the connection warns of is among the causes of the error that is told
        // in the end.
        has_library: is_server || verbose > 0,
    }));
    // It is the first and only one.
    let _ = log::set_logger(logger);
}

struct StandardError {
    has_library: bool,
}

impl log::Log for StandardError {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.has_library || metadata.target().starts_with("blockstore")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_lowercase();
            let message = record.args().to_string();
            print::tell(format_args!(
                "blockstore: {level}: {}",
                escape::line(&message)
            ));
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use log::{Level, Log, Metadata};

    use super::*;

    #[test]
    fn a_server_tells_what_the_library_warns_of_and_a_client_what_it_says_itself() {
        let library = Metadata::builder()
            .level(Level::Warn)
            .target("packetstream::connection")
            .build();
        let own = Metadata::builder()
            .level(Level::Warn)
            .target("blockstore::files")
            .build();
        for has_library in [false, true] {
            let logger = StandardError { has_library };
            assert_eq!(logger.enabled(&library), has_library);
            assert!(logger.enabled(&own));
        }
    }
}
