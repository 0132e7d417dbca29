//! The session: what our end asks, and how it waits for the answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use packetstream::{
    BoxError, CloseReport, Connection, Error, Incoming, OpenGuard, PendingResponse, PendingSet,
    Rejection, Request, Response,
};

use super::crew::{Task, run};
use super::hearing::{Event, Heard, Journal, Settled, Told};
use super::link::{Direction, Fault, Link, Manner, Script};
use super::pairs::block_on;
use super::script::{
    CALL_BACK, CALLBACKS, CALLS, CANCELLED, Course, FAIL, MOST, REFUSED, REJECT, UNANSWERED,
    UNUSED, filler,
};

const LONG: Duration = Duration::from_secs(3600);
/// What the last close of a session that does not end by itself is given.
pub const LINGER: Duration = Duration::from_millis(200);
/// A session that is over.
pub struct Ended {
    pub settled: Vec<Settled>,
    pub report: CloseReport,
    /// When it had to be closed, because it did not end by itself.
    pub closed_at: Option<Instant>,
    /// How long the last close took.
    pub close_took: Duration,
    pub link: Link,
    /// Of helpers that panicked, or hang.
    pub troubles: Vec<String>,
}

/// Plays our end of the session.
pub fn play(course: Course, script: &Arc<Script>, manner: Manner, grace: Duration) -> Ended {
    let (link, transport) = Link::new(script, manner);
    let (sender, events) = unbounded();
    let journal = Journal(sender);
    let by_handler = journal.clone();
    let guard = Connection::builder()
        .handler_threads(1)
        .linger(None)
        .flush_grace(grace)
        .handler(move |incoming| serve(&incoming, &by_handler))
        .open(transport)
        .unwrap();
    let connection = Connection::clone(&guard);
    let mut helpers = Helpers {
        journal: journal.clone(),
        tasks: Vec::new(),
        waiters: 0,
        enders: 0,
    };
    watch_the_end(&connection, &mut helpers);
    let driver = {
        let mut helpers = Helpers {
            tasks: Vec::new(),
            waiters: 0,
            enders: 0,
            journal,
        };
        run("driver", move || {
            drive(course, &guard, &mut helpers);
            let _ = helpers.journal.0.send(Event::Driven {
                waiters: helpers.waiters,
                enders: helpers.enders,
            });
            // This may be the last one, whose close waits without a limit.
            drop(guard);
            helpers.tasks
        })
    };
    helpers.gather(driver, &events, &link, manner, &connection)
}

fn serve(incoming: &Incoming, journal: &Journal) -> Result<Response, BoxError> {
    match u32::try_from(incoming.request_type().get()) {
        Ok(REJECT) => Err(Rejection::new("I will not").into()),
        Ok(FAIL) => Err("failed, as it was asked to".into()),
        Ok(CALL_BACK) => {
            let _ = journal.0.send(Event::Begun);
            let request = Request::new(8)
                .with_channel(CALLBACKS)
                .with_payload("you asked for it");
            let pending = incoming.connection().submit(request);
            let was_accepted = pending.is_ok();
            // What was not accepted has no tag, and was not sent under any.
            let tag = pending
                .as_ref()
                .map_or(UNUSED, |pending| pending.tag().get());
            let answer = pending.and_then(PendingResponse::wait);
            let told = Told::Answer(answer.clone());
            journal.settled("callback", Some((CALLBACKS, tag)), was_accepted, told);
            Ok(answer?.into_payload().into())
        }
        _ => Ok(incoming.payload().to_vec().into()),
    }
}

struct Helpers {
    journal: Journal,
    tasks: Vec<Task<()>>,
    /// How many waiters will be heard of, and how many of them wait for the end.
    waiters: usize,
    enders: usize,
}

fn watch_the_end(connection: &Connection, helpers: &mut Helpers) {
    let watched = connection.clone();
    helpers.wait("wait_end_of_stream", move || {
        Told::EndOfStream(watched.wait_end_of_stream())
    });
    let watched = connection.clone();
    helpers.wait("wait_closed", move || Told::Closed(watched.wait_closed()));
}

