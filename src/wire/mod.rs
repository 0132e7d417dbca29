//! The codec: octets to packets and back, without threads, locks or clocks.
//!
//! A [`Connection`](crate::Connection) needs nothing from here but the newtypes. The rest is for
//! programs that look at packets themselves: captures, proxies, test peers, other engines.
//!
//! | you have | use |
//! |---|---|
//! | a slice that holds a whole packet | [`Packet::parse`], [`Packet::transcribe`] |
//! | octets that arrive in pieces, from anywhere | [`Decoder`] |
//! | a [`BufRead`](std::io::BufRead) | [`PacketReader`] |
//! | a [`Write`](std::io::Write) | [`PacketWriter`], or [`Packet::write`] for a single packet |
//!
//! # The layout of a packet
//!
//! Every number is an unsigned integer of up to 64 bits in big-endian groups of 7 bits, one group
//! an octet; the high bit is set on every octet but the last ([`varint`]). We write the shortest
//! form and accept longer ones of up to 10 octets.
//!
//! ```text
//! packet = length, then as many octets as it says:
//!          tag
//!          word           flags << 2 | is_request << 1 | has_channel
//!          [channel]      if has_channel; sent exactly when the channel is not 0
//!          [type]         if is_request; the application's number + 1
//!          payload        the rest
//! ```
//!
//! In a response, bit 0 of `flags` says "ok" and the application's flags lie above it. So an
//! application has 62 bits of flags in a request and 61 in a response.
//!
//! Type 0 is reserved for two packets without a payload, on channel 0 and without flags:
//! [`END_OF_STREAM`](Packet::END_OF_STREAM) with tag 0 is the last thing that an end sends, and
//! [`END_OF_REQUESTS`](Packet::END_OF_REQUESTS) with tag 1 says that only responses follow. They
//! are recognised by their numbers, however those are written. Any other request of type 0 is an
//! error.
//!
//! # Example
//!
//! Request 300 on channel 5, of type 7, with flags `0x11` and the payload `hi`:
//!
//! ```text
//! 07      82 2c         47                  05       08     68 69
//! length  tag           word                channel  type   payload
//! 7       2 << 7 | 44   0x11 << 2 | 2 | 1   5        7 + 1  "hi"
//!         = 300         flags 0x11, a
//!                       request, with a
//!                       channel
//! ```
//!
//! ```
//! use packetstream::wire::{ChannelId, Flags, Packet, RequestType, Tag};
//!
//! # fn main() -> Result<(), packetstream::DecodeError> {
//! let packet = Packet::request(
//!     ChannelId::new(5),
//!     Tag::new(300),
//!     RequestType::from(7),
//!     Flags::from(0x11),
//!     "hi",
//! );
//! let octets = [0x07, 0x82, 0x2c, 0x47, 0x05, 0x08, b'h', b'i'];
//! assert_eq!(packet.transcribe(), octets);
//! assert_eq!(Packet::parse(&octets)?, (packet, octets.len()));
//!
//! assert_eq!(Packet::END_OF_STREAM.transcribe(), [3, 0, 2, 0]);
//! assert_eq!(Packet::END_OF_REQUESTS.transcribe(), [3, 1, 2, 0]);
//! # Ok(())
//! # }
//! ```
//!
//! # Limits against a hostile peer
//!
//! Every number that a peer sent is checked before it is used. A length above the limit
//! ([`DEFAULT_MAX_PACKET_LEN`] unless another is set) is refused as soon as it is read. A length
//! below it is not believed either: at most 1 MiB is reserved for a payload that has only been
//! announced, and beyond that no more than twice what has arrived. The octets before the payload
//! are at most 50.

// A test that overflows or looks beyond an end fails, which is all it should do.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod varint;

mod decoder;
mod error;
mod head;
pub(crate) mod memory;
mod number;
mod packet;
mod payload;
pub(crate) mod reader;
pub(crate) mod skip;
pub(crate) mod start;
mod writer;

#[cfg(test)]
mod tests;

pub use self::decoder::Decoder;
pub use self::error::{DecodeError, Field, OutOfRange};
pub use self::number::{ChannelId, Flags, RequestType, Tag};
pub(crate) use self::packet::Excerpt;
pub use self::packet::{Packet, PacketKind};
pub use self::reader::PacketReader;
pub use self::writer::PacketWriter;

/// The longest packet that is accepted unless another limit is set, in octets after the length
/// prefix: 64 MiB.
///
/// It bounds what a peer can make this end hold for one packet. Applications that move larger
/// things are better served by several requests, since a packet occupies the stream until its last
/// octet.
pub const DEFAULT_MAX_PACKET_LEN: u64 = 64 * 1024 * 1024;
