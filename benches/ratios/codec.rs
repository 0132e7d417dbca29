//! The codec by itself. `cargo bench --bench codec` looks closer.

use std::hint::black_box;

use packetstream::BoxError;
use packetstream::wire::{ChannelId, Decoder, Flags, Packet, RequestType, Tag};

use crate::ends::{SMALL, payload};
use crate::measure::side_by_side;
use crate::options::Options;

const PACKETS: usize = 1_000;

/// Seconds for a request of 16 octets.
pub(crate) struct Codec {
    /// With the allocation of the payload, and its end.
    pub(crate) decode: f64,
    /// Into memory that is there already.
    pub(crate) encode: f64,
}

impl Codec {
    pub(crate) fn measure(options: &Options) -> Result<Self, BoxError> {
        let repetitions = options.calls(1_000);
        let packets: Vec<_> = (0..PACKETS).map(request).collect();
        let octets: Vec<u8> = packets.iter().flat_map(Packet::transcribe).collect();
        let mut out = Vec::with_capacity(octets.len());
        let [decode, encode] = side_by_side(
            options.rounds(),
            repetitions * PACKETS,
            [
                &mut || (0..repetitions).try_for_each(|_| decode_all(&octets)),
                &mut || {
                    for _ in 0..repetitions {
                        encode_all(&packets, &mut out);
                    }
                    Ok(())
                },
            ],
        )?;
        Ok(Self {
            decode: decode.seconds,
            encode: encode.seconds,
        })
    }
}

fn request(number: usize) -> Packet {
    Packet::request(
        ChannelId::DEFAULT,
        Tag::new(number as u64),
        RequestType::from(3),
        Flags::NONE,
        payload(number),
    )
}

fn decode_all(octets: &[u8]) -> Result<(), BoxError> {
    let mut decoder = Decoder::new();
    let mut rest = black_box(octets);
    let mut payloads = 0;
    while let Some(packet) = decoder.decode(&mut rest)? {
        payloads += black_box(packet).payload().len();
    }
    let is_all = payloads == PACKETS * SMALL;
    is_all
        .then_some(())
        .ok_or_else(|| "a packet is lost".into())
}

fn encode_all(packets: &[Packet], out: &mut Vec<u8>) {
    out.clear();
    for packet in black_box(packets) {
        packet.encode_head(out);
        out.extend_from_slice(packet.payload());
    }
    black_box(out);
}
