//! A buffered reader that is small until it has something to do.

use std::io::{self, BufRead, Read};

/// Enough for a few small packets; an idle connection pays for no more than this.
const FIRST_BUFFER: usize = 512;

/// Enough for a burst of small packets.
const SMALL_BUFFER: usize = 4 * 1024;

/// What a pipe holds on Linux: enough for any burst of small packets.
const LARGE_BUFFER: usize = 64 * 1024;

/// More than what a Unix socket holds on Linux, so that payloads of some 64 KiB come several at a
/// time, and are answered together. What is not used of it is not resident on most systems.
const FULL_BUFFER: usize = 256 * 1024;

/// What is missing of a payload when it counts as long: half of a full buffer. Shorter ones are
/// better read several at a time and copied.
const LONG: usize = 128 * 1024;

/// A `BufReader` that allocates at the first read, and most of its buffer only under load.
///
/// A blocking read needs somewhere to put its octets before there are any, so a connection that is
/// open and idle has to hold a buffer. That one is small. Once a read has filled it entirely, the
/// peer sends faster than we read, and the next fill uses a larger one, up to the full size, unless
/// long payloads follow each other.
pub(super) struct LazyBufReader<R> {
    inner: R,
    buffer: Box<[u8]>,
    /// The unread octets are `buffer[start..end]`.
    start: usize,
    end: usize,
    /// How long the buffer is to be at the next fill.
    wanted: usize,
    /// The last read went past the buffer: long payloads follow each other. The next fill is for
    /// a head, and what it takes of the payload behind it has to be copied once more.
    is_brief: bool,
}

impl<R> LazyBufReader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            buffer: Box::default(),
            start: 0,
            end: 0,
            wanted: FIRST_BUFFER,
            is_brief: false,
        }
    }
}

impl<R: Read> Read for LazyBufReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end && buf.len() >= self.wanted.min(LONG) {
            self.is_brief = buf.len() >= LONG;
            return self.inner.read(buf);
        }
        let amount = self.fill_buf()?.read(buf)?;
        self.consume(amount);
        Ok(amount)
    }
}

