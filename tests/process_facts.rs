//! What a process does to its streams: interrupted calls, descriptors that others made
//! non-blocking, `SIGPIPE`, and children that inherit.
//!
//! To be run with the feature `unix` and without, which wait differently.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    clippy::print_stderr,
    reason = "helpers of tests fail the test; handlers have the shape that is asked of them"
)]

mod common;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/pairs.rs"]
mod pairs;
#[path = "common/roles.rs"]
mod roles;

#[cfg(target_os = "linux")]
use std::collections::BTreeSet;
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::watched;
use measure::{assert_no_thread_is_named, pause};
use packetstream::{Connection, ConnectionBuilder, Error, OpenGuard, Transport};
use pairs::{SILENCE, asking, echo, start};
use roles::{in_role, role};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

fn builder() -> ConnectionBuilder {
    Connection::builder().linger(None).handler(echo)
}

/// Calls in both directions at once, of all sizes, and an orderly end.
fn talk(here: Transport, there: Transport) {
    talk_and(here, there, || ());
}

/// The same, and something else meanwhile.
fn talk_and(here: Transport, there: Transport, meanwhile: impl FnOnce()) {
    let (here, there) = (
        builder().open(here).unwrap(),
        builder().open(there).unwrap(),
    );
    // Until there is something to read, both wait for it.
    assert_eq!(here.call(asking("first")).unwrap().payload(), b"first");
    meanwhile();
    let mut talking = Vec::new();
    for end in [&here, &there] {
        let small = end.clone();
        talking.push(start(move || {
            for n in 0..100_u8 {
                assert_eq!(small.call(asking([n])).unwrap().payload(), [n]);
            }
        }));
        let large = end.clone();
        talking.push(start(move || {
            let payloads: Vec<_> = (1..=4_u8).map(|n| vec![n; 300_000]).collect();
            let pending: Vec<_> = payloads
                .iter()
                .map(|payload| large.submit(asking(&payload[..])).unwrap())
                .collect();
            for (payload, pending) in payloads.iter().zip(pending) {
                assert!(pending.wait().unwrap().payload() == payload);
            }
        }));
    }
    for talk in talking {
        talk.join().unwrap();
    }
    let serving = start(move || there.serve());
    here.close().into_result().unwrap();
    serving.join().unwrap().into_result().unwrap();
}

// ---- EINTR -----------------------------------------------------------------------------------

/// A stream whose every call is interrupted first, once or several times.
struct Interrupted<S> {
    stream: S,
    random: fastrand::Rng,
}

impl<S> Interrupted<S> {
    fn new(stream: S, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { stream, random }
    }

    fn interrupt(&mut self) -> io::Result<()> {
        if self.random.u8(..3) > 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    /// A part of the way only.
    fn some(&mut self, len: usize) -> usize {
        len.min(self.random.usize(1..5000))
    }
}

impl<S: Read> Read for Interrupted<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.interrupt()?;
        let len = self.some(buf.len());
        self.stream.read(&mut buf[..len])
    }
}

impl<S: Write> Write for Interrupted<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.interrupt()?;
        let len = self.some(buf.len());
        self.stream.write(&buf[..len])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.interrupt()?;
        self.stream.flush()
    }
}

#[test]
fn interrupted_reads_writes_and_flushes_are_tried_again() {
    for seed in 0..4 {
        watched(move || {
            let (here, there) = UnixStream::pair().unwrap();
            let [here, there] = [(here, seed), (there, seed + 100)].map(|(stream, seed)| {
                let reader = Interrupted::new(stream.try_clone().unwrap(), seed);
                let reader = BufReader::with_capacity(4096, reader);
                Transport::new(reader, Interrupted::new(stream, seed + 1000))
            });
            talk(here, there);
        });
    }
}

// ---- O_NONBLOCK ------------------------------------------------------------------------------

/// Two ends and a duplicate of each descriptor, as another process might hold it.
type Ends = (Transport, Transport, Vec<OwnedFd>);

fn duplicate(descriptor: &impl AsFd) -> OwnedFd {
    descriptor.as_fd().try_clone_to_owned().unwrap()
}

fn unix_sockets() -> Ends {
    let (here, there) = UnixStream::pair().unwrap();
    let duplicates = vec![duplicate(&here), duplicate(&there)];
    (
        here.try_into().unwrap(),
        there.try_into().unwrap(),
        duplicates,
    )
}

fn tcp_sockets() -> Ends {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (there, _) = listener.accept().unwrap();
    let duplicates = vec![duplicate(&here), duplicate(&there)];
    (
        here.try_into().unwrap(),
        there.try_into().unwrap(),
        duplicates,
    )
}

