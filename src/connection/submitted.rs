//! Which of our own requests is meant, until it is settled.

use std::sync::Arc;

use super::one_shot::OneShot;
use super::state::Key;
use crate::wire::ChannelId;

/// A request of ours that has been registered: where its answer comes, and what names it.
///
/// Its tag does not: that may change until it is sent, and another may have it afterwards.
#[derive(Clone, Debug)]
pub(super) struct Submitted {
    pub(super) one_shot: Arc<OneShot>,
    pub(super) channel: ChannelId,
    /// That of its packet.
    pub(super) number: u64,
}

impl Submitted {
    /// Where it stands in the table; to be asked under the session's lock, where that does not
    /// change.
    pub(super) fn key(&self) -> Key {
        (self.channel, self.one_shot.tag())
    }
}
