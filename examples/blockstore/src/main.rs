//! `blockstore`: serves a content-addressed block store, and stores and fetches files.

mod commands;
mod demo;
mod files;
mod progress;

use std::path::PathBuf;
use std::process::ExitCode;

use blockstore::client::Endpoint;
use blockstore::hash::{HashCode, HashKind};
use clap::{ArgAction, Args, Parser, Subcommand};

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
        /// Where to write it; `-` for standard output. What is there is replaced once the file is
        /// complete.
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
    /// Listen at a Unix socket.
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Server {
    /// Start the server with a shell command, such as `ssh host blockstore serve --stdio`.
    #[arg(long, value_name = "CMD")]
    command: Option<String>,
    /// Connect to a TCP address.
    #[arg(long, value_name = "ADDR")]
    tcp: Option<String>,
    /// Connect to a Unix socket.
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
}

impl Server {
    /// The parser has seen to it that there is one, and one only.
    fn endpoint(self) -> Endpoint {
        match self {
            Self {
                command: Some(command),
                ..
            } => Endpoint::Command(command),
            Self { tcp: Some(tcp), .. } => Endpoint::Tcp(tcp),
            Self { unix, .. } => Endpoint::Unix(unix.unwrap_or_default()),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_logging(arguments.verbose);
    let outcome = match arguments.command {
        Command::Serve { listen, data, hash } => match listen {
            Listen { stdio: true, .. } => commands::serve_stdio(data.as_deref(), hash),
            Listen { tcp: Some(tcp), .. } => commands::serve_tcp(&tcp, data.as_deref(), hash),
            Listen { unix, .. } => {
                commands::serve_unix(&unix.unwrap_or_default(), data.as_deref(), hash)
            }
        },
        Command::Put {
            paths,
            server,
            hash,
        } => commands::put(&paths, &server.endpoint(), hash),
        Command::Get {
            root,
            output,
            server,
        } => commands::get(root, &output, &server.endpoint()),
        Command::Has { root, server } => commands::has(root, &server.endpoint()),
        Command::Ls { server } => commands::ls(&server.endpoint()),
        Command::Stat { server } => commands::stat(&server.endpoint()),
        Command::Demo { dir } => demo::run(dir),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("blockstore: {}", blockstore::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn start_logging(verbose: u8) {
    // It is the first and only one.
    let _ = log::set_logger(&StandardError);
    log::set_max_level(match verbose {
        0 => log::LevelFilter::Warn,
        1 => log::LevelFilter::Debug,
        _ => log::LevelFilter::Trace,
    });
}

/// The logger; standard output may belong to the packets.
struct StandardError;

impl log::Log for StandardError {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        // What the connection warns of is among the causes of the error that is told in the end.
        metadata.target().starts_with("blockstore") || log::max_level() > log::LevelFilter::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_lowercase();
            eprintln!("blockstore: {level}: {}", record.args());
        }
    }

    fn flush(&self) {}
}
