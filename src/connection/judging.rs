//! Judging what has been read, before it is dealt out: whether it is packets at all.

use super::foreign::{self, Verdict};
use super::read_side::{Filled, ReadSide};
use super::session::Session;
use crate::error::{Error, Result};
use crate::wire::DecodeError;

impl Session {
    /// Says why what has been read is not a stream of ours, or no longer. To be asked about
    /// whatever has been read, before it is dealt out.
    pub(super) fn judge(&self, reading: &mut ReadSide, filled: &Filled) -> Result<()> {
        // What does not decode has no head; it may still be text.
        let is_undecodable = matches!(filled, Filled::Batch { end: Some(_) });
        if reading.is_first && self.config.refuses_text && !is_undecodable {
            self.judge_first(reading, filled)?;
        }
        match filled {
            Filled::Partial => self.judge_partial(reading)?,
            Filled::Batch { end: Some(error) } => {
                if let Some(text) = self.text_instead(reading, error) {
                    return Err(text);
                }
            }
            Filled::Batch { end: None } | Filled::TooLong(_) => {
                reading.is_first = false;
                reading.is_claim_judged = false;
            }
        }
        self.note_partial(reading, filled);
        Ok(())
    }

    /// Judges the head of the first packet, as far as it is there.
    fn judge_first(&self, reading: &mut ReadSide, filled: &Filled) -> Result<()> {
        let start = reading.reader.start();
        match foreign::judge(start) {
            Verdict::Undecided => return Ok(()),
            Verdict::Foreign => return Err(foreign::refusal(start)),
            Verdict::Ours => {}
            Verdict::Response(channel, tag) => {
                let shared = self.shared.lock();
                let is_owed = match channel {
                    Some(channel) => shared.state.is_owed((channel, tag)),
                    None => shared.state.is_owed_somewhere(tag),
                };
                // What a forced end has given up may still be answered.
                let is_refused = !is_owed && !shared.is_forced;
                drop(shared);
                if is_refused {
                    return Err(foreign::refusal(start));
                }
                if channel.is_none() && matches!(filled, Filled::Partial) {
                    return Ok(());
                }
            }
        }
        reading.is_first = false;
        Ok(())
    }

    /// Says whether the rest of a packet may be waited for.
    fn judge_partial(&self, reading: &mut ReadSide) -> Result<()> {
        if !reading.is_claim_judged
            && let Some((channel, tag, len)) = reading.reader.partial_response()
            && len > self.config.limits.unowed_response
        {
            let shared = self.shared.lock();
            let judged = shared.state.may_read_response((channel, tag), len);
            drop(shared);
            judged.map_err(|error| {
                let start = reading.reader.start();
                foreign::diagnose_later(start).unwrap_or(error)
            })?;
            reading.is_claim_judged = true;
        }
        Ok(())
    }

    /// Keeps what has come of a packet that is incomplete for the report: of the first of all, and of
    /// others that look like text.
    fn note_partial(&self, reading: &mut ReadSide, filled: &Filled) {
        let start = reading.reader.start();
        let is_kept = matches!(filled, Filled::Partial)
            && !reading.reader.is_between_packets()
            && (reading.is_first || foreign::is_text(start));
        let kept = if is_kept { start } else { &[] };
        if kept.len() != reading.noted {
            reading.noted = kept.len();
            self.shared.lock().partial = kept.to_vec();
        }
    }

    /// The error that tells more than that the bytes are no packet, if they are text.
    fn text_instead(&self, reading: &ReadSide, error: &Error) -> Option<Error> {
        let start = reading.reader.start();
        if reading.is_first && self.config.refuses_text {
            return foreign::diagnose(start);
        }
        match error {
            // A cut is the fault of the transport.
            Error::Decode(DecodeError::Truncated { .. }) => None,
            Error::Decode(_) => foreign::diagnose_later(start),
            _ => None,
        }
    }
}
