//! Putting a file together again, with the chunks that come next asked for ahead of time.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::ops::Range;

use packetstream::payload::{Input, PayloadError};

use crate::block::BlockReference;
use crate::hash::HashCode;

/// How many octets are asked for ahead.
const AHEAD_LEN: u64 = 8 * 1024 * 1024;

/// How many chunks are asked for ahead, as they may be longer than is claimed.
const AHEAD_CHUNKS: usize = 512;

/// How deep a tree may be. With two references in a list it is too large for any disk.
const MAX_DEPTH: usize = 64;

/// What repeated octets are produced in, so that a few octets in a list cannot fill the memory.
const RUN_LEN: u64 = 64 * 1024;

/// Where chunks come from.
pub trait Source {
    /// A chunk that has been asked for.
    type Pending;
    /// Why it does not come.
    type Error: Error + 'static;

    /// Asks for a chunk, without waiting for it.
    ///
    /// # Errors
    ///
    /// It cannot be asked for.
    fn request(&self, hash: HashCode) -> Result<Self::Pending, Self::Error>;

    /// Returns whether waiting for it would not block.
    fn is_ready(&self, pending: &Self::Pending) -> bool;

    /// Waits for a chunk; `None` if the source does not have it.
    ///
    /// # Errors
    ///
    /// It does not come.
    fn wait(&self, pending: Self::Pending) -> Result<Option<Vec<u8>>, Self::Error>;
}

/// Why a file cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum TreeError<E: Error + 'static> {
    /// A chunk has other octets than its hashcode says.
    #[error("the octets that came for {0} have another hashcode")]
    Corrupt(HashCode),
    /// A chunk that should list blocks does not.
    #[error("the chunk {chunk} does not list blocks")]
    NotAList {
        /// The chunk.
        chunk: HashCode,
        /// What is wrong with it.
        source: PayloadError,
    },
    /// A chunk is not there.
    #[error("the store does not have {0}")]
    Missing(HashCode),
    /// A block, or a list of them, is shorter or longer than is claimed.
    #[error("a block is not as long as the reference to it claims")]
    Span,
    /// The source fails.
    #[error(transparent)]
    Source(E),
    /// The tree is deeper than any real one.
    #[error("indirect blocks more than {MAX_DEPTH} levels deep")]
    TooDeep,
}

/// Reads what a root stands for, in order.
///
/// A few chunks are in memory at a time. Every chunk is checked against its hashcode, and every
/// length against what was claimed. Nothing is fetched that does not contribute an octet, so that
/// no tree, however twisted, takes for ever without a result.
pub struct TreeReader<S: Source> {
    source: S,
    span: u64,
    /// The lists that are being read, the innermost last.
    lists: Vec<List>,
    /// The list that has been asked for and is to be read next.
    expanding: Option<Fetch<S::Pending>>,
    /// What comes before everything in the lists, in order.
    ahead: VecDeque<Ahead<S::Pending>>,
    ahead_len: u64,
}

/// A list of references that is being read.
struct List {
    chunk: HashCode,
    octets: Vec<u8>,
    /// Where the next reference begins in `octets`.
    next: usize,
    /// Where the next block begins in what the list stands for.
    position: u64,
    /// How much the list stands for, as was claimed.
    span: u64,
    /// Which part of it is wanted.
    window: Range<u64>,
}

/// A block, and which part of it is wanted.
type Wanted = (BlockReference, Range<u64>);

/// A chunk that has been asked for.
struct Fetch<P> {
    pending: P,
    hash: HashCode,
    span: u64,
    window: Range<u64>,
}

enum Ahead<P> {
    Chunk(Fetch<P>),
    Repeated { octet: u8, left: u64 },
    Literal(Vec<u8>),
}

impl<P> Ahead<P> {
    fn cost(&self) -> u64 {
        match self {
            Self::Chunk(wanted) => wanted.span,
            Self::Literal(octets) => octets.len() as u64,
            Self::Repeated { .. } => 0,
        }
    }
}

impl<S: Source> TreeReader<S> {
    /// Fetches the root; blocks until it is here.
    ///
    /// # Errors
    ///
    /// Those of [`next_run`](Self::next_run).
    pub fn open(source: S, root: HashCode) -> Result<Self, TreeError<S::Error>> {
        let pending = source.request(root).map_err(TreeError::Source)?;
        let octets = fetch(&source, pending, root)?;
        let mut span: u64 = 0;
        for reference in BlockReference::list(&octets) {
            let reference = reference.map_err(|source| TreeError::NotAList {
                chunk: root,
                source,
            })?;
            span = span.checked_add(reference.span()).ok_or(TreeError::Span)?;
        }
        let list = List {
            chunk: root,
            octets,
            next: 0,
            position: 0,
            span,
            window: 0..span,
        };
        Ok(Self {
            source,
            span,
            lists: vec![list],
            expanding: None,
            ahead: VecDeque::new(),
            ahead_len: 0,
        })
    }

    /// Returns the length of all that the root stands for, in octets.
    pub fn span(&self) -> u64 {
        self.span
    }

    /// Returns the next octets, as many as there are at hand; `None` at the end.
    ///
    /// Blocks until they are here.
    ///
    /// # Errors
    ///
    /// See [`TreeError`]. There is no going on after one.
    pub fn next_run(&mut self) -> Result<Option<Vec<u8>>, TreeError<S::Error>> {
        self.look_ahead()?;
        let Some(first) = self.ahead.pop_front() else {
            return Ok(None);
        };
        self.ahead_len = self.ahead_len.saturating_sub(first.cost());
        match first {
            Ahead::Chunk(wanted) => {
                let mut octets = fetch(&self.source, wanted.pending, wanted.hash)?;
                if octets.len() as u64 != wanted.span {
                    return Err(TreeError::Span);
                }
                cut(&mut octets, &wanted.window);
                Ok(Some(octets))
            }
            Ahead::Repeated { octet, left } => {
                let now = left.min(RUN_LEN);
                if left > now {
                    let left = left - now;
                    self.ahead.push_front(Ahead::Repeated { octet, left });
                }
                Ok(Some(vec![octet; usize::try_from(now).unwrap_or(0)]))
            }
            Ahead::Literal(octets) => Ok(Some(octets)),
        }
    }

