//! A session as the octets of both directions tell it.

use packetstream::Packet;
use packetstream::wire::{DecodeError, Decoder};

/// What was said.
pub struct Story {
    pub given: Vec<Packet>,
    /// What is wrong with the peer's octets.
    pub broken: Option<DecodeError>,
    pub between_packets: bool,
    pub sent: Vec<Packet>,
    /// What is left of our octets behind the last packet.
    pub rest: Vec<u8>,
    pub has_goodbye: bool,
}

impl Story {
    /// Tells it by what the peer has given and what our end has sent.
    pub fn new(given: &[u8], sent: &[u8]) -> Self {
        let (given, broken, unread) = packets(given);
        let (sent, _, rest) = packets(sent);
        Self {
            has_goodbye: given.contains(&Packet::END_OF_STREAM),
            given,
            broken,
            between_packets: unread.is_empty(),
            sent,
            rest,
        }
    }
}

/// The packets of a stream, what is wrong with it, and what is left behind the last packet.
pub fn packets(mut octets: &[u8]) -> (Vec<Packet>, Option<DecodeError>, Vec<u8>) {
    let mut decoder = Decoder::new();
    let mut packets = Vec::new();
    let mut whole = octets;
    loop {
        match decoder.decode(&mut octets) {
            Ok(Some(packet)) => {
                packets.push(packet);
                whole = octets;
            }
            Ok(None) => return (packets, None, whole.to_vec()),
            Err(error) => return (packets, Some(error), whole.to_vec()),
        }
    }
}

pub fn key(packet: &Packet) -> (u64, u64) {
    (packet.channel().get(), packet.tag().get())
}
