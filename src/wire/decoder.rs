//! Packets from octets that arrive in any pieces, without any input of its own.

use std::sync::Arc;

use super::DEFAULT_MAX_PACKET_LEN;
use super::error::DecodeError;
use super::head::{Head, Limit, MAX_HEAD_LEN, Parsed};
use super::memory::{Memory, Source, Used};
use super::number::{ChannelId, Tag};
use super::packet::{Packet, PacketKind, to_u64, truncated};
use super::payload::PartialPayload;
use super::skip::{PartialSkip, TooLong};

/// An incremental decoder: octets go in as they arrive, packets come out.
///
/// It does no input of its own, so it fits any source of octets; for a
/// [`BufRead`](std::io::BufRead) there is [`PacketReader`](super::PacketReader). It keeps what
/// belongs to an incomplete packet, and takes nothing that follows
/// [`END_OF_STREAM`](Packet::END_OF_STREAM): those octets belong to somebody else.
///
/// # Examples
///
/// ```
/// use packetstream::wire::{DecodeError, Decoder, Packet};
///
/// # fn main() -> Result<(), DecodeError> {
/// let mut decoder = Decoder::new();
/// let mut input = &b"\x06\x02\x04la"[..];
/// assert_eq!(decoder.decode(&mut input)?, None);
/// assert_eq!(input, b"");
/// assert!(!decoder.is_between_packets());
///
/// let mut input = &b"te\x03\x00\x02\x00and more"[..];
/// let packet = decoder.decode(&mut input)?.expect("the packet is complete");
/// assert_eq!(packet.payload(), b"late");
/// assert_eq!(decoder.decode(&mut input)?, Some(Packet::END_OF_STREAM));
/// assert_eq!(decoder.decode(&mut input)?, None);
/// assert_eq!(input, b"and more");
/// decoder.finish()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Decoder {
    limit: Limit,
    memory: Source,
    used: Used,
    state: State,
    /// The head of a packet that is too long, until it is asked for.
    too_long: Option<TooLong>,
    /// How decoding ended: with `END_OF_STREAM`, or with an error.
    end: Option<Result<(), DecodeError>>,
}

/// How much of the current packet has arrived.
#[derive(Debug)]
enum State {
    Nothing,
    Head(PartialHead),
    Payload(Parsed, PartialPayload),
    /// The payload of a packet that is too long.
    Skip(PartialSkip),
}

/// The octets of a head that is not complete.
#[derive(Debug)]
struct PartialHead {
    octets: [u8; MAX_HEAD_LEN],
    len: usize,
}

/// What a packet is made of.
type Parts = (Head, Vec<u8>);

impl Default for Decoder {
    /// The same as [`new`](Self::new).
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// Creates a decoder that accepts packets of up to [`DEFAULT_MAX_PACKET_LEN`].
    pub fn new() -> Self {
        Self {
            limit: Limit::exactly(DEFAULT_MAX_PACKET_LEN),
            memory: Source::default(),
            used: Used::default(),
            state: State::Nothing,
            too_long: None,
            end: None,
        }
    }

    /// Sets the length of the longest packet that is accepted, inclusive, in octets after its
    /// length prefix.
    ///
    /// The default is [`DEFAULT_MAX_PACKET_LEN`], 64 MiB: enough for most, and little enough to be
    /// held in memory.
    #[must_use]
    pub fn with_max_packet_len(mut self, limit: u64) -> Self {
        // No allocation can be longer than `isize::MAX`, which matters where that is 2 GiB.
        let limit = u64::try_from(isize::MAX).map_or(limit, |most| limit.min(most));
        self.limit = Limit::exactly(limit);
        self
    }

    /// Has packets skipped that are longer than the limit, if they are no more than 16 times as
    /// long: their heads are [given out](Self::take_too_long).
    pub(super) fn skip_too_long(&mut self) {
        const TIMES: u64 = 16;

        self.limit.claim = self.limit.packet.saturating_mul(TIMES);
    }

    /// Returns the head of a packet that is too long, once, as soon as it has been decoded; the
    /// packet is being skipped.
    pub(super) fn take_too_long(&mut self) -> Option<TooLong> {
        self.too_long.take()
    }

    /// Returns the head and the length of a response whose payload is arriving.
    pub(super) fn partial_response(&self) -> Option<(ChannelId, Tag, u64)> {
        match &self.state {
            State::Payload(Parsed { head, body_len, .. }, _)
                if matches!(head.kind(), PacketKind::Response { .. }) =>
            {
                Some((head.channel(), head.tag(), *body_len))
            }
            _ => None,
        }
    }

    /// Has long payloads lie in memory that has been used before, where there is some.
    pub(super) fn set_memory(&mut self, memory: Arc<dyn Memory>) {
        self.memory = Source(Some(memory));
    }

    /// The memory of short payloads to come.
    pub(super) fn used(&mut self) -> &mut Used {
        &mut self.used
    }

