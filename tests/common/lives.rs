//! Lives of connections: two ends that ask each other in every way there is, until something
//! ends them at a moment that chance chooses.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test helpers; each test binary uses a part of them"
)]

#[path = "asking.rs"]
mod asking;
#[path = "chances.rs"]
mod chances;
#[path = "reconnecting_lives.rs"]
pub mod reconnecting_lives;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;
use packetstream::{
    BoxError, CloseReport, Connection, ConnectionBuilder, Incoming, OpenGuard, Transport,
};
use parking_lot::Mutex;

use super::ledger::{Counts, Ledger};
use super::narrow::{Harm, Link};
use super::pairs::start;
pub use chances::Over;
use chances::{Ending, Place, answer, answer_later};

/// How much happens in a life.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub over: Over,
    /// At most so many threads ask at each end.
    pub callers: usize,
    /// At most so many requests are made by each of them.
    pub requests: usize,
}

/// Enough for an orderly end on a machine that does something else, too.
const PLENTY: Duration = Duration::from_secs(40);
/// The patience with a link that stalls.
const LITTLE: Duration = Duration::from_millis(10);

/// A life that has ended, whose books can be looked at again.
pub struct Ended {
    pub seed: u64,
    ledger: Arc<Ledger>,
    is_orderly: bool,
    story: String,
}

impl Ended {
    /// Compares the books; what a handler did after the end shows when they are looked at later.
    pub fn audit(&self) -> Result<Counts, String> {
        self.ledger.audit(self.is_orderly).map_err(|complaints| {
            let Self { story, seed, .. } = self;
            format!("{story}\n{complaints}to play it again: PACKETSTREAM_TEST_SEED={seed}")
        })
    }
}

/// The two ends, and what is to happen to them.
struct Life {
    ledger: Arc<Ledger>,
    /// Taken out at the end, since the handlers of the connections hold the life.
    connections: [Mutex<Option<Connection>>; 2],
    guards: [Mutex<Option<OpenGuard>>; 2],
    harm: Option<Box<dyn Fn(Harm) + Send + Sync>>,
    /// End 0 serves nothing and has one caller, who may read the answers itself; end 1 asks
    /// nothing.
    is_one_sided: bool,
    /// Events until now; some of them set off an ending.
    events: AtomicUsize,
    fuses: Vec<Fuse>,
    reports: Mutex<Vec<CloseReport>>,
}

struct Fuse {
    at: usize,
    end: usize,
    ending: Ending,
    /// On the thread of the event, whichever that is.
    is_in_place: bool,
    wake: Mutex<Option<crossbeam_channel::Sender<()>>>,
}

/// Plays one life, and checks what can be checked at its end.
pub fn play(seed: u64, plan: Plan) -> Ended {
    let mut rng = Rng::with_seed(seed);
    let rng = &mut rng;
    let Link { ends, harm } = plan.over.link(rng);
    let is_one_sided = rng.u8(..4) == 0;
    let (callers, requests) = if is_one_sided {
        ([1, 0], 4 * plan.requests)
    } else {
        let callers = [0, 1].map(|_| rng.usize(0..=plan.callers));
        (callers, rng.usize(1..=plan.requests))
    };
    let most_events = 3 * requests * (callers[0] + callers[1]) + 3;
    let first = rng.usize(..2);
    let fuses: Vec<_> = (0..rng.usize(1..=2))
        .map(|n| {
            let end = (first + n) % 2;
            Fuse {
                at: rng.usize(1..most_events),
                end,
                ending: Ending::any(rng, end, plan.over),
                is_in_place: rng.bool(),
                wake: Mutex::default(),
            }
        })
        .collect();
    let is_orderly = fuses.iter().all(|fuse| fuse.ending.is_orderly());
    let endings: Vec<_> = fuses.iter().map(|f| (f.at, f.end, f.ending)).collect();
    let story = format!("{plan:?}, callers {callers:?} with {requests} requests each, {endings:?}");
    let life = Arc::new(Life {
        ledger: Arc::new(Ledger::new(seed)),
        connections: Default::default(),
        guards: Default::default(),
        harm,
        is_one_sided,
        events: AtomicUsize::new(0),
        fuses,
        reports: Mutex::default(),
    });
    let mut helpers = Vec::new();
    for number in 0..life.fuses.len() {
        if !life.fuses[number].is_in_place {
            let (wake, woken) = crossbeam_channel::bounded(1);
            *life.fuses[number].wake.lock() = Some(wake);
            let life = Arc::clone(&life);
            helpers.push(start(move || {
                let _ = woken.recv();
                life.end_now(number);
            }));
        }
    }
    for (end, transport) in ends.into_iter().enumerate() {
        let guard = life.open(end, transport, rng);
        *life.connections[end].lock() = Some(Connection::clone(&guard));
        *life.guards[end].lock() = Some(guard);
    }
    let mut asking = Vec::new();
    for (end, callers) in callers.into_iter().enumerate() {
        for _ in 0..callers {
            let (life, mut rng) = (Arc::clone(&life), rng.fork());
            asking.push(start(move || {
                let Some(connection) = life.connection(end) else {
                    return;
                };
                for _ in 0..requests {
                    life.ask(end, &connection, Place::Caller, &mut rng);
                }
            }));
        }
    }
    for caller in asking {
        caller.join().unwrap();
    }
    // What no event has set off is set off now.
    for number in 0..life.fuses.len() {
        if life.events.load(Ordering::Relaxed) < life.fuses[number].at {
            life.set_off(number);
        }
    }
    for helper in helpers {
        helper.join().unwrap();
    }
    life.finish(is_orderly);
    Ended {
        seed,
        ledger: Arc::clone(&life.ledger),
        is_orderly,
        story,
    }
}

