//! Recognises a peer that is some other program: a shell's error, a login banner, TLS.
//!
//! Text often decodes as packets, and nearly always as the start of one whose end never comes. So
//! the head of the first packet is judged as soon as it is there.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use crate::error::Error;
use crate::wire::start::MOST_KEPT;
use crate::wire::{ChannelId, Tag, varint};

const HAS_CHANNEL: u64 = 1;
const IS_REQUEST: u64 = 1 << 1;

/// From so many characters on, text at the start of something else is taken for text.
const LEAST_TEXT: usize = 3;

/// What the head of a first packet tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not enough has come.
    Undecided,
    Ours,
    /// Not ours, unless it answers a request of ours: then it is never text, whatever it looks like.
    /// The channel is `None` as long as it has not come.
    Response(Option<ChannelId>, Tag),
    Foreign,
}

/// Judges the start of a stream: the first packet, as far as it has come, and what has come with
/// it.
///
/// An end that speaks the protocol begins with tag 2, or 0 on another channel, or with an end packet
/// whose tag is 0 or 1. None of them is printable.
pub(super) fn judge(start: &[u8]) -> Verdict {
    let mut fields = Fields::of(start);
    let (Some(_), Some((tag, tag_bytes)), Some((word, word_bytes))) =
        (fields.take(), fields.take(), fields.take())
    else {
        return Verdict::Undecided;
    };
    let head = fields.taken();
    if word & IS_REQUEST == 0 {
        let channel = match word & HAS_CHANNEL {
            0 => Some(ChannelId::DEFAULT),
            _ => fields.take().map(|(channel, _)| ChannelId::new(channel)),
        };
        return Verdict::Response(channel, Tag::new(tag));
    }
    let is_printable = |bytes: &[u8]| bytes.iter().all(|byte| is_ascii_text(*byte));
    if is_printable(tag_bytes) && is_printable(word_bytes) {
        return Verdict::Foreign;
    }
    if !head.is_ascii() && leading_text(head).len() == head.len() {
        return Verdict::Foreign;
    }
    match Tls::of(start) {
        Tls::Record => Verdict::Foreign,
        Tls::Start => Verdict::Undecided,
        Tls::No => Verdict::Ours,
    }
}

/// The error about a stream that starts so and is not ours.
pub(super) fn refusal(start: &[u8]) -> Error {
    let text = if Tls::of(start) != Tls::No {
        "peer is not speaking packetstream; it sent the start of a TLS record".to_owned()
    } else if is_caret_echo(start) {
        format!(
            "peer is not speaking packetstream; it echoes what it is sent, as a terminal does: {}",
            quoted(start)
        )
    } else {
        format!(
            "peer is not speaking packetstream; it said: {}",
            quoted(start)
        )
    };
    Error::NotPacketstream(Arc::from(text))
}

/// Says what it is, if not packets, that has neither a whole head nor more to come.
pub(super) fn diagnose(start: &[u8]) -> Option<Error> {
    (Tls::of(start) != Tls::No || is_text(start)).then(|| refusal(start))
}

/// The error about text in the middle of a stream that was ours, if these bytes are text.
pub(super) fn diagnose_later(start: &[u8]) -> Option<Error> {
    is_text(start).then(|| {
        let quote = quoted(start);
        let text = format!("peer is no longer speaking packetstream; it said: {quote}");
        Error::NotPacketstream(text.into())
    })
}

/// Whether it is text, or starts with some.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let bytes = whole_characters(bytes);
    let text = leading_text(bytes);
    !text.is_empty() && (text.len() == bytes.len() || text.chars().count() >= LEAST_TEXT)
}

