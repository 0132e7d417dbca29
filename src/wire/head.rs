//! What precedes the payload of a packet, in both directions.

use super::error::{DecodeError, Field};
use super::number::{ChannelId, Flags, RequestType, Tag};
use super::packet::{PacketKind, to_u64};
use super::varint;

/// The most octets that can precede a payload: the length prefix and four fields.
pub(super) const MAX_HEAD_LEN: usize = 5 * varint::MAX_LEN;

const HAS_CHANNEL: u64 = 1;
const IS_REQUEST: u64 = 1 << 1;
/// In a response; in a request it is the application's lowest flag.
const IS_OK: u64 = 1 << 2;
/// As it stands on the wire; reserved for the two end packets.
const END_TYPE: u64 = 0;

/// The fields of a packet, the word and the type as they stand on the wire.
///
/// So there is little to be computed on the way in and out. Four numbers without a gap between
/// them are also what a processor copies best, and a head is copied a few times on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    channel: ChannelId,
    tag: Tag,
    /// Says that there is a channel exactly if that is not 0.
    word: u64,
    /// 0 in a response.
    wire_type: u64,
}

/// A head that was read, and where its payload is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parsed {
    pub(super) head: Head,
    /// In octets, with the length prefix.
    pub(super) head_len: usize,
    /// What the length prefix says.
    pub(super) body_len: u64,
    /// In octets.
    pub(super) payload_len: u64,
}

impl Parsed {
    /// The length of the whole packet, with the length prefix.
    pub(super) fn packet_len(&self) -> u64 {
        to_u64(self.head_len).saturating_add(self.payload_len)
    }
}

/// Which lengths are accepted, in octets after the length prefix, inclusive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// Of a packet.
    pub(super) packet: u64,
    /// Of a claim that is not an error: at least that of a packet. What is longer than a packet may
    /// be has its head parsed all the same.
    pub(super) claim: u64,
}

impl Limit {
    /// Whatever is longer than a packet may be is an error.
    pub(super) const fn exactly(limit: u64) -> Self {
        Self {
            packet: limit,
            claim: limit,
        }
    }
}

impl Head {
    pub(super) const END_OF_STREAM: Self = Self::end(Tag::new(0));
    pub(super) const END_OF_REQUESTS: Self = Self::end(Tag::new(1));

    const fn end(tag: Tag) -> Self {
        Self {
            channel: ChannelId::DEFAULT,
            tag,
            word: IS_REQUEST,
            wire_type: END_TYPE,
        }
    }

    pub(super) fn request(
        channel: ChannelId,
        tag: Tag,
        request_type: RequestType,
        flags: Flags,
    ) -> Self {
        Self {
            channel,
            tag,
            word: flags.bits() << 2 | IS_REQUEST | has_channel(channel),
            wire_type: request_type.to_wire(),
        }
    }

    /// The flags must not be above [`Flags::MAX_RESPONSE`].
    pub(super) fn response(channel: ChannelId, tag: Tag, ok: bool, flags: Flags) -> Self {
        let ok = if ok { IS_OK } else { 0 };
        Self {
            channel,
            tag,
            word: flags.bits() << 3 | ok | has_channel(channel),
            wire_type: 0,
        }
    }

    #[inline]
    pub(super) const fn kind(&self) -> PacketKind {
        if self.word & IS_REQUEST == 0 {
            let ok = self.word & IS_OK != 0;
            return PacketKind::Response { ok };
        }
        match RequestType::from_wire(self.wire_type) {
            Some(request_type) => PacketKind::Request(request_type),
            None if self.tag.get() == Self::END_OF_STREAM.tag.get() => PacketKind::EndOfStream,
            None => PacketKind::EndOfRequests,
        }
    }

    pub(super) const fn channel(&self) -> ChannelId {
        self.channel
    }

    pub(super) const fn tag(&self) -> Tag {
        self.tag
    }

    pub(super) fn set_tag(&mut self, tag: Tag) {
        self.tag = tag;
    }

    pub(super) const fn flags(&self) -> Flags {
        let is_request = self.word & IS_REQUEST != 0;
        Flags::from_word(if is_request {
            self.word >> 2
        } else {
            self.word >> 3
        })
    }

    /// Reads the head at the front of `input`; `None` if more octets are needed.
    ///
    /// What is wrong is found as soon as the octets that show it are there, so the result does not
    /// depend on how the octets arrive.
    #[inline]
    pub(super) fn parse(input: &[u8], limit: Limit) -> Result<Option<Parsed>, DecodeError> {
        match Self::parse_complete(input, limit) {
            Ok(parsed) => Ok(Some(parsed)),
            Err(Stop::NeedsMore) => Ok(None),
            Err(Stop::Invalid(error)) => Err(error),
        }
    }

