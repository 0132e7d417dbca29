//! The first bytes of a packet, kept to be quoted.

/// How many bytes are kept at most.
pub(crate) const MOST_KEPT: usize = 256;

/// What has come of the packet that is being read, as far as it is not whole; of the first packet
/// all that came with it too, since it may be no packet at all.
#[derive(Debug)]
pub(super) struct Start {
    bytes: [u8; MOST_KEPT],
    len: usize,
    /// The packet is over: what comes next is the start of another one.
    is_over: bool,
    /// No packet has been over yet.
    is_first: bool,
}

impl Start {
    pub(super) fn new() -> Self {
        Self {
            bytes: [0; MOST_KEPT],
            len: 0,
            is_over: false,
            is_first: true,
        }
    }

    pub(super) fn is_first(&self) -> bool {
        self.is_first
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        if std::mem::take(&mut self.is_over) {
            self.len = 0;
        }
        for (place, &byte) in self.bytes.iter_mut().skip(self.len).zip(bytes) {
            *place = byte;
        }
        self.len = self.len.saturating_add(bytes.len()).min(MOST_KEPT);
    }

    /// Takes note that the packet is over.
    #[inline]
    pub(super) fn end(&mut self) {
        self.is_over = true;
        self.is_first = false;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