    /// Takes octets from the front of `input` up to the end of a packet, and returns that packet.
    ///
    /// `None` means that all of `input` was taken and more is needed, or, if
    /// [`has_ended`](Self::has_ended), that nothing was taken because no packet can follow. If
    /// `input` holds several packets, each call returns one.
    ///
    /// # Errors
    ///
    /// A [`DecodeError`] other than [`Truncated`](DecodeError::Truncated). It is final: each later
    /// call takes nothing and returns it again.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::wire::{DecodeError, Decoder};
    ///
    /// let mut decoder = Decoder::new().with_max_packet_len(100);
    /// let error = decoder.decode(&mut &[101][..]).unwrap_err();
    /// assert_eq!(error, DecodeError::PacketTooLong { len: 101, limit: 100 });
    /// assert_eq!(decoder.decode(&mut &[3, 0, 2, 0][..]), Err(error));
    /// ```
    #[inline]
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Packet>, DecodeError> {
        if let Some(packet) = self.decode_common(input) {
            return Ok(Some(packet));
        }
        // In parts: a packet that is made in two places has to lie in memory, and to be copied from
        // there right after it was written takes as long as all the rest.
        let parts = self.decode_any(input)?;
        Ok(parts.map(|(head, payload)| Packet::from_parts(head, payload)))
    }

    /// Decodes a packet of the common kind that is whole in the input. Nearly all packets come this
    /// way, which is short enough to become part of the caller.
    #[inline]
    fn decode_common(&mut self, input: &mut &[u8]) -> Option<Packet> {
        if !matches!((&self.state, &self.end), (State::Nothing, None)) {
            return None;
        }
        let (head, rest, payload_len) = Head::parse_common(input, self.limit.packet)?;
        let (payload, rest) = rest.split_at_checked(payload_len)?;
        *input = rest;
        Some(Packet::from_parts(head, self.used.copy(payload)))
    }

    /// Decodes a packet if a valid one is whole in the input, and takes nothing otherwise.
    #[inline]
    pub(super) fn decode_whole(&mut self, input: &mut &[u8]) -> Option<Packet> {
        if let Some(packet) = self.decode_common(input) {
            return Some(packet);
        }
        if !self.finds_packet_in(input) {
            return None;
        }
        let (head, payload) = self.decode_any(input).ok()??;
        Some(Packet::from_parts(head, payload))
    }

    /// Decodes what is not whole, or not common.
    #[inline(never)]
    fn decode_any(&mut self, input: &mut &[u8]) -> Result<Option<Parts>, DecodeError> {
        if let Some(end) = self.end {
            return end.map(|()| None);
        }
        if !matches!(self.state, State::Nothing) {
            return self.resume(input);
        }
        match Head::parse(input, self.limit) {
            Ok(Some(parsed)) => {
                *input = input.get(parsed.head_len..).unwrap_or_default();
                Ok(self.take_payload(parsed, input))
            }
            Ok(None) if input.is_empty() => Ok(None),
            Ok(None) => {
                self.state = State::Head(PartialHead::default());
                self.resume(input)
            }
            Err(error) => self.fail(error),
        }
    }

    /// Returns `true` if no octet of an incomplete packet was taken.
    pub fn is_between_packets(&self) -> bool {
        matches!(self.state, State::Nothing)
    }

    /// Returns `true` if [`END_OF_STREAM`](Packet::END_OF_STREAM) was returned.
    pub fn has_ended(&self) -> bool {
        self.end == Some(Ok(()))
    }

    /// Checks that the input may end here.
    ///
    /// # Errors
    ///
    /// - [`Truncated`](DecodeError::Truncated) if a part of a packet was taken.
    /// - The error of [`decode`](Self::decode), if there was one.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::wire::{DecodeError, Decoder};
    ///
    /// # fn main() -> Result<(), DecodeError> {
    /// let mut decoder = Decoder::new();
    /// decoder.finish()?;
    /// decoder.decode(&mut &[6, 2, 4, b'l'][..])?;
    /// let error = decoder.finish().unwrap_err();
    /// assert_eq!(error, DecodeError::Truncated { received: 4, expected: Some(7) });
    /// # Ok(())
    /// # }
    /// ```
    pub fn finish(&self) -> Result<(), DecodeError> {
        if let Some(end) = self.end {
            return end;
        }
        match &self.state {
            State::Nothing => Ok(()),
            State::Head(partial) => Err(truncated(partial.octets(), to_u64(partial.len))),
            State::Payload(parsed, payload) => Err(DecodeError::Truncated {
                received: to_u64(parsed.head_len.saturating_add(payload.received())),
                expected: Some(parsed.packet_len()),
            }),
            State::Skip(skip) => Err(skip.truncated()),
        }
    }

