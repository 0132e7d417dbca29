//! The packet that answers a request, whatever its handler returned.

use log::Level;

use super::handler::Answered;
use super::logging::log;
use super::session::Session;
use super::state::Key;
use super::text::caught;
use crate::error::BoxError;
use crate::rejection::{Rejection, rejection_text};
use crate::wire::Packet;

impl Session {
    /// Makes the packet that answers a request. An error is the user's, and may panic when it is
    /// shown or dropped.
    pub(super) fn contained_answer(&self, key: Key, answer: Answered) -> Packet {
        caught(|| self.answer_packet(key, answer))
            .unwrap_or_else(|_| Packet::refusal(key.0, key.1, rejection_text::FAILED))
    }

    /// The packet of an answer. What cannot be sent as it is becomes the answer
    /// of a handler that failed; the peer is told that it was too long.
    fn answer_packet(&self, (channel, tag): Key, answer: Answered) -> Packet {
        let failed = |error: BoxError| {
            log(
                Level::Error,
                format_args!(
                    "{}: the handler of request {channel}:{tag} failed: {error}",
                    self.config.name
                ),
            );
            Packet::refusal(channel, tag, rejection_text::FAILED)
        };
        let packet = match answer {
            Ok(response) => {
                let flags = response.flags();
                Packet::response(channel, tag, true, flags, response.into_payload())
            }
            Err(error) => match Rejection::of_handler(error) {
                Ok(rejection) => {
                    let (flags, payload) = (rejection.flags(), rejection.payload().to_vec());
                    Packet::response(channel, tag, false, flags, payload)
                }
                Err(error) => return failed(error),
            },
        };
        let (limit, len) = (
            self.config.max_packet_len,
            packet.as_ref().map_or(0, Packet::body_len),
        );
        match packet {
            Ok(_) if len > limit => {
                log(
                    Level::Error,
                    format_args!(
                        "{}: the answer to request {channel}:{tag} has {len} bytes, \
                     which is more than the limit of {limit}",
                        self.config.name
                    ),
                );
                let text = rejection_text::answer_too_long(len, limit);
                Packet::refusal(channel, tag, &text)
            }
            Ok(packet) => packet,
            Err(error) => failed(error.into()),
        }
    }
}