fn pipes() -> Ends {
    let (there_reader, here_writer) = io::pipe().unwrap();
    let (here_reader, there_writer) = io::pipe().unwrap();
    let here = (OwnedFd::from(here_reader), OwnedFd::from(here_writer));
    let there = (OwnedFd::from(there_reader), OwnedFd::from(there_writer));
    let duplicates = [&here.0, &here.1, &there.0, &there.1].map(duplicate);
    (
        here.try_into().unwrap(),
        there.try_into().unwrap(),
        duplicates.into(),
    )
}

/// As standard input and output are taken: the lender keeps his own.
fn borrowed() -> Ends {
    let (there_reader, here_writer) = io::pipe().unwrap();
    let (here_reader, there_writer) = io::pipe().unwrap();
    let here = Transport::from_borrowed_fds(here_reader.as_fd(), here_writer.as_fd()).unwrap();
    let there = Transport::from_borrowed_fds(there_reader.as_fd(), there_writer.as_fd()).unwrap();
    let lenders = vec![
        here_reader.into(),
        here_writer.into(),
        there_reader.into(),
        there_writer.into(),
    ];
    (here, there, lenders)
}

const ALL_ENDS: [fn() -> Ends; 4] = [unix_sockets, tcp_sockets, pipes, borrowed];

fn set_nonblocking(descriptors: &[OwnedFd], is_nonblocking: bool) {
    for descriptor in descriptors {
        let mut flags = fcntl_getfl(descriptor).unwrap();
        flags.set(OFlags::NONBLOCK, is_nonblocking);
        fcntl_setfl(descriptor, flags).unwrap();
    }
}

fn assert_nonblocking(descriptors: &[OwnedFd], expected: bool) {
    for descriptor in descriptors {
        let flags = fcntl_getfl(descriptor).unwrap();
        assert_eq!(flags.contains(OFlags::NONBLOCK), expected);
    }
}

#[test]
fn descriptors_that_do_not_block_lose_nothing_and_stay_so() {
    for ends in ALL_ENDS {
        watched(move || {
            let (here, there, shared) = ends();
            set_nonblocking(&shared, true);
            talk(here, there);
            assert_nonblocking(&shared, true);
        });
    }
}

#[test]
fn descriptors_that_cease_to_block_meanwhile_lose_nothing_and_stay_so() {
    for ends in ALL_ENDS {
        watched(move || {
            let (here, there, shared) = ends();
            talk_and(here, there, || set_nonblocking(&shared, true));
            assert_nonblocking(&shared, true);
        });
    }
}

#[test]
fn descriptors_whose_mode_others_keep_changing_lose_nothing() {
    for ends in ALL_ENDS {
        watched(move || {
            let (here, there, shared) = ends();
            let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
            let changing = start(move || {
                let mut mode = false;
                // The sender is dropped, and nothing ever sent.
                while stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Empty) {
                    mode = !mode;
                    set_nonblocking(&shared, mode);
                    let _ = stopped.recv_timeout(Duration::from_millis(1));
                }
                assert_nonblocking(&shared, mode);
            });
            talk(here, there);
            drop(stop);
            changing.join().unwrap();
        });
    }
}

#[test]
fn descriptors_that_block_are_left_so() {
    for ends in ALL_ENDS {
        watched(move || {
            let (here, there, shared) = ends();
            talk(here, there);
            assert_nonblocking(&shared, false);
        });
    }
}

#[test]
fn close_over_descriptors_that_do_not_block_is_bounded() {
    for (number, ends) in ALL_ENDS.into_iter().enumerate() {
        watched(move || {
            let (here, there, shared) = ends();
            set_nonblocking(&shared, true);
            let name = format!("nb{number}");
            let linger = Some(Duration::from_millis(50));
            let guard = builder().name(&name).open(here).unwrap();
            drop(guard.submit(asking(vec![0; 4 << 20])).unwrap());
            let report = guard.shutdown(linger);
            assert!(matches!(report.cause(), Some(Error::LingerExpired)));
            let is_socket = number < 2;
            if is_socket {
                assert_no_thread_is_named(&format!("{name}:"));
            }
            assert_nonblocking(&shared, true);
            drop(there);
        });
    }
}

// ---- SIGPIPE ---------------------------------------------------------------------------------

