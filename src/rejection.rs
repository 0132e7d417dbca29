//! A peer's "not ok" answer, and the texts of those that this crate makes up itself.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::error::BoxError;
use crate::outcome::Outcome;
use crate::wire::{Flags, RequestType};

/// A peer's "not ok" answer to a request; also what a handler returns to refuse one in words of
/// its own.
///
/// As an answer that was received it is found in [`Error::Rejected`](crate::Error::Rejected). As the error of a
/// [`RequestHandler`](crate::RequestHandler) it decides what the peer sees: any other error is
/// shown to the peer as `exception during handler` only, so that nothing of ours leaks.
///
/// Some texts say that a request was not run, such as `no request handler`: for them
/// [`Error::outcome`](crate::Error::outcome) is [`NotRun`](Outcome::NotRun), and the caller may
/// make the request again. A handler has run, so if it returns such a text (a proxy may hand on what
/// its backend said), with no flags, the peer gets it with `handler: ` in front.
///
/// # Examples
///
/// ```
/// use packetstream::{BoxError, Connection, Error, Flags, Rejection, Request, Transport};
///
/// # fn main() -> Result<(), BoxError> {
/// let (ours, theirs) = Transport::pair();
/// let _server = Connection::builder()
///     .handler(|_| Err::<(), _>(Rejection::new("no such key").with_flags(Flags::from(4)).into()))
///     .open(theirs)?;
/// let client = Connection::builder().open(ours)?;
///
/// let error = client.call(Request::new(0)).unwrap_err();
/// let rejection = error.rejection().ok_or("not a rejection")?;
/// assert_eq!(rejection.message(), "no such key");
/// assert_eq!(rejection.flags(), Flags::from(4));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection(Arc<RejectionParts>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct RejectionParts {
    flags: Flags,
    payload: Vec<u8>,
}

/// The texts with which an end refuses a request that it has not run.
///
/// The last one is that of a Python peer for any channel except 0, sent with the `%d` as it stands.
const NOT_RUN: [&[u8]; 5] = [
    rejection_text::NO_HANDLER,
    rejection_text::NO_LONGER_ALLOWED,
    rejection_text::SHUTTING_DOWN,
    rejection_text::BUSY,
    b"unknown channel %d",
];

/// The same, for texts that go on with details.
const NOT_RUN_BEGINNINGS: [&[u8]; 2] = [rejection_text::UNKNOWN_TYPE, rejection_text::UNDECODABLE];

/// What a handler's own rejection begins with, if its text would say that the handler did not run.
const HANDLER_RAN: &[u8] = b"handler: ";

/// Whether a text is that of [`rejection_text::request_too_long`], with whatever numbers.
fn is_request_too_long(text: &[u8]) -> bool {
    let [before, between] = rejection_text::REQUEST_TOO_LONG;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.strip_prefix(before)?.split_once(between))
        .is_some_and(|(len, limit)| is_number(len) && is_number(limit))
}

pub(crate) mod rejection_text {
    pub(crate) const NO_HANDLER: &[u8] = b"no request handler";
    pub(crate) const NO_LONGER_ALLOWED: &[u8] = b"requests no longer allowed";
    pub(crate) const SHUTTING_DOWN: &[u8] = b"rejecting request: shutting down";
    pub(crate) const BUSY: &[u8] = b"rejecting request: busy";
    /// The length of the request stands between them, and the limit follows.
    pub(crate) const REQUEST_TOO_LONG: [&str; 2] =
        ["rejecting request: ", " bytes are more than the limit of "];
    pub(crate) const FAILED: &[u8] = b"exception during handler";
    /// A number follows.
    pub(crate) const UNKNOWN_TYPE: &[u8] = b"unknown request type ";
    /// What is wrong follows.
    pub(crate) const UNDECODABLE: &[u8] = b"undecodable request: ";

    /// What is said to a request of `len` bytes.
    pub(crate) fn request_too_long(len: u64, limit: u64) -> Vec<u8> {
        let [before, between] = REQUEST_TOO_LONG;
        format!("{before}{len}{between}{limit}").into_bytes()
    }

    /// What is said in the place of an answer of `len` bytes.
    pub(crate) fn answer_too_long(len: u64, limit: u64) -> Vec<u8> {
        format!("the answer of {len} bytes is longer than the limit of {limit}").into_bytes()
    }
}

