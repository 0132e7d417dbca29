//! Both ends of a run ask each other while the network does what the plan says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use packetstream::{
    BoxError, CloseReport, Connection, Error, Incoming, OpenGuard, PendingResponse, Request,
    Response, Result,
};

use super::ledger::{Ledger, answer, is_refused, payload, read_payload, refusal};
use super::network::network;
use super::plan::{Behaviour, Plan};

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub requests: usize,
    pub answered: usize,
}

/// Runs a plan to its end: every wait ends, and the ledgers of both ends agree.
pub fn run(plan: &Plan) -> Totals {
    let shared = Arc::new(Shared {
        plan: *plan,
        ledger: Ledger::default(),
        next_number: AtomicU64::new(0),
        given_up: AtomicU64::new(0),
    });
    let (ours, theirs, network) = network(plan);
    let ends: Vec<_> = [ours, theirs]
        .into_iter()
        .enumerate()
        .map(|(end, transport)| shared.builder(end).open(transport).unwrap())
        .collect();
    let clients: Vec<_> = ends
        .iter()
        .enumerate()
        .flat_map(|(end, guard)| shared.start_clients(end, guard))
        .collect();
    for client in clients {
        client
            .join()
            .unwrap_or_else(|e| std::panic::resume_unwind(e));
    }
    // At once: each must hear the other's goodbye.
    let closers: Vec<_> = ends
        .into_iter()
        .map(|guard| thread::Builder::new().spawn(|| close(guard)).unwrap())
        .collect();
    for closer in closers {
        let report = closer.join().unwrap();
        assert!(!report.in_progress());
        shared.check_report(&report);
    }
    network.join().unwrap();
    // What a changed octet makes of the account is anybody's guess.
    if !plan.lies() {
        shared.ledger.check();
    }
    let (requests, answered) = shared.ledger.totals();
    Totals { requests, answered }
}

fn close(guard: OpenGuard) -> CloseReport {
    let connection = Connection::clone(&guard);
    let report = guard.close();
    if report.is_last() {
        return report;
    }
    // After a fault a handler may still hold the request that it called back with; it lets go.
    connection.wait_closed()
}

struct Shared {
    plan: Plan,
    ledger: Ledger,
    next_number: AtomicU64,
    /// Requests that were cancelled, or forgotten.
    given_up: AtomicU64,
}

impl Shared {
    fn builder(self: &Arc<Self>, end: usize) -> packetstream::ConnectionBuilder {
        let behaviour = self.plan.ends[end];
        let shared = Arc::clone(self);
        // A wait that the plan lets last for ever has an end, and so has its close.
        let patience = |stalls| Duration::from_millis(if stalls { 60 } else { 30_000 });
        let patience = patience(self.plan.stalls() || self.plan.lies());
        Connection::builder()
            .name(format!("end {end}"))
            .handler_threads(behaviour.handler_threads)
            .inline_handler(behaviour.is_inline)
            .flush_grace(behaviour.flush_grace)
            .max_outstanding_requests(behaviour.max_outstanding)
            .timeout(Some(patience))
            .linger(Some(patience))
            .handler(move |incoming| shared.handle(end, &incoming))
    }

    fn handle(&self, end: usize, incoming: &Incoming) -> Result<Response, BoxError> {
        let Some((number, depth)) = read_payload(incoming.payload()) else {
            assert!(self.plan.lies(), "what arrived was not sent");
            return Ok(Response::from(()));
        };
        if !self.plan.lies() {
            self.ledger.run(number);
        }
        // On the receiver nothing may wait.
        if depth > 0 && depth < 8 && !self.plan.ends[end].is_inline {
            let (number, payload) = self.make(depth - 1, 10);
            let result = incoming
                .connection()
                .call(request(number).with_payload(payload.clone()));
            self.settle(number, &payload, &result);
        }
        if is_refused(number) {
            return Err(refusal(number).into());
        }
        Ok(Response::from(answer(incoming.payload())))
    }

    /// Makes a request's number and payload.
    fn make(&self, depth: u8, len: usize) -> (u64, Vec<u8>) {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        self.ledger.open(number);
        (number, payload(number, depth, len))
    }

    fn settle(&self, number: u64, payload: &[u8], result: &Result<Response>) {
        if self.plan.lies() {
            return;
        }
        if let Err(error) = result
            && self.plan.is_harmless()
        {
            let is_expected = match error {
                Error::Rejected(rejection) => rejection.payload().starts_with(b"refused "),
                Error::Cancelled(_) => true,
                _ => false,
            };
            assert!(is_expected, "request {number} failed for nothing: {error}");
        }
        self.ledger.tell(number, payload, result);
    }

