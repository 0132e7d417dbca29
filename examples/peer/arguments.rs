//! The command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::shell_words;

pub(crate) const USAGE: &str = "\
peer serve --stdio | --tcp [HOST:]PORT | --unix PATH
    --once             serve one connection, then exit
    --close-after N    begin the shutdown from this end after N requests
    --grace SECONDS    the longest a queued packet waits for company (default 0.01)
    --max-seconds N    end with status 3 after that time (default 600)
    --verbose          write what the library logs to standard error

peer call --command 'CMD ARG ...' | --tcp [HOST:]PORT | --unix PATH
    --only TEST        run this test; may be repeated
    --skip TEST        leave out this test; may be repeated
    --repeat N         run all tests N times over the one connection
    --timeout SECONDS  for each test (default 20)
    --on-demand        let the connection connect when it is opened
    --grace, --max-seconds (default 300), --verbose: as above

peer demo
";

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Serve(ServeOptions),
    Call(CallOptions),
    Demo { child: bool },
}

#[derive(Clone, Debug)]
pub(crate) struct ServeOptions {
    pub(crate) endpoint: Endpoint,
    pub(crate) once: bool,
    pub(crate) close_after: Option<u64>,
    pub(crate) common: CommonOptions,
}

#[derive(Clone, Debug)]
pub(crate) struct CallOptions {
    pub(crate) endpoint: Endpoint,
    pub(crate) only: Vec<String>,
    pub(crate) skip: Vec<String>,
    pub(crate) repeat: usize,
    pub(crate) timeout: Duration,
    pub(crate) on_demand: bool,
    pub(crate) common: CommonOptions,
}

#[derive(Clone, Debug)]
pub(crate) struct CommonOptions {
    pub(crate) grace: Option<Duration>,
    pub(crate) max_seconds: Duration,
    pub(crate) verbose: bool,
}

/// Where the other end is, or is to come from.
#[derive(Clone, Debug)]
pub(crate) enum Endpoint {
    Stdio,
    Command(Vec<String>),
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// Parses the arguments, without the name of the program.
pub(crate) fn parse(arguments: Vec<String>) -> Result<Command, String> {
    if arguments
        .iter()
        .any(|argument| argument == "--help" || argument == "-h")
    {
        return Ok(Command::Help);
    }
    let mut words = Words {
        rest: arguments.into_iter(),
        option: String::new(),
        value: None,
    };
    match words.rest.next().as_deref() {
        Some("serve") => parse_serve(words).map(Command::Serve),
        Some("call") => parse_call(words).map(Command::Call),
        Some("demo") => parse_demo(words),
        Some(other) => Err(format!("{other:?} is not serve, call or demo")),
        None => Err("say serve, call or demo".to_owned()),
    }
}

fn parse_serve(mut words: Words) -> Result<ServeOptions, String> {
    let mut endpoint = None;
    let mut once = false;
    let mut close_after = None;
    let mut common = CommonOptions::new(Duration::from_secs(600));
    while let Some(option) = words.next_option()? {
        match option.as_str() {
            "--stdio" => words.set_endpoint(&mut endpoint, Endpoint::Stdio)?,
            "--tcp" | "--unix" => {
                let address = words.address()?;
                words.set_endpoint(&mut endpoint, address)?;
            }
            "--once" => once = true,
            // None after 0 requests, as the other implementation has it.
            "--close-after" => close_after = Some(words.number()?).filter(|&count| count > 0),
            _ => common.take(&mut words)?,
        }
    }
    let endpoint = endpoint.ok_or("serve needs one of --stdio, --tcp and --unix")?;
    Ok(ServeOptions {
        endpoint,
        once,
        close_after,
        common,
    })
}

fn parse_call(mut words: Words) -> Result<CallOptions, String> {
    let mut endpoint = None;
    let (mut only, mut skip) = (Vec::new(), Vec::new());
    let mut repeat = 1;
    let mut timeout = Duration::from_secs(20);
    let mut on_demand = false;
    let mut common = CommonOptions::new(Duration::from_secs(300));
    while let Some(option) = words.next_option()? {
        match option.as_str() {
            "--command" => {
                let command = words.command()?;
                words.set_endpoint(&mut endpoint, command)?;
            }
            "--tcp" | "--unix" => {
                let address = words.address()?;
                words.set_endpoint(&mut endpoint, address)?;
            }
            "--only" => only.push(words.value()?),
            "--skip" => skip.push(words.value()?),
            "--repeat" => repeat = words.number()?,
            "--timeout" => timeout = words.seconds()?,
            "--on-demand" => on_demand = true,
            _ => common.take(&mut words)?,
        }
    }
    let endpoint = endpoint.ok_or("call needs one of --command, --tcp and --unix")?;
    Ok(CallOptions {
        endpoint,
        only,
        skip,
        repeat,
        timeout,
        on_demand,
        common,
    })
}

fn parse_demo(mut words: Words) -> Result<Command, String> {
    let mut child = false;
    while let Some(option) = words.next_option()? {
        match option.as_str() {
            // Not in the usage: it is how the demonstration starts its other end.
            "--child" => child = true,
            _ => return Err(words.unknown()),
        }
    }
    Ok(Command::Demo { child })
}

impl CommonOptions {
    fn new(max_seconds: Duration) -> Self {
        Self {
            grace: None,
            max_seconds,
            verbose: false,
        }
    }

