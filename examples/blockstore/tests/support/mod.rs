//! What the tests of the program share.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_blockstore");

/// Runs the program to its end.
pub fn blockstore(arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Runs the program, which must succeed without a word on standard error; returns what it prints.
pub fn succeed(arguments: &[&str]) -> String {
    let output = blockstore(arguments);
    assert_eq!(text(&output.stderr), "", "{arguments:?}");
    assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    text(&output.stdout)
}

/// Runs the program, which must fail with one line on standard error; returns that.
pub fn fail(arguments: &[&str]) -> String {
    fail_with(1, arguments)
}

/// The same with another exit status.
pub fn fail_with(status: i32, arguments: &[&str]) -> String {
    let output = blockstore(arguments);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    let line = text(&output.stderr);
    assert_eq!(line.lines().count(), 1, "{arguments:?}: {line}");
    line
}

pub fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

/// The command line of a server over standard input and output, as a shell takes it.
pub fn server_command(data: &Path) -> String {
    format!("'{PROGRAM}' serve --stdio --data '{}'", data.display())
}

/// A server that is killed in the end.
pub struct Server {
    child: Child,
    /// Where it says that it listens.
    pub address: String,
}

impl Server {
    /// Starts the program with `serve` and these arguments, and waits until it listens.
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .arg("serve")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stderr = child.stderr.as_mut().unwrap();
        BufReader::new(stderr).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening at ").unwrap_or_else(|| {
            panic!("it says: {line}");
        });
        let address = address.trim_end().to_owned();
        Self { child, address }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Kills a process without a warning.
pub fn kill(pid: &str) {
    let status = Command::new("kill").args(["-KILL", pid.trim()]).status();
    assert!(status.unwrap().success());
}

/// Octets that do not repeat, as long as is wanted, without being held in memory.
pub struct Noise {
    random: fastrand::Rng,
    /// What is left of the last random number, the next octet first.
    word: Vec<u8>,
    left: usize,
}

impl Noise {
    pub fn new(seed: u64, len: usize) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            word: Vec::new(),
            left: len,
        }
    }

    pub fn octets(seed: u64, len: usize) -> Vec<u8> {
        let mut octets = Vec::new();
        Self::new(seed, len).read_to_end(&mut octets).unwrap();
        octets
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = buffer.len().min(self.left);
        let mut rest = &mut buffer[..len];
        while !rest.is_empty() {
            if self.word.is_empty() {
                self.word.extend(self.random.u64(..).to_le_bytes());
            }
            let now = rest.len().min(self.word.len());
            rest[..now].copy_from_slice(&self.word[..now]);
            self.word.drain(..now);
            rest = &mut rest[now..];
        }
        self.left -= len;
        Ok(len)
    }
}

/// A writer that only takes what a reader gives.
pub struct Comparison<R> {
    pub expected: R,
}

impl<R: Read> Write for Comparison<R> {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        let mut expected = vec![0; octets.len()];
        self.expected.read_exact(&mut expected)?;
        assert!(expected == octets, "other octets came back");
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A path as the arguments of these helpers have it.
pub fn string(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Puts a file with these contents into a store; returns its root.
pub fn put_contents(data: &Path, contents: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("contents");
    std::fs::write(&file, contents).unwrap();
    let put = succeed(&["put", &string(&file), "--command", &server_command(data)]);
    put.split_whitespace().next().unwrap().to_owned()
}

/// The names of what is in a directory, sorted.
pub fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Makes a FIFO.
pub fn make_fifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}
