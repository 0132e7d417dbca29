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
#[path = "life_ends.rs"]
mod life_ends;
#[cfg(target_os = "linux")]
#[path = "process_lives.rs"]
pub mod process_lives;
#[path = "reconnecting_lives.rs"]
pub mod reconnecting_lives;
#[path = "relay.rs"]
mod relay;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
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
use life_ends::{Fuse, hold_responder};

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

type DoHarm = dyn Fn(Harm) + Send + Sync;

/// The ends that are played here, and what is to happen to them.
struct Life {
    ledger: Arc<Ledger>,
    /// Taken out at the end, since the handlers of the connections hold the life.
    connections: [Mutex<Option<Connection>>; 2],
    guards: [Mutex<Option<OpenGuard>>; 2],
    /// Dropped at the end, which frees what it holds up.
    harm: Mutex<Option<Arc<DoHarm>>>,
    /// End 0 serves nothing and has one caller, who may read the answers itself; end 1 asks
    /// nothing.
    is_one_sided: bool,
    /// Events until now; some of them set off an ending.
    events: AtomicUsize,
    fuses: Vec<Fuse>,
    reports: Mutex<Vec<CloseReport>>,
    /// What handlers have opened once more, unless it is too late for that.
    kept: Mutex<Option<Vec<OpenGuard>>>,
    /// What was set off where it must not be waited for.
    aside: Mutex<Vec<JoinHandle<()>>>,
}

/// What the ends do.
#[derive(Clone, Copy)]
struct Course {
    /// So many threads ask at each end.
    callers: [usize; 2],
    /// So many requests are made by each of them.
    requests: usize,
    /// End 1 ends when the other end does.
    serves: bool,
    is_orderly: bool,
}

/// Plays one life, and checks what can be checked at its end.
pub fn play(seed: u64, plan: Plan) -> Ended {
    let mut rng = Rng::with_seed(seed);
    let rng = &mut rng;
    let Link {
        ends,
        harm,
        is_harmless,
    } = plan.over.link(rng);
    let is_one_sided = rng.u8(..4) == 0;
    let (callers, requests) = if is_one_sided {
        ([1, 0], 4 * plan.requests)
    } else {
        let callers = [0, 1].map(|_| rng.usize(0..=plan.callers));
        (callers, rng.usize(1..=plan.requests))
    };
    let first = rng.usize(..2);
    let fuses: Vec<_> = (0..rng.usize(1..=2))
        .map(|n| {
            let end = (first + n) % 2;
            let ending = Ending::any(rng, end, plan.over.harms());
            Fuse::new(rng, end, ending, requests * (callers[0] + callers[1]))
        })
        .collect();
    let is_orderly = is_harmless && fuses.iter().all(|fuse| fuse.ending.is_orderly());
    let endings: Vec<_> = fuses.iter().map(|f| (f.at, f.end, f.ending)).collect();
    let story = format!("{plan:?}, callers {callers:?} with {requests} requests each, {endings:?}");
    let life = Life::new(Ledger::new(seed), harm, is_one_sided, fuses);
    let ends = ends.into_iter().enumerate().collect();
    let course = Course {
        callers,
        requests,
        serves: rng.u8(..4) == 0,
        is_orderly,
    };
    life.live(ends, course, rng);
    Ended {
        seed,
        ledger: Arc::clone(&life.ledger),
        is_orderly,
        story,
    }
}

impl Life {
    fn new(
        ledger: Ledger,
        harm: Option<Box<DoHarm>>,
        is_one_sided: bool,
        fuses: Vec<Fuse>,
    ) -> Arc<Self> {
        Arc::new(Self {
            ledger: Arc::new(ledger),
            connections: Default::default(),
            guards: Default::default(),
            harm: Mutex::new(harm.map(Arc::from)),
            is_one_sided,
            events: AtomicUsize::new(0),
            fuses,
            reports: Mutex::default(),
            kept: Mutex::new(Some(Vec::new())),
            aside: Mutex::default(),
        })
    }

    /// Opens these ends, lets their callers ask, and comes to the end of it all.
    fn live(self: &Arc<Self>, ends: Vec<(usize, Transport)>, course: Course, rng: &mut Rng) {
        let Course {
            callers,
            requests,
            serves,
            is_orderly,
        } = course;
        let mut helpers = Vec::new();
        for number in 0..self.fuses.len() {
            if !self.fuses[number].is_in_place {
                let (wake, woken) = crossbeam_channel::bounded(1);
                *self.fuses[number].wake.lock() = Some(wake);
                let life = Arc::clone(self);
                helpers.push(start(move || {
                    let _ = woken.recv();
                    life.end_now(number);
                }));
            }
        }
        for (end, transport) in ends {
            let guard = self.open(end, transport, rng);
            *self.connections[end].lock() = Some(Connection::clone(&guard));
            *self.guards[end].lock() = Some(guard);
        }
        let serving = serves.then(|| self.guards[1].lock().take());
        let serving = serving.flatten().map(|guard| {
            let life = Arc::clone(self);
            start(move || life.keep(guard.serve()))
        });
        let mut asking = Vec::new();
        for (end, callers) in callers.into_iter().enumerate() {
            for _ in 0..callers {
                let (life, mut rng) = (Arc::clone(self), rng.fork());
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
        for number in 0..self.fuses.len() {
            if self.events.load(Ordering::Relaxed) < self.fuses[number].at {
                self.set_off(number);
            }
        }
        for helper in helpers {
            helper.join().unwrap();
        }
        self.finish(serving, is_orderly);
        self.harm.lock().take();
    }

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
        let is_narrow = rng.u8(..4) == 0;
        if is_narrow {
            builder = builder
                .send_queue_len(rng.usize(1..4))
                .max_outstanding_requests(rng.usize(1..4));
        }
        if rng.u8(..16) == 0 {
            builder = builder.timeout(Some(Duration::from_millis(rng.u64(..20))));
        }
        self.serve(end, builder, is_narrow, rng)
            .open(transport)
            .unwrap()
    }

    fn serve(
        self: &Arc<Self>,
        end: usize,
        builder: ConnectionBuilder,
        is_narrow: bool,
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
                    let mut rng = seeds.lock().fork();
                    // No thread but a handler's goes beyond the cap; so the answer that makes room
                    // could be the one that this one is to give.
                    let may_ask = !life.is_one_sided && !is_narrow;
                    if may_ask && rng.u8(..3) == 0 {
                        let life = Arc::clone(&life);
                        start(move || {
                            hold_responder();
                            life.keep_open(&incoming, &mut rng);
                            life.ask(end, incoming.connection(), Place::Beside, &mut rng);
                            responder.respond(answer);
                        });
                        return;
                    }
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
        self.keep_open(incoming, rng);
        let depth = incoming.flags().bits();
        if depth > 0 {
            self.ask_deeply(end, incoming.connection(), place, depth - 1, rng);
        } else if !self.is_one_sided && rng.u8(..4) == 0 {
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

    /// Sometimes a handler opens its connection once more, and keeps that to the end of the life.
    fn keep_open(&self, incoming: &Incoming, rng: &mut Rng) {
        if rng.u8(..24) == 0
            && let Ok(guard) = incoming.connection().open()
        {
            // Under the lock it could be the one that closes.
            let mut kept = self.kept.lock();
            if let Some(kept) = &mut *kept {
                kept.push(guard);
                return;
            }
            drop(kept);
            drop(guard);
        }
    }
}
