//! Reading by a caller that is alone, up to its own answer (see [`handover`](super::handover)).

use std::sync::Arc;

use super::logging::logs_packets;
use super::read_side::{Filled, ReadSide};
use super::receiver::Effects;
use super::session::Session;
use super::state::Key;
use super::text::caught;
use crate::error::Error;
use crate::wire::Packet;

/// The reading in the hands of a caller that reads its own answer.
pub(super) struct TakenReading {
    session: Arc<Session>,
    /// Empty once it has been given back.
    side: Option<Box<ReadSide>>,
}

impl TakenReading {
    pub(super) fn new(session: Arc<Session>, side: Box<ReadSide>) -> Self {
        Self {
            session,
            side: Some(side),
        }
    }

    /// Reads until the answer is here, or anything else, which is left to the receiver.
    ///
    /// A forced end frees the thread that is stuck here, as it would free the receiver.
    pub(super) fn read_answer(mut self, key: Key) {
        let Some(side) = &mut self.side else { return };
        let session = &self.session;
        let end = loop {
            let filled = match caught(|| side.fill()) {
                Ok(filled) => filled,
                Err(text) => break Some(Error::Panicked(text.into())),
            };
            if let Err(error) = session.judge(side, &filled) {
                break Some(error);
            }
            match filled {
                // After a forced end a stream that is only lent is nothing to read from.
                Filled::Partial if session.shared.lock().is_forced => return,
                Filled::Partial => {}
                Filled::TooLong(_) => {
                    side.undealt = Some(filled);
                    return;
                }
                Filled::Batch { end } => break end,
            }
        };
        let is_answer =
            |packet: &Packet| packet.is_response() && (packet.channel(), packet.tag()) == key;
        // What is logged is logged by the receiver: a logger is the user's, and may call here.
        let is_own = end.is_none()
            && !logs_packets()
            && matches!(&side.batch[..], [packet] if is_answer(packet))
            && !side.reader.has_complete_packet();
        if !is_own {
            side.undealt = Some(Filled::Batch { end });
            return;
        }
        let mut effects = Effects::default();
        let mut shared = session.shared.lock();
        if shared.is_forced {
            side.undealt = Some(Filled::Batch { end });
            return;
        }
        shared.stats.bytes_received = side.reader.offset();
        for packet in side.batch.drain(..) {
            session.apply(&mut shared, packet, &mut effects);
        }
        let goodbye = session.queue_goodbyes(&mut shared);
        session.notify_submitters(&shared);
        session.outbox.note_answered(shared.state.last_answered());
        if goodbye.is_none()
            && shared.is_quiet()
            && let Some(side) = self.side.take()
            && shared.handover.put_back(side)
        {
            session.inbound.notify_all();
        }
        drop(shared);
        session.ring_if(goodbye);
        session.settle_all(effects.settled.into_iter());
    }
}

impl Drop for TakenReading {
    /// Gives the reading back to the receiver.
    fn drop(&mut self) {
        if let Some(side) = self.side.take() {
            self.session.shared.lock().handover.give_back(side);
            self.session.inbound.notify_all();
        }
    }
}
