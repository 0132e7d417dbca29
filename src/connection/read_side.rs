//! What reading goes on with, whichever thread does it.

use std::sync::Arc;

use crate::error::Error;
use crate::transport::BoxedReader;
use crate::wire::memory::Memory;
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
    pub(super) fn new(reader: BoxedReader, max_packet_len: u64, memory: Arc<dyn Memory>) -> Self {
        let mut reader = PacketReader::new(reader).with_max_packet_len(max_packet_len);
        reader.set_memory(memory);
        Self {
            reader,
            batch: Vec::new(),
            is_first: true,
            undealt: None,
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
