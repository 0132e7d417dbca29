//! A packet: what it is, and how it is turned into octets and back.

use std::fmt;
use std::io::{self, Write};

use super::DEFAULT_MAX_PACKET_LEN;
use super::error::{DecodeError, OutOfRange};
use super::head::{Head, Limit, MAX_HEAD_LEN};
use super::number::{ChannelId, Flags, RequestType, Tag};
use super::varint;

/// A packet of the protocol: a request, a response, or one of the two that end something.
///
/// A packet that the wire could not carry cannot be built.
///
/// # Examples
///
/// ```
/// use packetstream::wire::{ChannelId, Flags, Packet, PacketKind, RequestType, Tag};
///
/// # fn main() -> Result<(), packetstream::DecodeError> {
/// let octets = b"\x06\x02\x04late";
/// let (packet, len) = Packet::parse(octets)?;
/// assert_eq!(len, octets.len());
/// assert_eq!(packet.kind(), PacketKind::Response { ok: true });
/// assert_eq!((packet.channel(), packet.tag()), (ChannelId::DEFAULT, Tag::new(2)));
/// assert_eq!((packet.flags(), packet.payload()), (Flags::NONE, &b"late"[..]));
/// assert_eq!(packet.to_string(), r#"response 0:2 ok flags 0x0 "late" (4 octets)"#);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    head: Head,
    payload: Vec<u8>,
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the wire has two bits for it and no room for a fifth kind"
)]
pub enum PacketKind {
    /// A request, and what it asks for.
    Request(RequestType),
    /// The answer to the request with the same channel and tag.
    Response {
        /// Whether the request succeeded.
        ok: bool,
    },
    /// Its sender makes no more requests; responses may follow.
    #[doc(alias = "ERQ")]
    EndOfRequests,
    /// Its sender sends nothing more.
    #[doc(alias = "EOF")]
    EndOfStream,
}

impl Packet {
    /// The packet after which its sender sends nothing more.
    #[doc(alias = "EOF_Packet")]
    pub const END_OF_STREAM: Self = Self {
        head: Head::END_OF_STREAM,
        payload: Vec::new(),
    };

    /// The packet after which its sender makes no more requests.
    #[doc(alias = "ERQ_Packet")]
    pub const END_OF_REQUESTS: Self = Self {
        head: Head::END_OF_REQUESTS,
        payload: Vec::new(),
    };

    /// Creates a request.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::wire::{ChannelId, Flags, Packet, RequestType, Tag};
    ///
    /// let packet = Packet::request(
    ///     ChannelId::DEFAULT,
    ///     Tag::new(2),
    ///     RequestType::from(0),
    ///     Flags::NONE,
    ///     "x",
    /// );
    /// assert_eq!(packet.request_type(), Some(RequestType::from(0)));
    /// assert_eq!(packet.transcribe(), [4, 2, 2, 1, b'x']);
    /// ```
    pub fn request(
        channel: ChannelId,
        tag: Tag,
        request_type: RequestType,
        flags: Flags,
        payload: impl Into<Vec<u8>>,
    ) -> Self {
        let head = Head::request(channel, tag, request_type, flags);
        Self::from_parts(head, payload.into())
    }

