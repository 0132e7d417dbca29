//! Names and messages as a terminal may have them: a name is whatever somebody chose, and control
//! characters in it move the cursor, change the title, or pretend to be lines of their own.

use std::fmt::Write;
use std::path::Path;

/// Returns a text without control characters (C0, C1 and DEL): they are escaped as in Rust.
///
/// For whole messages, in which names have been escaped already.
///
/// # Examples
///
/// ```
/// assert_eq!(blockstore::escape::line("a\u{1b}[2Jb\\n"), r"a\x1b[2Jb\n");
/// ```
pub fn line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        push(&mut shown, character);
    }
    shown
}

/// Returns a name as a terminal may have it: like [`line()`], and with each backslash doubled, so
/// that different names look different.
///
/// # Examples
///
/// ```
/// assert_eq!(blockstore::escape::name("a\tb\\t\u{9b}"), r"a\tb\\t\u{9b}");
/// ```
pub fn name(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    push_name(&mut shown, text);
    shown
}

/// Returns a name as a program may have it, which reads lines: only line feeds and backslashes are
/// escaped.
///
/// # Examples
///
/// ```
/// assert_eq!(blockstore::escape::name_in_a_line("a\tb\nc\\"), "a\tb\\nc\\\\");
/// ```
pub fn name_in_a_line(text: &str) -> String {
    text.replace('\\', r"\\").replace('\n', r"\n")
}

/// Returns a path as a terminal may have it: like [`name()`], and with every byte escaped that is no
/// part of a character.
///
/// # Examples
///
/// ```
/// # #[cfg(unix)]
/// # {
/// use std::ffi::OsStr;
/// use std::os::unix::ffi::OsStrExt;
/// use std::path::Path;
///
/// let path = Path::new(OsStr::from_bytes(b"caf\xe9\n"));
/// assert_eq!(blockstore::escape::path(path), r"caf\xe9\n");
/// # }
/// ```
pub fn path(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        push_name(&mut shown, chunk.valid());
        for byte in chunk.invalid() {
            push_number(&mut shown, u32::from(*byte));
        }
    }
    shown
}

fn push_name(shown: &mut String, text: &str) {
    for character in text.chars() {
        if character == '\\' {
            shown.push('\\');
        }
        push(shown, character);
    }
}

fn push(shown: &mut String, character: char) {
    match character {
        '\n' => shown.push_str(r"\n"),
        '\r' => shown.push_str(r"\r"),
        '\t' => shown.push_str(r"\t"),
        // C1: as a character, for the same number is also that of a byte which is no character.
        '\u{80}'..='\u{9f}' => shown.extend(character.escape_unicode()),
        _ if character.is_control() => push_number(shown, character.into()),
        _ => shown.push(character),
    }
}

fn push_number(shown: &mut String, number: u32) {
    // Writing to a string does not fail.
    let _ = write!(shown, r"\x{number:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_is_left_and_nothing_else_is_changed() {
        for character in '\0'..='\u{2ff}' {
            let text = character.to_string();
            let shown = line(&text);
            assert!(!shown.chars().any(char::is_control), "{character:?}");
            assert_eq!(shown == text, !character.is_control(), "{character:?}");
        }
    }

    #[test]
    fn different_names_look_different() {
        let mut seen = std::collections::HashMap::new();
        for first in '\0'..='\u{ff}' {
            for second in ["", "n", "x1b", "\n", "\\", "\\n"] {
                let text = format!("{first}{second}");
                assert_eq!(seen.insert(name(&text), text.clone()), None, "{text:?}");
            }
        }
    }
}
