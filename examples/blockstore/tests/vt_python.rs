//! The block store, served to a client made of the Python implementation of the protocol.
//!
//! Not run by default, because it needs the Python packages:
//!
//! ```sh
//! python3 -m venv VENV
//! VENV/bin/pip install --no-deps -r tests/interop/requirements.txt
//! PACKETSTREAM_PYTHON=$PWD/VENV/bin/python cargo test -p blockstore --test vt_python -- --ignored
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

#[path = "../../../tests/common/mod.rs"]
mod common;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::watched_for;

/// The client's own limit, in seconds: less than the watchdog's, so that it says what hangs.
const MAX_SECONDS: &str = "280";
const PATIENCE: Duration = Duration::from_secs(300);

/// The Python client, without arguments.
fn python_client() -> Command {
    let interop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/interop");
    let interpreter = env::var_os("PACKETSTREAM_PYTHON").map(PathBuf::from);
    let Some(interpreter) = interpreter.filter(|path| path.is_file()) else {
        panic!(
            "PACKETSTREAM_PYTHON must be the path of a Python interpreter with the packages of \
             {requirements}:\n  python3 -m venv VENV\n  VENV/bin/pip install --no-deps -r \
             {requirements}\n  export PACKETSTREAM_PYTHON=$PWD/VENV/bin/python",
            requirements = interop.join("requirements.txt").display()
        );
    };
    let mut command = Command::new(interpreter);
    // No compiled files beside the sources.
    command.arg("-B").arg(interop.join("vt_client.py"));
    command
}

/// Lets the client test a server that is started with these arguments.
fn agree(hash: &'static str, server_arguments: &str, client_arguments: &'static [&str]) {
    let server = format!(
        "'{}' serve --stdio {server_arguments}",
        env!("CARGO_BIN_EXE_blockstore")
    );
    watched_for(PATIENCE, move || {
        let output = python_client()
            .args(["--command", &server, "--hash", hash])
            .args(["--max-seconds", MAX_SECONDS])
            .args(client_arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && printed.ends_with(" passed, 0 failed\n"),
            "{}\n{printed}\n{complained}",
            output.status
        );
        assert!(printed.contains("ok      orderly_end"), "{printed}");
    });
}

#[test]
#[ignore = "needs the Python peer"]
fn python_client_agrees_with_a_store_of_sha1() {
    agree("sha1", "", &[]);
}

#[test]
#[ignore = "needs the Python peer"]
fn python_client_agrees_with_a_store_of_sha256() {
    agree("sha256", "", &[]);
}

#[test]
#[ignore = "needs the Python peer"]
fn python_client_agrees_with_a_store_of_blake3() {
    agree("blake3", "", &[]);
}

#[test]
#[ignore = "needs the Python peer"]
fn python_client_without_grace_agrees_with_a_store_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("store");
    let arguments = format!("--data '{}'", data.display());
    agree("sha256", &arguments, &["--grace", "0", "--chunks", "500"]);
}
