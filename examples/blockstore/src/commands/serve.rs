//! Serving a store.

use std::io::{self, IsTerminal};
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use blockstore::escape;
use blockstore::hash::HashKind;
use blockstore::serve;
use blockstore::store::Store;
use packetstream::{BoxError, Transport};

use crate::print;

/// What somebody gets to read who types it.
const NOT_FOR_PEOPLE: &str = "blockstore: this speaks packets over standard input and output, for \
    a client that starts it, as in: blockstore ls --command 'blockstore serve --stdio --data DIR'";

pub(crate) fn stdio(data: Option<&Path>, kind: Option<HashKind>) -> Result<ExitCode> {
    if io::stdin().is_terminal() {
        print::tell(format_args!("{NOT_FOR_PEOPLE}"));
    }
    let store = open(data, kind)?;
    let transport = Transport::stdio().context("cannot use standard input and output")?;
    serve::serve(&store, transport).map_err(from_box)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn tcp(address: &str, data: Option<&Path>, kind: Option<HashKind>) -> Result<ExitCode> {
    let store = open(data, kind)?;
    let cannot_listen = || format!("cannot listen at {address}");
    let listener = TcpListener::bind(address).with_context(cannot_listen)?;
    print::tell(format_args!("listening at {}", listener.local_addr()?));
    serve::serve_tcp(&store, &listener).with_context(cannot_listen)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(unix)]
pub(crate) fn unix(path: &Path, data: Option<&Path>, kind: Option<HashKind>) -> Result<ExitCode> {
    let store = open(data, kind)?;
    let cannot_listen = || format!("cannot listen at {}", escape::path(path));
    let listener = crate::unix_socket::listen(path).with_context(cannot_listen)?;
    print::tell(format_args!("listening at {}", escape::path(path)));
    serve::serve_unix(&store, &listener).with_context(cannot_listen)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(not(unix))]
pub(crate) fn unix(_: &Path, _: Option<&Path>, _: Option<HashKind>) -> Result<ExitCode> {
    Err(anyhow!("there are no Unix sockets here"))
}

fn open(data: Option<&Path>, kind: Option<HashKind>) -> Result<Arc<Store>> {
    let store = match data {
        Some(directory) => Store::open(directory, kind)
            .with_context(|| format!("cannot open the store in {}", escape::path(directory)))?,
        None => Store::temporary(kind.unwrap_or_default())?,
    };
    Ok(Arc::new(store))
}

fn from_box(error: BoxError) -> anyhow::Error {
    anyhow!(error)
}
