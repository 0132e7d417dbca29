//! What is drawn.

use std::io::{self, Read, Write};
use std::thread;
use std::time::Instant;

use packetstream::{BoxError, Connection, Request};

use crate::ends::{Ends, SMALL, Socket, check, payload, pipelined_calls, reversing, sockets};

/// How many calls of a line are not counted, because they are the first.
const WARM_UP: usize = 1_000;
const WINDOWS: [usize; 13] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096];

/// How long the calls of one kind took, in seconds, the shortest first.
pub(crate) struct Latencies {
    pub(crate) name: &'static str,
    seconds: Vec<f64>,
}

impl Latencies {
    fn new(
        name: &'static str,
        calls: usize,
        mut call: impl FnMut(usize) -> Result<(), BoxError>,
    ) -> Result<Self, BoxError> {
        let mut seconds = Vec::with_capacity(calls);
        for number in 0..calls + WARM_UP {
            let began = Instant::now();
            call(number)?;
            seconds.push(began.elapsed().as_secs_f64());
        }
        seconds.drain(..WARM_UP);
        seconds.sort_by(f64::total_cmp);
        Ok(Self { name, seconds })
    }

    /// The time that this share of the calls did not exceed.
    pub(crate) fn at_share(&self, share: f64) -> f64 {
        let last = self.seconds.len().saturating_sub(1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a number of calls"
        )]
        let at = (share * last as f64) as usize;
        self.seconds.get(at).copied().unwrap_or_default()
    }
}

/// How many calls there were in a second, by how many were outstanding.
pub(crate) struct Throughput {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(usize, f64)>,
}

pub(crate) fn latencies(calls: usize) -> Result<Vec<Latencies>, BoxError> {
    let mut bare = Bare::start()?;
    let bare = Latencies::new("bare socket", calls, |number| bare.call(number))?;

    let ends = Ends::open()?;
    let lone = Latencies::new("call", calls, |number| {
        check(ends.client.call(request(number))?.payload(), number)
    })?;
    let submitted = Latencies::new("submit, then wait", calls, |number| {
        check(
            ends.client.submit(request(number))?.wait()?.payload(),
            number,
        )
    })?;
    ends.close()?;

    let ends = Ends::open_with(reversing(), reversing())?;
    let serving = Latencies::new("call, where both ends serve", calls, |number| {
        check(ends.client.call(request(number))?.payload(), number)
    })?;
    ends.close()?;
    Ok(vec![bare, lone, serving, submitted])
}

pub(crate) fn throughputs(calls: usize) -> Result<Vec<Throughput>, BoxError> {
    [
        ("handler threads", reversing()),
        ("inline handlers", reversing().inline_handler(true)),
    ]
    .into_iter()
    .map(|(name, server)| {
        let ends = Ends::open_with(Connection::builder(), server)?;
        pipelined_calls(&ends.client, WARM_UP, 16)?;
        let points = WINDOWS.iter().map(|&window| {
            let began = Instant::now();
            pipelined_calls(&ends.client, calls, window)?;
            #[expect(clippy::cast_precision_loss, reason = "a number of calls")]
            let calls = calls as f64;
            Ok((window, calls / began.elapsed().as_secs_f64()))
        });
        let points = points.collect::<Result<_, BoxError>>()?;
        ends.close()?;
        Ok(Throughput { name, points })
    })
    .collect()
}

fn request(number: usize) -> Request {
    Request::new(0).with_payload(payload(number))
}

/// The same over nothing but a socket.
struct Bare {
    socket: Socket,
}

impl Bare {
    /// Starts the other end, which ends when this is dropped.
    fn start() -> io::Result<Self> {
        let (socket, mut there) = sockets()?;
        thread::Builder::new()
            .name("bare".to_owned())
            .spawn(move || {
                let mut payload = [0; SMALL];
                while there.read_exact(&mut payload).is_ok() {
                    payload.reverse();
                    if there.write_all(&payload).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self { socket })
    }

    fn call(&mut self, number: usize) -> Result<(), BoxError> {
        self.socket.write_all(&payload(number))?;
        let mut answer = [0; SMALL];
        self.socket.read_exact(&mut answer)?;
        check(&answer, number)
    }
}
