//! What is text, and what nothing but a packet.

use super::*;

#[track_caller]
fn is_refused_as(start: &[u8], expected: &str) {
    assert!(
        matches!(judge(start), Verdict::Foreign | Verdict::Response(..)),
        "{:?}",
        judge(start)
    );
    let told = refusal(start).to_string();
    let quote = told.strip_prefix("peer is not speaking packetstream; it said: ");
    assert_eq!(quote, Some(expected));
}

#[test]
fn text_is_quoted_up_to_the_end_of_its_line() {
    is_refused_as(
        b"bash: server: command not found\r\nand more\n",
        "\"bash: server: command not found\"",
    );
    is_refused_as(b"say \"hi\"\nand go", r#""say \"hi\"""#);
    is_refused_as(b"can't \\ open\n", r#""can't \\ open""#);
    is_refused_as(b"\r\n\n  Welcome\n", "\"Welcome\"");
    is_refused_as(b"Wel", "\"Wel\"");
    is_refused_as(b"\x1b[1;31mred\x1b[0m\n", r#""\u{1b}[1;31mred\u{1b}[0m""#);
    is_refused_as("Größe unbekannt\n".as_bytes(), "\"Größe unbekannt\"");
    is_refused_as(b"Hi\n\x06\x02\x04late", "\"Hi\"");
}

/// Without a line end nothing says where the text ends and something else begins.
#[test]
fn what_is_not_all_text_is_quoted_whole_and_escaped() {
    is_refused_as(b"J\0\0\0\n8.0.36\0", "\"J\\0\\0\\0\\n8.0.36\\0\"");
    is_refused_as(b"abc\x06\x02\x04", r#""abc\u{6}\u{2}\u{4}""#);
    assert_eq!(quoted(b"\n"), r#""\n""#);
    assert_eq!(quoted(b"caf\xc3"), "\"caf\"", "half a character");
    let long = "x".repeat(300);
    assert_eq!(
        quoted(&long.as_bytes()[..256]),
        format!("\"{}…\"", &long[..256])
    );
}

#[test]
fn request_with_a_printable_tag_and_word_is_text_whatever_its_length_and_type() {
    for tag in 0..=127_u8 {
        for word in (0..=127_u8).filter(|word| word & 2 != 0) {
            let is_text = is_ascii_text(tag) && is_ascii_text(word);
            for length in [0_u8, 5, 72, 127] {
                let judged = judge(&[length, tag, word]);
                assert_eq!(judged == Verdict::Foreign, is_text, "{length} {tag} {word}");
            }
        }
    }
}

#[test]
fn words_2_and_3_are_of_packets_whatever_the_tag() {
    for tag in 0..70_000 {
        for (word, rest) in [(2, &[1, 0, 0][..]), (3, &[5, 1, 0]), (3, &[0x81, 0x13, 1])] {
            let mut start = vec![22];
            varint::encode(tag, &mut start);
            start.push(word);
            start.extend_from_slice(rest);
            let judged = judge(&start);
            let may_be_tls = tag == 3 && judged == Verdict::Undecided;
            assert!(
                judged == Verdict::Ours || may_be_tls,
                "{start:?}: {judged:?}"
            );
        }
    }
}

#[test]
fn text_of_several_bytes_a_character_is_text() {
    for text in [
        "Ünïcode",
        "日本語の",
        "éèêë\n",
        "Grüße",
        "→ ok",
        "\u{feff}Text",
    ] {
        let bytes = text.as_bytes();
        let judged = judge(bytes);
        let is_undecodable = judged == Verdict::Undecided && diagnose(bytes).is_some();
        assert!(
            is_undecodable || matches!(judged, Verdict::Foreign | Verdict::Response(..)),
            "{text}: {judged:?}"
        );
    }
    // Long numbers that are no UTF-8.
    assert_eq!(judge(&[0x80, 0x05, 0x82, 0x2c, 0x82, 0x02]), Verdict::Ours);
    assert_eq!(judge(&[0xff, 0x05, 0xc3, 0x02, 0x02]), Verdict::Ours);
}

#[test]
fn without_a_whole_word_nothing_is_judged() {
    for start in [
        &b""[..],
        b"\n",
        b"Hi",
        b"\x83",
        b"\x83\xa9",
        b"\x05\x02\x82",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert_eq!(judge(start), Verdict::Undecided, "{start:?}");
    }
}

#[test]
fn response_is_named_by_its_channel_and_tag_as_soon_as_they_are_there() {
    let default = Some(ChannelId::DEFAULT);
    let tag = Tag::new(300);
    assert_eq!(judge(b"\x05\x82\x2c\x04"), Verdict::Response(default, tag));
    assert_eq!(judge(b"\x05\x82\x2c\x05"), Verdict::Response(None, tag));
    let channel = Some(ChannelId::new(257));
    assert_eq!(
        judge(b"\x07\x82\x2c\x05\x82\x01"),
        Verdict::Response(channel, tag)
    );
}

#[test]
fn end_of_the_input_tells_text_from_the_start_of_a_packet() {
    for start in [&b"H"[..], b"Hi", b"\n", b"\xc3\xa9"] {
        assert!(diagnose(start).is_some(), "{start:?}");
    }
    for start in [&b""[..], b"\x03\x00", b"A\x02", b"\x83"] {
        assert!(diagnose(start).is_none(), "{start:?}");
    }
    assert!(diagnose_later(b"Traceback\0").is_some());
    assert!(diagnose_later(b"ab\0").is_none());
}

#[test]
fn tls_is_named() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x5a\x5a";
    let of_1_2 = b"\x16\x03\x03\x02\x00\x02\x00\x01\xfc\x03\x03\x5a\x5a";
    let alert = &b"\x15\x03\x03\x00\x02\x02\x28"[..];
    for start in [alert, hello, &hello[..4], of_1_2] {
        assert_ne!(judge(start), Verdict::Ours);
        assert!(refusal(start).to_string().contains("TLS"));
    }
    // As a request these three are still possible.
    assert_eq!(judge(&of_1_2[..3]), Verdict::Undecided);
    assert!(diagnose(&of_1_2[..3]).unwrap().to_string().contains("TLS"));
}

#[test]
fn packet_whose_first_bytes_are_those_of_a_record_is_one() {
    for request_type in 0..255 {
        for byte in 0..=255 {
            let mut packet = vec![22, 3, 2, request_type + 1];
            packet.resize(23, byte);
            assert_eq!(judge(&packet), Verdict::Ours, "{packet:?}");
        }
    }
}

#[test]
fn echo_in_caret_notation_is_named_and_other_carets_are_not() {
    for echo in [&b"^C^@^B^@"[..], b"^F^", b"A^B^B^Aabc", b"^C^A^B^@^C^@^B^@"] {
        let told = refusal(echo).to_string();
        assert!(told.contains("as a terminal does: \""), "{told}");
    }
    for other in [&b"^Wel"[..], b"a ^ b ^ c", b"^^^^"] {
        let told = refusal(other).to_string();
        assert!(!told.contains("terminal") || other == b"^^^^", "{told}");
    }
}
