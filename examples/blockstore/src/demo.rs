//! A demonstration: this program as its own server, in a child process.

use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use blockstore::client::Client;
use blockstore::escape;
use blockstore::hash::{HashCode, HashKind};
use packetstream::Transport;

use crate::commands;
use crate::files::{self, Found, Search, Troubles};
use crate::progress::Bar;

/// After how many additions the server calls back.
const TELL_EVERY: u64 = 16;

/// What is not source.
const SKIPPED: [&str; 2] = ["target", ".git"];

pub(crate) fn run(directory: Option<PathBuf>) -> Result<ExitCode> {
    let directory = directory.unwrap_or_else(own_sources);
    let directories = std::slice::from_ref(&directory);
    files::check(directories)?;
    let mut troubles = Troubles::default();
    let found = Search::new(&SKIPPED, "", &mut troubles).find(directories);
    // Without a directory: the store has no name that a signal could leave behind.
    let mut server = Command::new(env::current_exe()?);
    server.args(["serve", "--stdio"]);
    let transport = Transport::spawn(&mut server).context("cannot start the server")?;
    let client = Client::open(transport, HashKind::default())?;
    client.subscribe(TELL_EVERY)?;

    let mut files = Vec::new();
    let measure = Measure::start(&client);
    let first = commands::put_files(&client, &found, &mut troubles, |stored| {
        let roots = stored.iter();
        files.extend(roots.filter_map(|(file, root)| Some((*file, commands::hash_of(root)?))));
    })?;
    let put = measure.row("put", first.chunks, first.sent_chunks, first.octets);

    let measure = Measure::start(&client);
    let octets = get_and_compare(&client, &files)?;
    let get = measure.row("get", first.chunks, 0, octets);

    let measure = Measure::start(&client);
    let second = commands::put_files(&client, &found, &mut troubles, |_| {})?;
    let again = measure.row(
        "put again",
        second.chunks,
        second.sent_chunks,
        second.octets,
    );
    ensure!(
        second.sent_chunks == 0,
        "{} chunks were sent again",
        second.sent_chunks
    );
    let told = client.told();
    client.close()?;

    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} files of {}, put into a new store, got back and compared, put again:\n",
        files.len(),
        escape::path(&directory)
    )?;
    writeln!(
        out,
        "{:<9} {:>7} {:>8} {:>8} {:>12} {:>8} {:>8} {:>9}",
        "", "files", "chunks", "sent", "bytes", "seconds", "MB/s", "requests"
    )?;
    for row in [put, get, again] {
        row.print(&mut out, files.len())?;
    }
    writeln!(
        out,
        "\n{} callbacks of the server; the last told of {} chunks, {} bytes",
        told.times(),
        told.chunks(),
        told.octets()
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The sources that this program was built from, or what is here if it has been taken elsewhere.
fn own_sources() -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    sources
        .canonicalize()
        .unwrap_or_else(|_| PathBuf::from("."))
}

fn get_and_compare(client: &Client, files: &[(&Found, HashCode)]) -> Result<u64> {
    let bar = Bar::new(0);
    let mut octets = 0;
    for (file, root) in files {
        bar.name(&file.name);
        let original = File::open(&file.path).with_context(|| files::cannot_read(&file.path))?;
        let mut comparison = Comparison {
            original,
            buffer: Vec::new(),
        };
        let not_back = || format!("cannot get {} back", escape::path(&file.path));
        octets += client
            .read(*root, &mut comparison, |now, total| bar.show(now, total))
            .with_context(not_back)?;
        let rest = comparison.original.read(&mut [0])?;
        ensure!(
            rest == 0,
            "{} came back too short",
            escape::path(&file.path)
        );
    }
    Ok(octets)
}

/// A writer that only takes what a file contains.
struct Comparison {
    original: File,
    buffer: Vec<u8>,
}

impl Write for Comparison {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.buffer.resize(octets.len(), 0);
        self.original.read_exact(&mut self.buffer)?;
        if self.buffer == octets {
            Ok(octets.len())
        } else {
            Err(io::Error::other("it is not what was put"))
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Measure<'a> {
    client: &'a Client,
    requests: u64,
    start: Instant,
}

impl<'a> Measure<'a> {
    fn start(client: &'a Client) -> Self {
        Self {
            client,
            requests: client.requests_sent(),
            start: Instant::now(),
        }
    }

    fn row(&self, what: &'static str, chunks: u64, sent: u64, octets: u64) -> Row {
        Row {
            what,
            chunks,
            sent,
            octets,
            time: self.start.elapsed(),
            requests: self.client.requests_sent() - self.requests,
        }
    }
}

struct Row {
    what: &'static str,
    chunks: u64,
    sent: u64,
    octets: u64,
    time: Duration,
    requests: u64,
}

impl Row {
    fn print(&self, out: &mut impl Write, files: usize) -> io::Result<()> {
        let seconds = self.time.as_secs_f64();
        let megabytes = u32::try_from(self.octets / 1000).map_or(f64::INFINITY, f64::from) / 1000.0;
        writeln!(
            out,
            "{:<9} {:>7} {:>8} {:>8} {:>12} {:>8.2} {:>8.1} {:>9}",
            self.what,
            files,
            self.chunks,
            self.sent,
            self.octets,
            seconds,
            megabytes / seconds,
            self.requests
        )
    }
}
