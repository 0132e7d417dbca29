//! Storing files: what is missing is sent, many requests at a time.

use std::collections::HashMap;
use std::io::{self, Read};
use std::time::Duration;

use packetstream::{Error, PendingSet};

use crate::block::BlockReference;
use crate::client::Client;
use crate::hash::HashCode;
use crate::requests::{Add, Contains};
use crate::tree::{self, Chunk, SplitError};

/// How many octets of chunks wait for answers. At 100 MB/s that is 80 ms of latency made up for.
const WINDOW_LEN: usize = 8 * 1024 * 1024;

/// How many chunks wait for answers, as they may be short.
const WINDOW_CHUNKS: usize = 1024;

/// How far a put has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutTotals {
    /// Files of which every chunk has been acknowledged.
    pub files: u64,
    /// Chunks of files that the server has said it has, or has taken.
    pub chunks: u64,
    /// Their octets.
    pub octets: u64,
    /// Chunks that were sent and taken, indirect blocks included.
    pub sent_chunks: u64,
    /// Their octets.
    pub sent_octets: u64,
}

/// Why files cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The file cannot be read.
    #[error("cannot read")]
    Read(#[source] io::Error),
    /// The server did not do what it was asked, or is gone.
    #[error(transparent)]
    Server(#[from] Error),
    /// The server has another idea of a hashcode.
    #[error("the server says that {0} is {1}")]
    OtherHash(HashCode, HashCode),
}

/// Stores files over one connection.
///
/// For every chunk it asks whether the server has it, and sends it if not; meanwhile the following
/// chunks are on their way, up to 8 MiB. Nothing is durable before
/// [`finish`](Self::finish).
pub struct Put<'a, O> {
    client: &'a Client,
    observe: O,
    totals: PutTotals,
    /// What they were at the last flush.
    flushed: PutTotals,
    answers: PendingSet<Answer>,
    /// Which chunk an answer is about.
    numbers: HashMap<usize, HashCode>,
    chunks: HashMap<HashCode, InFlight>,
    /// The octets of these chunks.
    len: usize,
    files: HashMap<u64, File>,
    next_file: u64,
}

/// A chunk whose fate is open.
struct InFlight {
    /// Gone once they have been sent.
    octets: Option<Vec<u8>>,
    len: usize,
    /// The files that it is in, and whether as data.
    uses: Vec<(u64, bool)>,
}

/// A file that is not done.
#[derive(Default)]
struct File {
    missing: usize,
    is_read: bool,
}

enum Answer {
    IsThere(bool),
    Added(HashCode),
}

impl<'a, O: FnMut(&PutTotals)> Put<'a, O> {
    /// Starts; `observe` is called when something has been acknowledged.
    pub fn new(client: &'a Client, observe: O) -> Self {
        Self {
            client,
            observe,
            totals: PutTotals::default(),
            flushed: PutTotals::default(),
            answers: PendingSet::new(),
            numbers: HashMap::new(),
            chunks: HashMap::new(),
            len: 0,
            files: HashMap::new(),
            next_file: 0,
        }
    }

    /// Returns how far it has got. Not all of that is on disk: see [`flushed`](Self::flushed).
    pub fn totals(&self) -> PutTotals {
        self.totals
    }

    /// Returns what is on disk: how far it had got at the last [`finish`](Self::finish).
    pub fn flushed(&self) -> PutTotals {
        self.flushed
    }

    /// Reads a file and submits its chunks; returns the reference to its root.
    ///
    /// Blocks while the window is full, so the last chunks are still under way when it returns.
    ///
    /// # Errors
    ///
    /// - [`PutError::Read`] if the file cannot be read; others can be put all the same.
    /// - [`PutError::Server`], [`PutError::OtherHash`] if this or an earlier chunk was not taken.
    pub fn file(&mut self, contents: impl Read) -> Result<BlockReference, PutError> {
        let file = self.next_file;
        self.next_file += 1;
        self.files.insert(file, File::default());
        let kind = self.client.kind();
        let root = tree::split(contents, kind, |chunk| self.submit(file, chunk));
        match self.files.get_mut(&file) {
            Some(state) if root.is_ok() => state.is_read = true,
            // What was read of it is sent, and nothing refers to that.
            _ => drop(self.files.remove(&file)),
        }
        self.check_off(file);
        root.map_err(|error| match error {
            SplitError::Read(error) => PutError::Read(error),
            SplitError::Store(error) => error,
        })
    }

