//! Recognises a peer that is some other program: a shell's error, a login banner, TLS.

use std::fmt::Write;
use std::sync::Arc;

use crate::error::Error;

/// Says what a stream is that starts with these octets, if that is not packets.
///
/// To be asked about the octets of a first packet that answers no request of ours. An end that
/// speaks the protocol starts with tag 2, or 0 on another channel, and neither is printable. The
/// tag is another one only if the end has cancelled requests before they were sent.
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

/// An alert of TLS or SSL 3, or the hello of a client or server, as far as the octets go.
///
/// Length 22 and tag 3 are the start of a packet as well as of such a hello, so all is compared
/// that a hello has in common with each other: its version, in the record and inside.
fn is_tls(first: &[u8]) -> bool {
    type Allowed = fn(u8) -> bool;
    let major: Allowed = |octet| octet == 3;
    let minor: Allowed = |octet| octet <= 4;
    let any: Allowed = |_| true;
    let zero: Allowed = |octet| octet == 0;
    let one_or_two: Allowed = |octet| matches!(octet, 1 | 2);
    let alert = [
        |octet| octet == 0x15,
        major,
        minor,
        zero,
        |o| o == 2,
        one_or_two,
    ];
    // The record's type, version and length; the type and length of the hello, and its version.
    let hello = [
        |octet| octet == 0x16,
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
    let starts_as = |pattern: &[Allowed]| {
        let mut pairs = pattern.iter().zip(first);
        first.len() >= 3 && pairs.all(|(is_allowed, octet)| is_allowed(*octet))
    };
    starts_as(&alert) || starts_as(&hello)
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
        let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x5a\x5a";
        for octets in [&b"\x15\x03\x03\x00\x02\x02\x28"[..], hello, &hello[..4]] {
            let error = diagnose(octets).unwrap();
            assert!(error.to_string().contains("TLS"));
        }
    }

    /// The first request that is sent has tag 3 if one was cancelled before.
    #[test]
    fn packet_whose_first_octets_are_those_of_a_record_is_one() {
        for request_type in 0..255 {
            for octet in 0..=255 {
                let mut packet = vec![22, 3, 2, request_type + 1];
                packet.resize(23, octet);
                assert!(diagnose(&packet).is_none(), "{packet:?}");
            }
        }
    }
}
