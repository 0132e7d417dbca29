//! What a call costs when much else is there: outstanding requests, other connections.

use std::sync::Arc;

use packetstream::{BoxError, Connection, ConnectionBuilder, PendingResponse, Request, Responder};
use parking_lot::Mutex;

use crate::ends::{Ends, Socket, check, payload, pipelined_calls, reversing};
use crate::measure::{Way, in_turns, side_by_side};
use crate::options::Options;
use crate::pipelined::WINDOW;
use crate::process::allow_many_descriptors;
use crate::small::{floor_call, reversing_socket};

const OUTSTANDING: [usize; 5] = [1, 16, 256, 4_096, 100_000];
const CONNECTIONS: [usize; 4] = [1, 10, 100, 1_000];

/// How many calls a connection makes before it is another's turn.
const BURST: usize = 100;

/// Requests that the server keeps unanswered, and the one that has them all answered.
const HELD: u32 = 1;
const RELEASE: u32 = 2;

/// Seconds for a call, by size.
pub(crate) type BySize = Vec<(usize, f64)>;

pub(crate) struct Size {
    /// So many are outstanding all the time: 256 at most are answered at once, and the server
    /// holds the others.
    pub(crate) outstanding: BySize,
    /// So many have been submitted before the oldest is waited for, each answered at once.
    pub(crate) submitted: BySize,
    /// One caller goes round so many connections.
    pub(crate) connections: BySize,
    /// The same over as many bare sockets, with a thread at the other end of each.
    pub(crate) sockets: BySize,
    /// Like `connections`, with a hundred calls on each.
    pub(crate) bursts: BySize,
}

impl Size {
    pub(crate) fn measure(options: &Options) -> Result<Self, BoxError> {
        allow_many_descriptors();
        let (outstanding, submitted) = (outstanding(options)?, submitted(options)?);
        let [connections, sockets, bursts] = connections(options)?;
        Ok(Self {
            outstanding,
            submitted,
            connections,
            sockets,
            bursts,
        })
    }
}

/// How many times the cost at `base` the largest cost is, of this size and all beyond.
pub(crate) fn growth(costs: &BySize, base: usize) -> Option<f64> {
    let (_, at_base) = costs.iter().find(|(size, _)| *size == base)?;
    let beyond = costs.iter().filter(|(size, _)| *size >= base);
    let largest = beyond.map(|(_, cost)| *cost).fold(*at_base, f64::max);
    Some(largest / at_base)
}

