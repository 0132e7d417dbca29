//! Shows the packets of a captured stream, one a line.
//!
//! ```text
//! dump [--json] [FILE]
//! ```
//!
//! A capture may hold one conversation after the other, so decoding goes on after a packet that
//! ends a stream, with a reader of its own for what follows. Packets are shown as they come: the
//! input is never held as a whole, and may be a pipe from a running program.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use packetstream::{Error, Packet, PacketKind, PacketReader};

const USAGE: &str = "\
usage: dump [--json] [FILE]

Shows the packets of a captured stream, read from FILE or from standard input
(also if FILE is -), one a line: offset, length in octets, and what it is.

  --json  one JSON object a line, with the keys offset, length, kind (request,
          response, end_of_requests, end_of_stream), channel, tag, flags,
          ok (of a response), rq_type (of a request), payload_len and payload
          (hexadecimal); numbers go up to 2^64 - 1
  --help  shows this

Decoding goes on after an end of stream: a capture may hold several
conversations. The exit status is 0; 1 if the input cannot be read or decoded,
after everything before that place was shown; 2 for wrong arguments.
";

fn main() -> ExitCode {
    let arguments = match Arguments::parse(env::args_os().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            return exit_code(
                io::stdout()
                    .write_all(USAGE.as_bytes())
                    .map_err(Failure::Write),
            );
        }
        Err(message) => {
            eprint!("dump: {message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    exit_code(run(&arguments))
}

fn exit_code(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough.
        Err(Failure::Write(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("dump: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let input: Box<dyn BufRead> = match &arguments.file {
        None => Box::new(io::stdin().lock()),
        Some(path) => {
            let file = File::open(path).map_err(|error| Failure::Open(path.clone(), error))?;
            Box::new(BufReader::with_capacity(64 * 1024, file))
        }
    };
    let mut output = BufWriter::new(io::stdout().lock());
    let result = dump(input, &mut output, arguments.json);
    let flushed = output.flush().map_err(Failure::Write);
    result.and(flushed)
}

/// Shows all packets of `input`.
fn dump(input: impl BufRead, output: &mut impl Write, json: bool) -> Result<(), Failure> {
    let mut reader = PacketReader::new(input);
    // Where the current reader began.
    let mut base = 0;
    loop {
        let offset = base + reader.offset();
        // Whoever watches a pipe wants to see what has come before we wait for more.
        if !reader.has_complete_packet() {
            output.flush().map_err(Failure::Write)?;
        }
        match reader.read_packet() {
            Ok(Some(packet)) => {
                let length = base + reader.offset() - offset;
                let shown = if json {
                    writeln!(
                        output,
                        "{}",
                        Json {
                            offset,
                            length,
                            packet: &packet
                        }
                    )
                } else {
                    writeln!(output, "{offset:>8} {length:>6}  {packet}")
                };
                shown.map_err(Failure::Write)?;
            }
            Ok(None) if reader.has_ended() => {
                base += reader.offset();
                reader = PacketReader::new(reader.into_inner());
            }
            Ok(None) => return Ok(()),
            Err(error) => return Err(Failure::Read { offset, error }),
        }
    }
}

/// A packet as a JSON object.
struct Json<'a> {
    offset: u64,
    length: u64,
    packet: &'a Packet,
}

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            offset,
            length,
            packet,
        } = self;
        let kind = match packet.kind() {
            PacketKind::Request(_) => "request",
            PacketKind::Response { .. } => "response",
            PacketKind::EndOfRequests => "end_of_requests",
            PacketKind::EndOfStream => "end_of_stream",
        };
        write!(
            f,
            r#"{{"offset":{offset},"length":{length},"kind":"{kind}""#
        )?;
        write!(
            f,
            r#","channel":{},"tag":{}"#,
            packet.channel(),
            packet.tag()
        )?;
        write!(f, r#","flags":{}"#, packet.flags().bits())?;
        if let Some(ok) = packet.is_ok() {
            write!(f, r#","ok":{ok}"#)?;
        }
        if let Some(number) = packet.request_type() {
            write!(f, r#","rq_type":{number}"#)?;
        }
        write!(
            f,
            r#","payload_len":{},"payload":""#,
            packet.payload().len()
        )?;
        for octet in packet.payload() {
            write!(f, "{octet:02x}")?;
        }
        f.write_str(r#""}"#)
    }
}

struct Arguments {
    json: bool,
    /// `None`: standard input.
    file: Option<PathBuf>,
}

impl Arguments {
    /// `None` if help is wanted.
    fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Option<Self>, String> {
        let mut json = false;
        let mut files = Vec::new();
        let mut only_files = false;
        for argument in arguments {
            match argument.to_str() {
                _ if only_files => files.push(argument),
                Some("--json") => json = true,
                Some("--help" | "-h") => return Ok(None),
                Some("--") => only_files = true,
                Some(option) if option.starts_with('-') && option != "-" => {
                    return Err(format!("there is no option {option}"));
                }
                _ => files.push(argument),
            }
        }
        if files.len() > 1 {
            return Err(format!("one file at a time, not {}", files.len()));
        }
        let file = files.pop().filter(|file| file != "-").map(PathBuf::from);
        Ok(Some(Self { json, file }))
    }
}

enum Failure {
    Open(PathBuf, io::Error),
    /// The packet that begins at this offset is not one, or cannot be read.
    Read {
        offset: u64,
        error: Error,
    },
    Write(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(path, error) => write!(f, "cannot open {}: {error}", path.display()),
            Self::Read {
                offset,
                error: Error::Decode(error),
            } => {
                write!(f, "undecodable packet at offset {offset}: {error}")
            }
            Self::Read {
                offset,
                error: Error::Read(error),
            } => {
                write!(f, "cannot read the packet at offset {offset}: {error}")
            }
            Self::Read { offset, error } => write!(f, "at offset {offset}: {error}"),
            Self::Write(error) => write!(f, "cannot write: {error}"),
        }
    }
}
