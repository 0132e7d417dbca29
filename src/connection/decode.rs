//! What is left to do with an answer once it is here.

use super::message::Response;
use super::one_shot::Answer;
use super::reference::Reference;
use crate::error::{Error, Result};

pub(super) type Decode<T> = Box<dyn FnOnce(Response) -> Result<T> + Send>;

/// Decodes on the thread that asked for it, and lets go of the connection afterwards.
pub(super) fn decode<T>(
    answer: Answer,
    decode: Option<Decode<T>>,
    reference: &mut Option<Reference>,
) -> Result<T> {
    let _released_last = reference.take();
    match (answer, decode) {
        (Ok(response), Some(decode)) => decode(response),
        (Err(error), _) => Err(error),
        (Ok(_), None) => Err(Error::Taken),
    }
}