    fn take(&mut self, words: &mut Words) -> Result<(), String> {
        match words.option.as_str() {
            "--grace" => self.grace = Some(words.seconds()?),
            "--max-seconds" => self.max_seconds = words.seconds()?,
            "--verbose" => self.verbose = true,
            _ => return Err(words.unknown()),
        }
        Ok(())
    }
}

/// The remaining words, and the option that is being looked at with its value if that came in the
/// same word (`--option=value`).
struct Words {
    rest: std::vec::IntoIter<String>,
    option: String,
    value: Option<String>,
}

impl Words {
    fn next_option(&mut self) -> Result<Option<String>, String> {
        if self.value.is_some() {
            return Err(format!("{} takes no value", self.option));
        }
        let Some(word) = self.rest.next() else {
            return Ok(None);
        };
        match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => {
                self.option = option.to_owned();
                self.value = Some(value.to_owned());
            }
            _ => self.option = word,
        }
        Ok(Some(self.option.clone()))
    }

    fn value(&mut self) -> Result<String, String> {
        self.value
            .take()
            .or_else(|| self.rest.next())
            .ok_or_else(|| format!("{} needs a value", self.option))
    }

    fn number<N: FromStr<Err: fmt::Display>>(&mut self) -> Result<N, String> {
        let value = self.value()?;
        value
            .parse()
            .map_err(|error| format!("{} {value}: {error}", self.option))
    }

    fn seconds(&mut self) -> Result<Duration, String> {
        let seconds = self.number()?;
        Duration::try_from_secs_f64(seconds)
            .map_err(|error| format!("{} {seconds}: {error}", self.option))
    }

    fn command(&mut self) -> Result<Endpoint, String> {
        let line = self.value()?;
        let words = shell_words::split(&line)
            .map_err(|problem| format!("{} {line:?}: {problem}", self.option))?;
        if words.is_empty() {
            return Err(format!("{}: there is no command in {line:?}", self.option));
        }
        Ok(Endpoint::Command(words))
    }

    fn address(&mut self) -> Result<Endpoint, String> {
        let address = self.value()?;
        if self.option == "--unix" {
            return if cfg!(unix) {
                Ok(Endpoint::Unix(address.into()))
            } else {
                Err("--unix: this system has no such sockets".to_owned())
            };
        }
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() => (host, port),
            Some((_, port)) => ("127.0.0.1", port),
            None => ("127.0.0.1", address.as_str()),
        };
        let port = port
            .parse()
            .map_err(|_| format!("--tcp {address:?}: {port:?} is not a port number"))?;
        Ok(Endpoint::Tcp {
            host: host.to_owned(),
            port,
        })
    }

    fn set_endpoint(&self, slot: &mut Option<Endpoint>, endpoint: Endpoint) -> Result<(), String> {
        match slot.replace(endpoint) {
            None => Ok(()),
            Some(_) => Err(format!("{} is one place to talk to too many", self.option)),
        }
    }

    fn unknown(&self) -> String {
        format!("there is no option {:?} here", self.option)
    }
}
