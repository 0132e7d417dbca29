//! With the smallest buffers that the kernel gives, a waiter that writes its own request is never
//! stuck in that write: a canceller, a time limit and an end of the connection reach it at once.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod common;
#[path = "common/hostile.rs"]
mod hostile;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/narrow.rs"]
mod narrow;
#[path = "common/pairs.rs"]
mod pairs;

use std::fmt::Write as _;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{watched, watched_for};
use hostile::{piped, signal};
use measure::{pause, until};
use narrow::NARROW;
use packetstream::{
    Connection, ConnectionBuilder, Error, OpenGuard, Packet, PendingResponse, Request, Response,
    Transport,
};
use pairs::{answer_to, asking, request_packet, start, take};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};

type Bytes = Box<dyn Write + Send>;
type Make = fn() -> (Transport, Bytes);

/// A Unix socket, and a peer that never reads.
fn unix() -> (Transport, Bytes) {
    let (here, there) = UnixStream::pair().unwrap();
    // The kernel gives no less than its least.
    set_socket_send_buffer_size(&here, 1).unwrap();
    set_socket_recv_buffer_size(&there, 1).unwrap();
    (here.try_into().unwrap(), Box::new(there))
}

fn tcp() -> (Transport, Bytes) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // What is accepted has inherited it before the first byte comes.
    set_socket_recv_buffer_size(&listener, 1).unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    set_socket_send_buffer_size(&here, 1).unwrap();
    let (there, _) = listener.accept().unwrap();
    (here.try_into().unwrap(), Box::new(there))
}

const SOCKETS: [(&str, Make); 2] = [("unix", unix), ("tcp", tcp)];

/// Answers with as many bytes as the request says.
fn serving() -> ConnectionBuilder {
    Connection::builder()
        .linger(Some(Duration::ZERO))
        .handler(|incoming| {
            let length = std::str::from_utf8(incoming.payload())?.parse()?;
            Ok(vec![b'r'; length])
        })
}

/// Leaves up to so many answers of so many bytes unread, each of them a write of its own: as many as
/// there is room for, and one more, in which the sender is stuck.
fn leave_unread(guard: &OpenGuard, there: &mut Bytes, answers: u64, length: usize) {
    for number in 1..=answers {
        let request = request_packet(number, length.to_string());
        there.write_all(&request.transcribe()).unwrap();
        let deadline = Instant::now() + SHORT;
        while guard.stats().flushes < number {
            if Instant::now() >= deadline {
                return;
            }
            pause(Duration::from_micros(100));
        }
    }
}

/// Waits on a thread of its own, and returns once that sleeps: in its wait, or stuck in a write.
fn waiting<T: Send + 'static>(wait: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let (tell, told) = crossbeam_channel::unbounded();
    let thread = start(move || {
        tell.send(std::fs::read_link("/proc/thread-self").unwrap())
            .unwrap();
        wait()
    });
    let status = std::path::Path::new("/proc").join(take(&told)).join("stat");
    let is_asleep = || {
        // One that has ended is not to be waited for.
        let stat = std::fs::read_to_string(&status).unwrap_or_default();
        let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
        state.is_none_or(|state| state.starts_with('S'))
    };
    until(
        || is_asleep().then_some(()),
        || format!("{} does not sleep", status.display()),
    );
    thread
}

/// What the waiter is reached by, and what it then returns.
#[derive(Clone, Copy, Debug)]
enum Reach {
    Canceller,
    Abort,
    WaitTimeout,
    RequestTimeout,
    /// Of a call, which makes the request and waits for it in one step.
    CallTimeout,
}

const REACHES: [Reach; 5] = [
    Reach::Canceller,
    Reach::Abort,
    Reach::WaitTimeout,
    Reach::RequestTimeout,
    Reach::CallTimeout,
];

const SHORT: Duration = Duration::from_millis(20);

