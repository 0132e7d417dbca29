//! What the tests of the transports share.

use std::io::{Read, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::{BoxedReader, BoxedWriter, Transport};

/// Far longer than anything takes that works.
const DEADLINE: Duration = Duration::from_secs(20);

/// Long enough for a thread to get stuck where it is going to.
const STUCK: Duration = Duration::from_millis(100);

/// Runs the test on a thread of its own and fails if it does not end in time.
pub(super) fn within_deadline<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let name = thread::current().name().unwrap_or("test").to_owned();
    let thread = thread::Builder::new()
        .name(name.clone())
        .spawn(move || done.send(test()))
        .unwrap();
    match result.recv_timeout(DEADLINE) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => panic!("{name} is stuck"),
        Err(RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().unwrap_err())
        }
    }
}

/// Sends more than any buffer holds from one transport to the other.
pub(super) fn assert_carries(from: BoxedWriter, to: BoxedReader) {
    within_deadline(move || {
        let sent: Vec<u8> = (0..=250).cycle().take(1_000_000).collect();
        let expected = sent.clone();
        let (mut from, mut to) = (from, to);
        let writer = thread::Builder::new()
            .spawn(move || from.write_all(&sent).and_then(|()| from.flush()))
            .unwrap();
        let mut received = vec![0; expected.len()];
        to.read_exact(&mut received).unwrap();
        writer.join().unwrap().unwrap();
        assert!(received == expected);
    });
}

/// Sends octets both ways between two transports.
pub(super) fn assert_connected(one: Transport, other: Transport) {
    let (one_reader, one_writer) = one.into_parts();
    let (other_reader, other_writer) = other.into_parts();
    assert_carries(one_writer, other_reader);
    assert_carries(other_writer, one_reader);
}

/// Asserts that the reader can be freed without the writer.
pub(super) fn assert_frees_reader_alone(transport: Transport, peer: Transport) {
    let parts = transport.split();
    let (mut reader, mut writer) = (parts.reader, parts.writer);
    let free_reader = parts.hooks.free_reader.unwrap();
    let (mut peer_reader, _peer_writer) = peer.into_parts();
    within_deadline(move || {
        let (read, reads) = mpsc::channel();
        thread::Builder::new()
            .name("stuck reader".to_owned())
            .spawn(move || read.send(reader.read(&mut [0])))
            .unwrap();
        assert!(
            reads.recv_timeout(STUCK).is_err(),
            "the reader is not stuck"
        );
        free_reader();
        assert_eq!(reads.recv_timeout(DEADLINE).unwrap().unwrap(), 0);
        writer
            .write_all(b"x")
            .and_then(|()| writer.flush())
            .unwrap();
        let mut said = [0; 1];
        peer_reader.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"x");
    });
}

/// Asserts that the shutdown hook frees a reader for which nothing comes and a writer whose octets
/// nobody takes. `_peer` is the other end, which stays open meanwhile.
pub(super) fn assert_shutdown_frees(transport: Transport, _peer: impl Sized) {
    let parts = transport.split();
    let (mut reader, mut writer) = (parts.reader, parts.writer);
    let shutdown = parts.hooks.shutdown.unwrap();

    let (read, reads) = mpsc::channel();
    thread::Builder::new()
        .name("stuck reader".to_owned())
        .spawn(move || read.send(reader.read(&mut [0])))
        .unwrap();
    let (wrote, written) = mpsc::channel();
    thread::Builder::new()
        .name("stuck writer".to_owned())
        .spawn(move || {
            loop {
                let result = writer.write(&[0; 4096]);
                let failed = result.is_err();
                wrote.send(result).unwrap();
                if failed {
                    break;
                }
            }
        })
        .unwrap();

    while let Ok(result) = written.recv_timeout(STUCK) {
        result.unwrap();
    }
    assert!(reads.try_recv().is_err(), "the reader is not stuck");
    shutdown();
    assert!(matches!(
        reads.recv_timeout(DEADLINE).unwrap(),
        Ok(0) | Err(_)
    ));
    while written.recv_timeout(DEADLINE).unwrap().is_ok() {}
    shutdown();
}