    /// Creates the response to the request with the same channel and tag.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if the flags are above [`Flags::MAX_RESPONSE`].
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::wire::{ChannelId, Flags, OutOfRange, Packet, Tag};
    ///
    /// # fn main() -> Result<(), OutOfRange> {
    /// let (channel, tag) = (ChannelId::DEFAULT, Tag::new(2));
    /// let packet = Packet::response(channel, tag, false, Flags::from(1), "no")?;
    /// assert_eq!(packet.is_ok(), Some(false));
    ///
    /// assert!(Packet::response(channel, tag, true, Flags::MAX, "").is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn response(
        channel: ChannelId,
        tag: Tag,
        ok: bool,
        flags: Flags,
        payload: impl Into<Vec<u8>>,
    ) -> Result<Self, OutOfRange> {
        if flags > Flags::MAX_RESPONSE {
            return Err(OutOfRange::flags(flags.bits(), Flags::MAX_RESPONSE.bits()));
        }
        let head = Head::response(channel, tag, ok, flags);
        Ok(Self::from_parts(head, payload.into()))
    }

    /// Creates an answer "not ok" without flags, which always fit.
    pub(crate) fn refusal(channel: ChannelId, tag: Tag, text: &[u8]) -> Self {
        Self::from_parts(
            Head::response(channel, tag, false, Flags::NONE),
            text.to_vec(),
        )
    }

    pub(super) fn from_parts(head: Head, payload: Vec<u8>) -> Self {
        Self { head, payload }
    }

    /// Gives the packet another tag, before it is sent.
    pub(crate) fn set_tag(&mut self, tag: Tag) {
        self.head.set_tag(tag);
    }

    /// Returns what the packet is.
    pub const fn kind(&self) -> PacketKind {
        self.head.kind()
    }

    /// Returns the channel.
    pub const fn channel(&self) -> ChannelId {
        self.head.channel()
    }

    /// Returns the tag.
    pub const fn tag(&self) -> Tag {
        self.head.tag()
    }

    /// Returns the application's flags: those of a response come without the ok bit.
    pub const fn flags(&self) -> Flags {
        self.head.flags()
    }

    /// Returns what a request asks for; `None` for every other packet.
    #[doc(alias = "rq_type")]
    pub const fn request_type(&self) -> Option<RequestType> {
        match self.kind() {
            PacketKind::Request(request_type) => Some(request_type),
            _ => None,
        }
    }

    /// Returns `true` if the packet asks for an answer; the two end packets do not.
    pub const fn is_request(&self) -> bool {
        matches!(self.kind(), PacketKind::Request(_))
    }

    /// Returns `true` if the packet is an answer.
    pub const fn is_response(&self) -> bool {
        matches!(self.kind(), PacketKind::Response { .. })
    }

    /// Returns whether a response says that the request succeeded; `None` for every other packet.
    pub const fn is_ok(&self) -> Option<bool> {
        match self.kind() {
            PacketKind::Response { ok } => Some(ok),
            _ => None,
        }
    }

    /// Returns the payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Takes the payload out, without copying it.
    pub fn into_payload(self) -> Vec<u8> {
        self.payload
    }

    /// Returns the length that the packet's prefix states: its octets without the prefix.
    ///
    /// This is what a limit such as [`DEFAULT_MAX_PACKET_LEN`] is compared with.
    #[inline]
    pub fn body_len(&self) -> u64 {
        to_u64(self.head.fields_len().saturating_add(self.payload.len()))
    }

    /// Returns the length of the whole packet in octets, with its prefix.
    pub fn encoded_len(&self) -> u64 {
        let body_len = self.body_len();
        body_len.saturating_add(to_u64(varint::encoded_len(body_len)))
    }

    /// Parses the packet at the front of `input` and says how many octets it takes.
    ///
    /// For packets that arrive in pieces there is [`Decoder`](super::Decoder), which also takes
    /// another limit than [`DEFAULT_MAX_PACKET_LEN`].
    ///
    /// # Errors
    ///
    /// - [`Truncated`](DecodeError::Truncated) if `input` is empty or ends before the packet does.
    /// - Every other [`DecodeError`] says what is wrong with the octets.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::wire::{DecodeError, Packet};
    ///
    /// # fn main() -> Result<(), DecodeError> {
    /// let input = [3, 0, 2, 0, 99];
    /// assert_eq!(Packet::parse(&input)?, (Packet::END_OF_STREAM, 4));
    ///
    /// let error = Packet::parse(&input[..3]).unwrap_err();
    /// assert_eq!(error, DecodeError::Truncated { received: 3, expected: Some(4) });
    /// # Ok(())
    /// # }
    /// ```
    pub fn parse(input: &[u8]) -> Result<(Self, usize), DecodeError> {
        let parsed = Head::parse(input, Limit::exactly(DEFAULT_MAX_PACKET_LEN))?;
        let packet = parsed.and_then(|parsed| {
            let end = usize::try_from(parsed.packet_len()).ok()?;
            let payload = input.get(parsed.head_len..end)?;
            Some((Self::from_parts(parsed.head, payload.to_vec()), end))
        });
        packet.ok_or_else(|| truncated(input, to_u64(input.len())))
    }

    /// Encodes the whole packet.
    #[doc(alias = "Packet.transcribe")]
    pub fn transcribe(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.payload.len().saturating_add(MAX_HEAD_LEN));
        self.encode_head(&mut out);
        out.extend_from_slice(&self.payload);
        out
    }

    /// Writes the packet, in one or two calls of `writer`, and does not flush.
    ///
    /// Blocks as long as `writer` does. For many packets there is
    /// [`PacketWriter`](super::PacketWriter), which writes small ones together.
    ///
    /// # Errors
    ///
    /// The error of `writer`. It may then have got a part of the packet.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::wire::Packet;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut out = Vec::new();
    /// Packet::END_OF_STREAM.write(&mut out)?;
    /// assert_eq!(out, [3, 0, 2, 0]);
    ///
    /// let mut too_small = [0; 3];
    /// assert!(Packet::END_OF_STREAM.write(&mut &mut too_small[..]).is_err());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "Packet.write")]
    pub fn write(&self, writer: &mut (impl Write + ?Sized)) -> io::Result<()> {
        /// Up to here, copying a payload costs less than a second call.
        const COPIED: usize = 8 * 1024;

        if self.payload.len() <= COPIED {
            return writer.write_all(&self.transcribe());
        }
        let mut head = Vec::with_capacity(MAX_HEAD_LEN);
        self.encode_head(&mut head);
        writer.write_all(&head)?;
        writer.write_all(&self.payload)
    }

    /// Appends the length prefix and the fields: what precedes the payload.
    #[inline]
    pub fn encode_head(&self, out: &mut Vec<u8>) {
        varint::encode(self.body_len(), out);
        self.head.encode_fields(out);
    }
}

