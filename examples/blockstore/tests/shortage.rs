//! A server that runs out of descriptors keeps its clients, and takes others once some have left.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation of a helper fails its test"
)]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod support;

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use blockstore::client::Client;
use blockstore::hash::HashKind;
use packetstream::Transport;

use support::PROGRAM;

/// Fewer than the clients that come.
const DESCRIPTORS: u32 = 40;
const IDLE: usize = 60;

/// A server that is killed in the end.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn client(address: &str) -> Client {
    let stream = TcpStream::connect(address).unwrap();
    Client::open(Transport::try_from(stream).unwrap(), HashKind::Blake3).unwrap()
}

#[test]
fn server_without_descriptors_keeps_its_clients_and_takes_others_once_some_have_left() {
    common::watched(|| {
        let script = format!("ulimit -n {DESCRIPTORS}; exec \"$0\" serve --tcp 127.0.0.1:0");
        let mut server = Command::new("sh")
            .args(["-c", &script, PROGRAM])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = server.stderr.take().unwrap();
        let _server = Server(server);
        let mut said = BufReader::new(said).lines().map(Result::unwrap);
        let first_line = said.next().unwrap();
        let address = first_line.strip_prefix("listening at ").unwrap();

        let first = client(address);
        let chunk = b"a chunk".to_vec();
        let hash = first.add(chunk.clone()).unwrap();
        let connect = |_| TcpStream::connect(address).unwrap();
        let idle: Vec<_> = (0..IDLE).map(connect).collect();
        let warning = said.next().unwrap();
        assert!(warning.contains("cannot accept more clients"), "{warning}");
        for _ in 0..20 {
            assert_eq!(first.get(hash).unwrap(), Some(chunk.clone()));
        }
        drop(idle);
        let last = client(address);
        assert_eq!(last.get(hash).unwrap(), Some(chunk.clone()));
        assert_eq!(first.get(hash).unwrap(), Some(chunk));
        last.close().unwrap();
        first.close().unwrap();
    });
}
