//! `peer serve`: answers requests until the other end has no more.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use packetstream::{BoxError, Transport};

use crate::arguments::{Endpoint, ServeOptions};
use crate::requests::Requests;

/// Longer than any request takes: what has been accepted is to be answered at the end.
const LINGER: Duration = Duration::from_secs(30);

/// Serves one connection, or all that come.
pub(crate) fn serve(options: &ServeOptions) -> Result<(), BoxError> {
    let time = options.common.max_seconds;
    match &options.endpoint {
        Endpoint::Stdio => {
            crate::limit(time, || ())?;
            serve_one("stdio", Transport::stdio()?, options)
        }
        Endpoint::Tcp { host, port } => {
            crate::limit(time, || ())?;
            let listener = TcpListener::bind((host.as_str(), *port))?;
            announce(listener.local_addr()?.port())?;
            serve_each(|| Transport::try_from(listener.accept()?.0), options)
        }
        #[cfg(unix)]
        Endpoint::Unix(path) => {
            let listener = std::os::unix::net::UnixListener::bind(path)?;
            let socket_file = SocketFile(path.clone());
            crate::limit(time, {
                let path = path.clone();
                move || drop(SocketFile(path))
            })?;
            announce(path.display())?;
            let result = serve_each(|| Transport::try_from(listener.accept()?.0), options);
            drop(socket_file);
            result
        }
        other => Err(format!("cannot serve at {other:?}").into()),
    }
}

/// Accepts connections and serves each on a thread of its own; with `--once` one, on this thread.
fn serve_each(
    accept: impl Fn() -> io::Result<Transport>,
    options: &ServeOptions,
) -> Result<(), BoxError> {
    let mut number = 0_u64;
    let mut shortage = Shortage::default();
    loop {
        let transport = match accept() {
            Ok(transport) => transport,
            Err(error) => {
                shortage.pass_over(error)?;
                continue;
            }
        };
        number += 1;
        let name = format!("c{number}");
        if options.once {
            return serve_one(&name, transport, options);
        }
        let (options, acceptor) = (options.clone(), thread::current());
        let serving = thread::Builder::new().name(name.clone()).spawn(move || {
            if let Err(error) = serve_one(&name, transport, &options) {
                eprintln!("peer serve: {name}: {}", crate::chain(&*error));
            }
            // It may wait for what this connection had.
            acceptor.unpark();
        });
        if let Err(error) = serving {
            eprintln!("peer serve: cannot start a thread: {error}");
        }
    }
}

/// A time in which the system has no room for another connection. It ends by itself, so those that
/// there are must not end with it.
#[derive(Default)]
struct Shortage {
    told: Option<Instant>,
}

impl Shortage {
    /// How long to wait before another attempt, unless a connection ends meanwhile. Others than
    /// this process may take up the room, and nobody tells when they leave some.
    const PAUSE: Duration = Duration::from_millis(100);

    /// How long one warning is enough.
    const QUIET: Duration = Duration::from_secs(60);

    /// Passes over what is no failure of the listener, after a moment if the system has no room.
    fn pass_over(&mut self, error: io::Error) -> io::Result<()> {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};

        if matches!(
            error.kind(),
            ConnectionAborted | ConnectionReset | Interrupted
        ) {
            return Ok(());
        }
        if !is_shortage(&error) {
            return Err(error);
        }
        if self.told.is_none_or(|told| told.elapsed() >= Self::QUIET) {
            self.told = Some(Instant::now());
            eprintln!("peer serve: cannot accept more connections for the moment: {error}");
        }
        thread::park_timeout(Self::PAUSE);
        Ok(())
    }
}

/// Whether descriptors, buffers or memory have run out, here or in the whole system.
#[cfg(unix)]
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;

    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}

#[cfg(not(unix))]
fn is_shortage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}

/// Serves one connection until the other end closes it, and ends it in order.
fn serve_one(name: &str, transport: Transport, options: &ServeOptions) -> Result<(), BoxError> {
    let report = crate::builder(&options.common)
        .name(name)
        .request_handler(Requests::closing_after(options.close_after))
        .linger(Some(LINGER))
        .open(transport)?
        .serve();
    // Ok too if the input ended between packets without a goodbye.
    Ok(report.into_result()?)
}

/// Tells whoever started this process where to connect to.
fn announce(address: impl Display) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "listening {address}")?;
    // Into a pipe it would stay in the buffer while its reader waits for it.
    output.flush()
}

/// Removes the file of a listening socket, which the system leaves behind.
#[cfg(unix)]
struct SocketFile(std::path::PathBuf);

#[cfg(unix)]
impl Drop for SocketFile {
    fn drop(&mut self) {
        let _already_gone = std::fs::remove_file(&self.0);
    }
}
