//! Whether threads other than the sender may write.

/// How a thread that is not the sender may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MayWrite {
    Never,
    /// Only what cannot block.
    Briefly,
    /// Even if that blocks, since it can be freed.
    Freely,
}

/// What is known of the writer, for threads other than the sender.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sharing {
    /// A close frees who is stuck in it.
    pub(super) frees_writer: bool,
    /// It takes a little without blocking.
    pub(super) is_buffered: bool,
}
