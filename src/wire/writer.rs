//! Packets to a `Write`.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use super::head::MAX_HEAD_LEN;
use super::packet::{Packet, to_u64};

/// The length of the buffer unless another is set, in octets: three payloads of 64 KiB and what
/// belongs to them, which a Unix socket on Linux takes in one call. To copy such a payload costs
/// less than to write it, and its head, by itself.
const DEFAULT_CAPACITY: usize = 208 * 1024;

/// What is longer than this part of the buffer is not copied into it.
const LONG_PART: usize = 3;

/// A buffering writer of packets.
///
/// Packets are collected and written when the buffer is full, or by [`flush`](Self::flush). A
/// payload that is longer than a third of the buffer goes to the writer without being copied.
///
/// # Drop
///
/// Dropping a packet writer, like [`into_inner`](Self::into_inner), drops the octets that were not
/// flushed.
///
/// # Examples
///
/// ```
/// use packetstream::wire::{Packet, PacketWriter};
///
/// # fn main() -> std::io::Result<()> {
/// let mut writer = PacketWriter::new(Vec::new());
/// writer.write_packet(&Packet::END_OF_REQUESTS)?;
/// writer.write_packet(&Packet::END_OF_STREAM)?;
/// assert_eq!((writer.buffered_len(), writer.get_ref().len()), (8, 0));
/// writer.flush()?;
/// assert_eq!(writer.into_inner(), [3, 1, 2, 0, 3, 0, 2, 0]);
/// # Ok(())
/// # }
/// ```
pub struct PacketWriter<W> {
    writer: W,
    buffer: Vec<u8>,
    capacity: usize,
    writes: u64,
    written: u64,
    /// The stream may end inside a packet, so nothing can follow.
    failed: Option<ErrorKind>,
}

impl<W: Write> PacketWriter<W> {
    /// Creates a writer with a buffer of 208 KiB, which is allocated for the first packet.
    ///
    /// A Unix socket on Linux takes that in one call.
    pub fn new(writer: W) -> Self {
        Self::with_capacity(DEFAULT_CAPACITY, writer)
    }

