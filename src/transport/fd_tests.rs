//! Tests of the transports made of descriptors.

use std::io::{BufRead, pipe};

use super::super::testing::within_deadline;
use super::super::testing::{assert_carries, assert_connected, assert_shutdown_frees};
use super::*;

/// A pair of pipes, as (reader, writer) for each end.
fn pipes() -> ((OwnedFd, OwnedFd), (OwnedFd, OwnedFd)) {
    let (there_reader, there_writer) = pipe().unwrap();
    let (back_reader, back_writer) = pipe().unwrap();
    (
        (back_reader.into(), there_writer.into()),
        (there_reader.into(), back_writer.into()),
    )
}

fn sockets() -> (OwnedFd, OwnedFd) {
    let (one, other) = UnixStream::pair().unwrap();
    (one.into(), other.into())
}

fn has_shutdown(transport: &Transport) -> bool {
    transport.hooks.shutdown.is_some()
}

/// Asserts that what is written to one file can be read from the other.
fn assert_open(mut writer: &File, mut reader: &File) {
    writer.write_all(b"still open").unwrap();
    let mut received = [0; 10];
    reader.read_exact(&mut received).unwrap();
    assert_eq!(received, *b"still open");
}

#[test]
fn unix_streams_carry_octets_both_ways() {
    let (one, other) = UnixStream::pair().unwrap();
    assert_connected(one.try_into().unwrap(), other.try_into().unwrap());
}

#[test]
fn owned_sockets_carry_octets_both_ways() {
    let (one, other) = sockets();
    let one = Transport::try_from(one).unwrap();
    assert!(has_shutdown(&one));
    assert_connected(one, other.try_into().unwrap());
}

#[test]
fn pairs_of_pipes_carry_octets_both_ways() {
    let (one, other) = pipes();
    let one = Transport::try_from(one).unwrap();
    assert!(!has_shutdown(&one));
    assert_connected(one, other.try_into().unwrap());
}

#[test]
fn files_carry_octets_both_ways() {
    let (one, other) = sockets();
    assert_connected(
        File::from(one).try_into().unwrap(),
        Arc::new(File::from(other)).try_into().unwrap(),
    );
}

#[test]
fn pairs_of_files_carry_octets_both_ways() {
    let (one, other) = pipes();
    let one = (File::from(one.0), File::from(one.1));
    let other = (Arc::new(File::from(other.0)), Arc::new(File::from(other.1)));
    assert_connected(one.try_into().unwrap(), other.try_into().unwrap());
}

#[test]
fn a_single_file_that_is_no_socket_is_read_and_written() {
    let path = std::env::temp_dir().join(format!("packetstream-fd-{}", std::process::id()));
    std::fs::write(&path, b"first ").unwrap();
    let open = File::options().read(true).write(true).open(&path).unwrap();
    let transport = Transport::try_from(open).unwrap();
    assert!(!has_shutdown(&transport));
    let (mut reader, mut writer) = transport.into_parts();
    assert_eq!(reader.fill_buf().unwrap(), b"first ");
    writer.write_all(b"second").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"first second");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn each_end_that_is_a_socket_has_the_hook() {
    let (socket, peer) = sockets();
    let (pipe_reader, pipe_writer) = pipe().unwrap();
    let mixed = Transport::try_from((socket, OwnedFd::from(pipe_writer))).unwrap();
    assert!(has_shutdown(&mixed));
    let (mut reader, _writer) = (mixed.reader, mixed.writer);
    mixed.hooks.shutdown.unwrap()();
    within_deadline(move || assert_eq!(reader.fill_buf().unwrap(), b""));
    drop((peer, pipe_reader));
}

#[test]
fn shutdown_frees_threads_stuck_in_one_socket() {
    let (one, other) = sockets();
    assert_shutdown_frees(one.try_into().unwrap(), other);
}

#[test]
fn shutdown_frees_threads_stuck_in_a_pair_of_sockets() {
    let (reader, reader_peer) = sockets();
    let (writer, writer_peer) = sockets();
    assert_shutdown_frees(
        (reader, writer).try_into().unwrap(),
        (reader_peer, writer_peer),
    );
}

#[test]
fn shared_files_stay_open() {
    let (one, other) = sockets();
    let (lent, other) = (Arc::new(File::from(one)), File::from(other));
    drop(Transport::try_from(Arc::clone(&lent)).unwrap());
    assert_open(&lent, &other);
    assert_open(&other, &lent);

    let (one, other) = pipes();
    let lent = (Arc::new(File::from(one.0)), Arc::new(File::from(one.1)));
    drop(Transport::try_from((Arc::clone(&lent.0), Arc::clone(&lent.1))).unwrap());
    assert_open(&lent.1, &File::from(other.0));
    assert_open(&File::from(other.1), &lent.0);
}

#[test]
fn borrowed_descriptors_stay_open() {
    let (one, other) = sockets();
    let (one, other) = (File::from(one), File::from(other));
    let transport = Transport::from_borrowed_fd(one.as_fd()).unwrap();
    assert!(has_shutdown(&transport));
    drop(transport);
    assert_open(&one, &other);
    assert_open(&other, &one);

    let (one, other) = pipes();
    let transport = Transport::from_borrowed_fds(one.0.as_fd(), one.1.as_fd()).unwrap();
    let (reader, writer) = transport.into_parts();
    let (other_reader, other_writer) = Transport::try_from(other).unwrap().into_parts();
    assert_carries(writer, other_reader);
    assert_carries(other_writer, reader);
    assert!(File::from(one.0).metadata().is_ok());
    assert!(File::from(one.1).metadata().is_ok());
}

#[test]
fn shutdown_of_a_borrowed_socket_ends_the_lenders_too() {
    let (lent, _peer) = UnixStream::pair().unwrap();
    let transport = Transport::from_borrowed_fd(lent.as_fd()).unwrap();
    transport.hooks.shutdown.as_ref().unwrap()();
    within_deadline(move || assert_eq!((&lent).read(&mut [0]).unwrap(), 0));
}

#[test]
fn tcp_sockets_among_descriptors_do_not_delay() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let _transport = Transport::from_borrowed_fd(stream.as_fd()).unwrap();
    assert!(stream.nodelay().unwrap());
}
