//! What reading goes on with, whichever thread does it.

use std::sync::Arc;

use crate::error::Error;
use crate::transport::BoxedReader;
use crate::wire::memory::Memory;
use crate::wire::reader::Step;
use crate::wire::skip::TooLong;
use crate::wire::{Packet, PacketReader};

/// How many packets, and about how many octets, are dealt out under one lock.
const BATCH: usize = 128;
const BATCH_OCTETS: usize = 256 * 1024;

/// What reading goes on with, whoever does it.
pub(super) struct ReadSide {
    pub(super) reader: PacketReader<BoxedReader>,
    pub(super) batch: Vec<Packet>,
    /// The first packet has not been judged yet: whether it is one.
    pub(super) is_first: bool,
    /// The long response that is arriving is known to answer a request of ours.
    pub(super) is_claim_judged: bool,
    /// How much of an incomplete packet has been noted for the report.
    pub(super) noted: usize,
    /// What a caller has read that was not just its answer.
    pub(super) undealt: Option<Filled>,
}

/// What came of one read.
pub(super) enum Filled {
    /// Octets of a packet.
    Partial,
    /// The head of a packet that is too long.
    TooLong(TooLong),
    /// Packets, and what follows the last of them, if that is the end.
    Batch { end: Option<Error> },
}

impl ReadSide {
    pub(super) fn new(reader: BoxedReader, max_packet_len: u64, memory: Arc<dyn Memory>) -> Self {
        let mut reader = PacketReader::new(reader).with_max_packet_len(max_packet_len);
        reader.set_memory(memory);
        reader.skip_too_long();
        Self {
            reader,
            batch: Vec::new(),
            is_first: true,
            is_claim_judged: false,
            noted: 0,
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
            Ok(Step::TooLong(too_long)) => return Filled::TooLong(too_long),
            Ok(Step::End) => Some(Error::EndOfInput(None)),
            Err(error) => Some(error),
        };
        Filled::Batch { end }
    }
}