    /// Returns `true` if the next packet is whole in `input`.
    pub(super) fn finds_packet_in(&self, input: &[u8]) -> bool {
        match (self.end, &self.state, Head::parse(input, self.limit)) {
            (None, State::Nothing, Ok(Some(parsed))) => {
                parsed.body_len <= self.limit.packet && parsed.packet_len() <= to_u64(input.len())
            }
            _ => false,
        }
    }

    /// Returns how many octets of a payload are missing; 0 if none has begun.
    pub(super) fn missing_payload(&self) -> usize {
        match &self.state {
            State::Payload(_, payload) => payload.missing(),
            State::Nothing | State::Head(_) | State::Skip(_) => 0,
        }
    }

    /// Returns room for octets of the payload that are missing, to be read into without a copy.
    pub(super) fn payload_room(&mut self) -> &mut [u8] {
        match &mut self.state {
            State::Payload(_, payload) => payload.room(),
            State::Nothing | State::Head(_) | State::Skip(_) => &mut [],
        }
    }

    /// Counts octets that were read into the [`payload_room`](Self::payload_room), and returns the
    /// packet if it is complete.
    pub(super) fn payload_received(&mut self, count: usize) -> Option<Packet> {
        if let State::Payload(_, payload) = &mut self.state {
            payload.advance(count);
        }
        let (head, payload) = self.take_complete()?;
        Some(Packet::from_parts(head, payload))
    }

    /// Goes on with a packet that was not whole when its first octets came.
    fn resume(&mut self, input: &mut &[u8]) -> Result<Option<Parts>, DecodeError> {
        match &mut self.state {
            State::Nothing => Ok(None),
            State::Head(partial) => match partial.take_from(input, self.limit) {
                Ok(Some(parsed)) => {
                    self.state = State::Nothing;
                    Ok(self.take_payload(parsed, input))
                }
                Ok(None) => Ok(None),
                Err(error) => self.fail(error),
            },
            State::Payload(_, payload) => {
                payload.take_from(input);
                Ok(self.take_complete())
            }
            State::Skip(skip) => {
                if skip.take_from(input) {
                    self.state = State::Nothing;
                }
                Ok(None)
            }
        }
    }

    #[cold]
    fn fail(&mut self, error: DecodeError) -> Result<Option<Parts>, DecodeError> {
        self.end = Some(Err(error));
        Err(error)
    }

    #[inline]
    fn take_payload(&mut self, parsed: Parsed, input: &mut &[u8]) -> Option<Parts> {
        let len = usize::try_from(parsed.payload_len).ok();
        let Some(len) = len.filter(|_| parsed.body_len <= self.limit.packet) else {
            self.skip_payload(parsed, input);
            return None;
        };
        if let Some((payload, rest)) = input.split_at_checked(len) {
            *input = rest;
            let payload = self.memory.copy(payload);
            return Some(self.deliver(parsed.head, payload));
        }
        let mut payload = PartialPayload::new(len, &self.memory);
        payload.take_from(input);
        self.state = State::Payload(parsed, payload);
        None
    }

    #[cold]
    fn skip_payload(&mut self, parsed: Parsed, input: &mut &[u8]) {
        self.too_long = Some(TooLong {
            head: Packet::from_parts(parsed.head, Vec::new()),
            len: parsed.body_len,
        });
        let mut skip = PartialSkip::new(&parsed);
        if !skip.take_from(input) {
            self.state = State::Skip(skip);
        }
    }

    fn take_complete(&mut self) -> Option<Parts> {
        match std::mem::replace(&mut self.state, State::Nothing) {
            State::Payload(parsed, payload) if payload.missing() == 0 => {
                Some(self.deliver(parsed.head, payload.into_octets()))
            }
            state => {
                self.state = state;
                None
            }
        }
    }

    #[inline]
    fn deliver(&mut self, head: Head, payload: Vec<u8>) -> Parts {
        if head == Head::END_OF_STREAM {
            self.end = Some(Ok(()));
        }
        (head, payload)
    }
}

impl PartialHead {
    fn octets(&self) -> &[u8] {
        self.octets.get(..self.len).unwrap_or_default()
    }

    /// Takes from the front of `input` what belongs to the head, and returns the head if that
    /// completes it.
    fn take_from(
        &mut self,
        input: &mut &[u8],
        limit: Limit,
    ) -> Result<Option<Parsed>, DecodeError> {
        let kept = self.len;
        for (place, &octet) in self.octets.iter_mut().skip(kept).zip(input.iter()) {
            *place = octet;
        }
        self.len = kept.saturating_add(input.len()).min(MAX_HEAD_LEN);

        let parsed = Head::parse(self.octets(), limit)?;
        // No valid head is longer than the array, so the array is not full if there is none yet.
        let end = parsed.map_or(self.len, |parsed| parsed.head_len);
        *input = input.get(end.saturating_sub(kept)..).unwrap_or_default();
        Ok(parsed)
    }
}

impl Default for PartialHead {
    fn default() -> Self {
        Self {
            octets: [0; MAX_HEAD_LEN],
            len: 0,
        }
    }
}