    fn start_clients(self: &Arc<Self>, end: usize, guard: &OpenGuard) -> Vec<JoinHandle<()>> {
        let behaviour = self.plan.ends[end];
        (0..behaviour.clients)
            .map(|client| {
                let shared = Arc::clone(self);
                let connection = Connection::clone(guard);
                let seed = self.plan.seed ^ (1 + end as u64) << 32 ^ client as u64;
                let random = fastrand::Rng::with_seed(seed);
                thread::Builder::new()
                    .name(format!("client {end}.{client}"))
                    .spawn(move || Client::new(shared, connection, behaviour, random).run())
                    .unwrap()
            })
            .collect()
    }

    fn check_report(&self, report: &CloseReport) {
        if !self.plan.is_harmless() {
            return;
        }
        assert!(report.peer_said_goodbye(), "{report:?}");
        assert_eq!(report.answers_lost(), 0, "{report:?}");
        // Both close at once, so a request that nobody waits for may come too late.
        let lost =
            report.requests_not_sent() + report.requests_unknown() + report.requests_dropped();
        let given_up = self.given_up.load(Ordering::Relaxed);
        assert!(lost <= given_up, "{given_up} given up: {report:?}");
        assert!(report.cause().is_none(), "{report:?}");
    }
}

fn request(number: u64) -> Request {
    // Tags are counted for each channel.
    Request::new((number % 5) as u32).with_channel(number % 3)
}

/// One thread of an end that asks the other.
struct Client {
    shared: Arc<Shared>,
    connection: Connection,
    behaviour: Behaviour,
    random: fastrand::Rng,
}

type Asked = (u64, Vec<u8>, PendingResponse);

impl Client {
    fn new(
        shared: Arc<Shared>,
        connection: Connection,
        behaviour: Behaviour,
        random: fastrand::Rng,
    ) -> Self {
        Self {
            shared,
            connection,
            behaviour,
            random,
        }
    }

    fn run(mut self) {
        let mut left = self.behaviour.requests;
        while left > 0 && self.connection.is_open() {
            let count = self.random.usize(1..=left.min(6));
            left -= count;
            let is_alive = match self.random.u8(0..8) {
                0..4 => self.call(),
                4..6 => self.ask_many(count),
                6 => self.cancel(),
                _ => self.wait_a_little(),
            };
            if !is_alive {
                return;
            }
        }
    }

    fn make(&mut self, is_waited: bool) -> (u64, Vec<u8>) {
        // What nobody waits for may run while the ends close, which is no time to call back.
        let depth = if is_waited { self.random.u8(0..4) } else { 0 };
        let len = self.random.usize(0..=self.behaviour.largest);
        // Large ones are rare.
        let len = if self.random.u8(0..4) == 0 {
            len
        } else {
            len.min(50)
        };
        self.shared.make(depth, len)
    }

    /// `None`: the connection is over.
    fn submit(&mut self, is_waited: bool) -> Option<Asked> {
        let (number, payload) = self.make(is_waited);
        match self
            .connection
            .submit(request(number).with_payload(payload.clone()))
        {
            Ok(pending) => Some((number, payload, pending)),
            Err(error) => {
                self.shared.settle(number, &payload, &Err(error));
                None
            }
        }
    }

    fn settle(&self, number: u64, payload: &[u8], result: &Result<Response>) -> bool {
        self.shared.settle(number, payload, result);
        !matches!(
            result,
            Err(Error::TimedOut(_) | Error::Unanswered { .. } | Error::Closed)
        )
    }

    fn call(&mut self) -> bool {
        let (number, payload) = self.make(true);
        let request = request(number).with_payload(payload.clone());
        let result = self.connection.call(request);
        self.settle(number, &payload, &result)
    }

    fn ask_many(&mut self, count: usize) -> bool {
        // More than may be outstanding would wait for those that this thread is to take.
        let mut asked: Vec<_> = (0..count).map_while(|_| self.submit(true)).collect();
        let mut is_alive = asked.len() == count;
        self.random.shuffle(&mut asked);
        for (number, payload, pending) in asked {
            let result = pending.wait();
            is_alive &= self.settle(number, &payload, &result);
        }
        is_alive
    }

    fn cancel(&mut self) -> bool {
        let Some((number, payload, pending)) = self.submit(false) else {
            return false;
        };
        self.shared.given_up.fetch_add(1, Ordering::Relaxed);
        if self.random.bool() {
            // Its outcome, unless the answer was here before.
            let canceller = pending.canceller();
            let was_cancelled = canceller.cancel();
            let result = pending.wait();
            assert_eq!(was_cancelled, matches!(result, Err(Error::Cancelled(_))));
            return self.settle(number, &payload, &result);
        }
        drop(pending);
        true
    }

    fn wait_a_little(&mut self) -> bool {
        let Some((number, payload, pending)) = self.submit(true) else {
            return false;
        };
        match pending.wait_timeout(Duration::from_micros(self.random.u64(0..300))) {
            Ok(result) => self.settle(number, &payload, &result),
            Err(pending) => {
                let result = pending.wait();
                self.settle(number, &payload, &result)
            }
        }
    }
}
