//! A pair of transports in memory.

use std::io::{self, BufRead, Read, Write};
use std::mem;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::Transport;
use crate::home::Home;

/// How much waits between a writer and its reader at most, as in a pipe on Linux.
const CAPACITY: usize = 64 * 1024;

impl Transport {
    /// Makes two transports in memory, each of which reads what the other writes.
    ///
    /// Writing blocks while 64 KiB wait for the reader to take them, in each direction; reading
    /// blocks while there is nothing. It behaves like a socket: dropping an end lets the other one
    /// read what was written and then the end of input, and fails its writes with
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe). The shutdown hook of an end does that for both
    /// directions at once. Memory is allocated when something is written.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{ErrorKind, Read, Write};
    /// use packetstream::Transport;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (ours, theirs) = Transport::pair();
    /// let (mut our_reader, mut our_writer) = ours.into_parts();
    /// let (mut their_reader, mut their_writer) = theirs.into_parts();
    ///
    /// our_writer.write_all(b"ping")?;
    /// let mut ping = [0; 4];
    /// their_reader.read_exact(&mut ping)?;
    /// their_writer.write_all(&ping)?;
    /// drop((their_reader, their_writer));
    ///
    /// let mut answer = Vec::new();
    /// our_reader.read_to_end(&mut answer)?;
    /// assert_eq!(answer, b"ping");
    /// let error = our_writer.write_all(b"anybody there?").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    /// # Ok(())
    /// # }
    /// ```
    pub fn pair() -> (Self, Self) {
        let (there, back) = (Arc::new(Pipe::default()), Arc::new(Pipe::default()));
        (end(Arc::clone(&back), Arc::clone(&there)), end(there, back))
    }
}

fn end(inward: Arc<Pipe>, outward: Arc<Pipe>) -> Transport {
    let reader = PipeReader {
        pipe: Arc::clone(&inward),
        taken: Vec::new(),
        start: 0,
    };
    let writer = PipeWriter {
        pipe: Arc::clone(&outward),
    };
    let read_from = Arc::clone(&inward);
    Transport::new(reader, writer)
        .with_shutdown(move || {
            inward.close_reader();
            outward.close_writer();
        })
        .freeing_reader(move || read_from.close_reader())
        .buffered()
}

/// One direction.
#[derive(Default)]
struct Pipe {
    state: Mutex<State>,
    /// Notified when octets come or an end closes.
    readable: Condvar,
    /// Notified when room comes or an end closes.
    writable: Condvar,
    /// A fork has a copy of both ends, with the lock as it was.
    home: Home,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    writer_closed: bool,
    reader_closed: bool,
}

impl Pipe {
    /// Exchanges the reader's buffer, which is empty, for what is waiting; blocks while nothing
    /// is. Leaves it empty at the end of input.
    fn exchange(&self, buffer: &mut Vec<u8>) {
        debug_assert!(buffer.is_empty());
        let mut state = self.state.lock();
        while state.waiting.is_empty() && !state.writer_closed && !state.reader_closed {
            self.readable.wait(&mut state);
        }
        mem::swap(&mut state.waiting, buffer);
        self.writable.notify_one();
    }

    /// Appends as much as there is room for; blocks while there is none.
    fn append(&self, octets: &[u8]) -> io::Result<usize> {
        let mut state = self.state.lock();
        loop {
            if state.reader_closed || state.writer_closed {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if state.waiting.len() < CAPACITY || octets.is_empty() {
                break;
            }
            self.writable.wait(&mut state);
        }
        let amount = octets.len().min(CAPACITY - state.waiting.len());
        state.waiting.extend_from_slice(&octets[..amount]);
        self.readable.notify_one();
        Ok(amount)
    }

    /// Ends the stream behind what is waiting.
    fn close_writer(&self) {
        self.state.lock().writer_closed = true;
        self.readable.notify_all();
        self.writable.notify_all();
    }

    /// Ends the stream at once; what is waiting is lost.
    fn close_reader(&self) {
        let mut state = self.state.lock();
        state.reader_closed = true;
        state.waiting = Vec::new();
        drop(state);
        self.readable.notify_all();
        self.writable.notify_all();
    }
}

struct PipeReader {
    pipe: Arc<Pipe>,
    /// What was taken out of the pipe; `taken[start..]` is unread.
    taken: Vec<u8>,
    start: usize,
}

impl Read for PipeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let amount = self.fill_buf()?.read(buf)?;
        self.consume(amount);
        Ok(amount)
    }
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.taken.len() {
            self.taken.clear();
            self.start = 0;
            self.pipe.exchange(&mut self.taken);
        }
        Ok(&self.taken[self.start..])
    }

    fn consume(&mut self, amount: usize) {
        self.start = (self.start + amount).min(self.taken.len());
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        if !self.pipe.home.is_left() {
            self.pipe.close_reader();
        }
    }
}

