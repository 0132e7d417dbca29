//! Recognises a peer that is some other program: a shell's error, a login banner, TLS.

use std::fmt::Write;
use std::sync::Arc;

use crate::error::Error;

/// Says what a stream is that starts with these octets, if that is not packets.
///
/// To be asked about the octets of a first packet that answers no request of ours. No end that
/// speaks the protocol starts so: its first tag is 2, or 0 on another channel, and neither is
/// printable.
pub(super) fn diagnose(first: &[u8]) -> Option<Error> {
    if is_tls(first) {
        let text = "peer is not speaking packetstream; it sent the start of a TLS record";
        return Some(Error::NotPacketstream(Arc::from(text)));
    }
    if first.is_empty() || !first.iter().all(|octet| is_text(*octet)) {
        return None;
    }
    let quote = quoted(first);
    let text = format!("peer is not speaking packetstream; it said: {quote}");
    Some(Error::NotPacketstream(text.into()))
}

/// Quotes octets, escaped where they are not printable.
pub(super) fn quoted(octets: &[u8]) -> String {
    let mut quote = String::from("\"");
    for character in String::from_utf8_lossy(octets)
        .trim_end_matches(['\r', '\n'])
        .chars()
    {
        // Writing to a string cannot fail.
        let _ = write!(quote, "{}", character.escape_debug());
    }
    quote.push('"');
    quote
}

fn is_text(octet: u8) -> bool {
    octet.is_ascii_graphic() || octet.is_ascii_whitespace() || octet == 0x0b
}

/// A handshake or an alert of TLS, or of SSL 3.
fn is_tls(first: &[u8]) -> bool {
    matches!(first, [0x15 | 0x16, 0x03, 0x00..=0x04, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted() {
        let error = diagnose(b"bash: server: command not found\r\n").unwrap();
        assert_eq!(
            error.to_string(),
            "peer is not speaking packetstream; it said: \"bash: server: command not found\""
        );
        let error = diagnose(b"say \"hi\"\nand go").unwrap();
        assert!(error.to_string().ends_with("\"say \\\"hi\\\"\\nand go\""));
    }

    #[test]
    fn packets_are_not_text() {
        for octets in [
            &b""[..],
            b"\x03\x00\x02\x00",
            b"\x07\x02\x82\x56\x01abc",
            b"Last login: \x00",
        ] {
            assert!(diagnose(octets).is_none());
        }
    }

    #[test]
    fn tls_is_named() {
        for octets in [b"\x16\x03\x01\x02\x00\x01", b"\x15\x03\x03\x00\x02\x02"] {
            let error = diagnose(octets).unwrap();
            assert!(error.to_string().contains("TLS"));
        }
    }
}
