//! What the command line asks for.

use std::env;
use std::fmt;
use std::time::Duration;

use packetstream::BoxError;

/// What is measured, by the name that chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    One,
    Eight,
    Pipelined,
    Large,
    Stream,
    Codec,
    Idle,
    /// Belongs to `Idle`.
    Threads,
    Size,
}

const ROWS: [(&str, Row); 9] = [
    ("one", Row::One),
    ("eight", Row::Eight),
    ("pipelined", Row::Pipelined),
    ("large", Row::Large),
    ("stream", Row::Stream),
    ("codec", Row::Codec),
    ("idle", Row::Idle),
    ("threads", Row::Threads),
    ("size", Row::Size),
];

pub(crate) struct Options {
    /// A tenth of the calls, and few rounds: whether it works, not how fast.
    pub(crate) is_quick: bool,
    pub(crate) is_markdown: bool,
    /// This is a child process, which measures that alone.
    pub(crate) section: Option<Row>,
    /// All, if there is none.
    rows: Vec<Row>,
}

impl Options {
    pub(crate) fn from_arguments() -> Result<Self, BoxError> {
        let mut options = Self {
            is_quick: false,
            is_markdown: false,
            section: None,
            rows: Vec::new(),
        };
        for argument in env::args().skip(1) {
            match argument.as_str() {
                // Cargo says so.
                "--bench" => {}
                "--quick" => options.is_quick = true,
                "--markdown" => options.is_markdown = true,
                other => match other.strip_prefix("--section=") {
                    Some(section) => options.section = Some(section.parse()?),
                    None => options.rows.push(other.parse()?),
                },
            }
        }
        Ok(options)
    }

    pub(crate) fn has(&self, row: Row) -> bool {
        self.rows.is_empty() || self.rows.contains(&row)
    }

    /// An odd number, so that a median is one of the figures.
    pub(crate) fn rounds(&self) -> usize {
        if self.is_quick { 3 } else { 9 }
    }

    /// How many calls a round makes, if a normal one makes so many.
    pub(crate) fn calls(&self, calls: usize) -> usize {
        if self.is_quick {
            calls.div_ceil(10)
        } else {
            calls
        }
    }

    /// How long idle connections are watched.
    pub(crate) fn idle_time(&self) -> Duration {
        Duration::from_millis(if self.is_quick { 300 } else { 1_000 })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = ROWS.iter().find(|(_, row)| row == self);
        f.write_str(named.map_or("", |(name, _)| name))
    }
}

impl std::str::FromStr for Row {
    type Err = BoxError;

    fn from_str(text: &str) -> Result<Self, BoxError> {
        if let Some((_, row)) = ROWS.iter().find(|(name, _)| *name == text) {
            return Ok(*row);
        }
        let known: Vec<_> = ROWS.iter().map(|(name, _)| *name).collect();
        let known = known.join(" ");
        Err(format!("{text:?} is none of --quick --markdown {known}").into())
    }
}
