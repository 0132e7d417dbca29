//! What reading goes on with, whichever thread does it.

use super::spare::Spare;
use crate::error::Error;
use crate::transport::BoxedReader;
use crate::wire::reader::Step;
use crate::wire::{Packet, PacketReader};

/// How many packets, and about how many octets, are dealt out under one lock.
const BATCH: usize = 128;
const BATCH_OCTETS: usize = 256 * 1024;

/// What reading goes on with, whoever does it.
pub(super) struct ReadSide {
    pub(super) reader: PacketReader<BoxedReader>,
    pub(super) batch: Vec<Packet>,
    /// No packet has been dealt out yet.
    pub(super) is_first: bool,
    /// What a caller has read that was not just its answer.
    pub(super) undealt: Option<Filled>,
}

/// What came of one read.
pub(super) enum Filled {
    /// Octets of a packet.
    Partial,
    /// Packets, and what follows the last of them, if that is the end.
    Batch { end: Option<Error> },
}

impl ReadSide {
    pub(super) fn new(reader: BoxedReader, max_packet_len: u64) -> Self {
        Self {
            reader: PacketReader::new(reader).with_max_packet_len(max_packet_len),
            batch: Vec::new(),
            is_first: true,
            undealt: None,
        }
    }

    /// Has a long payload that has begun go on in memory that is at hand.
    pub(super) fn reuse(&mut self, spare: &Spare) {
        if let Some(len) = self.reader.wants_room()
            && let Some(memory) = spare.take(len)
        {
            self.reader.reuse(memory);
        }
    }

    /// Waits for a packet, and takes along what has come with it.
    pub(super) fn fill(&mut self) -> Filled {
        let end = match self.reader.step() {
            Ok(Step::Packet(packet)) => {
                let octets = BATCH_OCTETS.saturating_sub(packet.payload().len());
                self.batch.push(packet);
                self.reader.take_buffered(&mut self.batch, BATCH, octets);
                None
            }
            Ok(Step::Partial) => return Filled::Partial,
            Ok(Step::End) => Some(Error::EndOfInput(None)),
            Err(error) => Some(error),
        };
        Filled::Batch { end }
    }
}