impl<R: Read> BufRead for LazyBufReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            if self.buffer.len() < self.wanted {
                // Freed before the larger one is allocated, as nothing in it is needed any more.
                self.buffer = Box::default();
                self.buffer = vec![0; self.wanted].into_boxed_slice();
            }
            (self.start, self.end) = (0, 0);
            let is_brief = self.is_brief;
            let room = if is_brief {
                self.buffer.len().min(FIRST_BUFFER)
            } else {
                self.buffer.len()
            };
            self.end = self.inner.read(&mut self.buffer[..room])?;
            self.is_brief = false;
            if !is_brief && self.end == room {
                self.wanted = match room {
                    ..SMALL_BUFFER => SMALL_BUFFER,
                    SMALL_BUFFER..LARGE_BUFFER => LARGE_BUFFER,
                    _ => FULL_BUFFER,
                };
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, amount: usize) {
        self.start = (self.start + amount).min(self.end);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;

    use super::*;

    /// Returns one step per read, and notes how much room each read had.
    struct Script {
        steps: VecDeque<io::Result<Vec<u8>>>,
        rooms: Rc<RefCell<Vec<usize>>>,
    }

    impl Read for Script {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.rooms.borrow_mut().push(buf.len());
            let octets = self.steps.pop_front().unwrap_or_else(|| Ok(Vec::new()))?;
            buf[..octets.len()].copy_from_slice(&octets);
            Ok(octets.len())
        }
    }

    fn script(
        steps: impl IntoIterator<Item = io::Result<Vec<u8>>>,
    ) -> (LazyBufReader<Script>, Rc<RefCell<Vec<usize>>>) {
        let rooms = Rc::default();
        let inner = Script {
            steps: steps.into_iter().collect(),
            rooms: Rc::clone(&rooms),
        };
        (LazyBufReader::new(inner), rooms)
    }

    #[test]
    fn nothing_is_allocated_before_the_first_read() {
        let (reader, rooms) = script([]);
        assert!(reader.buffer.is_empty());
        assert!(rooms.borrow().is_empty());
    }

    #[test]
    fn grows_at_the_fill_after_one_that_left_no_room() {
        let (mut reader, rooms) = script([
            Ok(vec![1; FIRST_BUFFER - 1]),
            Ok(vec![2; FIRST_BUFFER]),
            Ok(vec![3; SMALL_BUFFER - 1]),
            Ok(vec![4; SMALL_BUFFER]),
            Ok(vec![5; LARGE_BUFFER]),
            Ok(vec![6; 1]),
            Ok(vec![7; FULL_BUFFER]),
        ]);
        for _ in 0..7 {
            let available = reader.fill_buf().unwrap().len();
            reader.consume(available);
        }
        assert_eq!(reader.fill_buf().unwrap(), b"");
        let expected = [
            FIRST_BUFFER,
            FIRST_BUFFER,
            SMALL_BUFFER,
            SMALL_BUFFER,
            LARGE_BUFFER,
            FULL_BUFFER,
            FULL_BUFFER,
            FULL_BUFFER,
        ];
        assert_eq!(*rooms.borrow(), expected);
    }

    #[test]
    fn fill_after_the_rest_of_a_long_payload_leaves_the_next_one_alone() {
        let (mut reader, rooms) = script([
            Ok(vec![1; FIRST_BUFFER]),
            Ok(vec![2; LONG]),
            Ok(vec![3; FIRST_BUFFER]),
            Ok(vec![4; LONG - 1]),
            Ok(vec![5; 1]),
            Ok(vec![6; 1]),
        ]);
        let mut payload = vec![0; LONG];
        reader.fill_buf().unwrap();
        reader.consume(FIRST_BUFFER);
        assert_eq!(reader.read(&mut payload).unwrap(), LONG);
        // A head, and what comes with it.
        assert_eq!(reader.fill_buf().unwrap().len(), FIRST_BUFFER);
        reader.consume(FIRST_BUFFER);
        // Not long: several are read at once again.
        assert_eq!(reader.read(&mut payload[1..]).unwrap(), LONG - 1);
        for _ in 0..2 {
            reader.fill_buf().unwrap();
            reader.consume(1);
        }
        let expected = [
            FIRST_BUFFER,
            LONG,
            FIRST_BUFFER,
            LONG - 1,
            SMALL_BUFFER,
            SMALL_BUFFER,
        ];
        assert_eq!(*rooms.borrow(), expected);
    }

    #[test]
    fn fill_does_not_read_while_octets_are_left() {
        let (mut reader, rooms) = script([Ok(b"abc".to_vec()), Ok(b"def".to_vec())]);
        assert_eq!(reader.fill_buf().unwrap(), b"abc");
        reader.consume(2);
        assert_eq!(reader.fill_buf().unwrap(), b"c");
        assert_eq!(rooms.borrow().len(), 1);
        reader.consume(1);
        assert_eq!(reader.fill_buf().unwrap(), b"def");
    }

    #[test]
    fn large_read_bypasses_only_an_empty_buffer() {
        let (mut reader, rooms) = script([Ok(b"abc".to_vec()), Ok(b"def".to_vec())]);
        let mut large = vec![0; FIRST_BUFFER];
        reader.fill_buf().unwrap();
        reader.consume(1);
        assert_eq!(reader.read(&mut large).unwrap(), 2);
        assert_eq!(large[..2], *b"bc");
        assert_eq!(reader.read(&mut large).unwrap(), 3);
        assert_eq!(large[..3], *b"def");
        assert_eq!(*rooms.borrow(), [FIRST_BUFFER, FIRST_BUFFER]);
    }

    #[test]
    fn bypassing_allocates_nothing() {
        let (mut reader, _) = script([Ok(b"abc".to_vec())]);
        assert_eq!(reader.read(&mut [0; FIRST_BUFFER]).unwrap(), 3);
        assert!(reader.buffer.is_empty());
    }

    #[test]
    fn small_read_goes_through_the_buffer() {
        let (mut reader, rooms) = script([Ok(b"abcdef".to_vec())]);
        let mut two = [0; 2];
        for expected in [b"ab", b"cd", b"ef"] {
            assert_eq!(reader.read(&mut two).unwrap(), 2);
            assert_eq!(two, *expected);
        }
        assert_eq!(reader.read(&mut two).unwrap(), 0);
        assert_eq!(*rooms.borrow(), [FIRST_BUFFER, FIRST_BUFFER]);
    }

    #[test]
    fn error_is_passed_on_and_loses_nothing() {
        let (mut reader, _) = script([
            Ok(b"abc".to_vec()),
            Err(io::ErrorKind::Interrupted.into()),
            Ok(b"def".to_vec()),
        ]);
        reader.fill_buf().unwrap();
        reader.consume(3);
        let error = reader.fill_buf().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        assert_eq!(reader.fill_buf().unwrap(), b"def");
    }

    #[test]
    fn end_of_input_is_not_remembered() {
        let (mut reader, _) = script([Ok(Vec::new()), Ok(b"more".to_vec())]);
        assert_eq!(reader.fill_buf().unwrap(), b"");
        assert_eq!(reader.fill_buf().unwrap(), b"more");
    }

    #[test]
    fn consuming_too_much_is_harmless() {
        let (mut reader, _) = script([Ok(b"abc".to_vec()), Ok(b"def".to_vec())]);
        reader.fill_buf().unwrap();
        reader.consume(usize::MAX / 2);
        assert_eq!(reader.fill_buf().unwrap(), b"def");
    }

    #[test]
    fn any_mix_of_reads_delivers_every_octet_in_order() {
        let sent: Vec<u8> = (0..=250).cycle().take(400_000).collect();
        for seed in 0..8 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut reader = LazyBufReader::new(sent.as_slice());
            let mut received = Vec::new();
            loop {
                if random.bool() {
                    let available = reader.fill_buf().unwrap();
                    let amount = random.usize(0..=available.len());
                    received.extend_from_slice(&available[..amount]);
                    reader.consume(amount);
                    continue;
                }
                let mut room = vec![0; random.usize(1..2 * FULL_BUFFER)];
                match reader.read(&mut room).unwrap() {
                    0 => break,
                    amount => received.extend_from_slice(&room[..amount]),
                }
            }
            assert!(received == sent, "seed {seed}");
        }
    }
}
