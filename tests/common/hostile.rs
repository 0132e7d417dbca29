//! Peers that do not play along.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::any::Any;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use packetstream::Transport;

use super::pairs::start;

/// A transport, and what plays its other end until it is dropped.
pub type Hostile = (Transport, Box<dyn Any + Send>);

pub fn silent_socket() -> Hostile {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ours.try_into().unwrap(), Box::new(theirs))
}

pub fn silent_tcp() -> Hostile {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    (ours.try_into().unwrap(), Box::new(theirs))
}

/// Nothing can free a thread that is stuck in these.
pub fn silent_pipes() -> Hostile {
    let (there_reader, here_writer) = std::io::pipe().unwrap();
    let (here_reader, there_writer) = std::io::pipe().unwrap();
    let ours = (OwnedFd::from(here_reader), OwnedFd::from(here_writer));
    (
        ours.try_into().unwrap(),
        Box::new((there_reader, there_writer)),
    )
}

pub fn silent_memory() -> Hostile {
    let (ours, theirs) = Transport::pair();
    (ours, Box::new(theirs))
}

/// A program that neither reads nor writes.
pub fn deaf_child() -> Hostile {
    let mut command = Command::new("sleep");
    command.arg("1000");
    (Transport::spawn(&mut command).unwrap(), Box::new(()))
}

/// A program that has been stopped, as with ^Z.
pub fn stopped_child() -> Hostile {
    let child = piped(&mut Command::new("cat"));
    signal("STOP", child.id());
    let number = child.id();
    (child.try_into().unwrap(), Box::new(Reaped(number)))
}

/// Checks when it is dropped that a process has been reaped.
struct Reaped(u32);

impl Drop for Reaped {
    fn drop(&mut self) {
        if cfg!(target_os = "linux") && !std::thread::panicking() {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0));
            assert!(stat.is_err(), "it is still there: {stat:?}");
        }
    }
}

/// Sends an endless packet, one octet at a time.
pub fn dribbling_peer() -> Hostile {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let stop = in_steps(move |step| {
        // The head of a packet of about 16 KiB, and a payload that takes longer than any close.
        let octet = *b"\xff\x00\x05\x02\x01".get(step).unwrap_or(&b'x');
        (&theirs).write_all(&[octet]).is_ok()
    });
    (ours.try_into().unwrap(), Box::new(stop))
}

/// Reads one octet at a time, and says nothing.
pub fn sipping_peer() -> Hostile {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let stop = in_steps(move |_| matches!((&theirs).read(&mut [0]), Ok(1)));
    (ours.try_into().unwrap(), Box::new(stop))
}

/// Takes a small step every now and then, until one fails or what is returned is dropped.
fn in_steps(mut step: impl FnMut(usize) -> bool + Send + 'static) -> impl Any + Send {
    let (keep, dropped): (_, Receiver<()>) = crossbeam_channel::bounded(0);
    start(move || {
        for number in 0.. {
            let pause = dropped.recv_timeout(Duration::from_millis(2));
            if pause != Err(RecvTimeoutError::Timeout) || !step(number) {
                break;
            }
        }
    });
    keep
}

/// Starts a program whose stdin and stdout are pipes.
pub fn piped(command: &mut Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Sends a signal to a process.
pub fn signal(name: &str, process: u32) {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(process.to_string())
        .status()
        .unwrap();
    assert!(status.success(), "kill -{name} {process}");
}