impl Rejection {
    /// Creates a rejection with the given payload, by convention a UTF-8 text, and no flags.
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Self::with_parts(Flags::NONE, payload.into())
    }

    pub(crate) fn with_parts(flags: Flags, payload: Vec<u8>) -> Self {
        Self(Arc::new(RejectionParts { flags, payload }))
    }

    /// Replaces the application's flags. The default is none.
    ///
    /// A response carries at most 61 bits ([`Flags::MAX_RESPONSE`]); with more, the peer is sent
    /// the answer of a handler that failed.
    #[must_use]
    pub fn with_flags(mut self, flags: Flags) -> Self {
        Arc::make_mut(&mut self.0).flags = flags;
        self
    }

    /// Returns the application's flags.
    pub fn flags(&self) -> Flags {
        self.0.flags
    }

    /// Returns the payload, by convention a UTF-8 text.
    pub fn payload(&self) -> &[u8] {
        &self.0.payload
    }

    /// Returns the payload as text, with what is not UTF-8 replaced.
    pub fn message(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0.payload)
    }

    /// Turns the error of a handler into the rejection that the peer gets; gives it back if it is
    /// one whose text is not meant for the peer.
    ///
    /// A handler that ran may return a text that would tell the peer that it did not: a proxy does
    /// so when it hands on what its backend said. Such a text is changed.
    pub(crate) fn of_handler(error: BoxError) -> Result<Self, BoxError> {
        let error = match error.downcast::<Refusal>() {
            Ok(refusal) => return Ok(refusal.0),
            Err(error) => error,
        };
        let mut rejection = *error.downcast::<Self>()?;
        if rejection.outcome() == Outcome::NotRun {
            let parts = Arc::make_mut(&mut rejection.0);
            parts.payload.splice(..0, HANDLER_RAN.iter().copied());
        }
        Ok(rejection)
    }

    pub(crate) fn outcome(&self) -> Outcome {
        let is_refusal = NOT_RUN.contains(&self.payload())
            || NOT_RUN_BEGINNINGS
                .iter()
                .any(|text| self.payload().starts_with(text))
            || is_request_too_long(self.payload());
        if self.0.flags.is_empty() && is_refusal {
            Outcome::NotRun
        } else {
            Outcome::Unknown
        }
    }
}

/// What a service says to a request that it has not run, as the error of a handler.
///
/// Only this crate can make one, so its text reaches the peer unchanged, see
/// [`Rejection::of_handler`].
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Refusal(Rejection);

impl Refusal {
    /// What a service answers to a type that it does not serve.
    pub(crate) fn unknown_request_type(number: RequestType) -> Self {
        Self::beginning(rejection_text::UNKNOWN_TYPE, &number)
    }

    /// What a service answers to a request that it cannot decode.
    pub(crate) fn undecodable(error: &(dyn std::error::Error + Send + Sync)) -> Self {
        Self::beginning(rejection_text::UNDECODABLE, &error)
    }

    fn beginning(text: &[u8], rest: &dyn fmt::Display) -> Self {
        let rest = rest.to_string();
        Self(Rejection::new([text, rest.as_bytes()].concat()))
    }

    pub(crate) fn into_rejection(self) -> Rejection {
        self.0
    }
}

impl fmt::Display for Rejection {
    /// Shows the message, at most 200 characters of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 200;
        let message = self.message();
        if message.is_empty() {
            return f.write_str("(no text)");
        }
        for character in message.chars().take(SHOWN).flat_map(char::escape_debug) {
            write!(f, "{character}")?;
        }
        if message.chars().nth(SHOWN).is_some() {
            f.write_str("…")?;
        }
        Ok(())
    }
}

impl std::error::Error for Rejection {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn texts_of_refusal_prove_that_the_request_was_not_run() {
        for text in NOT_RUN {
            assert_eq!(
                Error::Rejected(Rejection::new(text)).outcome(),
                Outcome::NotRun
            );
        }
        for beginning in NOT_RUN_BEGINNINGS {
            let text = [beginning, b"5"].concat();
            assert_eq!(
                Error::Rejected(Rejection::new(text)).outcome(),
                Outcome::NotRun
            );
        }
        let long = rejection_text::request_too_long(u64::MAX, 0);
        assert_eq!(
            Error::Rejected(Rejection::new(long)).outcome(),
            Outcome::NotRun
        );
        for other in [
            &rejection_text::answer_too_long(11, 10)[..],
            b"rejecting request: x bytes are more than the limit of 10",
            b"rejecting request: 11 bytes are more than the limit of ",
            b"rejecting request: 11 bytes are more than the limit of 10.",
        ] {
            let outcome = Error::Rejected(Rejection::new(other)).outcome();
            assert_eq!(outcome, Outcome::Unknown, "{}", other.escape_ascii());
        }
        let failed = Rejection::new(rejection_text::FAILED);
        assert_eq!(Error::Rejected(failed).outcome(), Outcome::Unknown);
        let flagged = Rejection::new(rejection_text::BUSY).with_flags(Flags::from(1));
        assert_eq!(Error::Rejected(flagged).outcome(), Outcome::Unknown);
    }

    #[test]
    fn a_long_rejection_is_shown_short() {
        let shown = Rejection::new("x\n".repeat(1000)).to_string();
        assert!(shown.len() < 400, "{shown}");
        assert!(shown.starts_with("x\\nx\\n") && shown.ends_with('…'));
    }
}
