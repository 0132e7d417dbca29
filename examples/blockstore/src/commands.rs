//! What the subcommands do.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use blockstore::archive::Entry;
use blockstore::block::BlockReference;
use blockstore::client::{Client, Endpoint};
use blockstore::hash::{HashCode, HashKind};
use blockstore::put::{Put, PutTotals};
use blockstore::serve;
use blockstore::store::Store;
use packetstream::{BoxError, PendingSet, Transport};

use crate::files::{self, Found};
use crate::progress::Bar;

/// How many files are stored before they are recorded, so that one that is broken off has
/// something to show.
const BATCH: usize = 1024;

pub(crate) fn serve_stdio(data: Option<&Path>, kind: Option<HashKind>) -> Result<ExitCode> {
    let store = open(data, kind)?;
    let transport = Transport::stdio().context("cannot use standard input and output")?;
    serve::serve(&store, transport).map_err(from_box)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn serve_tcp(
    address: &str,
    data: Option<&Path>,
    kind: Option<HashKind>,
) -> Result<ExitCode> {
    let store = open(data, kind)?;
    let cannot_listen = || format!("cannot listen at {address}");
    let listener = TcpListener::bind(address).with_context(cannot_listen)?;
    eprintln!("listening at {}", listener.local_addr()?);
    serve::serve_tcp(&store, &listener).with_context(cannot_listen)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(unix)]
pub(crate) fn serve_unix(
    path: &Path,
    data: Option<&Path>,
    kind: Option<HashKind>,
) -> Result<ExitCode> {
    use std::os::unix::net::{UnixListener, UnixStream};

    let store = open(data, kind)?;
    let cannot_listen = || format!("cannot listen at {}", path.display());
    let listener = match UnixListener::bind(path) {
        // One that nobody listens at was left behind by a server that was killed.
        Err(error)
            if error.kind() == io::ErrorKind::AddrInUse
                && UnixStream::connect(path)
                    .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) =>
        {
            std::fs::remove_file(path).with_context(cannot_listen)?;
            UnixListener::bind(path)
        }
        bound => bound,
    };
    let listener = listener.with_context(cannot_listen)?;
    eprintln!("listening at {}", path.display());
    serve::serve_unix(&store, &listener).with_context(cannot_listen)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(not(unix))]
pub(crate) fn serve_unix(_: &Path, _: Option<&Path>, _: Option<HashKind>) -> Result<ExitCode> {
    Err(anyhow!("there are no Unix sockets here"))
}

fn open(data: Option<&Path>, kind: Option<HashKind>) -> Result<Arc<Store>> {
    let store = match data {
        Some(directory) => Store::open(directory, kind)
            .with_context(|| format!("cannot open the store in {}", directory.display()))?,
        None => Store::temporary(kind.unwrap_or_default())?,
    };
    Ok(Arc::new(store))
}

fn from_box(error: BoxError) -> anyhow::Error {
    anyhow!(error)
}

/// Connects, does the work and closes.
fn with_client<T>(
    endpoint: &Endpoint,
    kind: HashKind,
    work: impl FnOnce(&Client) -> Result<T>,
) -> Result<T> {
    let client =
        Client::connect(endpoint, kind).with_context(|| format!("cannot reach {endpoint}"))?;
    match work(&client) {
        Ok(done) => {
            client.close()?;
            Ok(done)
        }
        Err(error) => Err(explain(error, client)),
    }
}

/// Adds what the end of the connection tells to an error, which may come of it.
fn explain(error: anyhow::Error, client: Client) -> anyhow::Error {
    match client.end_after(&*error) {
        Some(told) => anyhow!("{}: {told}", blockstore::chain(&*error)),
        None => error,
    }
}