/// Writes to peers that do not read any more, in a process that does not ignore `SIGPIPE`.
fn write_with_sigpipe_at_its_default(to: &str) {
    sigpipe::reset();
    if cfg!(target_os = "linux") {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = u64::from_str_radix(ignored.unwrap().trim(), 16).unwrap();
        assert_eq!(ignored & 1 << (13 - 1), 0, "SIGPIPE is still ignored");
    }
    if to == "sockets" {
        let (unix, unix_peer) = UnixStream::pair().unwrap();
        let (owned, owned_peer) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (tcp_peer, _) = listener.accept().unwrap();
        unix_peer.shutdown(Shutdown::Read).unwrap();
        owned_peer.shutdown(Shutdown::Read).unwrap();
        drop(tcp_peer);
        let transports: [Transport; 3] = [
            unix.try_into().unwrap(),
            OwnedFd::from(owned).try_into().unwrap(),
            tcp.try_into().unwrap(),
        ];
        for transport in transports {
            let guard = builder().open(transport).unwrap();
            // TCP tells at the second write, if the reset was not read before.
            for payload in [vec![1], vec![2; 1 << 20], vec![3]] {
                guard.call(asking(payload)).unwrap_err();
            }
            let report = guard.shutdown(Some(Duration::ZERO));
            eprintln!("{:?}", report.cause());
        }
    } else {
        let (reader, _peer_writer) = io::pipe().unwrap();
        let (peer_reader, writer) = io::pipe().unwrap();
        drop(peer_reader);
        let pipes = (OwnedFd::from(reader), OwnedFd::from(writer));
        let guard = builder().open(pipes.try_into().unwrap()).unwrap();
        guard.call(asking("x")).unwrap_err();
    }
    eprintln!("survived");
}

#[test]
fn with_sigpipe_at_its_default_sockets_do_not_kill_the_process_and_pipes_do() {
    if let Some(to) = role() {
        return write_with_sigpipe_at_its_default(&to);
    }
    watched(|| {
        let name = "with_sigpipe_at_its_default_sockets_do_not_kill_the_process_and_pipes_do";
        let run = |to| in_role(name, to).stdin(Stdio::null()).output().unwrap();
        let output = run("sockets");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", output.status);
        assert!(said.ends_with("survived\n"), "{said}");
        // At least the Unix sockets were written to, or this shows nothing.
        assert!(said.matches("Write(").count() >= 2, "{said}");
        // The documentation says so, and what a host has to do about it.
        let output = run("pipes");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(13), "{said}");
        assert!(!said.contains("survived"), "{said}");
    });
}

// ---- inheritance -----------------------------------------------------------------------------

/// What a child's descriptors beyond its standard ones are open on.
#[cfg(target_os = "linux")]
fn inherited(listing: &str) -> BTreeSet<String> {
    listing
        .lines()
        .filter_map(|line| line.split_once(" -> "))
        .filter_map(|(before, target)| {
            let number: u32 = before.rsplit(' ').next()?.parse().ok()?;
            // The directory that is being listed is open too.
            (number > 2 && !target.starts_with("/proc/")).then(|| target.to_owned())
        })
        .collect()
}

#[cfg(target_os = "linux")]
fn descriptors_of_a_child() -> BTreeSet<String> {
    let output = Command::new("ls")
        .args(["-l", "/proc/self/fd"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    inherited(&String::from_utf8(output.stdout).unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn children_inherit_no_descriptor_of_a_connection() {
    watched(|| {
        let before = descriptors_of_a_child();
        let open = |transport: Transport| {
            let builder = builder().linger(Some(Duration::ZERO));
            builder.open(transport).unwrap()
        };
        let mut guards: Vec<OpenGuard> = Vec::new();
        let mut shared = Vec::new();
        for ends in ALL_ENDS {
            let (here, there, duplicates) = ends();
            set_nonblocking(&duplicates, true);
            shared.extend(duplicates);
            let there = open(there);
            let here = open(here);
            here.call(asking("x")).unwrap();
            guards.extend([here, there]);
        }
        guards.push(builder().spawn(Command::new("cat")).unwrap());
        // Waiting for descriptors that do not block may need others.
        pause(SILENCE);
        assert_eq!(descriptors_of_a_child(), before);

        // Nor does a child that is itself the peer of a connection.
        let mut command = Command::new("sh");
        let script = "ls -l /proc/self/fd >&2; exec cat";
        let mut child = command
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let client = builder().open(child.try_into().unwrap()).unwrap();
        client.call(asking("x")).unwrap();
        client.close().into_result().unwrap();
        let mut listing = String::new();
        stderr.read_to_string(&mut listing).unwrap();
        assert!(listing.contains("pipe:"), "{listing}");
        assert_eq!(inherited(&listing), before, "{listing}");
        for guard in guards {
            let _ = guard.abort();
        }
    });
}
