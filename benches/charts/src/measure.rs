//! What is drawn.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use packetstream::{
    BoxError, Connection, ConnectionBuilder, OpenGuard, PendingResponse, Request, Transport,
};

/// The size of a payload, in octets.
const SIZE: usize = 16;
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
        mut call: impl FnMut([u8; SIZE]) -> Result<(), BoxError>,
    ) -> Result<Self, BoxError> {
        let mut seconds = Vec::with_capacity(calls);
        for number in 0..calls + WARM_UP {
            let payload = payload(number);
            let began = Instant::now();
            call(payload)?;
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
    let bare = Latencies::new("bare socket", calls, |payload| bare.call(payload))?;

    let ends = Ends::open(Connection::builder(), reversing())?;
    let lone = Latencies::new("call", calls, |payload| {
        check(ends.client.call(request(payload))?.payload(), payload)
    })?;
    let submitted = Latencies::new("submit, then wait", calls, |payload| {
        check(
            ends.client.submit(request(payload))?.wait()?.payload(),
            payload,
        )
    })?;
    ends.close()?;

    let ends = Ends::open(reversing(), reversing())?;
    let serving = Latencies::new("call, where both ends serve", calls, |payload| {
        check(ends.client.call(request(payload))?.payload(), payload)
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
        let ends = Ends::open(Connection::builder(), server)?;
        outstanding(&ends.client, WARM_UP, 16)?;
        let points = WINDOWS.iter().map(|&window| {
            let began = Instant::now();
            outstanding(&ends.client, calls, window)?;
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

/// Makes calls of which `window` are outstanding, once there are as many.
fn outstanding(client: &Connection, calls: usize, window: usize) -> Result<(), BoxError> {
    let mut under_way: VecDeque<([u8; SIZE], PendingResponse)> = VecDeque::with_capacity(window);
    let collect =
        |(payload, pending): (_, PendingResponse)| check(pending.wait()?.payload(), payload);
    for number in 0..calls {
        if under_way.len() == window {
            under_way.pop_front().map_or(Ok(()), collect)?;
        }
        let payload = payload(number);
        under_way.push_back((payload, client.submit(request(payload))?));
    }
    under_way.into_iter().try_for_each(collect)
}

fn payload(number: usize) -> [u8; SIZE] {
    (number as u128 + (7 << 64)).to_be_bytes()
}

fn request(payload: [u8; SIZE]) -> Request {
    Request::new(0).with_payload(payload)
}

fn check(answer: &[u8], mut payload: [u8; SIZE]) -> Result<(), BoxError> {
    payload.reverse();
    let is_right = *answer == payload;
    is_right
        .then_some(())
        .ok_or_else(|| "a wrong answer".into())
}

/// The settings of an end that reverses the octets.
fn reversing() -> ConnectionBuilder {
    Connection::builder().handler(|incoming| {
        let mut payload = incoming.into_payload();
        payload.reverse();
        Ok(payload)
    })
}

struct Ends {
    client: OpenGuard,
    server: OpenGuard,
}

impl Ends {
    fn open(client: ConnectionBuilder, server: ConnectionBuilder) -> Result<Self, BoxError> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok(Self {
            server: server.name("server").open(Transport::try_from(theirs)?)?,
            client: client.name("client").open(Transport::try_from(ours)?)?,
        })
    }

    fn close(self) -> Result<(), BoxError> {
        self.client.close().into_result()?;
        self.server.close().into_result()?;
        Ok(())
    }
}

/// The same over nothing but a socket.
struct Bare {
    socket: UnixStream,
}

impl Bare {
    /// Starts the other end, which ends when this is dropped.
    fn start() -> io::Result<Self> {
        let (socket, mut there) = UnixStream::pair()?;
        thread::Builder::new()
            .name("bare".to_owned())
            .spawn(move || {
                let mut payload = [0; SIZE];
                while there.read_exact(&mut payload).is_ok() {
                    payload.reverse();
                    if there.write_all(&payload).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self { socket })
    }

    fn call(&mut self, payload: [u8; SIZE]) -> Result<(), BoxError> {
        self.socket.write_all(&payload)?;
        let mut answer = [0; SIZE];
        self.socket.read_exact(&mut answer)?;
        check(&answer, payload)
    }
}
