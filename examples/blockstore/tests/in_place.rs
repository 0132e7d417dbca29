//! A file that is written over, and cannot be: what is left of what there was and of what was
//! fetched. Files in memory are sealed against what a full disk does not let happen either.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, where Clippy does not expect it"
)]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{self, Command, Output, Stdio};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use support::{PROGRAM, names_in, put_contents, server_command, text};
use tempfile::TempDir;

const CONTENTS: &str = "what was stored";

/// Fetches into a file in memory that has some contents and a seal; returns what is left of these,
/// and the directory for temporary files.
fn get_over(before: &str, seal: SealFlags) -> (Output, String, TempDir) {
    let mut file = File::from(memfd_create("file", MemfdFlags::ALLOW_SEALING).unwrap());
    file.write_all(before.as_bytes()).unwrap();
    fcntl_add_seals(&file, seal).unwrap();
    let path = format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd());
    let store = tempfile::tempdir().unwrap();
    let root = put_contents(store.path(), CONTENTS.as_bytes());
    let temporaries = tempfile::tempdir().unwrap();
    let output = Command::new(PROGRAM)
        .args(["get", &root, "-o", &path])
        .args(["--command", &server_command(store.path())])
        .env("TMPDIR", temporaries.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let after = fs::read_to_string(&path).unwrap();
    (output, after, temporaries)
}

#[test]
fn a_file_that_cannot_grow_stays_as_it_was() {
    common::watched(|| {
        let (output, after, temporaries) = get_over("as it was", SealFlags::GROW);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("cannot write /proc/"));
        assert_eq!(after, "as it was");
        assert_eq!(names_in(temporaries.path()), [""; 0]);
        // One that need not grow is written.
        let longer = "as it was, and longer than what was stored";
        let (output, after, temporaries) = get_over(longer, SealFlags::GROW);
        assert_eq!(text(&output.stderr), "");
        assert_eq!(after, CONTENTS);
        assert_eq!(names_in(temporaries.path()), [""; 0]);
    });
}

#[test]
fn what_cannot_be_written_over_a_file_is_kept_beside_and_named() {
    common::watched(|| {
        let before = "as it was, and as long";
        let (output, _, temporaries) = get_over(before, SealFlags::WRITE);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        let kept = names_in(temporaries.path());
        assert_eq!(kept.len(), 1);
        let kept = temporaries.path().join(&kept[0]);
        let named = format!("all of it is in {}", kept.display());
        assert!(told.contains(&named), "{told}");
        assert_eq!(fs::read_to_string(kept).unwrap(), CONTENTS);
    });
}
