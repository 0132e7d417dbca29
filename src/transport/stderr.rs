//! The end of what a child process writes to its stderr.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// How much is kept; the lines of a diagnosis are among it.
const KEPT: usize = 64 * 1024;

/// As many as the traceback of a failed program usually has.
const LINES: usize = 20;

/// Reads a child's stderr to its end, so that the child never blocks on it, and keeps the last of
/// it.
///
/// The thread that reads is never joined: a program that the child left behind may hold the pipe
/// for as long as it likes, and that must not hold up anybody. It ends with the pipe.
pub(super) struct Tail {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    kept: VecDeque<u8>,
    ended: bool,
}

impl Tail {
    /// Starts the thread that reads.
    pub(super) fn of(mut stderr: impl Read + Send + 'static) -> io::Result<Arc<Self>> {
        let tail = Arc::new(Self {
            state: Mutex::default(),
            ended: Condvar::new(),
        });
        let shared = Arc::clone(&tail);
        thread::Builder::new()
            .name("packetstream-stderr".to_owned())
            .spawn(move || {
                let mut chunk = vec![0; 8 * 1024];
                loop {
                    match stderr.read(&mut chunk) {
                        Ok(0) => break,
                        Ok(amount) => shared.state.lock().append(&chunk[..amount]),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(_) => break,
                    }
                }
                shared.state.lock().ended = true;
                shared.ended.notify_all();
            })?;
        Ok(tail)
    }

    /// Returns the last lines, after waiting for the end until the deadline; `None` if there are
    /// none.
    pub(super) fn last_lines(&self, deadline: Instant) -> Option<String> {
        let mut state = self.state.lock();
        while !state.ended {
            if self.ended.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        let kept: Vec<u8> = state.kept.iter().copied().collect();
        drop(state);

        let text = String::from_utf8_lossy(&kept);
        let text = text.trim_end();
        let start = text
            .rmatch_indices('\n')
            .nth(LINES - 1)
            .map_or(0, |(newline, _)| newline + 1);
        let lines = text[start..].trim_start_matches('\n');
        (!lines.is_empty()).then(|| lines.to_owned())
    }
}

impl State {
    fn append(&mut self, chunk: &[u8]) {
        let chunk = &chunk[chunk.len().saturating_sub(KEPT)..];
        let excess = (self.kept.len() + chunk.len()).saturating_sub(KEPT);
        self.kept.drain(..excess);
        self.kept.extend(chunk);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::time::Duration;

    use super::*;

    fn last_lines_of(input: impl Into<Vec<u8>>) -> Option<String> {
        let tail = Tail::of(Cursor::new(input.into())).unwrap();
        tail.last_lines(Instant::now() + Duration::from_secs(20))
    }

    #[test]
    fn silence_has_no_lines() {
        assert_eq!(last_lines_of(""), None);
        assert_eq!(last_lines_of("\n \n"), None);
    }

    #[test]
    fn few_lines_are_kept_whole() {
        assert_eq!(
            last_lines_of("one\n  two\n\n").as_deref(),
            Some("one\n  two")
        );
    }

    #[test]
    fn only_the_last_lines_are_told() {
        let all: Vec<String> = (0..1000).map(|n| format!("line {n}")).collect();
        let expected = all[1000 - LINES..].join("\n");
        assert_eq!(last_lines_of(all.join("\n")), Some(expected));
    }

    #[test]
    fn no_more_is_kept_than_the_limit() {
        let mut input = vec![b'a'; 3 * KEPT];
        input.extend_from_slice(b"the end");
        let lines = last_lines_of(input).unwrap();
        assert_eq!(lines.len(), KEPT);
        assert!(lines.ends_with("aathe end"));

        let mut state = State::default();
        state.append(&vec![1; KEPT + 1]);
        state.append(&[2]);
        assert_eq!((state.kept.len(), state.kept.back()), (KEPT, Some(&2)));
    }

    #[test]
    fn octets_that_are_no_text_are_replaced() {
        assert_eq!(
            last_lines_of(*b"bad \xff\n").as_deref(),
            Some("bad \u{fffd}")
        );
    }

    #[test]
    fn a_pipe_that_stays_open_is_not_waited_for() {
        let (reader, _held) = io::pipe().unwrap();
        let tail = Tail::of(reader).unwrap();
        assert_eq!(tail.last_lines(Instant::now()), None);
    }
}
