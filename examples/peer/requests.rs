//! The request types that both ends serve, whichever of them asked to be connected.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use packetstream::{BoxError, Flags, Incoming, Request, RequestHandler, Response};

/// Answers flags `0x11` and the payload reversed.
pub(crate) const ECHO: u32 = 0;
/// Answers nothing: flags 0 and an empty payload.
pub(crate) const NOTHING: u32 = 1;
/// Answers the flags of the request.
pub(crate) const FLAGS: u32 = 2;
/// Answers `bytes:` and the payload.
pub(crate) const BYTES: u32 = 3;
/// Answers [`TEXT_PREFIX`] and the payload, which must be UTF-8.
pub(crate) const TEXT: u32 = 4;
/// Answers the payload twice, and its length as the flags.
pub(crate) const PAIR: u32 = 5;
/// Fails.
pub(crate) const FAILURE: u32 = 6;
/// Takes its time: the payload is `MS` or `MS:anything`, and is the answer too.
pub(crate) const SLEEP: u32 = 7;
/// Answers what the caller itself answers to the same request as [`ECHO`].
pub(crate) const CALL_BACK: u32 = 8;
/// Answers as many octets as the payload says in decimal, see [`sized`].
pub(crate) const SIZED: u32 = 9;

/// The flags of an answer to [`ECHO`].
pub(crate) const ECHO_FLAGS: u32 = 0x11;
/// Characters of two, three and four octets, so that no accident of encoding goes unnoticed.
pub(crate) const TEXT_PREFIX: &str = "str:\u{e9}\u{20ac}\u{1f600}:";

const LONGEST_SLEEP: Duration = Duration::from_secs(10);
const LONGEST_ANSWER: usize = 1 << 28;
const CALL_BACK_LIMIT: Duration = Duration::from_secs(20);

/// The handler of both ends.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    served: AtomicU64,
    close_after: Option<u64>,
}

impl Requests {
    /// Makes the handler end its connection after that many requests.
    pub(crate) fn closing_after(requests: Option<u64>) -> Self {
        Self {
            close_after: requests,
            ..Self::default()
        }
    }
}

impl RequestHandler for Requests {
    fn handle(&self, incoming: Incoming) -> Result<Response, BoxError> {
        let answer = match u32::try_from(incoming.request_type().get()) {
            Ok(SLEEP) => sleep(&incoming),
            Ok(CALL_BACK) => call_back(&incoming),
            _ => answer(&incoming),
        };
        let served = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        if self.close_after.is_some_and(|limit| served >= limit) {
            // Returns at once. The stream ends after the answers to all that has been accepted,
            // this request's included.
            incoming.connection().end_stream()?;
        }
        answer
    }
}

/// What the types answer that need neither time nor the connection.
pub(crate) fn answer(request: &Request) -> Result<Response, BoxError> {
    let payload = request.payload();
    match u32::try_from(request.request_type().get()) {
        Ok(ECHO) => Ok(Response::new(Flags::from(ECHO_FLAGS), reversed(payload))),
        Ok(NOTHING) => Ok(().into()),
        Ok(FLAGS) => Ok(request.flags().into()),
        Ok(BYTES) => Ok([b"bytes:", payload].concat().into()),
        Ok(TEXT) => Ok(format!("{TEXT_PREFIX}{}", std::str::from_utf8(payload)?).into()),
        Ok(PAIR) => {
            let flags = Flags::try_from(payload.len() as u64)?;
            Ok((flags, payload.repeat(2)).into())
        }
        Ok(FAILURE) => Err("this type of request always fails".into()),
        Ok(SIZED) => {
            let len: usize = std::str::from_utf8(payload)?.parse()?;
            Ok(sized(len.min(LONGEST_ANSWER)).into())
        }
        _ => Err(format!("unknown request type {}", request.request_type()).into()),
    }
}

/// `len` octets; the one at `i` is `i` modulo 251, so that no block of a power of two repeats.
pub(crate) fn sized(len: usize) -> Vec<u8> {
    (0..251).cycle().take(len).collect()
}

/// The octets in the opposite order.
pub(crate) fn reversed(octets: &[u8]) -> Vec<u8> {
    octets.iter().rev().copied().collect()
}

fn sleep(request: &Request) -> Result<Response, BoxError> {
    let payload = request.payload();
    let digits = payload
        .split(|&octet| octet == b':')
        .next()
        .unwrap_or_default();
    let milliseconds = std::str::from_utf8(digits)?.parse()?;
    // Taking time is what this type is for.
    crate::pause(Duration::from_millis(milliseconds).min(LONGEST_SLEEP));
    Ok(payload.into())
}

fn call_back(incoming: &Incoming) -> Result<Response, BoxError> {
    let request = Request::new(ECHO)
        .with_flags(incoming.flags())
        .with_payload(incoming.payload());
    // A handler may wait for the peer: it lends its thread to other requests meanwhile.
    match incoming
        .connection()
        .submit(request)?
        .wait_timeout(CALL_BACK_LIMIT)
    {
        Ok(answer) => Ok(answer?),
        Err(_unanswered) => Err("the caller does not answer".into()),
    }
}