/// Quotes what has come up to the first end of a line, if there is text before it; control
/// characters and whatever else cannot be shown are escaped.
pub(super) fn quoted(bytes: &[u8]) -> String {
    let has_more = bytes.len() >= MOST_KEPT;
    let bytes = whole_characters(bytes);
    let text = leading_text(bytes);
    let said = text.trim_start_matches(['\r', '\n', ' ', '\t']);
    let (line, is_cut) = match said.find(['\r', '\n']) {
        Some(end) => (Cow::from(said.get(..end).unwrap_or_default()), false),
        None if !said.is_empty() && text.len() == bytes.len() => (Cow::from(said), has_more),
        // What is not text has no lines.
        None => {
            let margin = if said.is_empty() {
                0
            } else {
                text.len().saturating_sub(said.len())
            };
            let shown = bytes.get(margin..).unwrap_or_default();
            (String::from_utf8_lossy(shown), has_more)
        }
    };
    let mut quote = String::from("\"");
    for character in line.chars() {
        // Writing to a string cannot fail.
        let _ = match character {
            '\'' => write!(quote, "'"),
            _ => write!(quote, "{}", character.escape_debug()),
        };
    }
    if is_cut {
        quote.push('…');
    }
    quote.push('"');
    quote
}

/// Leaves out a last character of which only a part has come.
fn whole_characters(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => {
            bytes.get(..error.valid_up_to()).unwrap_or_default()
        }
        _ => bytes,
    }
}

/// The longest start that is text: UTF-8 without control characters other than white space, ESC
/// and BEL.
fn leading_text(bytes: &[u8]) -> &str {
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => bytes
            .get(..error.valid_up_to())
            .and_then(|valid| std::str::from_utf8(valid).ok())
            .unwrap_or_default(),
    };
    let is_control = |c: char| c.is_control() && !matches!(c, '\t'..='\r' | '\x1b' | '\x07');
    let end = valid.find(is_control).unwrap_or(valid.len());
    valid.get(..end).unwrap_or_default()
}

fn is_ascii_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\r' | b'\x1b' | b' '..=b'~')
}

/// Whether it looks like bytes that a terminal sends back, with control characters as `^B`: in all
/// that we send, one follows the other.
fn is_caret_echo(start: &[u8]) -> bool {
    let is_echo = |bytes: &[u8]| matches!(bytes, [b'^', b'@'..=b'_', b'^', ..]);
    start.windows(3).take(8).any(is_echo)
}

/// The numbers at the start of a packet.
struct Fields<'a> {
    start: &'a [u8],
    len: usize,
}

impl<'a> Fields<'a> {
    fn of(start: &'a [u8]) -> Self {
        Self { start, len: 0 }
    }

    /// The next number and its bytes, if it is there and is one.
    fn take(&mut self) -> Option<(u64, &'a [u8])> {
        let rest = self.start.get(self.len..)?;
        let (number, len) = varint::decode(rest).ok()??;
        self.len = self.len.saturating_add(len);
        Some((number, rest.get(..len)?))
    }

    fn taken(&self) -> &'a [u8] {
        self.start.get(..self.len).unwrap_or_default()
    }
}

/// An alert of TLS or SSL 3, or the hello of a client or server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    No,
    /// As far as it goes; at least its version.
    Start,
    Record,
}

impl Tls {
    /// Length 22 and tag 3 are the start of a packet as well as of such a hello, so all is compared
    /// that a hello has in common with each other: its version, in the record and inside.
    fn of(start: &[u8]) -> Self {
        type Allowed = fn(u8) -> bool;
        let major: Allowed = |byte| byte == 3;
        let minor: Allowed = |byte| byte <= 4;
        let any: Allowed = |_| true;
        let zero: Allowed = |byte| byte == 0;
        let one_or_two: Allowed = |byte| matches!(byte, 1 | 2);
        let alert = [
            |byte| byte == 0x15,
            major,
            minor,
            zero,
            |byte| byte == 2,
            one_or_two,
        ];
        // The record's type, version and length; the type and length of the hello, and its version.
        let hello = [
            |byte| byte == 0x16,
            major,
            minor,
            any,
            any,
            one_or_two,
            zero,
            any,
            any,
            major,
            minor,
        ];
        let compare = |pattern: &[Allowed]| {
            let mut pairs = pattern.iter().zip(start);
            match pairs.all(|(is_allowed, byte)| is_allowed(*byte)) {
                true if start.len() >= pattern.len() => Self::Record,
                true if start.len() >= 3 => Self::Start,
                _ => Self::No,
            }
        };
        match (compare(&alert), compare(&hello)) {
            (Self::Record, _) | (_, Self::Record) => Self::Record,
            (Self::No, Self::No) => Self::No,
            _ => Self::Start,
        }
    }
}

#[cfg(test)]
#[path = "foreign_tests.rs"]
mod tests;