pub(crate) fn put(paths: &[PathBuf], endpoint: &Endpoint, kind: HashKind) -> Result<ExitCode> {
    let found = files::find(paths, &[])?;
    with_client(endpoint, kind, |client| {
        put_files(client, &found, |name, root| {
            let hash = hash_of(root).map_or_else(String::new, |hash| hash.to_string());
            Ok(writeln!(io::stdout(), "{hash}  {name}")?)
        })
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Puts files and records them; `done` gets each with its root once it is on disk.
pub(crate) fn put_files(
    client: &Client,
    found: &[Found],
    mut done: impl FnMut(&str, &BlockReference) -> Result<()>,
) -> Result<PutTotals> {
    let total = found.iter().map(|file| file.len).sum();
    let bar = Bar::new(total);
    let mut put = Put::new(client, |totals: &PutTotals| bar.show(totals.octets, total));
    let stopped = |totals: PutTotals| {
        format!(
            "stopped with {} of {} files done, {} chunks and {} bytes acknowledged",
            totals.files,
            found.len(),
            totals.chunks,
            totals.octets
        )
    };
    for batch in found.chunks(BATCH) {
        let mut roots = Vec::new();
        for file in batch {
            bar.name(&file.name);
            let contents =
                File::open(&file.path).with_context(|| files::cannot_read(&file.path))?;
            let root = put
                .file(contents)
                .with_context(|| format!("cannot put {}", file.path.display()))
                .with_context(|| stopped(put.totals()))?;
            roots.push((file.name.as_str(), root));
        }
        put.finish().with_context(|| stopped(put.totals()))?;
        // An entry is only made of what is on disk.
        record(client, &roots).with_context(|| stopped(put.totals()))?;
        for (name, root) in &roots {
            done(name, root)?;
        }
    }
    Ok(put.totals())
}

fn record(client: &Client, roots: &[(&str, BlockReference)]) -> Result<()> {
    let mut answers = PendingSet::new();
    for (name, root) in roots {
        let entry = Entry::file(name, root.clone());
        answers.insert(client.append(serve::FILES, &entry)?);
    }
    for answer in answers.wait_all() {
        answer.context("cannot record the files")?;
    }
    Ok(client.flush()?)
}

pub(crate) fn get(root: HashCode, output: &Path, endpoint: &Endpoint) -> Result<ExitCode> {
    with_client(endpoint, root.kind(), |client| {
        let bar = Bar::new(0);
        let mut got = 0;
        let mut observe = |written, span| {
            got = written;
            bar.show(written, span);
        };
        let outcome = if output == Path::new("-") {
            client
                .read(root, &mut io::stdout().lock(), &mut observe)
                .map_err(anyhow::Error::from)
        } else {
            get_file(client, root, output, &mut observe)
        };
        outcome.with_context(|| format!("stopped after {got} bytes of {root}"))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Writes beside the file first, so that there is never half of it under its name.
fn get_file(
    client: &Client,
    root: HashCode,
    output: &Path,
    observe: impl FnMut(u64, u64),
) -> Result<u64> {
    let parent = output.parent().filter(|parent| *parent != Path::new(""));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Those of any new file, as far as the umask lets them.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let cannot_write = || format!("cannot write {}", output.display());
    let mut file = builder
        .tempfile_in(parent.unwrap_or(Path::new(".")))
        .with_context(cannot_write)?;
    let len = client.read(root, &mut file, observe)?;
    file.persist(output).with_context(cannot_write)?;
    Ok(len)
}

pub(crate) fn has(root: HashCode, endpoint: &Endpoint) -> Result<ExitCode> {
    let (verdict, code) = with_client(endpoint, root.kind(), |client| {
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
    writeln!(io::stdout(), "{verdict}")?;
    Ok(code)
}

pub(crate) fn ls(endpoint: &Endpoint) -> Result<ExitCode> {
    let entries = with_client(endpoint, HashKind::default(), |client| {
        Ok(client.entries(serve::FILES)?)
    })?;
    // The last entry of a name is the one that counts.
    let mut files = BTreeMap::new();
    for entry in entries {
        if let (Some(name), Some(block)) = (entry.name, entry.block) {
            files.insert(name.into_inner(), block);
        }
    }
    let mut out = io::stdout().lock();
    for (name, block) in files {
        let hash = hash_of(&block).map_or_else(|| "-".to_owned(), |hash| hash.to_string());
        writeln!(out, "{:>14}  {hash}  {name}", block.span())?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn hash_of(block: &BlockReference) -> Option<HashCode> {
    match block {
        BlockReference::Chunk { hash, .. } | BlockReference::Indirect { hash, .. } => Some(*hash),
        _ => None,
    }
}

pub(crate) fn stat(endpoint: &Endpoint) -> Result<ExitCode> {
    let (chunks, octets) = with_client(endpoint, HashKind::default(), |client| {
        // A server of the original does not tell the octets.
        let octets = client.size()?.map(|size| size.octets);
        Ok((client.chunk_count()?, octets))
    })?;
    let octets = octets.map_or_else(|| "unknown".to_owned(), |octets| octets.to_string());
    writeln!(io::stdout(), "chunks {chunks}\nbytes {octets}")?;
    Ok(ExitCode::SUCCESS)
}
