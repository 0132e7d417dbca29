//! Whether everything is there that a root stands for.

use std::collections::HashSet;

use packetstream::payload::PayloadError;

use super::{Store, StoreError};
use crate::block::BlockReference;
use crate::hash::HashCode;

/// Why it cannot be said whether everything is there.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WholeError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A chunk that should list blocks does not.
    #[error("the chunk {chunk} does not list blocks")]
    NotAList {
        /// The chunk.
        chunk: HashCode,
        /// What is wrong with it.
        source: PayloadError,
    },
}

impl Store {
    /// Returns whether an indirect block is there with all that it refers to.
    ///
    /// # Errors
    ///
    /// - [`WholeError::NotAList`] if one of the chunks that should list blocks does not.
    /// - [`WholeError::Store`] if the store fails.
    pub fn contains_indirect(&self, root: HashCode) -> Result<bool, WholeError> {
        // A chunk cannot refer to itself, not by any detour. But many may refer to the same one,
        // on every level anew: without `seen` a tree of 60 chunks would take for ever.
        let mut seen = HashSet::from([root]);
        let mut left = vec![root];
        while let Some(hash) = left.pop() {
            let Some(chunk) = self.get(&hash)? else {
                return Ok(false);
            };
            let not_a_list = |source| WholeError::NotAList {
                chunk: hash,
                source,
            };
            // All of the list is read first: one that cannot be read is no answer at all.
            let mut is_complete = true;
            for reference in BlockReference::list(&chunk) {
                match reference.map_err(not_a_list)? {
                    BlockReference::Chunk { hash, .. } => {
                        is_complete = is_complete && self.contains(&hash)?;
                    }
                    BlockReference::Indirect { hash, .. } => {
                        is_complete = is_complete && self.contains(&hash)?;
                        if is_complete && seen.insert(hash) {
                            left.push(hash);
                        }
                    }
                    // The original does not look into what a part is taken from.
                    BlockReference::Repeated { .. }
                    | BlockReference::Literal(_)
                    | BlockReference::Part { .. } => {}
                }
            }
            if !is_complete {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