    /// Asks for what comes next, up to the limits; waits for a list only if there is nothing else.
    fn look_ahead(&mut self) -> Result<(), TreeError<S::Error>> {
        while self.ahead_len < AHEAD_LEN && self.ahead.len() < AHEAD_CHUNKS {
            if let Some(expanding) = &self.expanding
                && !self.ahead.is_empty()
                && !self.source.is_ready(&expanding.pending)
            {
                return Ok(());
            }
            if let Some(expanding) = self.expanding.take() {
                let list = List {
                    octets: fetch(&self.source, expanding.pending, expanding.hash)?,
                    chunk: expanding.hash,
                    next: 0,
                    position: 0,
                    span: expanding.span,
                    window: expanding.window,
                };
                self.lists.push(list);
            }
            match self.next_reference()? {
                None => return Ok(()),
                Some((reference, window)) => self.take_up(reference, window)?,
            }
        }
        Ok(())
    }

    /// Returns the next block that contributes anything, and which part of it is wanted.
    fn next_reference(&mut self) -> Result<Option<Wanted>, TreeError<S::Error>> {
        while let Some(list) = self.lists.last_mut() {
            match list.next_block() {
                Ok(Some(found)) if found.1.is_empty() => {}
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) if list.position == list.span => {
                    self.lists.pop();
                }
                Ok(None) => return Err(TreeError::Span),
                Err(source) => {
                    let chunk = list.chunk;
                    return Err(TreeError::NotAList { chunk, source });
                }
            }
        }
        Ok(None)
    }

    fn take_up(
        &mut self,
        mut reference: BlockReference,
        mut window: Range<u64>,
    ) -> Result<(), TreeError<S::Error>> {
        while let BlockReference::Part { offset, of, .. } = reference {
            let start = window.start.checked_add(offset);
            let end = window.end.checked_add(offset);
            window = start
                .zip(end)
                .map(|(start, end)| start..end)
                .ok_or(TreeError::Span)?;
            if window.end > of.span() {
                return Err(TreeError::Span);
            }
            reference = *of;
        }
        match reference {
            BlockReference::Chunk { hash, span } => {
                let wanted = self.ask_for(hash, span, window)?;
                self.plan(Ahead::Chunk(wanted));
            }
            BlockReference::Indirect { hash, span } => {
                if self.lists.len() >= MAX_DEPTH {
                    return Err(TreeError::TooDeep);
                }
                self.expanding = Some(self.ask_for(hash, span, window)?);
            }
            BlockReference::Repeated { octet, .. } => {
                let left = window.end - window.start;
                self.plan(Ahead::Repeated { octet, left });
            }
            BlockReference::Literal(mut octets) => {
                cut(&mut octets, &window);
                self.plan(Ahead::Literal(octets));
            }
            BlockReference::Part { .. } => {}
        }
        Ok(())
    }

    fn plan(&mut self, next: Ahead<S::Pending>) {
        self.ahead_len = self.ahead_len.saturating_add(next.cost());
        self.ahead.push_back(next);
    }

    fn ask_for(
        &self,
        hash: HashCode,
        span: u64,
        window: Range<u64>,
    ) -> Result<Fetch<S::Pending>, TreeError<S::Error>> {
        let pending = self.source.request(hash).map_err(TreeError::Source)?;
        Ok(Fetch {
            pending,
            hash,
            span,
            window,
        })
    }
}

impl<S: Source> fmt::Debug for TreeReader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeReader")
            .field("span", &self.span)
            .field("depth", &self.lists.len())
            .field("ahead_len", &self.ahead_len)
            .finish_non_exhaustive()
    }
}

impl List {
    /// Reads the next reference; with it, which part of its block is wanted.
    fn next_block(&mut self) -> Result<Option<Wanted>, PayloadError> {
        let mut input = Input::new(&self.octets[self.next..]);
        if input.is_empty() {
            return Ok(None);
        }
        let too_long = input.invalid("a list of more than 2^64 octets");
        let reference: BlockReference = input.decode()?;
        self.next += input.offset();
        let (start, span) = (self.position, reference.span());
        self.position = start.checked_add(span).ok_or(too_long)?;
        let wanted_start = self.window.start.clamp(start, self.position);
        let wanted_end = self.window.end.clamp(start, self.position);
        Ok(Some((reference, wanted_start - start..wanted_end - start)))
    }
}

/// Waits for a chunk and checks it.
fn fetch<S: Source>(
    source: &S,
    pending: S::Pending,
    hash: HashCode,
) -> Result<Vec<u8>, TreeError<S::Error>> {
    let octets = source.wait(pending).map_err(TreeError::Source)?;
    let octets = octets.ok_or(TreeError::Missing(hash))?;
    if HashCode::of(hash.kind(), &octets) != hash {
        return Err(TreeError::Corrupt(hash));
    }
    Ok(octets)
}

/// Leaves the part of a block that is wanted. It was checked to lie within the block.
fn cut(octets: &mut Vec<u8>, window: &Range<u64>) {
    let within = |at: u64| usize::try_from(at).map_or(octets.len(), |at| at.min(octets.len()));
    let (start, end) = (within(window.start), within(window.end));
    octets.truncate(end);
    octets.drain(..start);
}