struct PipeWriter {
    pipe: Arc<Pipe>,
}

impl Write for PipeWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.pipe.append(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        if !self.pipe.home.is_left() {
            self.pipe.close_writer();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        assert_connected, assert_frees_reader_alone, assert_shutdown_frees, within_deadline,
    };
    use super::*;

    fn broken(result: io::Result<usize>) -> bool {
        result.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }

    #[test]
    fn carries_octets_both_ways() {
        let (one, other) = Transport::pair();
        assert_connected(one, other);
    }

    #[test]
    fn reader_is_freed_alone() {
        let (one, other) = Transport::pair();
        assert_frees_reader_alone(one, other);
    }

    #[test]
    fn writer_gets_no_more_in_than_the_capacity() {
        let (one, other) = Transport::pair();
        let (mut reader, _) = other.into_parts();
        let (_, mut writer) = one.into_parts();
        assert_eq!(writer.write(&vec![1; 2 * CAPACITY]).unwrap(), CAPACITY);
        assert_eq!(reader.fill_buf().unwrap().len(), CAPACITY);
        assert_eq!(writer.write(&[2; 10]).unwrap(), 10);
        reader.consume(CAPACITY);
        assert_eq!(reader.fill_buf().unwrap(), [2; 10]);
    }

    #[test]
    fn empty_write_to_a_full_pipe_does_not_block() {
        let (one, _other) = Transport::pair();
        let (_, mut writer) = one.into_parts();
        within_deadline(move || {
            writer.write_all(&vec![0; CAPACITY]).unwrap();
            assert_eq!(writer.write(b"").unwrap(), 0);
        });
    }

    #[test]
    fn what_was_written_before_the_drop_is_read() {
        let (one, other) = Transport::pair();
        let (_, mut writer) = one.into_parts();
        let (mut reader, _) = other.into_parts();
        writer.write_all(b"last words").unwrap();
        drop(writer);
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"last words");
        assert_eq!(reader.fill_buf().unwrap(), b"");
    }

    #[test]
    fn write_after_the_reader_is_gone_fails() {
        let (one, other) = Transport::pair();
        let (_reader, mut writer) = one.into_parts();
        drop(other);
        assert!(broken(writer.write(b"hello")));
    }

    #[test]
    fn dropping_the_reader_frees_a_stuck_writer() {
        let (one, other) = Transport::pair();
        let (_, mut writer) = one.into_parts();
        let (reader, _) = other.into_parts();
        writer.write_all(&vec![0; CAPACITY]).unwrap();
        let stuck = std::thread::Builder::new()
            .spawn(move || writer.write(b"more"))
            .unwrap();
        drop(reader);
        assert!(within_deadline(move || broken(stuck.join().unwrap())));
    }

    #[test]
    fn shutdown_frees_stuck_threads() {
        let (one, other) = Transport::pair();
        assert_shutdown_frees(one, other);
    }

    #[test]
    fn shutdown_ends_both_ends() {
        let (one, other) = Transport::pair();
        let one = one.split();
        let (mut other_reader, mut other_writer) = other.into_parts();
        let (mut reader, mut writer) = (one.reader, one.writer);
        writer.write_all(b"sent before").unwrap();
        other_writer.write_all(b"never read").unwrap();
        one.hooks.shutdown.unwrap()();

        assert_eq!(reader.fill_buf().unwrap(), b"");
        assert!(broken(writer.write(b"x")));
        assert!(broken(other_writer.write(b"x")));
        let mut received = Vec::new();
        other_reader.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"sent before");
    }

    #[test]
    fn unused_pair_holds_no_buffers() {
        let pipe = Pipe::default();
        assert_eq!(pipe.state.lock().waiting.capacity(), 0);
    }
}
