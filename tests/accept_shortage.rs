//! A server that runs out of descriptors goes on serving, and takes new clients once there is room.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation of a helper fails its test"
)]

mod common;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/processes.rs"]
mod processes;

use std::env;
use std::fs;
use std::net::TcpStream;
use std::process::{self, Command};

use common::watched;
use measure::until;
use packetstream::{Connection, OpenGuard, Request, Transport};
use processes::{Listening, example};

/// What a shell allows the server, and fewer than the clients that come.
const DESCRIPTORS: u32 = 40;
const IDLE: usize = 60;

/// The request of the example whose answer is its payload with `bytes:` in front.
const BYTES: u32 = 3;

fn client(port: &str) -> OpenGuard {
    let stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    let transport = Transport::try_from(stream).unwrap();
    Connection::builder().open(transport).unwrap()
}

fn is_served(client: &Connection) {
    let response = client.call(Request::new(BYTES).with_payload("x")).unwrap();
    assert_eq!(response.payload(), b"bytes:x");
}

#[test]
fn server_without_descriptors_serves_its_clients_and_takes_others_once_some_have_left() {
    watched(|| {
        let name = format!("packetstream-shortage-{}", process::id());
        let said = env::temp_dir().join(name);
        let script = format!(
            "ulimit -n {DESCRIPTORS}; exec \"$0\" serve --tcp 0 --max-seconds 50 2> \"$1\""
        );
        let mut command = Command::new("sh");
        command
            .args(["-c", &script])
            .arg(example("peer"))
            .arg(&said);
        let server = Listening::start(&mut command);
        let warnings = || {
            let said = fs::read_to_string(&said).unwrap();
            let warnings = said.lines().filter(|line| line.contains("cannot accept"));
            (warnings.count(), said)
        };

        let first = client(&server.address);
        is_served(&first);
        let connect = |_| TcpStream::connect(format!("127.0.0.1:{}", server.address)).unwrap();
        let idle: Vec<_> = (0..IDLE).map(connect).collect();
        until(
            || (warnings().0 > 0).then_some(()),
            || "the server has room for all".to_owned(),
        );
        for _ in 0..20 {
            is_served(&first);
        }
        // The system has taken it, not the server.
        let last = client(&server.address);
        let pending = last
            .submit(Request::new(BYTES).with_payload("late"))
            .unwrap();
        is_served(&first);
        drop(idle);
        assert_eq!(pending.wait().unwrap().payload(), b"bytes:late");
        is_served(&first);
        let (count, all) = warnings();
        assert_eq!(count, 1, "{all}");
        last.close().into_result().unwrap();
        first.close().into_result().unwrap();
        drop(server);
        fs::remove_file(&said).unwrap();
    });
}
