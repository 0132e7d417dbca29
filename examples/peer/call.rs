//! `peer call`: plays the tests against a server and ends the connection in order.

use std::fmt::{self, Display};
use std::io::{self, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use packetstream::{BoxError, CloseReport, Connection, Transport};
use parking_lot::Mutex;

use crate::arguments::{CallOptions, Endpoint};
use crate::checks::Check;
use crate::client::{Client, Failure};
use crate::requests::Requests;

/// Plays `checks`, prints a line for each, and fails if one of them did.
pub(crate) fn call(options: &CallOptions, checks: &[Check]) -> Result<(), BoxError> {
    let score = Arc::new(Score::default());
    let server = Arc::new(Server {
        endpoint: options.endpoint.clone(),
        child: Mutex::default(),
    });
    crate::limit(options.common.max_seconds, {
        let (score, server) = (Arc::clone(&score), Arc::clone(&server));
        move || {
            score.failed.fetch_add(1, Ordering::Relaxed);
            score.print();
            server.kill();
        }
    })?;

    let builder = crate::builder(&options.common)
        .name("call")
        .request_handler(Requests::default())
        .linger(Some(options.timeout));
    let guard = if options.on_demand {
        let server = Arc::clone(&server);
        builder
            .build_on_demand(move || server.connect(false))
            .open()?
    } else {
        builder.open(server.connect(true)?)?
    };

    // A clone of the connection holds nothing open: that is left to the guard.
    let client = Arc::new(Client::new(Connection::clone(&guard), options.timeout));
    let usable = play(options, checks, &client, &score);

    let started = Instant::now();
    let ended = if usable {
        said_goodbye(&guard.close())
    } else {
        // Whoever hangs in a test may hold the connection open for ever.
        let _losses = guard.abort();
        Err("the connection was of no more use, see above")
    };
    score.record("orderly_shutdown", started, ended);
    if matches!(options.endpoint, Endpoint::Command(_)) {
        score.record("server_exits", Instant::now(), server.wait(options.timeout));
    }
    score.print();
    match score.failed.load(Ordering::Relaxed) {
        0 => Ok(()),
        failed => Err(format!("{failed} failed").into()),
    }
}

/// Plays the checks, each as often as asked for, and says whether the connection can still be
/// used.
fn play(options: &CallOptions, checks: &[Check], client: &Arc<Client>, score: &Score) -> bool {
    // Those who wait for an answer give up by themselves; this is for the rest.
    let limit = options.timeout + Duration::from_secs(2);
    for _ in 0..options.repeat {
        for check in checks {
            let started = Instant::now();
            let result = bounded(*check, client, limit);
            let usable = !matches!(result, Err(Failure::Hang(_) | Failure::Lost(_)));
            score.record(
                check.name,
                started,
                result.map_err(|failure| crate::chain(&failure)),
            );
            if !usable {
                return false;
            }
        }
    }
    true
}

/// Runs a check on a thread of its own, which is left behind if it takes longer than `limit`.
fn bounded(check: Check, client: &Arc<Client>, limit: Duration) -> Result<(), Failure> {
    let (done, result) = mpsc::channel();
    let client = Arc::clone(client);
    thread::Builder::new()
        .name(check.name.to_owned())
        .spawn(move || {
            // Fails if nobody waits any more.
            let _late = done.send((check.run)(&client));
        })?;
    match result.recv_timeout(limit) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(Failure::Hang(limit)),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(Failure::Wrong("it panicked".to_owned())),
    }
}

fn said_goodbye(report: &CloseReport) -> Result<(), &'static str> {
    if let Some(cause) = report.cause() {
        eprintln!("peer call: {}", crate::chain(cause));
        return Err("the connection ended with an error");
    }
    if report.peer_said_goodbye() {
        Ok(())
    } else {
        Err("the peer left without a goodbye")
    }
}

/// The other end, and its process if it is ours.
struct Server {
    endpoint: Endpoint,
    child: Mutex<Option<Child>>,
}

impl Server {
    fn connect(self: &Arc<Self>, may_kill: bool) -> io::Result<Transport> {
        match &self.endpoint {
            Endpoint::Command(words) => self.spawn(words, may_kill),
            Endpoint::Tcp { host, port } => {
                persistently(|| TcpStream::connect((host.as_str(), *port)))?.try_into()
            }
            #[cfg(unix)]
            Endpoint::Unix(path) => {
                persistently(|| std::os::unix::net::UnixStream::connect(path))?.try_into()
            }
            other => Err(io::Error::other(format!("cannot call {other:?}"))),
        }
    }

    /// Starts the server. `Transport::spawn` does this in one call, but keeps the child, whose
    /// exit status is one of the things tested here.
    ///
    /// An on-demand connection calls the shutdown hook whenever it is closed, but the child is to
    /// end by itself then, so its transport may not kill.
    fn spawn(self: &Arc<Self>, words: &[String], may_kill: bool) -> io::Result<Transport> {
        let Some((program, arguments)) = words.split_first() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "there is no command",
            ));
        };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the child has no pipes"));
        };
        *self.child.lock() = Some(child);
        let transport = Transport::new(BufReader::new(output), input);
        if !may_kill {
            return Ok(transport);
        }
        let server = Arc::clone(self);
        // The end of the child is what ends a read from its pipe or a write to it.
        Ok(transport.with_shutdown(move || server.kill()))
    }

    /// Waits for the child to exit with status 0, and kills it if that takes longer than `limit`.
    fn wait(&self, limit: Duration) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        // The standard library cannot wait for a child with a limit, so this asks again and
        // again, less and less often.
        let mut pause = Duration::from_millis(1);
        loop {
            let status = self.child.lock().as_mut().map(Child::try_wait);
            let status = match status {
                Some(Ok(status)) => status,
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("it was not started".to_owned()),
            };
            match status {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(status.to_string()),
                None if Instant::now() >= deadline => {
                    self.kill();
                    return Err("had to be killed".to_owned());
                }
                None => {
                    crate::pause(pause);
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
            }
        }
    }

    fn kill(&self) {
        if let Some(child) = self.child.lock().as_mut() {
            // Fails if it has gone by itself.
            let _gone = child.kill();
        }
    }
}

/// Connects, and for a second again if it is refused: a server may tell its address just before it
/// listens there.
fn persistently<S>(connect: impl Fn() -> io::Result<S>) -> io::Result<S> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match connect() {
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionRefused
                    && Instant::now() < deadline =>
            {
                crate::pause(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

/// What has been printed so far.
#[derive(Default)]
struct Score {
    passed: AtomicUsize,
    failed: AtomicUsize,
}

impl Score {
    fn record(&self, name: &str, started: Instant, result: Result<(), impl Display>) {
        match result {
            Ok(()) => {
                self.passed.fetch_add(1, Ordering::Relaxed);
                say(format_args!(
                    "ok      {name} ({:.2}s)",
                    started.elapsed().as_secs_f64()
                ));
            }
            Err(failure) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                say(format_args!("FAILED  {name}: {failure}"));
            }
        }
    }

    fn print(&self) {
        let (passed, failed) = (&self.passed, &self.failed);
        say(format_args!(
            "{} passed, {} failed",
            passed.load(Ordering::Relaxed),
            failed.load(Ordering::Relaxed)
        ));
    }
}

fn say(line: fmt::Arguments<'_>) {
    // Fails if whoever reads the output has seen enough; the exit status still tells the rest.
    let _unread = writeln!(io::stdout(), "{line}");
}
