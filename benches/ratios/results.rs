//! What was measured.

use crate::child::Figures;
use crate::codec::Codec;
use crate::cores::Place;
use crate::large::LARGE;
use crate::measure::Cost;
use crate::size::Size;
use crate::stream::BLOCK;

/// A work that the crate and a bare socket do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    One,
    Eight,
    Pipelined,
    PipelinedInline,
    /// Beside a floor that keeps its buffers.
    Large,
    /// Beside a floor that takes a new buffer for every message.
    LargeFresh,
    /// With an allocator that keeps its memory, beside a floor that keeps its buffers.
    LargeWarm,
    Stream,
}

/// How a cost is told.
#[derive(Clone, Copy, Debug)]
enum Unit {
    Microseconds,
    ThousandCalls,
    /// Octets of payload of a call, in one direction.
    Megabytes(usize),
}

/// The floor and the crate on the same work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison {
    pub(crate) work: Work,
    pub(crate) floor: Cost,
    pub(crate) ours: Cost,
    /// Calls of `write` of both ends for each call, the answer included.
    pub(crate) writes: Option<f64>,
}

/// Everything, as far as it was asked for.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) comparisons: Vec<(Place, Comparison)>,
    pub(crate) codec: Option<Codec>,
    pub(crate) idle: Option<Figures>,
    pub(crate) threads: Option<Figures>,
    pub(crate) size: Option<Size>,
}

impl Comparison {
    pub(crate) fn new(work: Work, floor: Cost, ours: Cost) -> Self {
        Self {
            work,
            floor,
            ours,
            writes: None,
        }
    }

    pub(crate) fn with_writes(mut self, writes: f64) -> Self {
        self.writes = Some(writes);
        self
    }

    /// How many times as long as the floor the crate takes.
    pub(crate) fn ratio(&self) -> f64 {
        self.ours.seconds / self.floor.seconds
    }

    /// Thousands of calls in a second.
    pub(crate) fn thousand_calls(&self) -> f64 {
        1e-3 / self.ours.seconds
    }
}

impl Work {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::One => "one caller, 16 octets",
            Self::Eight => "8 callers on one connection, 16 octets",
            Self::Pipelined => "256 outstanding, 16 octets",
            Self::PipelinedInline => "the same, inline handlers",
            Self::Large => "1 MiB echo",
            Self::LargeFresh => "the same, floor with fresh buffers",
            Self::LargeWarm => "the same, warm allocator",
            Self::Stream => "64 KiB one way, pipelined",
        }
    }

    /// Tells a cost with its unit.
    pub(crate) fn tell(self, cost: Cost) -> String {
        let seconds = cost.seconds;
        match self.unit() {
            Unit::Microseconds => format!("{:.2} us", seconds * 1e6),
            Unit::ThousandCalls => format!("{:.0} k calls/s", 1e-3 / seconds),
            Unit::Megabytes(octets) => format!("{:.0} MB/s", octets as f64 / seconds / 1e6),
        }
    }

    fn unit(self) -> Unit {
        match self {
            Self::One | Self::Eight => Unit::Microseconds,
            Self::Pipelined | Self::PipelinedInline => Unit::ThousandCalls,
            Self::Large | Self::LargeFresh | Self::LargeWarm => Unit::Megabytes(LARGE),
            Self::Stream => Unit::Megabytes(BLOCK),
        }
    }
}

impl Results {
    pub(crate) fn comparison(&self, place: Place, work: Work) -> Option<&Comparison> {
        self.comparisons
            .iter()
            .find(|(at, comparison)| *at == place && comparison.work == work)
            .map(|(_, comparison)| comparison)
    }
}
