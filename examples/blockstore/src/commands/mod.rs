//! What the subcommands do.

mod get;
mod put;
pub(crate) mod serve;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use blockstore::archive::Entry;
use blockstore::block::BlockReference;
use blockstore::client::Client;
use blockstore::endpoint::Endpoint;
use blockstore::hash::{HashCode, HashKind};
use blockstore::serve::FILES;

pub(crate) use self::get::get;
pub(crate) use self::put::{put, put_files};
use crate::print::{Printer, print};

/// The server that a command needs.
pub(crate) struct Server {
    pub(crate) endpoint: Endpoint,
    /// How long it may take for an answer.
    pub(crate) timeout: Option<Duration>,
}

impl Server {
    /// Connects, does the work and closes.
    fn with_client<T>(&self, kind: HashKind, work: impl FnOnce(&Client) -> Result<T>) -> Result<T> {
        let cannot_reach = || format!("cannot reach {}", self.endpoint);
        let client =
            Client::connect(&self.endpoint, kind, self.timeout).with_context(cannot_reach)?;
        match work(&client) {
            Ok(done) => {
                client.close()?;
                Ok(done)
            }
            Err(error) => Err(explain(error, client)),
        }
    }
}

/// Adds what the end of the connection tells to an error, which may come of it.
fn explain(error: anyhow::Error, client: Client) -> anyhow::Error {
    match client.end_after(&*error) {
        Some(told) => anyhow!("{}: {told}", blockstore::chain(&*error)),
        None => error,
    }
}

pub(crate) fn has(root: HashCode, server: &Server) -> Result<ExitCode> {
    let (verdict, code) = server.with_client(root.kind(), |client| {
        if !client.contains(root)? {
            return Ok(("missing", ExitCode::FAILURE));
        }
        match client.contains_indirect(root) {
            Ok(true) => Ok(("complete", ExitCode::SUCCESS)),
            Ok(false) => Ok(("incomplete", ExitCode::FAILURE)),
            // Its chunk lists no blocks.
            Err(error) if error.is_rejected() => Ok(("chunk", ExitCode::SUCCESS)),
            Err(error) => Err(error.into()),
        }
    })?;
    print(verdict)?;
    Ok(code)
}

pub(crate) fn ls(server: &Server) -> Result<ExitCode> {
    let mut printer = Printer::new();
    server.with_client(HashKind::default(), |client| {
        let mut page = match client.names(FILES, None) {
            // A server of the original does not know that request.
            Err(error) if error.is_rejected() => return list_at_once(client, &mut printer),
            page => page?,
        };
        while let Some(last) = page.last().and_then(|entry| entry.name.clone())
            && !printer.is_broken()
        {
            for entry in page {
                print_entry(&mut printer, &entry);
            }
            printer.flush();
            page = client.names(FILES, Some(last.as_str()))?;
        }
        Ok(())
    })?;
    printer.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn list_at_once(client: &Client, printer: &mut Printer) -> Result<()> {
    // The last entry of a name is the one that counts.
    let mut latest = BTreeMap::new();
    for entry in client.entries(FILES)? {
        if let Some(name) = &entry.name {
            latest.insert(name.clone(), entry);
        }
    }
    for entry in latest.values() {
        print_entry(printer, entry);
    }
    Ok(())
}

fn print_entry(printer: &mut Printer, entry: &Entry) {
    if let (Some(name), Some(block)) = (&entry.name, &entry.block) {
        let hash = hash_of(block).map_or_else(|| "-".to_owned(), |hash| hash.to_string());
        let name = printer.name(name);
        printer.line(format_args!("{:>14}  {hash}  {name}", block.span()));
    }
}

pub(crate) fn hash_of(block: &BlockReference) -> Option<HashCode> {
    match block {
        BlockReference::Chunk { hash, .. } | BlockReference::Indirect { hash, .. } => Some(*hash),
        _ => None,
    }
}

pub(crate) fn stat(server: &Server) -> Result<ExitCode> {
    let (chunks, octets) = server.with_client(HashKind::default(), |client| {
        // A server of the original does not tell the octets.
        let octets = client.size()?.map(|size| size.octets);
        Ok((client.chunk_count()?, octets))
    })?;
    let octets = octets.map_or_else(|| "unknown".to_owned(), |octets| octets.to_string());
    print(&format!("chunks {chunks}\nbytes {octets}"))?;
    Ok(ExitCode::SUCCESS)
}
