//! Panics of the user's code, contained; and errors in words, for log lines.

use std::any::Any;
use std::fmt::Write;
use std::panic::{self, AssertUnwindSafe};

use crate::error::Error;

/// Runs code of the user; if it panics, says in words what the panic said.
pub(super) fn caught<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(code)).map_err(thrown_text)
}

/// Says in words what was thrown, and drops it: that is the user's code too. What dropping it
/// throws is not dropped any more.
pub(super) fn thrown_text(thrown: Box<dyn Any + Send>) -> String {
    let text = panic_text(&*thrown);
    if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| drop(thrown))) {
        Box::leak(again);
    }
    text
}

/// Says in words what a panic said.
fn panic_text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

/// The chain of causes of an error, each after a colon, for a log line.
pub(super) fn source_text(error: &Error) -> String {
    let mut text = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        // It may be an error of the user's transport, which may panic when it is shown.
        let shown = caught(|| cause.to_string()).unwrap_or_else(|_| "(unshowable)".to_owned());
        // Writing to a string cannot fail.
        let _ = write!(text, ": {shown}");
        source = cause.source();
    }
    text
}
