//! Errors and panics in words, for log lines.

use std::any::Any;
use std::fmt::Write;

use crate::error::Error;

/// Says in words what a panic said.
pub(super) fn panic_text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

/// The chain of causes of an error, for a log line.
pub(super) fn source_text(error: &Error) -> String {
    let mut text = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}{cause}", if text.is_empty() { "" } else { ": " });
        source = cause.source();
    }
    text
}
