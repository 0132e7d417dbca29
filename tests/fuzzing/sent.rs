//! What a connection may send, whatever it has heard.

use std::collections::HashMap;

use packetstream::wire::{ChannelId, Decoder, Packet, PacketKind, Tag};

/// What we send is well formed, in order, and answers no more than was asked.
pub fn check_sent(mut sent: &[u8], received: &[Packet]) {
    let mut unanswered: HashMap<(ChannelId, Tag), usize> = HashMap::new();
    for packet in received.iter().filter(|packet| packet.is_request()) {
        *unanswered
            .entry((packet.channel(), packet.tag()))
            .or_default() += 1;
    }
    let (mut requests_finished, mut has_ended) = (false, false);
    let mut decoder = Decoder::new();
    let mut tags = HashMap::new();
    while let Some(packet) = decoder
        .decode(&mut sent)
        .expect("we sent what is no packet")
    {
        assert!(!has_ended, "after the end: {packet}");
        let key = (packet.channel(), packet.tag());
        match packet.kind() {
            PacketKind::EndOfStream => has_ended = true,
            PacketKind::EndOfRequests => {
                assert!(!requests_finished, "twice");
                requests_finished = true;
            }
            PacketKind::Request(_) => {
                assert!(!requests_finished, "after the last request: {packet}");
                let last = tags.insert(key.0, key.1);
                assert!(last.is_none_or(|last| last < key.1), "a tag is used again");
            }
            PacketKind::Response { .. } => {
                let left = unanswered.get_mut(&key).filter(|left| **left > 0);
                *left.expect("an answer to no request") -= 1;
            }
        }
    }
    assert!(sent.is_empty(), "octets follow the end of the stream");
    // An end in the middle of a packet would be a lie about how it ended; a forced end, none.
    if has_ended {
        decoder.finish().expect("an incomplete packet");
    }
}
