//! `blockstore`: serves a content-addressed block store, and stores and fetches files.
#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "these macros panic where nobody reads; see the module `print`"
)]

mod commands;
mod contents;
mod demo;
mod files;
mod logging;
mod output;
mod print;
mod progress;
mod temporary;
#[cfg(unix)]
mod unix_socket;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use blockstore::endpoint::Endpoint;
use blockstore::escape;
use blockstore::hash::{HashCode, HashKind};
use clap::{ArgAction, Args, Parser, Subcommand};

use crate::commands::serve;
use crate::files::MissingArgument;

/// A content-addressed block store.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Say more on standard error; twice: every packet.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a store: to one client over standard input and output, or to all that connect.
    Serve {
        #[command(flatten)]
        listen: Listen,
        /// The directory of the store, made if it does not exist [default: a temporary store, which
        /// is gone when the server ends].
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// The hash function of the store [default: that which it has; blake3 for a new one].
        #[arg(long)]
        hash: Option<HashKind>,
    },
    /// Store files, and all files in directories; print their roots.
    ///
    /// What cannot be read is told of, and the rest is stored: exit status 3. A file that is changed
    /// while it is read is stored as it was read, with a warning. Names are printed with control
    /// characters escaped on a terminal; elsewhere line feeds and backslashes are.
    Put {
        /// Files and directories.
        #[arg(required = true, value_name = "FILE|DIR")]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        server: Server,
        /// The hash function of the server's store.
        #[arg(long, default_value_t)]
        hash: HashKind,
    },
    /// Fetch the file that a root stands for.
    Get {
        /// The root, as `put` printed it.
        root: HashCode,
        /// Where to write it; `-` for standard output. A file that is there is replaced once the
        /// new one is complete, and keeps its owner and permissions; devices, pipes and the like are
        /// written through.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        #[command(flatten)]
        server: Server,
    },
    /// Tell whether a root is there with all its chunks: `complete`, `incomplete` (exit status 1),
    /// `missing` (exit status 1), or `chunk` if it is no root.
    Has {
        /// The root.
        root: HashCode,
        #[command(flatten)]
        server: Server,
    },
    /// List the files that were put: size, root, name.
    Ls {
        #[command(flatten)]
        server: Server,
    },
    /// Tell how large the store is.
    Stat {
        #[command(flatten)]
        server: Server,
    },
    /// Start a server, put a directory twice and get it back, and tell how fast that was.
    Demo {
        /// The directory [default: the sources of this project].
        dir: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Listen {
    /// Serve one client over standard input and output.
    #[arg(long)]
    stdio: bool,
    /// Listen at a TCP address, such as `localhost:7000`.
    #[arg(long, value_name = "ADDR")]
    tcp: Option<String>,
    /// Listen at a Unix socket. One that a killed server has left behind is replaced, nothing else.
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct Server {
    #[command(flatten)]
    endpoint: EndpointArguments,
    /// Give up when an answer takes longer than so many seconds [default: wait as long as the
    /// connection lasts]. What is under way to a slow server counts: allow for 8 MiB.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct EndpointArguments {
    /// Start the server with a shell command, such as
    /// `ssh -o ServerAliveInterval=15 host blockstore serve --stdio --data blocks`. With that
    /// option ssh notices when the other end is gone without a word.
    #[arg(long, value_name = "CMD")]
    command: Option<String>,
    /// Connect to a TCP address.
    #[arg(long, value_name = "ADDR")]
    tcp: Option<String>,
    /// Connect to a Unix socket.
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
}

impl From<Server> for commands::Server {
    /// The parser makes sure that there is one endpoint, and one only.
    fn from(server: Server) -> Self {
        let endpoint = match server.endpoint {
            EndpointArguments {
                command: Some(command),
                ..
            } => Endpoint::Command(command),
            EndpointArguments { tcp: Some(tcp), .. } => Endpoint::Tcp(tcp),
            EndpointArguments { unix, .. } => Endpoint::Unix(unix.unwrap_or_default()),
        };
        Self {
            endpoint,
            timeout: server.timeout.map(Duration::from_secs),
        }
    }
}

/// The exit status for arguments that make no sense, which the parser has too.
const WRONG_USAGE: u8 = 2;

/// Returns what the parser has to say. It quotes arguments, which may be names of files.
fn quoting(error: &clap::Error) -> String {
    let told = error.render().to_string();
    let lines: Vec<_> = told.trim_end().split('\n').map(escape::line).collect();
    lines.join("\n")
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and the version are asked for, and quote nothing.
        Err(asked_for) if !asked_for.use_stderr() => asked_for.exit(),
        Err(error) => {
            print::tell(format_args!("{}", quoting(&error)));
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let is_server = matches!(arguments.command, Command::Serve { .. });
    logging::start(arguments.verbose, is_server);
    let outcome = match arguments.command {
        Command::Serve { listen, data, hash } => match listen {
            Listen { stdio: true, .. } => serve::stdio(data.as_deref(), hash),
            Listen { tcp: Some(tcp), .. } => serve::tcp(&tcp, data.as_deref(), hash),
            Listen { unix, .. } => serve::unix(&unix.unwrap_or_default(), data.as_deref(), hash),
        },
        Command::Put {
            paths,
            server,
            hash,
        } => commands::put(&paths, &server.into(), hash),
        Command::Get {
            root,
            output,
            server,
        } => commands::get(root, &output, &server.into()),
        Command::Has { root, server } => commands::has(root, &server.into()),
        Command::Ls { server } => commands::ls(&server.into()),
        Command::Stat { server } => commands::stat(&server.into()),
        Command::Demo { dir } => demo::run(dir),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let told = blockstore::chain(&*error);
            print::tell(format_args!("blockstore: {}", escape::line(&told)));
            if error.is::<MissingArgument>() {
                ExitCode::from(WRONG_USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
