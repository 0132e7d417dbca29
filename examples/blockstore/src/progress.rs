//! Progress on standard error, if a person is looking.

use std::io::{self, IsTerminal};

use blockstore::escape;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const TEMPLATE: &str = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left  {wide_msg}";

/// A bar of octets; nothing if standard error is not a terminal.
pub(crate) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    pub(crate) fn new(octets: u64) -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(octets), target);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// Shows how many octets are done, and of how many.
    pub(crate) fn show(&self, octets: u64, total: u64) {
        self.bar.set_length(total.max(octets));
        self.bar.set_position(octets);
    }

    /// Shows what is being worked on.
    pub(crate) fn name(&self, name: &str) {
        if !self.bar.is_hidden() {
            self.bar.set_message(escape::name(name));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