impl Life {
    fn connection(&self, end: usize) -> Option<Connection> {
        self.connections[end].lock().clone()
    }

    /// Opens an end with settings of chance.
    fn open(self: &Arc<Self>, end: usize, transport: Transport, rng: &mut Rng) -> OpenGuard {
        let mut builder = Connection::builder()
            .name(format!("life{end}"))
            .linger(Some(PLENTY))
            .handler_threads(rng.usize(1..=3));
        if rng.u8(..4) == 0 {
            builder = builder.flush_grace(Duration::ZERO);
        }
        if rng.u8(..4) == 0 {
            builder = builder
                .send_queue_len(rng.usize(1..4))
                .max_outstanding_requests(rng.usize(1..4));
        }
        self.serve(end, builder, rng).open(transport).unwrap()
    }

    fn serve(
        self: &Arc<Self>,
        end: usize,
        builder: ConnectionBuilder,
        rng: &mut Rng,
    ) -> ConnectionBuilder {
        if self.is_one_sided && end == 0 || rng.u8(..16) == 0 {
            return builder;
        }
        let life = Arc::clone(self);
        let seeds = Mutex::new(rng.fork());
        let kind = rng.u8(..8);
        let builder = builder.inline_handler(kind == 0);
        if kind == 1 {
            let answering = answer_later(seeds.lock().fork());
            return builder.deferred_handler(move |incoming, responder| {
                if let Some(slip) = life.ledger.run(end, incoming.payload()) {
                    life.event();
                    let answer = slip.answer(incoming.tag());
                    // Where the other one has ended, the responder answers when it is dropped.
                    let _ = answering.send((answer, responder));
                }
            });
        }
        let place = if kind == 0 {
            Place::Inline
        } else {
            Place::Handler
        };
        builder.handler(move |incoming: Incoming| {
            let mut rng = seeds.lock().fork();
            life.handle(end, &incoming, place, &mut rng)
        })
    }

    fn handle(
        self: &Arc<Self>,
        end: usize,
        incoming: &Incoming,
        place: Place,
        rng: &mut Rng,
    ) -> Result<Vec<u8>, BoxError> {
        let slip = self
            .ledger
            .run(end, incoming.payload())
            .ok_or("not for this handler")?;
        self.event();
        if !self.is_one_sided && rng.u8(..4) == 0 {
            match place {
                // A slot that nobody lends could be the one that has to answer.
                Place::Handler if rng.bool() => {
                    incoming.lend(|| self.ask(end, incoming.connection(), Place::Lent, rng));
                }
                _ => self.ask(end, incoming.connection(), place, rng),
            }
        }
        answer(slip.answer(incoming.tag()), rng)
    }

    /// Something has happened: perhaps the end comes now.
    fn event(&self) {
        let now = self.events.fetch_add(1, Ordering::Relaxed) + 1;
        for number in 0..self.fuses.len() {
            if self.fuses[number].at == now {
                self.set_off(number);
            }
        }
    }

    fn set_off(&self, number: usize) {
        let fuse = &self.fuses[number];
        if fuse.is_in_place {
            return self.end_now(number);
        }
        let wake = fuse.wake.lock().take();
        if let Some(wake) = wake {
            let _ = wake.send(());
        }
    }

    fn end_now(&self, number: usize) {
        let Fuse { end, ending, .. } = self.fuses[number];
        let Some(connection) = self.connection(end) else {
            return;
        };
        let guard = || self.guards[end].lock().take();
        match ending {
            Ending::CloseGuard => {
                if let Some(guard) = guard() {
                    self.keep(guard.close());
                }
            }
            Ending::DropGuard => drop(guard()),
            // The end may have come from the other side.
            Ending::FinishRequests => drop(connection.finish_requests()),
            Ending::EndStream => drop(connection.end_stream()),
            Ending::Shutdown => self.keep(connection.shutdown(Some(PLENTY))),
            Ending::ShutdownNow => drop(connection.shutdown(Some(Duration::ZERO))),
            Ending::Abort => drop(connection.abort()),
            Ending::Harm(harm) => {
                if let Some(harm_link) = &self.harm {
                    harm_link(harm);
                }
                if harm == Harm::Stall {
                    for connection in [0, 1].map(|end| self.connection(end)).iter().flatten() {
                        drop(connection.shutdown(Some(LITTLE)));
                    }
                }
            }
        }
    }

    fn keep(&self, report: CloseReport) {
        if report.is_last() && !report.in_progress() {
            self.reports.lock().push(report);
        }
    }

    /// Closes what is still open, and waits for everybody.
    fn finish(&self, is_orderly: bool) {
        for end in [0, 1] {
            let guard = self.guards[end].lock().take();
            if let Some(guard) = guard {
                self.keep(guard.close());
            }
        }
        for connection in &self.connections {
            let connection = connection.lock().take();
            if let Some(connection) = connection {
                self.keep(connection.wait_closed());
            }
        }
        self.ledger.wait_settled();
        if !is_orderly {
            return;
        }
        for report in self.reports.lock().drain(..) {
            if report.cause().is_some() || report.answers_lost() > 0 || !report.peer_said_goodbye()
            {
                self.ledger
                    .complain(format!("an orderly end was reported as {report:?}"));
            }
        }
    }
}
