//! Putting files.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use blockstore::archive::Entry;
use blockstore::block::BlockReference;
use blockstore::client::Client;
use blockstore::escape;
use blockstore::hash::HashKind;
use blockstore::put::{Put, PutError, PutTotals};
use blockstore::serve;
use packetstream::PendingSet;

use super::{Server, hash_of};
use crate::contents::Contents;
use crate::files::{self, Found, Search, Troubles};
use crate::print::Printer;
use crate::progress::Bar;

/// How many files are stored before they are recorded, so that one that is broken off has
/// something to show.
const BATCH: usize = 1024;

/// The exit status if something could not be read and the rest is stored.
const INCOMPLETE: u8 = 3;

pub(crate) fn put(paths: &[PathBuf], server: &Server, kind: HashKind) -> Result<ExitCode> {
    files::check(paths)?;
    let mut troubles = Troubles::default();
    let mut printer = Printer::new();
    server.with_client(kind, |client| {
        // Only a server of this program has one.
        let store_lock = client.store_lock()?.unwrap_or_default();
        let found = Search::new(&[], &store_lock, &mut troubles).find(paths);
        put_files(client, &found, &mut troubles, |stored| {
            for (file, root) in stored {
                let hash = hash_of(root).map_or_else(String::new, |hash| hash.to_string());
                let name = printer.name(&file.name);
                printer.line(format_args!("{hash}  {name}"));
            }
            printer.flush();
        })
    })?;
    printer.finish()?;
    Ok(match troubles.count() {
        0 => ExitCode::SUCCESS,
        count => {
            log::warn!("what could not be read is not stored: {count}");
            ExitCode::from(INCOMPLETE)
        }
    })
}

/// Files with their roots.
type Stored<'a> = [(&'a Found, BlockReference)];

/// Puts files and records them; `done` gets some of them at a time, once they are on disk.
///
/// Files that cannot be read are left out.
pub(crate) fn put_files<'a>(
    client: &Client,
    found: &'a [Found],
    troubles: &mut Troubles,
    mut done: impl FnMut(&Stored<'a>),
) -> Result<PutTotals> {
    let total = found.iter().map(|file| file.len).sum();
    let bar = Bar::new(total);
    let mut put = Put::new(client, |totals: &PutTotals| bar.show(totals.octets, total));
    let mut files_done = 0;
    for batch in found.chunks(BATCH) {
        let stored = put_batch(&mut put, batch, &bar, troubles).and_then(|stored| {
            put.finish()?;
            // An entry is only made of what is on disk.
            record(client, &stored)?;
            Ok(stored)
        });
        let stored = stored.with_context(|| {
            format!(
                "stopped with {files_done} of {} files done, {} chunks and {} bytes on disk",
                found.len(),
                put.flushed().chunks,
                put.flushed().octets
            )
        })?;
        files_done += stored.len();
        done(&stored);
    }
    Ok(put.totals())
}

fn put_batch<'a, O: FnMut(&PutTotals)>(
    put: &mut Put<'_, O>,
    batch: &'a [Found],
    bar: &Bar,
    troubles: &mut Troubles,
) -> Result<Vec<(&'a Found, BlockReference)>> {
    let mut stored = Vec::with_capacity(batch.len());
    for file in batch {
        bar.name(&file.name);
        let mut contents = match Contents::open(file) {
            Ok(contents) => contents,
            Err(error) => {
                troubles.tell(&file.path, &error.to_string());
                continue;
            }
        };
        match put.file(&mut contents) {
            Ok(root) => stored.push((file, root)),
            Err(PutError::Read(error)) => {
                troubles.tell(&file.path, &error.to_string());
                continue;
            }
            Err(error) => {
                let cannot_put = format!("cannot put {}", escape::path(&file.path));
                return Err(error).context(cannot_put);
            }
        }
        if contents.is_cut_off() {
            troubles.tell_of_rest(&file.path);
        }
        // If even that cannot be told, it is no longer what it was.
        if contents.has_changed().unwrap_or(true) {
            log::warn!("{} was changed while it was read", escape::path(&file.path));
        }
    }
    Ok(stored)
}

/// Records files that have changed since they were recorded last. Blocks until that is on disk.
fn record(client: &Client, stored: &Stored<'_>) -> Result<()> {
    let mut answers = PendingSet::new();
    for (file, root) in stored {
        let entry = Entry::file(&file.name, root.clone());
        answers.insert(client.record(serve::FILES, &entry)?);
    }
    let mut appended = PendingSet::new();
    for ((file, root), answer) in stored.iter().zip(answers.wait_all()) {
        match answer {
            Ok(_) => {}
            // A server of the original does not know that request.
            Err(error) if error.is_rejected() => {
                let entry = Entry::file(&file.name, root.clone());
                appended.insert(client.append(serve::FILES, &entry)?);
            }
            Err(error) => return Err(error).context("cannot record the files"),
        }
    }
    for answer in appended.wait_all() {
        answer.context("cannot record the files")?;
    }
    Ok(client.flush()?)
}
