//! Octets that are nearly right: the recorded vectors and sessions, with some damage.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "test helpers; each user takes a part of them"
)]

use std::collections::BTreeSet;

use fastrand::Rng;
use serde_json::Value;

const VECTORS: &str = include_str!("../data/vectors.jsonl");

const TRANSCRIPTS: [&str; 8] = [
    include_str!("../data/transcripts/both_close_at_once.json"),
    include_str!("../data/transcripts/call_back.json"),
    include_str!("../data/transcripts/failing_request.json"),
    include_str!("../data/transcripts/out_of_order.json"),
    include_str!("../data/transcripts/pipelined_100.json"),
    include_str!("../data/transcripts/request_after_erq.json"),
    include_str!("../data/transcripts/server_shutdown_while_handling.json"),
    include_str!("../data/transcripts/transport_ends_without_eof_packet.json"),
];

/// The longest that are damaged: larger ones teach nothing and take long.
const LONGEST: usize = 4096;

/// The streams that were recorded, each once.
pub fn recorded() -> Vec<Vec<u8>> {
    let vectors = VECTORS.lines().map(|line| {
        let vector: Value = serde_json::from_str(line).unwrap();
        let key = if vector["kind"] == "packet" {
            "wire_hex"
        } else {
            "hex"
        };
        vector[key].as_str().map(unhex)
    });
    let transcripts = TRANSCRIPTS.iter().flat_map(|text| {
        let transcript: Value = serde_json::from_str(text).unwrap();
        ["client_hex", "server_hex"].map(|end| transcript[end].as_str().map(unhex))
    });
    let recorded: BTreeSet<_> = vectors
        .chain(transcripts)
        .flatten()
        .filter(|octets| octets.len() <= LONGEST)
        .collect();
    assert!(recorded.len() > 200, "only {} inputs", recorded.len());
    recorded.into_iter().collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

/// Makes one input of some recorded ones.
pub fn mutated(random: &mut Rng, recorded: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = Vec::new();
    for _ in 0..random.usize(1..6) {
        // Of two the longer: most are a single packet, or none, and say nothing to the next.
        let pair = [random.choice(recorded), random.choice(recorded)];
        let longer = pair.into_iter().flatten().max_by_key(|octets| octets.len());
        octets.extend(longer.unwrap());
    }
    for _ in 0..random.usize(0..3) {
        damage(random, &mut octets, recorded);
    }
    octets
}

fn damage(random: &mut Rng, octets: &mut Vec<u8>, recorded: &[Vec<u8>]) {
    if octets.is_empty() {
        return;
    }
    // The fields are at the front; what is damaged there ends most streams at once.
    let end = if random.u8(0..4) == 0 {
        octets.len().min(8)
    } else {
        octets.len()
    };
    let at = random.usize(0..end);
    let edge = [0, 1, 2, 3, 0x7f, 0x80, 0x81, 0xff][random.usize(0..8)];
    match random.u8(0..8) {
        0 => octets[at] ^= 1 << random.u8(0..8),
        1 => octets[at] = edge,
        2 => octets[at] = random.u8(..),
        3 => octets.insert(at, edge),
        4 => {
            octets.remove(at);
        }
        5 => octets.truncate(at),
        6 => {
            let other = random.choice(recorded).unwrap();
            octets.splice(at..at, other.iter().copied());
        }
        _ => {
            let until = random.usize(at..octets.len());
            octets.drain(at..until);
        }
    }
}