    /// Parses the head of a packet whose length is one octet and whose other numbers are short;
    /// `None` for all others, and for what is not valid. Returns what follows it too, and how much of
    /// that is the payload.
    #[inline]
    pub(super) fn parse_common(input: &[u8], limit: u64) -> Option<(Self, &[u8], usize)> {
        let (&body_len, body) = input.split_first()?;
        let (tag, rest) = varint::decode_short(body)?;
        let (word, rest) = varint::decode_short(rest)?;
        let (wire_type, rest) = if word & IS_REQUEST == 0 {
            (0, rest)
        } else {
            varint::decode_short(rest)?
        };
        let is_end = word & IS_REQUEST != 0 && wire_type == END_TYPE;
        if body_len >= varint::CONTINUES
            || u64::from(body_len) > limit
            || word & HAS_CHANNEL != 0
            || is_end
        {
            return None;
        }
        let fields_len = body.len().saturating_sub(rest.len());
        let payload_len = usize::from(body_len).checked_sub(fields_len)?;
        let head = Self {
            channel: ChannelId::DEFAULT,
            tag: Tag::new(tag),
            word,
            wire_type,
        };
        Some((head, rest, payload_len))
    }

    #[inline]
    fn parse_complete(input: &[u8], limit: Limit) -> Result<Parsed, Stop> {
        let (len, prefix_len) = varint::decode(input)
            .map_err(Field::Length.too_large())?
            .ok_or(Stop::NeedsMore)?;
        if len > limit.claim {
            let limit = limit.packet;
            return Err(DecodeError::PacketTooLong { len, limit }.into());
        }
        // More than can be addressed is more than has arrived.
        let body_len = usize::try_from(len).unwrap_or(usize::MAX);
        let arrived = input.get(prefix_len..).unwrap_or_default();
        let body = arrived.get(..body_len);
        let mut fields = Fields {
            rest: body.unwrap_or(arrived),
            taken: 0,
            cut_off: body.is_none(),
        };

        let tag = Tag::new(fields.take(Field::Tag)?);
        let word = fields.take(Field::Word)?;
        let channel = if word & HAS_CHANNEL == 0 {
            ChannelId::DEFAULT
        } else {
            ChannelId::new(fields.take(Field::Channel)?)
        };
        let wire_type = if word & IS_REQUEST == 0 {
            0
        } else {
            fields.take(Field::RequestType)?
        };
        let head = Self {
            channel,
            tag,
            word: word & !HAS_CHANNEL | has_channel(channel),
            wire_type,
        };
        let payload_len = len.saturating_sub(to_u64(fields.taken));
        if word & IS_REQUEST != 0 && wire_type == END_TYPE {
            let is_end = head == Self::END_OF_STREAM || head == Self::END_OF_REQUESTS;
            if !is_end || payload_len != 0 {
                return Err(DecodeError::MalformedEndPacket.into());
            }
        }
        Ok(Parsed {
            head,
            head_len: prefix_len.saturating_add(fields.taken),
            body_len: len,
            payload_len,
        })
    }

    /// Returns the length of the fields in octets, without the length prefix.
    #[inline]
    pub(super) fn fields_len(&self) -> usize {
        let mut len =
            varint::encoded_len(self.tag.get()).saturating_add(varint::encoded_len(self.word));
        if self.channel != ChannelId::DEFAULT {
            len = len.saturating_add(varint::encoded_len(self.channel.get()));
        }
        if self.word & IS_REQUEST != 0 {
            len = len.saturating_add(varint::encoded_len(self.wire_type));
        }
        len
    }

    /// Appends the fields, without the length prefix.
    #[inline]
    pub(super) fn encode_fields(&self, out: &mut Vec<u8>) {
        varint::encode(self.tag.get(), out);
        varint::encode(self.word, out);
        if self.channel != ChannelId::DEFAULT {
            varint::encode(self.channel.get(), out);
        }
        if self.word & IS_REQUEST != 0 {
            varint::encode(self.wire_type, out);
        }
    }
}

#[inline]
fn has_channel(channel: ChannelId) -> u64 {
    if channel == ChannelId::DEFAULT {
        0
    } else {
        HAS_CHANNEL
    }
}

/// Why a head could not be read.
enum Stop {
    NeedsMore,
    Invalid(DecodeError),
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Self::Invalid(error)
    }
}

/// The body of a packet, of which the fields are being read.
struct Fields<'a> {
    rest: &'a [u8],
    taken: usize,
    /// Further octets of the body have yet to arrive.
    cut_off: bool,
}

impl Fields<'_> {
    #[inline]
    fn take(&mut self, field: Field) -> Result<u64, Stop> {
        match varint::decode(self.rest).map_err(field.too_large())? {
            Some((number, len)) => {
                self.rest = self.rest.get(len..).unwrap_or_default();
                self.taken = self.taken.saturating_add(len);
                Ok(number)
            }
            None if self.cut_off => Err(Stop::NeedsMore),
            None => Err(DecodeError::FieldsBeyondEnd { field }.into()),
        }
    }
}
