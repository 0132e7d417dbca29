//! A peer to test an implementation of the protocol against, and to learn this crate from.
//!
//! `peer serve` answers ten types of requests over standard input and output, TCP or a Unix
//! socket; `peer call` is a client that tests such a server; `peer demo` runs both. The same
//! program exists for the Python implementation (`tests/interop/peer.py`), with the same types,
//! options and output, so that either can be put at either end.
//!
//! Start reading at `serve.rs` and `requests.rs`.

mod arguments;
mod call;
mod checks;
mod client;
mod demo;
mod requests;
mod serve;
mod shell_words;

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::process::{self, ExitCode};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use packetstream::{Connection, ConnectionBuilder};

use crate::arguments::{Command, CommonOptions};

const SOMETHING_FAILED: u8 = 1;
const BAD_ARGUMENTS: u8 = 2;
const HARD_LIMIT: i32 = 3;

fn main() -> ExitCode {
    let arguments: Result<Vec<_>, _> = env::args_os().skip(1).map(OsString::into_string).collect();
    let command = match arguments {
        Ok(arguments) => arguments::parse(arguments),
        Err(argument) => Err(format!("{} is not Unicode", argument.display())),
    };
    let outcome = match command {
        Ok(Command::Help) => {
            print!("{}", arguments::USAGE);
            return ExitCode::SUCCESS;
        }
        Ok(Command::Serve(options)) => serve::serve(&options),
        Ok(Command::Call(options)) => match checks::select(&options) {
            Ok(checks) => call::call(&options, &checks),
            Err(problem) => return bad_arguments(&problem),
        },
        Ok(Command::Demo { child: false }) => demo::demo(),
        Ok(Command::Demo { child: true }) => demo::child(),
        Err(problem) => return bad_arguments(&problem),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer: {}", chain(&*error));
            SOMETHING_FAILED.into()
        }
    }
}

fn bad_arguments(problem: &str) -> ExitCode {
    eprintln!("peer: {problem}; try peer --help");
    BAD_ARGUMENTS.into()
}

/// A builder with what the options say about every connection.
fn builder(options: &CommonOptions) -> ConnectionBuilder {
    if options.verbose {
        // Fails if a logger is set already: in a server from the second connection on.
        let _again = log::set_logger(&StandardError);
        log::set_max_level(log::LevelFilter::Trace);
    }
    let builder = Connection::builder();
    match options.grace {
        Some(grace) => builder.flush_grace(grace),
        None => builder,
    }
}

/// The text of an error and of all that caused it.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Ends the process when the time is up, after `last_words`: a peer that is part of a test must
/// never hang it, whatever is at the other end.
fn limit(time: Duration, last_words: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let watch = move || {
        pause(time);
        eprintln!("peer: hard limit of {}s reached", time.as_secs_f64());
        last_words();
        process::exit(HARD_LIMIT);
    };
    thread::Builder::new()
        .name("hard limit".to_owned())
        .spawn(watch)
        .map(drop)
}

/// Lets time pass. Nothing is ever sent on the channel and its sender stays, so that only the
/// clock ends the wait. Nobody here waits like this for something that could tell when it is so.
fn pause(time: Duration) {
    let (_sender, nothing) = mpsc::channel::<()>();
    let _timeout = nothing.recv_timeout(time);
}

/// The logger of `--verbose`; standard output may belong to the packets.
struct StandardError;

impl log::Log for StandardError {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!(
            "{:5} {}: {}",
            record.level(),
            record.target(),
            record.args()
        );
    }

    fn flush(&self) {}
}
