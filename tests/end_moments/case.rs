//! The table: where somebody works on a request of the peer, what he holds, and what ends the
//! connection meanwhile.

/// Where the work on the peer's request is done, which calls the peer back twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Handler,
    /// A handler at the end of so many calls back and forth.
    Nested(u32),
    /// A plain thread, while the handler waits for it.
    Beside,
    /// A thread of its own, after a deferred handler has returned.
    Deferred,
    Callback,
    Waker,
    Decode,
}

/// What the work keeps beyond its end, made where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Nothing,
    Result,
    Set,
    Clone,
    Guard,
    /// That of another request.
    Responder,
}

/// What ends the connection while the first callback is unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Close,
    Drop,
    Shutdown,
    /// The linger time runs out, since the peer says nothing more.
    CloseInVain,
    Abort,
    /// Our end serves, and the peer says that no more requests follow; its stream goes on.
    ServePeerFinishes,
    /// Our end serves, and the peer sends both end packets.
    ServePeerParts,
    /// Our end serves, and the peer's input ends without them.
    ServeInputEnds,
    /// Our end serves, and the answer and both end packets come in one write.
    ServeAllAtOnce,
    /// Our end serves, and the peer sends both end packets, but reads nothing more.
    ServeUnread,
    /// The peer sends both end packets, and nobody here closes anything.
    PeerParts,
    /// The peer sends both end packets, and goes on to read while we close.
    PeerPartsThenClose,
}

pub const PLACES: [Place; 9] = [
    Place::Handler,
    Place::Nested(2),
    Place::Nested(7),
    Place::Nested(60),
    Place::Beside,
    Place::Deferred,
    Place::Callback,
    Place::Waker,
    Place::Decode,
];

pub const HOLDINGS: [Held; 6] = [
    Held::Nothing,
    Held::Result,
    Held::Set,
    Held::Clone,
    Held::Guard,
    Held::Responder,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    pub place: Place,
    pub held: Held,
    pub moment: Moment,
}

impl Place {
    /// Its results are made on a worker of their own session, and are no references.
    pub fn is_worker(self) -> bool {
        matches!(self, Self::Handler | Self::Nested(_))
    }

    pub fn depth(self) -> u32 {
        match self {
            Self::Nested(depth) => depth,
            _ => 0,
        }
    }
}

impl Held {
    pub fn is_awaited(self) -> bool {
        matches!(self, Self::Result | Self::Set)
    }
}

impl Moment {
    fn closes_a_guard(self) -> bool {
        matches!(self, Self::Close | Self::CloseInVain | Self::Drop)
    }
}

impl Case {
    /// All that the table has for one moment.
    pub fn all(moment: Moment) -> impl Iterator<Item = Self> {
        let cases = PLACES.into_iter().flat_map(move |place| {
            HOLDINGS.map(move |held| Self {
                place,
                held,
                moment,
            })
        });
        // With another guard nothing would be closed in vain.
        cases.filter(|case| case.moment != Moment::CloseInVain || case.held != Held::Guard)
    }

    /// Another guard or, where one is dropped, a result holds the connection open.
    pub fn is_held_open(self) -> bool {
        let by_guard = self.held == Held::Guard && self.moment.closes_a_guard();
        // Whoever waits for the callback holds its result.
        let by_result = self.moment == Moment::Drop && !self.place.is_worker();
        by_guard || by_result
    }
}
