//! Child processes that speak over their stdin and stdout.

use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Transport;
use super::buffer::LazyBufReader;
use super::process::{Exit, Process, Reaper, StdinWriter};
use super::stderr::Tail;

/// How long a diagnosis waits for the child to exit, as its output ends a moment before it does;
/// and then for the end of its stderr, which another process may hold open.
const DIAGNOSIS_WAIT: Duration = Duration::from_millis(100);

impl Transport {
    /// Starts a program and makes a transport of its stdin and stdout.
    ///
    /// The command's stdin and stdout are set to pipes; everything else is up to the caller. With
    /// `command.stderr(Stdio::piped())` a thread reads the child's stderr, so that the child never
    /// blocks on it, and the last lines become part of the diagnosis when the connection fails.
    /// By default the child shares our stderr.
    ///
    /// - After everything was written the child's stdin is closed.
    /// - Closing a connection waits for the child to exit, within the linger time, and then kills it.
    /// - The shutdown hook kills the child. If it has left behind another process that holds its
    ///   stdout, a stuck reader stays stuck until that one ends too.
    /// - Dropping the transport closes both pipes, lets the child exit for one second, kills it
    ///   if it has not, and reaps it. There is never a zombie left.
    ///
    /// # Errors
    ///
    /// - The program cannot be started: the error of [`Command::spawn`].
    /// - The thread for its stderr cannot be started.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(unix)]
    /// # fn main() -> std::io::Result<()> {
    /// use std::io::{BufRead, Write};
    /// use std::process::Command;
    /// use packetstream::Transport;
    ///
    /// let (mut reader, mut writer) = Transport::spawn(&mut Command::new("cat"))?.into_parts();
    /// writer.write_all(b"echo\n")?;
    /// let mut line = String::new();
    /// reader.read_line(&mut line)?;
    /// assert_eq!(line, "echo\n");
    ///
    /// let error = Transport::spawn(&mut Command::new("no-such-program")).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(unix))]
    /// # fn main() {}
    /// ```
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?
            .try_into()
    }
}

/// Makes a transport of a child process whose stdin and stdout are piped, as
/// [`spawn`](Transport::spawn) does.
///
/// # Errors
///
/// - [`InvalidInput`](io::ErrorKind::InvalidInput): stdin or stdout is not piped, or has been taken
///   away.
/// - The thread for its stderr cannot be started.
///
/// The child is gone then: it is ended and reaped like that of a transport that is dropped.
///
/// # Examples
///
/// ```
/// # #[cfg(unix)]
/// # fn main() -> std::io::Result<()> {
/// use std::io::ErrorKind;
/// use std::process::{Command, Stdio};
/// use packetstream::Transport;
///
/// let child = Command::new("true").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
/// let error = Transport::try_from(child).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidInput);
/// assert_eq!(error.to_string(), "the child's stdin is not piped");
/// # Ok(())
/// # }
/// # #[cfg(not(unix))]
/// # fn main() {}
/// ```
impl TryFrom<Child> for Transport {
    type Error = io::Error;

    fn try_from(mut child: Child) -> io::Result<Self> {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let process = Arc::new(Process::new(child));
        let reaper = Reaper::new(Arc::clone(&process));
        // Rebound behind the reaper to be dropped before it if this fails: the child is to see
        // its pipes closed while it is waited for.
        let (stdout, stderr) = (stdout, stderr);

        let not_piped = |what: &str| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the child's {what} is not piped"),
            )
        };
        let stdout = match (process.stdin.is_open(), stdout) {
            (true, Some(stdout)) => stdout,
            (true, None) => return Err(not_piped("stdout")),
            (false, Some(_)) => return Err(not_piped("stdin")),
            (false, None) => return Err(not_piped("stdin and stdout")),
        };
        let stderr = stderr.map(Tail::of).transpose()?;

        let writer = StdinWriter(process.stdin.clone());
        let stdin = process.stdin.clone();
        let (killed, hastened) = (Arc::clone(&process), Arc::clone(&process));
        let mut transport = Self::new(LazyBufReader::new(stdout), writer)
            // Its own children may hold the other end of the pipe.
            .with_partial_shutdown(move || killed.kill())
            .with_end_of_write(move || stdin.close())
            .with_diagnosis(move || Some(diagnose(&process, stderr.as_deref())))
            .buffered();
        transport.hooks.finish = Some(Box::new(move |deadline| reaper.finish(deadline)));
        transport.hooks.hasten = Some(Arc::new(move |deadline| hastened.hasten(deadline)));
        Ok(transport)
    }
}

fn diagnose(process: &Process, stderr: Option<&Tail>) -> String {
    let exit = process.exit_by(Some(Instant::now() + DIAGNOSIS_WAIT));
    let stderr_wait = if exit == Exit::Running {
        Duration::ZERO
    } else {
        DIAGNOSIS_WAIT
    };
    let lines = stderr.and_then(|stderr| stderr.last_lines(Instant::now() + stderr_wait));
    let exit = match exit {
        Exit::Exited(status) if process.was_killed(status) => format!("{status}, sent by this end"),
        Exit::Exited(status) => status.to_string(),
        Exit::Unknown => "the child has exited, its status is lost".to_owned(),
        Exit::Running => "the child is still running".to_owned(),
    };
    match lines {
        // Quoted and escaped: it becomes part of an error message, and is not ours to trust.
        Some(lines) => format!("{exit}; stderr: {lines:?}"),
        None => exit,
    }
}

#[cfg(test)]
#[cfg(unix)]
#[path = "child_tests.rs"]
mod tests;