fn assert_reached(guard: &OpenGuard, request: Request, reach: Reach, case: &str) {
    let connection = Connection::clone(guard);
    let submit = |request| guard.submit(request).unwrap();
    match reach {
        Reach::Canceller => {
            let pending = submit(request);
            let canceller = pending.canceller();
            let waiting = waiting(move || pending.wait());
            assert!(canceller.cancel(), "{case}");
            assert!(waiting.join().unwrap().unwrap_err().is_cancelled());
        }
        Reach::Abort => {
            let pending = submit(request);
            let waiting = waiting(move || pending.wait());
            let _ = guard.abort();
            let error = waiting.join().unwrap().unwrap_err();
            assert!(matches!(error.cause(), Error::Aborted), "{case}: {error:?}");
        }
        Reach::WaitTimeout => {
            let pending = submit(request).wait_timeout(SHORT);
            pending.expect_err(case).cancel();
        }
        Reach::RequestTimeout => {
            assert_timed_out(&submit(request.with_timeout(SHORT)).wait(), case);
        }
        Reach::CallTimeout => {
            assert_timed_out(&connection.call(request.with_timeout(SHORT)), case);
        }
    }
}

fn assert_timed_out(result: &Result<Response, Error>, case: &str) {
    assert!(
        matches!(result, Err(Error::TimedOut(_))),
        "{case}: {result:?}"
    );
}

/// Runs a part of a table beside others, each of its cases within a deadline.
fn beside(
    cases: impl IntoIterator<Item = impl FnOnce() + Send + 'static> + Send + 'static,
) -> JoinHandle<()> {
    start(move || cases.into_iter().for_each(watched))
}

fn all(parts: Vec<JoinHandle<()>>) {
    for part in parts {
        part.join().unwrap();
    }
}

#[test]
fn a_lone_waiter_is_reached_whatever_the_peer_has_left_unread() {
    let mut parts = Vec::new();
    for (name, make) in SOCKETS {
        for length in [0, 193, 705, 1500] {
            let case = move |answers| {
                move || {
                    let (transport, mut there) = make();
                    let guard = serving().open(transport).unwrap();
                    leave_unread(&guard, &mut there, answers, length);
                    let case = format!("{name}: {answers} answers of {length} bytes");
                    assert_reached(&guard, asking("x"), Reach::Canceller, &case);
                }
            };
            parts.push(beside((0..=7).map(case)));
        }
    }
    all(parts);
}

#[test]
fn a_lone_waiter_is_reached_however_long_its_request_is() {
    let mut parts = Vec::new();
    for (name, make) in SOCKETS {
        for request in [0, 700, 1800, 2300, 3700] {
            let case = move |(reach, answers)| {
                move || {
                    let (transport, mut there) = make();
                    let guard = serving().open(transport).unwrap();
                    leave_unread(&guard, &mut there, answers, 20);
                    let case = format!("{name}: {reach:?}: {request} after {answers} answers");
                    assert_reached(&guard, asking(vec![0; request]), reach, &case);
                }
            };
            let cases = REACHES
                .into_iter()
                .flat_map(|reach| [(reach, 0), (reach, 3)]);
            parts.push(beside(cases.map(case)));
        }
    }
    all(parts);
}

