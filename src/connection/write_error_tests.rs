//! After a write error the peer is not kept waiting for our end, over whatever transport.

use std::any::Any;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::{Connection, Error, OpenGuard, Request, Transport};

/// Longer than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A writer whose writes fail. It keeps what it stands for open until it is dropped.
struct Failing<W>(W);

impl<W: Send> Write for Failing<W> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::other("the disk is full"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The same transport, hooks and all, but for its writes.
fn failing(transport: Transport) -> Transport {
    let mut parts = transport.split();
    parts.writer = Box::new(Failing(parts.writer));
    Transport::from_parts(parts)
}

/// The peer's half of a transport.
struct Peer {
    reader: Box<dyn Read + Send>,
    /// Dropped to end what it writes.
    end: Box<dyn FnOnce() + Send>,
    /// What the connection has been lent.
    lender: Option<Box<dyn Any>>,
}

type Ends = (Transport, Peer);

/// Ends what it writes when it is dropped, for streams that share one socket.
fn peer_on<S: Read + Send + 'static>(stream: S, end: impl FnOnce() + Send + 'static) -> Peer {
    Peer {
        reader: Box::new(stream),
        end: Box::new(end),
        lender: None,
    }
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (here, listener.accept().unwrap().0)
}

fn tcp_peer(there: TcpStream) -> Peer {
    let end = there.try_clone().unwrap();
    peer_on(there, move || end.shutdown(Shutdown::Write).unwrap())
}

fn tcp() -> Ends {
    let (here, there) = tcp_pair();
    (here.try_into().unwrap(), tcp_peer(there))
}

/// Both halves share one socket, and nothing can shut it.
fn streams_of_the_users() -> Ends {
    let (here, there) = tcp_pair();
    let reader = BufReader::new(here.try_clone().unwrap());
    (Transport::new(reader, here), tcp_peer(there))
}

/// Two sockets: what the user reads and what the user writes have nothing to do with each other.
fn separate_streams_of_the_users() -> Ends {
    let (reads, to_write) = tcp_pair();
    let (writes, to_read) = tcp_pair();
    let peer = peer_on(to_read, move || drop(to_write));
    (Transport::new(BufReader::new(reads), writes), peer)
}

fn memory() -> Ends {
    let (here, there) = Transport::pair();
    let (reader, writer) = there.into_parts();
    (here, peer_on(reader, move || drop(writer)))
}

#[cfg(unix)]
fn unix() -> Ends {
    use std::os::unix::net::UnixStream;

    let (here, there) = UnixStream::pair().unwrap();
    let end = there.try_clone().unwrap();
    let peer = peer_on(there, move || end.shutdown(Shutdown::Write).unwrap());
    (here.try_into().unwrap(), peer)
}

#[cfg(unix)]
fn pipes() -> Ends {
    use std::os::fd::OwnedFd;

    let (to_read, writes) = io::pipe().unwrap();
    let (reads, to_write) = io::pipe().unwrap();
    let ends = (OwnedFd::from(reads), OwnedFd::from(writes));
    let peer = peer_on(to_read, move || drop(to_write));
    (ends.try_into().unwrap(), peer)
}

/// Lent: the lender keeps its own descriptor, so only a shutdown shows the peer the end.
#[cfg(unix)]
fn lent_socket() -> Ends {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    let (here, there) = UnixStream::pair().unwrap();
    let transport = Transport::from_borrowed_fd(here.as_fd()).unwrap();
    let end = there.try_clone().unwrap();
    let mut peer = peer_on(there, move || end.shutdown(Shutdown::Write).unwrap());
    peer.lender = Some(Box::new(here));
    (transport, peer)
}

/// A child that reads until its input ends, and says so on what is its stderr.
#[cfg(unix)]
fn child_with(script: &str) -> Ends {
    use std::process::{Command, Stdio};

    let (to_read, says) = io::pipe().unwrap();
    let child = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(says))
        .spawn()
        .unwrap();
    (child.try_into().unwrap(), peer_on(to_read, || {}))
}

/// A child whose output has ended.
#[cfg(unix)]
fn child() -> Ends {
    child_with("exec >&-; exec cat > /dev/null")
}

/// A child that has not ended its output.
#[cfg(unix)]
fn living_child() -> Ends {
    child_with("exec cat")
}

type Make = (&'static str, fn() -> Ends);

const EVERYWHERE: &[Make] = &[
    ("tcp", tcp),
    ("memory", memory),
    ("separate streams", separate_streams_of_the_users),
    #[cfg(unix)]
    ("unix", unix),
    #[cfg(unix)]
    ("pipes", pipes),
    #[cfg(unix)]
    ("a lent socket", lent_socket),
];

/// Those of which the peer sees our end only once we read no more, which it has to end itself.
const SHARED: &[Make] = &[
    ("one stream", streams_of_the_users),
    #[cfg(unix)]
    ("a child", child),
];

const LIVING: &[Make] = &[
    #[cfg(unix)]
    ("a living child", living_child),
];

fn open(transport: Transport) -> OpenGuard {
    Connection::builder()
        .linger(Some(Duration::ZERO))
        .open(failing(transport))
        .unwrap()
}

fn on_thread<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let builder = std::thread::Builder::new().name("write error".to_owned());
    builder.spawn(body).unwrap()
}

