//! Packets from a `BufRead`.

use std::fmt;
use std::io::{BufRead, ErrorKind};
use std::iter::FusedIterator;
use std::sync::Arc;

use super::decoder::Decoder;
use super::memory::{Memory, Used};
use super::number::{ChannelId, Tag};
use super::packet::{Packet, to_u64};
use super::payload::LEAST_ROOM;
use super::skip::TooLong;
use super::start::Start;
use crate::error::{Error, Result};

/// A reader of packets.
///
/// A packet that is whole in the buffer of `R` is decoded there. The payload of one that is not is
/// read into the memory in which it is delivered, past that buffer if `R` is a
/// [`BufReader`](std::io::BufReader). No octet after the packet is consumed, and none after
/// [`END_OF_STREAM`](Packet::END_OF_STREAM): what follows is still in the `R` that
/// [`into_inner`](Self::into_inner) gives back.
///
/// It is an iterator too, which ends after `END_OF_STREAM`, at the end of the input, or after its
/// first error.
///
/// # Examples
///
/// ```
/// use packetstream::wire::{Packet, PacketReader};
///
/// # fn main() -> packetstream::Result<()> {
/// let mut reader = PacketReader::new(&b"\x06\x02\x04late\x03\x00\x02\x00and more"[..]);
/// let packet = reader.read_packet()?.expect("there is a packet");
/// assert_eq!(packet.payload(), b"late");
/// assert_eq!(reader.read_packet()?, Some(Packet::END_OF_STREAM));
/// assert_eq!(reader.read_packet()?, None);
/// assert!(reader.has_ended());
/// assert_eq!(reader.into_inner(), b"and more");
/// # Ok(())
/// # }
/// ```
pub struct PacketReader<R> {
    reader: R,
    decoder: Decoder,
    /// How many octets `reader` is known to hold; it may hold more.
    held: usize,
    offset: u64,
    /// Set for good at the end of the input, or by an error.
    end: Option<Result<()>>,
    start: Start,
}

/// What one read brought.
#[derive(Debug)]
pub(crate) enum Step {
    /// A packet is complete.
    Packet(Packet),
    /// Octets of a packet came, but more are needed.
    Partial,
    /// The head of a packet came that is too long; the rest is skipped from now on.
    TooLong(TooLong),
    /// There is nothing more: after `END_OF_STREAM`, or at the end of the input between packets.
    End,
}