    /// Creates a writer with a buffer of `capacity` octets, which is allocated for the first
    /// packet.
    ///
    /// A buffer is at least as long as two packets without a payload can be (100 octets).
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::wire::{Packet, PacketWriter};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut writer = PacketWriter::with_capacity(128, Vec::new());
    /// for _ in 0..100 {
    ///     writer.write_packet(&Packet::END_OF_REQUESTS)?;
    /// }
    /// assert!(writer.buffered_len() <= 128);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_capacity(capacity: usize, writer: W) -> Self {
        Self {
            writer,
            buffer: Vec::new(),
            capacity: capacity.max(2 * MAX_HEAD_LEN),
            writes: 0,
            written: 0,
            failed: None,
        }
    }

    /// Adds a packet to the buffer; blocks, as long as the writer does, if the buffer is full.
    ///
    /// Writes that were interrupted are repeated.
    ///
    /// # Errors
    ///
    /// The error of the writer, or [`WriteZero`](ErrorKind::WriteZero) if it takes nothing. The
    /// stream may then end inside a packet, so an error is final: each later call fails with an
    /// error of the same kind.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::wire::{ChannelId, Flags, Packet, PacketWriter, RequestType, Tag};
    /// use std::io::ErrorKind;
    ///
    /// let long = vec![0; 100_000];
    /// let packet = Packet::request(
    ///     ChannelId::DEFAULT,
    ///     Tag::new(2),
    ///     RequestType::from(0),
    ///     Flags::NONE,
    ///     long,
    /// );
    /// let mut too_small = [0; 1000];
    /// let mut writer = PacketWriter::new(&mut too_small[..]);
    /// for _ in 0..2 {
    ///     let error = writer.write_packet(&packet).unwrap_err();
    ///     assert_eq!(error.kind(), ErrorKind::WriteZero);
    /// }
    /// ```
    #[inline]
    pub fn write_packet(&mut self, packet: &Packet) -> io::Result<()> {
        self.check()?;
        let payload = packet.payload();
        if payload.len() > self.capacity / LONG_PART {
            return self.write_long_packet(packet);
        }
        let most = payload.len().saturating_add(MAX_HEAD_LEN);
        if self.buffer.len().saturating_add(most) > self.capacity {
            self.write_buffer()?;
        }
        // Allocates once: the buffer is never filled beyond this.
        self.buffer
            .reserve_exact(self.capacity.saturating_sub(self.buffer.len()));
        packet.encode_head(&mut self.buffer);
        self.buffer.extend_from_slice(payload);
        Ok(())
    }

    /// Writes what is in the buffer, and flushes the writer; blocks as long as that does.
    ///
    /// # Errors
    ///
    /// Those of [`write_packet`](Self::write_packet), final too.
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::wire::{Packet, PacketWriter};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut too_small = [0; 3];
    /// let mut writer = PacketWriter::new(&mut too_small[..]);
    /// writer.write_packet(&Packet::END_OF_STREAM)?;
    /// assert!(writer.flush().is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn flush(&mut self) -> io::Result<()> {
        self.check()?;
        self.write_buffer()?;
        loop {
            match self.writer.flush() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result.inspect_err(|error| self.failed = Some(error.kind())),
            }
        }
    }

    #[inline]
    fn check(&self) -> io::Result<()> {
        match self.failed {
            None => Ok(()),
            Some(kind) => Err(io::Error::new(kind, "an earlier write of packets failed")),
        }
    }

    fn write_long_packet(&mut self, packet: &Packet) -> io::Result<()> {
        if self.buffer.len().saturating_add(MAX_HEAD_LEN) > self.capacity {
            self.write_buffer()?;
        }
        packet.encode_head(&mut self.buffer);
        self.write_buffer()?;
        self.write_all(packet.payload())
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.write_all(&buffer);
        buffer.clear();
        self.buffer = buffer;
        result
    }

    fn write_all(&mut self, mut octets: &[u8]) -> io::Result<()> {
        while !octets.is_empty() {
            self.writes = self.writes.saturating_add(1);
            match self.writer.write(octets) {
                Ok(count @ 1..) => {
                    self.written = self.written.saturating_add(to_u64(count.min(octets.len())));
                    octets = octets.get(count..).unwrap_or_default();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) => return Err(self.fail(ErrorKind::WriteZero.into())),
                Err(error) => return Err(self.fail(error)),
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.failed = Some(error.kind());
        error
    }
}

impl<W> PacketWriter<W> {
    /// Returns how many octets wait in the buffer.
    pub fn buffered_len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether packets with payloads of these lengths, together, fit the buffer, so that nothing is
    /// written for them before the next flush.
    pub(crate) fn has_room(&self, payloads: impl Iterator<Item = usize>) -> bool {
        let mut left = self.capacity.saturating_sub(self.buffer.len());
        for len in payloads {
            match left.checked_sub(len.saturating_add(MAX_HEAD_LEN)) {
                Some(rest) if len <= self.capacity / LONG_PART => left = rest,
                _ => return false,
            }
        }
        true
    }

    /// Returns how often the writer was called to write.
    pub(crate) fn writes(&self) -> u64 {
        self.writes
    }

    /// Returns how many octets the writer has taken.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    #[cfg(test)]
    fn get_mut(&mut self) -> &mut W {
        &mut self.writer
    }

    /// Returns the writer, which has not got what is in the buffer.
    pub fn get_ref(&self) -> &W {
        &self.writer
    }

    /// Returns the writer.
    ///
    /// **The octets in the buffer are dropped**: call [`flush`](Self::flush) before.
    pub fn into_inner(self) -> W {
        self.writer
    }
}

impl<W> fmt::Debug for PacketWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketWriter")
            .field("buffered_len", &self.buffer.len())
            .field("capacity", &self.capacity)
            .field("written", &self.written)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ChannelId, Flags, RequestType, Tag};

    fn request(len: usize) -> Packet {
        let (channel, tag) = (ChannelId::DEFAULT, Tag::new(2));
        Packet::request(
            channel,
            tag,
            RequestType::from(5),
            Flags::NONE,
            vec![7; len],
        )
    }

    /// Takes at most so many octets a call, is interrupted before each call, and fails with
    /// `failure` when it has taken `room` octets.
    #[derive(Debug)]
    struct Sink {
        taken: Vec<u8>,
        most: usize,
        room: usize,
        failure: Option<ErrorKind>,
        calls: Vec<usize>,
        flushes: u32,
        interrupted: bool,
    }

    impl Sink {
        fn new(most: usize) -> Self {
            Self {
                taken: Vec::new(),
                most,
                room: usize::MAX,
                failure: None,
                calls: Vec::new(),
                flushes: 0,
                interrupted: false,
            }
        }

        fn interrupt(&mut self) -> io::Result<()> {
            self.interrupted = !self.interrupted;
            if self.interrupted {
                Err(ErrorKind::Interrupted.into())
            } else {
                Ok(())
            }
        }
    }

    impl Write for Sink {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.interrupt()?;
            self.calls.push(octets.len());
            let count = octets.len().min(self.most).min(self.room);
            self.room -= count;
            self.taken.extend_from_slice(&octets[..count]);
            match self.failure {
                Some(kind) if count == 0 => Err(kind.into()),
                _ => Ok(count),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            self.interrupt()?;
            self.flushes += 1;
            Ok(())
        }
    }

    #[test]
    fn partial_and_interrupted_writes_lose_nothing() {
        let packets: Vec<Packet> = [0, 10, 3000, 1, 63, 64, 65, 0].map(request).to_vec();
        let expected: Vec<u8> = packets.iter().flat_map(Packet::transcribe).collect();
        for most in [1, 7, 100_000] {
            for capacity in [0, 100, 128, 1000, 65_536] {
                let mut writer = PacketWriter::with_capacity(capacity, Sink::new(most));
                for packet in &packets {
                    writer.write_packet(packet).unwrap();
                }
                writer.flush().unwrap();
                assert_eq!(writer.buffered_len(), 0);
                assert_eq!(writer.written(), to_u64(expected.len()));
                let sink = writer.get_mut();
                assert_eq!((&sink.taken, sink.flushes), (&expected, 1));
            }
        }
    }

    #[test]
    fn small_packets_go_out_in_one_write() {
        let mut writer = PacketWriter::new(Sink::new(usize::MAX));
        assert_eq!(
            writer.buffer.capacity(),
            0,
            "nothing to write, nothing allocated"
        );
        for _ in 0..1000 {
            writer.write_packet(&request(16)).unwrap();
        }
        assert_eq!(writer.writes(), 0);
        writer.flush().unwrap();
        assert_eq!(writer.into_inner().calls, [1000 * 20]);
    }

    #[test]
    fn the_buffer_never_outgrows_its_capacity() {
        let mut random = fastrand::Rng::with_seed(4);
        for capacity in [0, 100, 101, 1000] {
            let mut writer = PacketWriter::with_capacity(capacity, Sink::new(usize::MAX));
            for _ in 0..500 {
                let (channel, tag) = (ChannelId::new(u64::MAX), Tag::new(u64::MAX));
                let payload = vec![0; random.usize(0..=writer.capacity)];
                let packet = Packet::request(channel, tag, RequestType::MAX, Flags::MAX, payload);
                writer.write_packet(&packet).unwrap();
                assert!(writer.buffer.capacity() <= capacity.max(100));
            }
        }
    }

    #[test]
    fn a_long_payload_is_written_from_where_it_is() {
        let mut writer = PacketWriter::with_capacity(1000, Sink::new(usize::MAX));
        writer.write_packet(&request(10)).unwrap();
        writer.write_packet(&request(501)).unwrap();
        // The packet before it and its own head, then the payload.
        assert_eq!(writer.get_ref().calls, [14 + 5, 501]);
        assert_eq!(writer.buffered_len(), 0);
    }

    #[test]
    fn an_error_is_final_because_the_stream_may_end_inside_a_packet() {
        let failures = [
            None,
            Some(ErrorKind::BrokenPipe),
            Some(ErrorKind::WouldBlock),
        ];
        for failure in failures {
            for room in [0, 3, 600] {
                let mut sink = Sink::new(usize::MAX);
                (sink.room, sink.failure) = (room, failure);
                let mut writer = PacketWriter::with_capacity(1000, sink);
                let kind = failure.unwrap_or(ErrorKind::WriteZero);
                let error = writer.write_packet(&request(5000)).unwrap_err();
                assert_eq!(error.kind(), kind);

                let taken = writer.get_ref().taken.len();
                writer.get_mut().room = usize::MAX;
                assert_eq!(writer.write_packet(&request(0)).unwrap_err().kind(), kind);
                assert_eq!(writer.flush().unwrap_err().kind(), kind);
                assert_eq!((taken, writer.get_ref().taken.len()), (room, room));
            }
        }
    }
}
