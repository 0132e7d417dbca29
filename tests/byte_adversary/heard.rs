//! What is in a stream, read by the specification.

use std::collections::HashSet;

use packetstream::wire::varint;
use packetstream::{Packet, PacketKind};

use super::stream::{LIMIT, answer, request};

/// The packets of a stream up to its end or to what ends the connection.
#[derive(Debug, Default)]
pub struct Heard {
    /// These are dealt with, each and in order.
    pub certain: Vec<Packet>,
    /// These come behind something that ends the connection, perhaps: a packet over the limit, or a
    /// tag used again, which may be served still.
    pub perhaps: Vec<Packet>,
}

impl Heard {
    pub fn new(bytes: &[u8]) -> Self {
        let mut heard = Self::default();
        let mut is_certain = true;
        let mut asked = HashSet::new();
        let mut at = 0;
        while let Ok(Some((len, prefix))) = varint::decode(&bytes[at..]) {
            let rest = &bytes[at + prefix..];
            if len > LIMIT {
                is_certain = false;
                heard.perhaps.extend(head_only(rest));
            }
            let Some(len) = usize::try_from(len).ok().filter(|len| *len <= rest.len()) else {
                break;
            };
            let whole = &bytes[at..at + prefix + len];
            at += whole.len();
            if len as u64 > LIMIT {
                continue;
            }
            let Ok((packet, _)) = Packet::parse(whole) else {
                break;
            };
            let is_request = matches!(packet.kind(), PacketKind::Request(_));
            if is_request && !asked.insert((packet.channel(), packet.tag())) {
                is_certain = false;
            }
            let is_end = packet.kind() == PacketKind::EndOfStream;
            if is_certain {
                heard.certain.push(packet);
            } else {
                heard.perhaps.push(packet);
            }
            if is_end {
                break;
            }
        }
        heard
    }

    pub fn all(&self) -> Vec<Packet> {
        [&self.certain[..], &self.perhaps].concat()
    }
}

/// Of a packet that is too long: which one it is.
fn head_only(mut body: &[u8]) -> Option<Packet> {
    let mut next = || {
        let (value, len) = varint::decode(body).ok()??;
        body = &body[len..];
        Some(value)
    };
    let (tag, word) = (next()?, next()?);
    let channel = if word & 1 == 1 { next()? } else { 0 };
    Some(if word & 2 == 2 {
        request(channel, tag, 1, "")
    } else {
        answer(tag, false, 0, "")
    })
}
