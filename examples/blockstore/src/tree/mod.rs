//! Files as trees of blocks: cutting one up, and putting it together again.
//!
//! A file is cut where its contents say so (`FastCDC`), so that an insertion changes the chunks
//! around it and no others. The references to the chunks are listed in indirect blocks, up to
//! [`FAN_OUT`] in one, and these in further ones, until there is a single one: the root. A file has
//! always a root, even an empty one, so that a hashcode is enough to get it back.

mod reader;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::mem;

use fastcdc::v2020::StreamCDC;
use packetstream::payload;

pub use self::reader::{Source, TreeError, TreeReader};
use crate::block::BlockReference;
use crate::hash::{HashCode, HashKind};

/// How many references an indirect block lists at most. At 38 octets each, the chunk of a full one
/// is as large as one of data.
pub const FAN_OUT: usize = 1024;

/// The length of the shortest chunk, but for the last of a file, in octets.
pub const MIN_CHUNK: usize = 16 * 1024;

/// The length of chunks on average: short enough to find what files have in common, long enough
/// to make a request for each worth it.
pub const AVERAGE_CHUNK: usize = 64 * 1024;

/// The length of the longest chunk.
pub const MAX_CHUNK: usize = 256 * 1024;

/// A chunk to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its hashcode.
    pub hash: HashCode,
    /// Its octets.
    pub octets: Vec<u8>,
    /// Whether the octets are those of the file, not a list of references.
    pub is_data: bool,
}

/// Cuts a file up; `store` gets every chunk of it, those of a list before the list.
///
/// Holds a few chunks in memory, however large the file is. Returns the reference to the root.
///
/// # Errors
///
/// - [`SplitError::Read`] if the file cannot be read.
/// - [`SplitError::Store`] if `store` fails.
///
/// # Examples
///
/// ```
/// use blockstore::hash::HashKind;
/// use blockstore::tree;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut chunks = Vec::new();
/// let root = tree::split(&b"hello"[..], HashKind::Blake3, |chunk| {
///     chunks.push(chunk);
///     Ok::<_, std::convert::Infallible>(())
/// })?;
/// assert_eq!(root.span(), 5);
/// assert_eq!(chunks.len(), 2); // the data, and the root
/// # Ok(())
/// # }
/// ```
pub fn split<E>(
    file: impl Read,
    kind: HashKind,
    mut store: impl FnMut(Chunk) -> Result<(), E>,
) -> Result<BlockReference, SplitError<E>> {
    let mut tree = TreeBuilder::new(kind, FAN_OUT);
    for cut in StreamCDC::new(file, MIN_CHUNK, AVERAGE_CHUNK, MAX_CHUNK) {
        let octets = cut.map_err(|error| SplitError::Read(error.into()))?.data;
        let hash = HashCode::of(kind, &octets);
        let span = octets.len() as u64;
        let data = Chunk {
            hash,
            octets,
            is_data: true,
        };
        store(data).map_err(SplitError::Store)?;
        tree.push(BlockReference::Chunk { hash, span }, &mut store)
            .map_err(SplitError::Store)?;
    }
    tree.finish(&mut store).map_err(SplitError::Store)
}

/// Why a file could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum SplitError<E> {
    /// It cannot be read.
    #[error("cannot read")]
    Read(#[source] io::Error),
    /// Its chunks cannot be stored.
    #[error(transparent)]
    Store(E),
}

/// Lists references in indirect blocks, level by level.
struct TreeBuilder {
    kind: HashKind,
    fan_out: usize,
    /// The references that are not listed yet, the leaves' first. No level is full.
    levels: Vec<Vec<BlockReference>>,
}

impl TreeBuilder {
    fn new(kind: HashKind, fan_out: usize) -> Self {
        Self {
            kind,
            fan_out,
            levels: vec![Vec::new()],
        }
    }

    fn push<E>(
        &mut self,
        leaf: BlockReference,
        store: &mut impl FnMut(Chunk) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut reference = leaf;
        for level in &mut self.levels {
            level.push(reference);
            if level.len() < self.fan_out {
                return Ok(());
            }
            reference = list(self.kind, &mem::take(level), store)?;
        }
        self.levels.push(vec![reference]);
        Ok(())
    }

    fn finish<E>(
        self,
        store: &mut impl FnMut(Chunk) -> Result<(), E>,
    ) -> Result<BlockReference, E> {
        let top = self.levels.len() - 1;
        let mut carried = None;
        for (number, mut level) in self.levels.into_iter().enumerate() {
            level.extend(carried.take());
            carried = match level.as_slice() {
                [] if number < top => None,
                // What has just been listed needs no list of its own.
                [BlockReference::Indirect { .. }] if number == top => level.pop(),
                references => Some(list(self.kind, references, store)?),
            };
        }
        match carried {
            Some(root) => Ok(root),
            None => list(self.kind, &[], store),
        }
    }
}

/// Stores the chunk of an indirect block and returns the reference to that.
fn list<E>(
    kind: HashKind,
    references: &[BlockReference],
    store: &mut impl FnMut(Chunk) -> Result<(), E>,
) -> Result<BlockReference, E> {
    let octets = payload::encode(references);
    let hash = HashCode::of(kind, &octets);
    let span = references.iter().map(BlockReference::span).sum();
    store(Chunk {
        hash,
        octets,
        is_data: false,
    })?;
    Ok(BlockReference::Indirect { hash, span })
}
