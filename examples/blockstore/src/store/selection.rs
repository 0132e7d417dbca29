//! Which hashcodes are asked for.

use std::ops::Bound;

use crate::hash::HashCode;

/// Which hashcodes are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Where to begin, whether that one is stored or not; `None` for the first there is.
    pub start: Option<HashCode>,
    /// Whether `start` itself is left out.
    pub after: bool,
    /// How many at most; `None` for all.
    pub limit: Option<u64>,
}

impl Selection {
    pub(super) fn bounds(&self) -> (Bound<HashCode>, Bound<HashCode>) {
        let start = match self.start {
            None => Bound::Unbounded,
            Some(start) if self.after => Bound::Excluded(start),
            Some(start) => Bound::Included(start),
        };
        (start, Bound::Unbounded)
    }

    pub(super) fn limit(&self) -> usize {
        let limit = self.limit.unwrap_or(u64::MAX);
        usize::try_from(limit).unwrap_or(usize::MAX)
    }
}