/// Tells when the peer has read to our end.
fn end_of(mut reader: Box<dyn Read + Send>) -> Receiver<io::Result<u64>> {
    let (tell, told) = crossbeam_channel::bounded(1);
    drop(on_thread(move || {
        tell.send(io::copy(&mut reader, &mut io::sink()))
    }));
    told
}

fn await_that(what: &str, has_come: impl Fn() -> bool) {
    let (_keep, never) = crossbeam_channel::bounded::<()>(0);
    let deadline = Instant::now() + PATIENCE;
    while !has_come() {
        assert!(Instant::now() < deadline, "{what}");
        let _ = never.recv_timeout(Duration::from_millis(1));
    }
}

fn assert_peer_sees_the_end(name: &str, make: fn() -> Ends, ends_first: bool) {
    let (transport, peer) = make();
    let guard = open(transport);
    let Peer {
        reader,
        end,
        lender,
    } = peer;
    let mut end = Some(end);
    if ends_first {
        // Our end packets follow by themselves, and cannot be written.
        end.take().unwrap()();
    } else {
        let error = guard.call(Request::new(0)).unwrap_err();
        assert!(
            matches!(error.cause(), Error::Write(_)),
            "{name}: {error:?}"
        );
    }
    let read = end_of(reader).recv_timeout(PATIENCE);
    let read = read.unwrap_or_else(|_| panic!("{name}: the peer waits, ends first: {ends_first}"));
    assert_eq!(read.unwrap(), 0, "{name}");
    await_that(name, || !guard.is_open());
    let error = guard.submit(Request::new(0)).unwrap_err();
    assert!(error.is_closed(), "{name}: {error:?}");
    assert!(guard.close().into_transport().is_none());
    drop((end, lender));
}

#[test]
fn peer_that_has_ended_its_stream_sees_our_end_after_a_write_error() {
    for (name, make) in EVERYWHERE.iter().chain(SHARED) {
        assert_peer_sees_the_end(name, *make, true);
    }
}

#[test]
fn peer_that_waits_for_our_end_sees_it_after_a_write_error() {
    for (name, make) in EVERYWHERE.iter().chain(LIVING) {
        assert_peer_sees_the_end(name, *make, false);
    }
}

/// Its work may not be done when its output has ended.
#[cfg(unix)]
#[test]
fn child_whose_output_has_ended_is_not_killed_after_a_write_error() {
    let (transport, peer) = child_with("exec >&-; cat > /dev/null; echo done >&2");
    let guard = Connection::builder().open(failing(transport)).unwrap();
    let (tell, told) = crossbeam_channel::bounded(1);
    let mut reader = BufReader::new(peer.reader);
    drop(on_thread(move || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        tell.send(line).unwrap();
    }));
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "done\n");
    drop(guard);
}

/// A writer whose drop waits until it is let go.
struct Slow {
    dropped: Arc<AtomicBool>,
    go: Receiver<()>,
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::SeqCst);
        let _ = self.go.recv();
    }
}

/// Dropping the user's writer is the user's code.
#[test]
fn nobody_waits_for_the_drop_of_a_writer_that_has_failed() {
    let (transport, _peer) = tcp();
    let (release, go) = crossbeam_channel::bounded(0);
    let dropped = Arc::new(AtomicBool::new(false));
    let mut parts = transport.split();
    let slow = Slow {
        dropped: Arc::clone(&dropped),
        go,
    };
    parts.writer = Box::new(Failing(slow));
    let guard = Connection::builder()
        .linger(Some(Duration::ZERO))
        .open(Transport::from_parts(parts))
        .unwrap();
    // Let go first, if this test fails.
    let release = release;
    let pending: Vec<_> = (0..3)
        .map_while(|_| guard.submit(Request::new(0)).ok())
        .collect();
    for pending in pending {
        let error = pending.wait().unwrap_err();
        assert!(matches!(error.cause(), Error::Write(_)), "{error:?}");
    }
    await_that("it is dropped", || dropped.load(Ordering::SeqCst));
    let error = guard.call(Request::new(0)).unwrap_err();
    assert!(error.is_closed(), "{error:?}");
    assert!(!guard.is_open());
    assert!(guard.close().into_result().is_err());
    drop(release);
}

#[test]
fn connection_is_not_open_once_both_directions_have_ended_in_order() {
    let (ours, theirs) = Transport::pair();
    let one = Connection::builder().open(ours).unwrap();
    let other = Connection::builder().open(theirs).unwrap();
    assert!(one.is_open() && other.is_open());
    one.end_stream().unwrap();
    await_that("the end", || !one.is_open() && !other.is_open());
    one.close().into_result().unwrap();
    other.close().into_result().unwrap();
}