impl fmt::Display for Packet {
    /// Shows what a log line needs, with at most 16 octets of the payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (channel, tag, flags) = (self.channel(), self.tag(), self.flags());
        match self.kind() {
            PacketKind::EndOfStream => return f.write_str("end of stream"),
            PacketKind::EndOfRequests => return f.write_str("end of requests"),
            PacketKind::Request(number) => write!(f, "request {channel}:{tag} type {number}")?,
            PacketKind::Response { ok } => {
                let not = if ok { "" } else { "not " };
                write!(f, "response {channel}:{tag} {not}ok")?;
            }
        }
        let excerpt = Excerpt(&self.payload);
        write!(
            f,
            " flags {flags} {excerpt} ({} octets)",
            self.payload.len()
        )
    }
}

impl fmt::Debug for Packet {
    /// Shows the same, so at most 16 octets of the payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packet({self})")
    }
}

/// The error of an input that ends after `received` octets of a packet and starts with `front`.
pub(super) fn truncated(front: &[u8], received: u64) -> DecodeError {
    let expected = match varint::decode(front) {
        Ok(Some((len, prefix_len))) => Some(len.saturating_add(to_u64(prefix_len))),
        _ => None,
    };
    DecodeError::Truncated { received, expected }
}

/// Converts a length; no platform has one that does not fit.
pub(super) fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// The first octets of a payload, escaped.
pub(crate) struct Excerpt<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 16;
        let (shown, more) = match self.0.split_at_checked(SHOWN) {
            Some((shown, [_, ..])) => (shown, "…"),
            _ => (self.0, ""),
        };
        write!(f, "\"{}{more}\"", shown.escape_ascii())
    }
}
