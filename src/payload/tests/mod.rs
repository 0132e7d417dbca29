//! Rules of the cursor, of errors and of sequences; the laws of all codecs are in `tests/`.

mod bulk;
mod input;
mod nesting;
mod offsets;
