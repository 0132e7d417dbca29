//! Work on a request of the peer: two calls back, one after the other, at one of many places. The
//! answer says what became of them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use crossbeam_channel::{Receiver, Sender};
use packetstream::{
    BoxError, Connection, ConnectionBuilder, Error, Incoming, OpenGuard, Outcome, PendingResponse,
    PendingSet, Responder, Response,
};
use parking_lot::Mutex;

use super::case::{Case, Held, Place};
use super::pairs::take;
use super::scripted::{ask, spawn};

/// What the work has kept.
pub enum Kept {
    Nothing,
    Result(PendingResponse),
    Set(PendingSet),
    Clone(Connection),
    Guard(OpenGuard),
    Responder(Responder),
}

/// Serves the requests of the peer as the case says.
pub struct Work {
    case: Case,
    keep: Sender<Kept>,
    /// Those of requests whose responder the work keeps.
    responders: (Sender<Responder>, Receiver<Responder>),
}

/// Where the answer goes.
enum Caller {
    Returns(Sender<String>),
    Responds(Responder),
}

impl Caller {
    fn answer(self, text: String) {
        match self {
            // The handler waits for it.
            Self::Returns(answer) => answer.send(text).unwrap(),
            Self::Responds(responder) => responder.respond(text),
        }
    }
}

impl Work {
    /// Gives the connection a handler, and tells what the work keeps.
    pub fn for_case(case: Case, builder: ConnectionBuilder) -> (ConnectionBuilder, Receiver<Kept>) {
        let (keep, kept) = crossbeam_channel::unbounded();
        let work = Arc::new(Self {
            case,
            keep,
            responders: crossbeam_channel::unbounded(),
        });
        let returns = case.place.is_worker() || case.place == Place::Beside;
        let builder = if returns && case.held != Held::Responder {
            builder.handler(move |incoming| {
                let (answer, answered) = crossbeam_channel::bounded(1);
                work.serve(incoming, Caller::Returns(answer));
                Ok(answered.recv()?)
            })
        } else {
            builder.deferred_handler(move |incoming, responder| {
                if incoming.payload() == b"keep" {
                    work.responders.0.send(responder).unwrap();
                } else {
                    work.serve(incoming, Caller::Responds(responder));
                }
            })
        };
        (builder, kept)
    }

    fn serve(self: &Arc<Self>, incoming: Incoming, caller: Caller) {
        let payload = String::from_utf8_lossy(incoming.payload()).into_owned();
        match payload.strip_prefix("nest ") {
            _ if payload == "work" => self.begin(incoming, caller),
            Some("0") => self.begin(incoming, caller),
            Some(level) => {
                let down = incoming.connection().call(ask(&format!("down {level}")));
                caller.answer(told(&down));
            }
            None => caller.answer(payload),
        }
    }

    fn begin(self: &Arc<Self>, incoming: Incoming, caller: Caller) {
        let work = Arc::clone(self);
        let start = |incoming: &Incoming| incoming.connection().submit(ask("start")).unwrap();
        match self.case.place {
            Place::Handler | Place::Nested(_) => caller.answer(work.run(&incoming)),
            Place::Beside => {
                let incoming = &incoming;
                let text = thread::scope(|scope| {
                    let beside = thread::Builder::new().name("beside".to_owned());
                    let running = beside.spawn_scoped(scope, move || work.run(incoming));
                    running.unwrap().join().unwrap()
                });
                caller.answer(text);
            }
            Place::Deferred => {
                spawn("deferred", move || caller.answer(work.run(&incoming)));
            }
            Place::Callback => start(&incoming).on_complete(move |started| {
                started.unwrap();
                caller.answer(work.run(&incoming));
            }),
            // Not on the handler's own thread, which might poll it again if the answer comes at once: the
            // results of a worker hold nothing open.
            Place::Waker => {
                spawn("starts", move || {
                    Task::start(async move {
                        start(&incoming).await.unwrap();
                        work.hold(&incoming);
                        let first = incoming.connection().submit(ask("first"));
                        let first = match first {
                            Ok(pending) => pending.await,
                            Err(error) => Err(error),
                        };
                        let second = match incoming.connection().submit(ask("second")) {
                            Ok(pending) => pending.await,
                            Err(error) => Err(error),
                        };
                        caller.answer(format!("{} {}", told(&first), told(&second)));
                        drop(incoming);
                    });
                });
            }
            Place::Decode => {
                spawn("decodes", move || {
                    let decoded = start(&incoming)
                        .and_then(move |_| Ok::<_, BoxError>(work.run(&incoming)))
                        .wait();
                    caller.answer(decoded.unwrap());
                });
            }
        }
    }

    fn run(&self, incoming: &Incoming) -> String {
        self.hold(incoming);
        let first = told(&incoming.connection().call(ask("first")));
        let second = told(&incoming.connection().call(ask("second")));
        format!("{first} {second}")
    }

    fn hold(&self, incoming: &Incoming) {
        let submit = || incoming.connection().submit(ask("held")).unwrap();
        let kept = match self.case.held {
            Held::Nothing => Kept::Nothing,
            Held::Result => Kept::Result(submit()),
            Held::Set => Kept::Set(PendingSet::from_iter([submit()])),
            Held::Clone => Kept::Clone(incoming.connection().clone()),
            Held::Guard => Kept::Guard(incoming.connection().open().unwrap()),
            Held::Responder => Kept::Responder(take(&self.responders.1)),
        };
        self.keep.send(kept).unwrap();
    }
}

/// What a caller was told, in a word.
pub fn told(result: &Result<Response, Error>) -> String {
    match result {
        Ok(response) => String::from_utf8_lossy(response.payload()).into_owned(),
        Err(error) => match error.outcome() {
            Outcome::NotSent => "not-sent".to_owned(),
            Outcome::NotRun => "not-run".to_owned(),
            _ if error.is_rejected() => "rejected".to_owned(),
            _ => "unknown".to_owned(),
        },
    }
}

/// A future that is polled by whoever wakes it, on the thread that does.
struct Task {
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    /// How often it was woken since the poll that runs began.
    wakes: AtomicUsize,
}

impl Task {
    fn start(future: impl Future<Output = ()> + Send + 'static) {
        let task = Self {
            future: Mutex::new(Some(Box::pin(future))),
            wakes: AtomicUsize::new(0),
        };
        Arc::new(task).wake();
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if self.wakes.fetch_add(1, Ordering::AcqRel) > 0 {
            // Whoever polls it polls it again.
            return;
        }
        let waker = Waker::from(Arc::clone(&self));
        loop {
            let woken = self.wakes.load(Ordering::Acquire);
            let mut future = self.future.lock();
            if let Some(running) = future.as_mut()
                && let Poll::Ready(()) = running.as_mut().poll(&mut Context::from_waker(&waker))
            {
                *future = None;
            }
            drop(future);
            if self.wakes.fetch_sub(woken, Ordering::AcqRel) == woken {
                return;
            }
        }
    }
}
