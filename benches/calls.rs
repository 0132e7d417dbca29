//! Calls between two ends in one process over a Unix socket, beside the raw socket on the same
//! work: `cargo bench --bench calls`. The server reverses the octets; every answer is checked.
//!
//! Rounds of both alternate, and medians are printed, because machines are shared and noisy. Pin
//! it (`taskset -c 0`) to compare single calls: unpinned, they depend on where threads land.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "figures for people, and a pattern of octets"
)]

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Instant;

#[cfg(unix)]
use std::os::unix::net::UnixStream;

use packetstream::{BoxError, Connection, OpenGuard, PendingResponse, Request, Transport};

const ROUNDS: usize = 9;
const SINGLE_CALLS: usize = 5_000;
const PIPELINED_CALLS: usize = 100_000;
const WINDOW: usize = 256;
const LARGE_CALLS: usize = 100;
const LARGE: usize = 1024 * 1024;

#[cfg(not(unix))]
fn main() {
    println!("this bench needs Unix sockets");
}

#[cfg(unix)]
fn main() -> Result<(), BoxError> {
    let (ours, theirs) = UnixStream::pair()?;
    let server = Connection::builder()
        .name("server")
        .handler(|incoming| {
            let mut payload = incoming.into_payload();
            payload.reverse();
            Ok(payload)
        })
        .open(Transport::try_from(theirs)?)?;
    let client = Connection::builder()
        .name("client")
        .open(Transport::try_from(ours)?)?;
    let floor = Floor::start()?;

    let (mut raw, mut single, mut pipelined, mut large) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        raw.push(seconds(|| floor.ping_pong())? / SINGLE_CALLS as f64 * 1e6);
        single.push(seconds(|| single_calls(&client))? / SINGLE_CALLS as f64 * 1e6);
        pipelined.push(PIPELINED_CALLS as f64 / seconds(|| pipelined_calls(&client))? / 1e3);
        large.push((LARGE * LARGE_CALLS) as f64 / seconds(|| large_calls(&client))? / 1e6);
    }
    let (raw, single) = (median(raw), median(single));
    let stats = client.stats();
    println!("raw socket, 16 octets there and back   {raw:8.1} us");
    println!(
        "one call of 16 octets                  {single:8.1} us ({:.2} x)",
        single / raw
    );
    println!(
        "{WINDOW} outstanding calls of 16 octets     {:8.0} k/s",
        median(pipelined)
    );
    println!(
        "calls of 1 MiB, echoed                 {:8.0} MB/s each way",
        median(large)
    );
    println!(
        "{} requests in {} writes",
        stats.requests_sent, stats.writes
    );
    client.close().into_result()?;
    server.close().into_result()?;
    Ok(())
}

fn seconds(work: impl FnOnce() -> Result<(), BoxError>) -> Result<f64, BoxError> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn check(answer: &[u8], request: &[u8]) -> Result<(), BoxError> {
    if answer.iter().rev().eq(request) {
        Ok(())
    } else {
        Err("a wrong answer".into())
    }
}

fn payload(number: usize) -> [u8; 16] {
    let mut payload = [7; 16];
    payload[..8].copy_from_slice(&(number as u64).to_be_bytes());
    payload
}

fn single_calls(client: &OpenGuard) -> Result<(), BoxError> {
    for number in 0..SINGLE_CALLS {
        let sent = payload(number);
        let answer = client.call(Request::new(0).with_payload(sent))?;
        check(answer.payload(), &sent)?;
    }
    Ok(())
}

fn pipelined_calls(client: &OpenGuard) -> Result<(), BoxError> {
    let mut window: VecDeque<([u8; 16], PendingResponse)> = VecDeque::with_capacity(WINDOW);
    let collect = |(sent, pending): ([u8; 16], PendingResponse)| -> Result<(), BoxError> {
        check(pending.wait()?.payload(), &sent)
    };
    for number in 0..PIPELINED_CALLS {
        if window.len() == WINDOW {
            window.pop_front().map_or(Ok(()), collect)?;
        }
        let sent = payload(number);
        window.push_back((sent, client.submit(Request::new(0).with_payload(sent))?));
    }
    window.into_iter().try_for_each(collect)
}

fn large_calls(client: &OpenGuard) -> Result<(), BoxError> {
    let sent: Vec<u8> = (0..LARGE).map(|at| (at % 251) as u8).collect();
    for _ in 0..LARGE_CALLS {
        let answer = client.call(Request::new(0).with_payload(sent.clone()))?;
        check(answer.payload(), &sent)?;
    }
    Ok(())
}

/// The same work over a bare socket.
#[cfg(unix)]
struct Floor {
    socket: UnixStream,
}

#[cfg(unix)]
impl Floor {
    fn start() -> io::Result<Self> {
        let (socket, mut there) = UnixStream::pair()?;
        // It ends when the socket here is dropped.
        std::thread::Builder::new()
            .name("floor".to_owned())
            .spawn(move || {
                let mut octets = [0; 16];
                while there.read_exact(&mut octets).is_ok() {
                    octets.reverse();
                    if there.write_all(&octets).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self { socket })
    }

    fn ping_pong(&self) -> Result<(), BoxError> {
        let mut octets = [0; 16];
        for number in 0..SINGLE_CALLS {
            let sent = payload(number);
            (&self.socket).write_all(&sent)?;
            (&self.socket).read_exact(&mut octets)?;
            check(&octets, &sent)?;
        }
        Ok(())
    }
}