fn outstanding(options: &Options) -> Result<BySize, BoxError> {
    let calls = options.calls(20_000);
    let crowds: Vec<Crowd> = OUTSTANDING
        .iter()
        .map(|size| Crowd::open(*size))
        .collect::<Result<_, _>>()?;
    let mut works: Vec<_> = crowds
        .iter()
        .map(|crowd| move || pipelined_calls(&crowd.ends.client, calls, crowd.window))
        .collect();
    let mut ways: Vec<(usize, Way<'_>)> = Vec::new();
    for work in &mut works {
        ways.push((calls, work));
    }
    let costs = in_turns(options.rounds(), &mut ways)?;
    crowds.into_iter().try_for_each(Crowd::close)?;
    Ok(by_size(&OUTSTANDING, costs.iter().map(|cost| cost.seconds)))
}

fn submitted(options: &Options) -> Result<BySize, BoxError> {
    let ends = Ends::open_with(roomy(Connection::builder()), roomy(reversing()))?;
    let client: &Connection = &ends.client;
    let mut works: Vec<_> = OUTSTANDING
        .iter()
        .map(|size| (options.calls(20_000).max(2 * size), *size))
        .map(|(calls, size)| (calls, move || pipelined_calls(client, calls, size)))
        .collect();
    let mut ways: Vec<(usize, Way<'_>)> = Vec::new();
    for (calls, work) in &mut works {
        ways.push((*calls, work));
    }
    let costs = in_turns(options.rounds(), &mut ways)?;
    ends.close()?;
    Ok(by_size(&OUTSTANDING, costs.iter().map(|cost| cost.seconds)))
}

/// Not in turns: the other connections are not to be there while few are measured.
fn connections(options: &Options) -> Result<[BySize; 3], BoxError> {
    let calls = options.calls(10_000);
    let burst_calls = options.calls(100_000);
    let [mut costs, mut floor_costs, mut burst_costs] =
        [BySize::new(), BySize::new(), BySize::new()];
    let mut all: Vec<Ends> = Vec::new();
    let mut sockets: Vec<Socket> = Vec::new();
    for size in CONNECTIONS {
        while all.len() < size {
            match (Ends::open(), reversing_socket()) {
                (Ok(ends), Ok(socket)) => {
                    all.push(ends);
                    sockets.push(socket);
                }
                (ends, socket) => {
                    let error = ends.err().or(socket.err().map(BoxError::from));
                    eprintln!("no more than {} connections: {error:?}", all.len());
                    return Ok([costs, floor_costs, burst_costs]);
                }
            }
        }
        let [floor, cost] = side_by_side(
            options.rounds(),
            calls,
            [
                &mut || {
                    let mut turns = (0..calls).zip(sockets.iter().cycle());
                    turns.try_for_each(|(number, socket)| floor_call(socket, number))
                },
                &mut || round_robin(&all, calls, 1),
            ],
        )?;
        let bursts: &mut [(usize, Way<'_>)] =
            &mut [(burst_calls, &mut || round_robin(&all, burst_calls, BURST))];
        let burst_cost = in_turns(options.rounds(), bursts)?;
        costs.push((size, cost.seconds));
        floor_costs.push((size, floor.seconds));
        burst_costs.extend(burst_cost.iter().map(|cost| (size, cost.seconds)));
    }
    all.into_iter().try_for_each(Ends::close)?;
    Ok([costs, floor_costs, burst_costs])
}

/// Goes round the connections, with `burst` calls on each.
fn round_robin(all: &[Ends], calls: usize, burst: usize) -> Result<(), BoxError> {
    let turns = all
        .iter()
        .cycle()
        .flat_map(|ends| std::iter::repeat_n(ends, burst));
    for (number, ends) in (0..calls).zip(turns) {
        let request = Request::new(0).with_payload(payload(number));
        check(ends.client.call(request)?.payload(), number)?;
    }
    Ok(())
}

fn by_size(sizes: &[usize], costs: impl Iterator<Item = f64>) -> BySize {
    sizes.iter().copied().zip(costs).collect()
}

/// Room for the largest size, with some to spare for what is answered meanwhile.
fn roomy(builder: ConnectionBuilder) -> ConnectionBuilder {
    builder
        .max_outstanding_requests(200_000)
        .max_inbound_requests(400_000)
}

/// A connection on which a number of requests are outstanding.
struct Crowd {
    ends: Ends,
    held: Vec<PendingResponse>,
    /// How many more can be, so that they are `size` altogether.
    window: usize,
}

impl Crowd {
    fn open(size: usize) -> Result<Self, BoxError> {
        let held: Arc<Mutex<Vec<Responder>>> = Arc::default();
        let server = Connection::builder().deferred_handler(move |incoming, responder| {
            match incoming.request_type().get() {
                kind if kind == u64::from(HELD) => held.lock().push(responder),
                kind if kind == u64::from(RELEASE) => {
                    let released = std::mem::take(&mut *held.lock());
                    for held in released {
                        held.respond(());
                    }
                    responder.respond(());
                }
                _ => {
                    let mut payload = incoming.into_payload();
                    payload.reverse();
                    responder.respond(payload);
                }
            }
        });
        let ends = Ends::open_with(roomy(Connection::builder()), roomy(server))?;
        let window = size.min(WINDOW);
        let held = (window..size)
            .map(|number| {
                ends.client
                    .submit(Request::new(HELD).with_payload(payload(number)))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { ends, held, window })
    }

    fn close(self) -> Result<(), BoxError> {
        self.ends.client.call(Request::new(RELEASE))?;
        for pending in self.held {
            pending.wait()?;
        }
        self.ends.close()
    }
}