/// Makes the requests, in an order that gives each its tag.
fn drive(course: Course, guard: &OpenGuard, helpers: &mut Helpers) {
    let submit = |request: Request| guard.submit(request);
    let ask = |name: &str, len| submit(Request::new(8).with_payload(filler(name, len)));

    helpers.answered("wait", (MOST, 2), ask("wait", 20), PendingResponse::wait);
    helpers.answered("wait_timeout", (MOST, 3), ask("timeout", 500), |pending| {
        pending.wait_timeout(LONG).expect("an hour is not over")
    });
    let by_callback = helpers.journal.clone();
    helpers.waiters += 1;
    match ask("on_complete", 24) {
        Ok(pending) => pending.on_complete(move |answer| {
            by_callback.settled("on_complete", Some((MOST, 4)), true, Told::Answer(answer));
        }),
        Err(error) => by_callback.note("on_complete", Some((MOST, 4)), Told::Answer(Err(error))),
    }
    let channel = Request::new(8)
        .with_channel(REFUSED)
        .with_payload("on a channel");
    let set = [ask("set", 9), ask("set", 10), submit(channel)];
    helpers.set([(MOST, 5), (MOST, 6), (REFUSED, 0)], set);
    helpers.answered("future", (MOST, 7), ask("future", 30), |pending| {
        block_on(pending)
    });
    helpers.answered("wait_deadline", (MOST, 8), ask("deadline", 40), |pending| {
        pending
            .wait_deadline(Instant::now() + LONG)
            .expect("an hour is not over")
    });
    helpers.answered("and_then", UNANSWERED, ask("unanswered", 50), |pending| {
        let decoded = pending.and_then(|answer| Ok::<_, BoxError>(answer.into_payload()));
        decoded.wait().map(Response::from)
    });
    drop(ask("forgotten", 15));
    match course {
        Course::Closing => {
            let connection = Connection::clone(guard);
            helpers.wait("shutdown", move || Told::Closed(connection.shutdown(None)));
        }
        Course::Serving => {
            let guard_of_server = guard.clone();
            helpers.wait("serve", move || Told::Closed(guard_of_server.serve()));
            let cancelled = ask("cancelled", 12);
            helpers.call(guard, 0, filler("call ", 60));
            helpers.waiters += 1;
            let outcome = cancelled.map_or_else(|error| error.outcome(), PendingResponse::cancel);
            helpers
                .journal
                .note("cancel", Some(CANCELLED), Told::Cancelled(outcome));
            helpers.call(guard, 1, filler("a long call ", 1150));
            helpers.call(guard, 2, Vec::new());
        }
    }
}

impl Helpers {
    fn wait(&mut self, name: &'static str, wait: impl FnOnce() -> Told + Send + 'static) {
        self.waiters += 1;
        self.enders += 1;
        let journal = self.journal.clone();
        self.tasks
            .push(run(name, move || journal.note(name, None, wait())));
    }

    fn answered(
        &mut self,
        name: &'static str,
        request: (u64, u64),
        pending: Result<PendingResponse, Error>,
        wait: impl FnOnce(PendingResponse) -> Result<Response, Error> + Send + 'static,
    ) {
        self.waiters += 1;
        let journal = self.journal.clone();
        self.tasks.push(run(name, move || {
            let was_accepted = pending.is_ok();
            let answer = pending.and_then(wait);
            journal.settled(name, Some(request), was_accepted, Told::Answer(answer));
        }));
    }

    fn set<const N: usize>(
        &mut self,
        requests: [(u64, u64); N],
        pending: [Result<PendingResponse, Error>; N],
    ) {
        self.waiters += N;
        let journal = self.journal.clone();
        self.tasks.push(run("set", move || {
            let mut set = PendingSet::new();
            let mut members = Vec::new();
            for (request, pending) in requests.into_iter().zip(pending) {
                match pending {
                    Ok(pending) => {
                        set.insert(pending);
                        members.push(request);
                    }
                    Err(error) => journal.note("set", Some(request), Told::Answer(Err(error))),
                }
            }
            for (number, answer) in set {
                journal.settled("set", Some(members[number]), true, Told::Answer(answer));
            }
        }));
    }

    fn call(&mut self, guard: &OpenGuard, tag: u64, payload: Vec<u8>) {
        self.waiters += 1;
        let request = Request::new(8).with_channel(CALLS).with_payload(payload);
        let answer = guard.call(request);
        self.journal
            .note("call", Some((CALLS, tag)), Told::Answer(answer));
    }

    /// Waits until everybody was told, closes what does not end by itself, and joins the threads.
    fn gather(
        self,
        driver: Task<Vec<Task<()>>>,
        events: &Receiver<Event>,
        link: &Link,
        manner: Manner,
        connection: &Connection,
    ) -> Ended {
        let mut heard = Heard::default();
        heard.expect(self.waiters, self.enders);
        let is_stuck = match manner.cut.map(|cut| cut.fault) {
            Some(Fault::Stall) => heard.until_cut(events, link),
            Some(Fault::Garbage { .. }) => heard.until_quiet(events, link),
            _ => false,
        };
        let is_reader_stuck = !manner.has_hook
            && !manner.ends_both
            && manner
                .cut
                .is_some_and(|cut| cut.direction == Direction::Output);
        let mut closed_at = None;
        let mut close = || {
            let begun = Instant::now();
            closed_at.get_or_insert(begun);
            (connection.shutdown(Some(LINGER)), begun.elapsed())
        };
        let mut report = is_stuck.then(&mut close);
        if report.is_none() && is_reader_stuck {
            // Those who have asked are told at once; the end itself has to wait for a close.
            heard.requests(events);
            report = Some(close());
        }
        heard.everybody(events);
        let closed_at_once = report.is_some();
        let (report, close_took) = report.unwrap_or_else(&mut close);
        link.shut();
        // Who hangs cannot be joined.
        if heard.troubles.is_empty() {
            let tasks = driver.join().unwrap_or_else(|name| {
                heard.troubles.push(format!("{name} panicked"));
                Vec::new()
            });
            for task in self.tasks.into_iter().chain(tasks) {
                if let Err(name) = task.join() {
                    heard.troubles.push(format!("{name} panicked"));
                }
            }
        }
        Ended {
            settled: heard.settled,
            report,
            closed_at: closed_at.filter(|_| closed_at_once),
            close_took,
            link: link.clone(),
            troubles: heard.troubles,
        }
    }
}