    /// Blocks until every chunk has been acknowledged, and all of them are on disk.
    ///
    /// # Errors
    ///
    /// - [`PutError::Server`], [`PutError::OtherHash`] if a chunk was not taken, or the flush fails.
    pub fn finish(&mut self) -> Result<PutTotals, PutError> {
        while let Some((number, answer)) = self.answers.next() {
            self.take(number, answer)?;
        }
        self.client.flush()?;
        self.flushed = self.totals;
        Ok(self.totals)
    }

    fn submit(&mut self, file: u64, chunk: Chunk) -> Result<(), PutError> {
        let Chunk {
            hash,
            octets,
            is_data,
        } = chunk;
        if let Some(state) = self.files.get_mut(&file) {
            state.missing += 1;
        }
        if let Some(same) = self.chunks.get_mut(&hash) {
            same.uses.push((file, is_data));
            return Ok(());
        }
        while (self.len + octets.len() > WINDOW_LEN || self.chunks.len() >= WINDOW_CHUNKS)
            && let Some((number, answer)) = self.answers.next()
        {
            self.take(number, answer)?;
        }
        let pending = self.client.submit(&Contains(hash))?;
        let number = self
            .answers
            .insert(pending.and_then(|verdict| Ok::<_, Error>(Answer::IsThere(verdict.0))));
        self.numbers.insert(number, hash);
        self.len += octets.len();
        let in_flight = InFlight {
            len: octets.len(),
            octets: Some(octets),
            uses: vec![(file, is_data)],
        };
        self.chunks.insert(hash, in_flight);
        // What the server lacks is to be on its way while the next chunk is being cut.
        while let Some((number, answer)) = self.answers.next_timeout(Duration::ZERO) {
            self.take(number, answer)?;
        }
        Ok(())
    }

    fn take(&mut self, number: usize, answer: Result<Answer, Error>) -> Result<(), PutError> {
        let Some(hash) = self.numbers.remove(&number) else {
            return Ok(());
        };
        match answer? {
            Answer::IsThere(false) => self.send(hash)?,
            Answer::IsThere(true) => self.acknowledge(hash),
            Answer::Added(same) if same == hash => {
                if let Some(chunk) = self.chunks.get(&hash) {
                    self.totals.sent_chunks += 1;
                    self.totals.sent_octets += chunk.len as u64;
                }
                self.acknowledge(hash);
            }
            Answer::Added(other) => return Err(PutError::OtherHash(hash, other)),
        }
        Ok(())
    }

    fn send(&mut self, hash: HashCode) -> Result<(), PutError> {
        let octets = self
            .chunks
            .get_mut(&hash)
            .and_then(|chunk| chunk.octets.take());
        let Some(octets) = octets else { return Ok(()) };
        let pending = self.client.submit(&Add {
            kind: hash.kind(),
            chunk: octets.into(),
        })?;
        let number = self
            .answers
            .insert(pending.and_then(|hash| Ok::<_, Error>(Answer::Added(hash))));
        self.numbers.insert(number, hash);
        Ok(())
    }

    fn acknowledge(&mut self, hash: HashCode) {
        let Some(chunk) = self.chunks.remove(&hash) else {
            return;
        };
        self.len -= chunk.len;
        for (file, is_data) in chunk.uses {
            if is_data {
                self.totals.chunks += 1;
                self.totals.octets += chunk.len as u64;
            }
            if let Some(state) = self.files.get_mut(&file) {
                state.missing -= 1;
            }
            self.check_off(file);
        }
        (self.observe)(&self.totals);
    }

    fn check_off(&mut self, file: u64) {
        let is_done = |file: &File| file.is_read && file.missing == 0;
        if self.files.get(&file).is_some_and(is_done) {
            self.files.remove(&file);
            self.totals.files += 1;
        }
    }
}

impl<O> std::fmt::Debug for Put<'_, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Put")
            .field("totals", &self.totals)
            .field("in_flight", &self.chunks.len())
            .finish_non_exhaustive()
    }
}