/// A page that was read in part takes no more than what fits behind that.
#[test]
fn a_lone_waiter_is_reached_though_a_pipe_of_one_page_is_full_of_what_was_read() {
    watched(|| {
        let first = request_packet(2, vec![0; 3500]);
        let read = first.transcribe().len();
        let (question, answer) = (request_packet(2, "300"), answer_to(&first, ""));
        let script = format!(
            "printf '{}'; kill -STOP $$; dd bs=1 count={read} of=/dev/null 2> /dev/null; \
             printf '{}'; exec sleep 60",
            octal(&question),
            octal(&answer),
        );
        let child = piped(Command::new("sh").args(["-c", &script]));
        let stdin = child.stdin.as_ref().unwrap();
        assert_eq!(
            rustix::pipe::fcntl_setpipe_size(stdin, NARROW).unwrap(),
            NARROW
        );
        let number = child.id();
        let (open, opened) = crossbeam_channel::bounded::<()>(1);
        let guard = Connection::builder()
            .linger(Some(Duration::ZERO))
            .handler(move |_| {
                opened.recv()?;
                Ok(vec![b'r'; 300])
            })
            .open(child.try_into().unwrap())
            .unwrap();
        let first = guard.submit(asking(vec![0; 3500])).unwrap();
        assert_eq!(first.tag().get(), 2);
        let first = first.wait_timeout(SHORT).unwrap_err();
        // The page has the request, then the answer.
        until(
            || (guard.stats().writes >= 1).then_some(()),
            || "no write".into(),
        );
        open.send(()).unwrap();
        until(
            || (guard.stats().responses_sent == 1).then_some(()),
            || "no answer".into(),
        );
        await_stopped(number);
        signal("CONT", number);
        first.wait().unwrap();
        assert_reached(&guard, asking(vec![0; 300]), Reach::Canceller, "a page");
    });
}

fn await_stopped(process: u32) {
    let path = format!("/proc/{process}/stat");
    until(
        || {
            let stat = std::fs::read_to_string(&path).unwrap();
            stat.contains(") T ").then_some(())
        },
        || format!("{path} is not stopped"),
    );
}

/// For `printf` of a shell.
fn octal(packet: &Packet) -> String {
    let mut text = String::new();
    for byte in packet.transcribe() {
        write!(text, "\\{byte:03o}").unwrap();
    }
    text
}

/// The thread that writes is stuck, and it alone: requests of the peer are served, answers are
/// delivered, waiters are reached, new requests are queued.
#[test]
fn a_write_that_cannot_proceed_holds_up_nobody_but_its_writer() {
    for (name, make) in SOCKETS {
        watched_for(Duration::from_secs(60), move || {
            let (transport, mut there) = make();
            let (tell, served) = crossbeam_channel::unbounded();
            let guard = Connection::builder()
                .linger(Some(Duration::ZERO))
                .handler(move |incoming| Ok(tell.send(incoming.into_payload())?))
                .open(transport)
                .unwrap();
            let first = guard.submit(asking("first")).unwrap();
            let first = first.wait_timeout(SHORT).unwrap_err();
            // More than there is room for, with a waiter of its own.
            let long = guard.submit(asking(vec![0; 100_000])).unwrap();
            let canceller = long.canceller();
            let stuck = waiting(move || long.wait());

            // Handlers run, though not even one of their answers can be written.
            for number in 0..20 {
                let request = request_packet(2 + number, number.to_string());
                there.write_all(&request.transcribe()).unwrap();
                assert_eq!(take(&served), number.to_string().into_bytes(), "{name}");
            }
            let answer = answer_to(&request_packet(first.tag().get(), ""), "y");
            there.write_all(&answer.transcribe()).unwrap();
            assert_eq!(first.wait().unwrap().payload(), b"y");
            for reach in [Reach::Canceller, Reach::WaitTimeout, Reach::CallTimeout] {
                assert_reached(&guard, asking("next"), reach, name);
            }
            assert!(canceller.cancel());
            assert!(stuck.join().unwrap().unwrap_err().is_cancelled());
            assert_reached(&guard, asking("last"), Reach::Abort, name);
        });
    }
}

/// All that is measured here is that nobody is stuck: answers are still read by who waits.
#[test]
fn calls_go_on_through_the_smallest_buffers() {
    watched(|| {
        let (here, there) = narrow::narrow_sockets();
        let _server = serving().open(there).unwrap();
        let client = Connection::builder().open(here).unwrap();
        for length in (0..3000).step_by(7) {
            let pending: PendingResponse = client.submit(asking(length.to_string())).unwrap();
            assert_eq!(pending.wait().unwrap().payload().len(), length);
            let mut padded = vec![b'0'; length];
            padded.extend_from_slice(b"5");
            assert_eq!(client.call(asking(padded)).unwrap().payload().len(), 5);
        }
    });
}