impl<R: BufRead> PacketReader<R> {
    /// Creates a reader that accepts packets of up to
    /// [`DEFAULT_MAX_PACKET_LEN`](super::DEFAULT_MAX_PACKET_LEN).
    ///
    /// It does not read before the first packet is asked for.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            decoder: Decoder::new(),
            held: 0,
            offset: 0,
            end: None,
            start: Start::new(),
        }
    }

    /// Sets the length of the longest packet that is accepted, inclusive, in octets after its
    /// length prefix.
    ///
    /// The default is [`DEFAULT_MAX_PACKET_LEN`](super::DEFAULT_MAX_PACKET_LEN), 64 MiB: enough
    /// for most, and little enough to be held in memory.
    #[must_use]
    pub fn with_max_packet_len(mut self, limit: u64) -> Self {
        self.decoder = self.decoder.with_max_packet_len(limit);
        self
    }

    /// Reads the next packet; blocks until it is complete.
    ///
    /// Returns `None` if [`END_OF_STREAM`](Packet::END_OF_STREAM) was returned before, or if the
    /// input ends between two packets; [`has_ended`](Self::has_ended) tells which. Reads that were
    /// interrupted are repeated.
    ///
    /// # Errors
    ///
    /// An error is final: each later call returns the same one without reading.
    ///
    /// - [`Error::Read`] if the reader fails.
    /// - [`Error::Decode`] if the octets are not a packet, or end inside one.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::wire::PacketReader;
    /// use packetstream::{DecodeError, Error};
    ///
    /// let mut reader = PacketReader::new(&[0, 3, 0, 2, 0][..]);
    /// for _ in 0..2 {
    ///     let error = reader.read_packet().unwrap_err();
    ///     assert!(matches!(error, Error::Decode(DecodeError::FieldsBeyondEnd { .. })));
    /// }
    /// ```
    pub fn read_packet(&mut self) -> Result<Option<Packet>> {
        loop {
            match self.step() {
                Ok(Step::Packet(packet)) => return Ok(Some(packet)),
                // What is too long is an error here, unless it is to be skipped.
                Ok(Step::Partial | Step::TooLong(_)) => {}
                Ok(Step::End) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads once, which may block, and says what that brought.
    ///
    /// # Errors
    ///
    /// Those of [`read_packet`](Self::read_packet).
    #[inline]
    pub(crate) fn step(&mut self) -> Result<Step> {
        if let Some(end) = &self.end {
            return end.clone().map(|()| Step::End);
        }
        if self.decoder.has_ended() {
            return Ok(Step::End);
        }
        if self.decoder.missing_payload() < LEAST_ROOM {
            self.step_through_buffer()
        } else {
            self.step_into_payload()
        }
    }

    /// Returns `true` if the next packet is whole in the reader's buffer, so that
    /// [`read_packet`](Self::read_packet) returns it without reading.
    ///
    /// Never reads and never blocks. It relies on what was seen when the last packet was read, so
    /// `false` can also mean that the buffer's content is not known: before the first packet, and
    /// after a payload that was read past the buffer.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::wire::PacketReader;
    ///
    /// # fn main() -> packetstream::Result<()> {
    /// let mut reader = PacketReader::new(&[3, 1, 2, 0, 3, 1, 2, 0, 3, 1][..]);
    /// reader.read_packet()?;
    /// assert!(reader.has_complete_packet());
    /// reader.read_packet()?;
    /// assert!(!reader.has_complete_packet());
    /// # Ok(())
    /// # }
    /// ```
    pub fn has_complete_packet(&mut self) -> bool {
        // A `BufRead` that holds octets returns them and does not read.
        self.held > 0
            && self.end.is_none()
            && self
                .reader
                .fill_buf()
                .is_ok_and(|held| self.decoder.finds_packet_in(held))
    }

    /// Takes along the packets that have been read whole, until there are that many or about so many
    /// octets of payload. Never blocks, and leaves errors to the next step.
    pub(crate) fn take_buffered(&mut self, packets: &mut Vec<Packet>, most: usize, octets: usize) {
        if self.held == 0 || self.end.is_some() {
            return;
        }
        // A `BufRead` that holds octets returns them and does not read.
        let Ok(held) = self.reader.fill_buf() else {
            return;
        };
        let mut rest = held;
        let mut taken = 0;
        while packets.len() < most
            && taken < octets
            && let Some(packet) = self.decoder.decode_whole(&mut rest)
        {
            taken = taken.saturating_add(packet.payload().len());
            packets.push(packet);
        }
        let consumed = held.len().saturating_sub(rest.len());
        self.held = rest.len();
        self.reader.consume(consumed);
        self.offset = self.offset.saturating_add(to_u64(consumed));
    }

    /// Decodes from what the reader holds in its buffer, filling that if it is empty.
    #[inline]
    fn step_through_buffer(&mut self) -> Result<Step> {
        let held = loop {
            match self.reader.fill_buf() {
                Ok(held) => break held,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.fail(Error::Read(Arc::new(error))),
            }
        };
        if held.is_empty() {
            return self.finish();
        }
        let mut rest = held;
        let decoded = self.decoder.decode(&mut rest);
        let taken = held.len().saturating_sub(rest.len());
        let is_whole = matches!(decoded, Ok(Some(_)));
        if !is_whole || self.start.is_first() {
            // What is not a packet has no end, and is quoted for what it may be instead.
            let is_partial = matches!(decoded, Ok(None)) && !self.start.is_first();
            let end = if is_partial { taken } else { held.len() };
            self.start.add(held.get(..end).unwrap_or_default());
        }
        if is_whole || self.decoder.is_between_packets() {
            self.start.end();
        }
        self.held = rest.len();
        self.reader.consume(taken);
        self.offset = self.offset.saturating_add(to_u64(taken));
        match decoded {
            Ok(Some(packet)) => Ok(Step::Packet(packet)),
            Ok(None) => Ok(match self.decoder.take_too_long() {
                Some(too_long) => Step::TooLong(too_long),
                None => Step::Partial,
            }),
            Err(error) => self.fail(error.into()),
        }
    }

    /// Reads into the memory of the payload.
    fn step_into_payload(&mut self) -> Result<Step> {
        let room = self.decoder.payload_room();
        let received = loop {
            match self.reader.read(room) {
                // A reader that counts more than there is room for must not make us deliver more. (What
                // it counts and has not written is what lay there, of a payload before.)
                Ok(count) => break room.get(..count).unwrap_or(room),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.fail(Error::Read(Arc::new(error))),
            }
        };
        // The reader may have filled its buffer on the way, but there is no way to ask.
        self.held = 0;
        self.start.add(received);
        let count = received.len();
        if count == 0 {
            return self.finish();
        }
        self.offset = self.offset.saturating_add(to_u64(count));
        match self.decoder.payload_received(count) {
            Some(packet) => {
                self.start.end();
                Ok(Step::Packet(packet))
            }
            None => Ok(Step::Partial),
        }
    }

    /// Ends at the end of the input.
    #[cold]
    fn finish(&mut self) -> Result<Step> {
        if let Err(error) = self.decoder.finish() {
            return self.fail(error.into());
        }
        self.end = Some(Ok(()));
        Ok(Step::End)
    }

    #[cold]
    fn fail(&mut self, error: Error) -> Result<Step> {
        self.end = Some(Err(error.clone()));
        Err(error)
    }
}

impl<R> PacketReader<R> {
    /// The memory of short payloads to come.
    pub(crate) fn used(&mut self) -> &mut Used {
        self.decoder.used()
    }

    /// Has long payloads lie in memory that has been used before, where there is some.
    pub(crate) fn set_memory(&mut self, memory: Arc<dyn Memory>) {
        self.decoder.set_memory(memory);
    }

    /// Returns how many octets were consumed.
    ///
    /// Between two packets that is where the next one starts. The octets of a head that is cut off
    /// or wrong count only as far as they were understood.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns `true` if [`END_OF_STREAM`](Packet::END_OF_STREAM) was returned.
    pub fn has_ended(&self) -> bool {
        self.decoder.has_ended()
    }

    /// Returns the reader.
    pub fn get_ref(&self) -> &R {
        &self.reader
    }

    /// Returns the reader, which has consumed no octet beyond the last packet unless that is
    /// incomplete.
    pub fn into_inner(self) -> R {
        self.reader
    }

    /// Has packets skipped that are longer than the limit, if they are no more than 16 times as
    /// long, see [`Step::TooLong`].
    pub(crate) fn skip_too_long(&mut self) {
        self.decoder.skip_too_long();
    }

    /// Returns channel, tag and length of a response whose payload is arriving.
    pub(crate) fn partial_response(&self) -> Option<(ChannelId, Tag, u64)> {
        self.decoder.partial_response()
    }

    /// Returns `true` if nothing has come of the next packet.
    pub(crate) fn is_between_packets(&self) -> bool {
        self.decoder.is_between_packets()
    }

    /// Returns up to 256 octets of what came of a packet that is not whole, or does not decode; of
    /// the first one also if it is, and then all that came with it.
    ///
    /// To be asked right after the step that has told so.
    pub(crate) fn start(&self) -> &[u8] {
        self.start.bytes()
    }
}

impl<R: BufRead> Iterator for PacketReader<R> {
    type Item = Result<Packet>;

    /// Reads the next packet; blocks until it is complete. An error is returned once.
    fn next(&mut self) -> Option<Self::Item> {
        if self.end.is_some() {
            return None;
        }
        self.read_packet().transpose()
    }
}

impl<R: BufRead> FusedIterator for PacketReader<R> {}

impl<R> fmt::Debug for PacketReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketReader")
            .field("offset", &self.offset)
            .field("has_ended", &self.has_ended())
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
