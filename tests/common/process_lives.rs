//! Lives whose ends are in two processes, one of which is killed, stopped, or exits at any moment.
//!
//! The child writes what it runs and what it is told to a journal, which outlives it.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, io};

use packetstream::Transport;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::super::narrow::Harm;
use super::chances::Ending;
use super::life_ends::Fuse;
use super::{Arc, Course, DoHarm, Ended, Ledger, Life, Rng};

#[path = "roles.rs"]
pub mod roles;

/// How the two are joined.
#[derive(Clone, Copy, Debug)]
enum Link {
    Stdio,
    Unix,
    Tcp,
}

/// What both processes know of a life, from its seed.
struct Script {
    link: Link,
    course: Course,
    /// One of each end.
    endings: [Option<Ending>; 2],
    seeds: [Rng; 2],
}

impl Script {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let link = [Link::Stdio, Link::Unix, Link::Tcp][rng.usize(..3)];
        let callers = [0, 1].map(|_| rng.usize(0..=2));
        // Killed, killed or stopped; and one that exits by itself.
        let ours = Ending::any(rng, 0, &[|_| Harm::Cut, |_| Harm::Cut, |_| Harm::Stall]);
        let theirs = Ending::any(rng, 1, &[|_| Harm::Cut, |_| Harm::Cut]);
        let endings = match rng.u8(..3) {
            0 => [Some(ours), None],
            1 => [None, Some(theirs)],
            _ => [Some(ours), Some(theirs)],
        };
        let is_orderly = endings.iter().flatten().all(|ending| ending.is_orderly());
        Self {
            link,
            course: Course {
                callers,
                requests: rng.usize(1..=8),
                serves: rng.bool(),
                is_orderly,
            },
            endings,
            seeds: [rng.fork(), rng.fork()],
        }
    }

    /// Plays one of the ends.
    fn play(
        self,
        end: usize,
        ledger: Ledger,
        harm: Option<Box<DoHarm>>,
        transport: Transport,
    ) -> Arc<Life> {
        let Self {
            mut course,
            endings,
            seeds,
            ..
        } = self;
        let mut rng = seeds[end].clone();
        let requests = course.requests * (course.callers[0] + course.callers[1]);
        let fuses = endings[end].map(|ending| Fuse::new(&mut rng, end, ending, requests));
        course.callers[1 - end] = 0;
        let life = Life::new(ledger, harm, false, fuses.into_iter().collect());
        life.live(vec![(end, transport)], course, &mut rng);
        life
    }
}

/// Plays one life with a child that runs the named test, which must call [`play_part`].
pub fn play_with_child(seed: u64, test: &str) -> Ended {
    let script = Script::new(seed);
    let Script { link, course, .. } = &script;
    let is_orderly = course.is_orderly;
    let story = format!(
        "{link:?}, callers {:?} with {} requests each, {:?}",
        course.callers, course.requests, script.endings
    );
    let journal = scratch("journal");
    fs::write(&journal, "").unwrap();
    let (transport, process, owned) = start_child(*link, seed, &journal, test);
    let harm = move |harm| {
        let signal = if harm == Harm::Stall {
            Signal::STOP
        } else {
            Signal::KILL
        };
        // It may have ended.
        let _ = kill_process(process, signal);
    };
    let life = script.play(0, Ledger::of_one_end(seed), Some(Box::new(harm)), transport);
    // They hold the transport, and that the child.
    life.reports.lock().clear();
    match owned {
        Some(mut child) => {
            let is_stopped = life
                .fuses
                .iter()
                .any(|f| f.ending == Ending::Harm(Harm::Stall));
            if is_stopped {
                child.kill().unwrap();
            }
            // Whatever has happened to the link, it comes to its end.
            child.wait().unwrap();
        }
        // The transport reaps it.
        None => super::super::measure::until(
            || test_kill_process(process).is_err().then_some(()),
            || format!("{process:?} is still there"),
        ),
    }
    let ledger = Arc::clone(&life.ledger);
    let is_whole = ledger.read_journal(1, &fs::read_to_string(&journal).unwrap());
    fs::remove_file(&journal).unwrap();
    if is_orderly && !is_whole {
        ledger.complain("the child has not come to its end".to_owned());
    }
    Ended {
        seed,
        ledger,
        is_orderly,
        story,
    }
}

/// A path that no other life uses.
fn scratch(what: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    env::temp_dir().join(format!("packetstream-{what}-{}-{number}", process::id()))
}

/// Starts the child, and returns it unless the transport owns it.
fn start_child(
    link: Link,
    seed: u64,
    journal: &Path,
    test: &str,
) -> (Transport, Pid, Option<Child>) {
    let journal = journal.to_str().unwrap();
    let command = |address: &str| roles::in_role(test, &format!("{seed} {journal} {address}"));
    let silent = |mut command: Command| {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = child.unwrap();
        (Pid::from_child(&child), Some(child))
    };
    match link {
        Link::Stdio => {
            let command = behind_fd_3(&command("-"));
            let child = { command }
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let process = Pid::from_child(&child);
            (child.try_into().unwrap(), process, None)
        }
        Link::Unix => {
            let path = scratch("socket");
            let listener = UnixListener::bind(&path).unwrap();
            let (process, child) = silent(command(path.to_str().unwrap()));
            let (stream, _) = listener.accept().unwrap();
            fs::remove_file(path).unwrap();
            (stream.try_into().unwrap(), process, child)
        }
        Link::Tcp => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let (process, child) = silent(command(&address.to_string()));
            let (stream, _) = listener.accept().unwrap();
            (stream.try_into().unwrap(), process, child)
        }
    }
}

/// The same command with its output as descriptor 3, since the harness prints to the first one.
fn behind_fd_3(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", r#"exec "$0" "$@" 3>&1 >/dev/null"#])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap());
    }
    shell
}

/// What the child does.
pub fn play_part(role: &str) {
    let mut words = role.split(' ');
    let mut word = || words.next().unwrap();
    let seed = word().parse().unwrap();
    let journal = OpenOptions::new().append(true).open(word()).unwrap();
    let transport = match word() {
        "-" => {
            let reader = io::stdin().as_fd().try_clone_to_owned().unwrap();
            let writer = OpenOptions::new().write(true).open("/dev/fd/3").unwrap();
            Transport::try_from((reader, writer.into())).unwrap()
        }
        path if path.starts_with('/') => UnixStream::connect(path).unwrap().try_into().unwrap(),
        address => TcpStream::connect(address).unwrap().try_into().unwrap(),
    };
    let ledger = Ledger::with_journal(seed, journal);
    let harm = Box::new(|_| process::exit(0));
    let life = Script::new(seed).play(1, ledger, Some(harm), transport);
    life.ledger.note("whole");
}
