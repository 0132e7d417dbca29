//! Standard output and standard error: what is printed never stops the work.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use anyhow::{Context, Result};
use blockstore::escape;

/// Prints lines until somebody stops reading them.
///
/// After an error nothing more is printed; [`finish`](Self::finish) tells of it.
pub(crate) struct Printer {
    out: BufWriter<Stdout>,
    is_terminal: bool,
    failure: Option<io::Error>,
}

impl Printer {
    pub(crate) fn new() -> Self {
        let out = io::stdout();
        Self {
            is_terminal: out.is_terminal(),
            out: BufWriter::new(out),
            failure: None,
        }
    }

    /// Returns a name as it is printed.
    pub(crate) fn name(&self, name: &str) -> String {
        if self.is_terminal {
            escape::name(name)
        } else {
            escape::name_in_a_line(name)
        }
    }

    pub(crate) fn line(&mut self, line: fmt::Arguments<'_>) {
        if self.failure.is_none() {
            self.failure = writeln!(self.out, "{line}").err();
        }
    }

    /// Shows what has been printed so far.
    pub(crate) fn flush(&mut self) {
        if self.failure.is_none() {
            self.failure = self.out.flush().err();
        }
    }

    /// Returns whether nobody gets what is printed.
    pub(crate) fn is_broken(&self) -> bool {
        self.failure.is_some()
    }

    /// Ends; that the reader has seen enough is no error.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.flush();
        match self.failure.take() {
            Some(failure) if failure.kind() != io::ErrorKind::BrokenPipe => {
                Err(failure).context("cannot print")
            }
            _ => Ok(()),
        }
    }
}

/// Shows a line on standard error. If that cannot be, there is nobody to tell.
pub(crate) fn tell(line: fmt::Arguments<'_>) {
    // At once, or lines of several threads and processes mix.
    let line = format!("{line}\n");
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Prints a text of lines.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut printer = Printer::new();
    printer.line(format_args!("{text}"));
    printer.finish()
}
