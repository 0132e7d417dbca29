//! The example `dump` shows what a stream holds, and says where it stops being one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in a test, that is how a failure is reported"
)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::thread;

use packetstream::{ChannelId, Flags, Packet, RequestType, Tag};
use serde_json::{Value, json};

/// The built example, beside the directory of this test.
///
/// `cargo test` builds it with the tests, but not when only some targets are asked for; then there
/// is none, or an old one. If it is up to date, this costs a fraction of a second.
static DUMP: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--example", "dump", "--target-dir"])
        .arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(
        cargo.status().unwrap().success(),
        "the example does not build"
    );
    let name = format!("dump{}", std::env::consts::EXE_SUFFIX);
    profile.join("examples").join(name)
});

fn dump() -> Command {
    Command::new(&*DUMP)
}

/// Runs the example on standard input.
fn dump_octets(arguments: &[&str], octets: &[u8]) -> Output {
    let mut child = dump()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let octets = octets.to_vec();
    let feeder = thread::Builder::new()
        .name("feeder".into())
        // The example need not read on after an error, so this may fail.
        .spawn(move || drop(stdin.write_all(&octets)))
        .unwrap();
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

fn json_lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .chars()
        .map(|digit| digit.to_digit(16).unwrap())
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap())
        .collect()
}

fn transcripts() -> Vec<(PathBuf, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/transcripts");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .filter(|path| path.file_name().unwrap() != "index.json")
        .map(|path| {
            let transcript = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            (path, transcript)
        })
        .collect()
}

/// What the example should say of a packet that a transcript describes in the wire's terms.
fn expected(packet: &Value) -> Value {
    let mut expected = json!({
        "offset": packet["offset"],
        "length": packet["length"],
        "kind": packet["kind"],
        "channel": packet["channel"],
        "tag": packet["tag"],
        "flags": packet["flags"],
        "payload_len": packet["payload_len"],
        "payload": packet["payload_hex"],
    });
    match packet["kind"].as_str().unwrap() {
        "request" => expected["rq_type"] = (packet["rq_type"].as_u64().unwrap() - 1).into(),
        "response" => {
            let flags = packet["flags"].as_u64().unwrap();
            expected["ok"] = (flags % 2 == 1).into();
            expected["flags"] = (flags / 2).into();
        }
        "ERQ" => expected["kind"] = "end_of_requests".into(),
        "EOF" => expected["kind"] = "end_of_stream".into(),
        other => panic!("a packet of the kind {other}"),
    }
    expected
}

#[test]
fn recorded_streams_are_shown_packet_by_packet() {
    let transcripts = transcripts();
    assert!(transcripts.len() > 10, "the transcripts are missing");
    for (path, transcript) in &transcripts {
        for side in ["client", "server"] {
            let octets = unhex(transcript[format!("{side}_hex")].as_str().unwrap());
            let packets = transcript[format!("{side}_packets")].as_array().unwrap();
            let output = dump_octets(&["--json"], &octets);
            let expected: Vec<Value> = packets.iter().map(expected).collect();
            assert_eq!(
                json_lines(&output),
                expected,
                "{side} of {}",
                path.display()
            );
            assert_eq!(
                (output.status.code(), stderr(&output).as_str()),
                (Some(0), "")
            );

            let text = dump_octets(&[], &octets);
            assert_eq!(
                text.stdout.split(|&octet| octet == b'\n').count(),
                packets.len() + 1
            );
        }
    }
}

#[test]
fn a_file_may_be_named_and_may_hold_several_conversations() {
    let numbers = Packet::request(
        ChannelId::new(u64::MAX),
        Tag::new(u64::MAX),
        RequestType::MAX,
        Flags::MAX,
        vec![0xab; 100_000],
    );
    let mut octets = Packet::END_OF_STREAM.transcribe();
    octets.extend(numbers.transcribe());
    octets.extend(Packet::END_OF_STREAM.transcribe());
    let path = std::env::temp_dir().join(format!("packetstream-dump-{}", std::process::id()));
    fs::write(&path, &octets).unwrap();
    let output = dump().arg("--json").arg(&path).output().unwrap();
    fs::remove_file(&path).unwrap();

    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1]["offset"], 4);
    assert_eq!(lines[1]["length"], numbers.encoded_len());
    assert_eq!(lines[1]["channel"], u64::MAX);
    assert_eq!(lines[1]["tag"], u64::MAX);
    assert_eq!(lines[1]["rq_type"], u64::MAX - 1);
    assert_eq!(lines[1]["flags"], (1_u64 << 62) - 1);
    assert_eq!(lines[1]["payload"], "ab".repeat(100_000));
    assert_eq!(lines[2]["offset"], 4 + numbers.encoded_len());
}

#[test]
fn what_precedes_an_error_is_shown_with_its_place() {
    let good = Packet::END_OF_REQUESTS.transcribe();
    let cases: [(&[u8], &str); 4] = [
        (&[6, 2, 4, b'l'], "after 4 of its 7 octets"),
        (&[0x86], "after 1 octets of its length"),
        (&[0, 0, 0], "no room for its tag"),
        (
            &[0xff; 32],
            "length of a packet cannot exceed 64 bits or 10 octets",
        ),
    ];
    for (bad, reason) in cases {
        let output = dump_octets(&["--json"], &[&good, &good, bad].concat());
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(json_lines(&output).len(), 2);
        let message = stderr(&output);
        assert!(
            message.contains("at offset 8: ") && message.contains(reason),
            "{message}"
        );
        assert_eq!(message.lines().count(), 1);
    }
}

#[test]
fn nothing_is_nothing() {
    let output = dump_octets(&[], b"");
    assert_eq!(
        (output.status.code(), output.stdout, output.stderr),
        (Some(0), vec![], vec![])
    );
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for arguments in [&["--yaml"][..], &["one", "two"]] {
        let output = dump_octets(arguments, b"");
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("usage: dump"));
    }
    let output = dump_octets(&["no such file"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot open no such file"));

    let output = dump_octets(&["--help"], b"");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.starts_with(b"usage: dump"));
}

#[test]
fn an_output_that_nobody_reads_is_no_failure() {
    let mut child = dump()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    let octets = Packet::END_OF_REQUESTS.transcribe().repeat(50_000);
    // Fails as soon as the example has gone, which is what is wanted.
    drop(stdin.write_all(&octets));
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(0), "")
    );
}
