//! What the waiters of a session are told, and the wait for all of them.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use packetstream::{CloseReport, Error, Outcome, Response};

use super::link::Link;

/// How long the test waits for a waiter before it says that it hangs.
const HANGING: Duration = Duration::from_secs(25);
/// For how long nothing moves over a stream that is believed to be stuck.
const QUIET: Duration = Duration::from_millis(30);

/// What a waiter was told.
pub struct Settled {
    pub name: &'static str,
    /// Of a request: its channel and tag.
    pub request: Option<(u64, u64)>,
    /// Whether the request was accepted, and failed later, if it failed.
    pub was_accepted: bool,
    pub told: Told,
    pub at: Instant,
}

pub enum Told {
    Answer(Result<Response, Error>),
    Cancelled(Outcome),
    EndOfStream(Result<(), Error>),
    Closed(CloseReport),
}

pub enum Event {
    /// A waiter more than those that the driver has started.
    Begun,
    /// The driver has started everybody, this many, and was told all that it waited for.
    Driven {
        waiters: usize,
        enders: usize,
    },
    Settled(Box<Settled>),
}

#[derive(Clone)]
pub struct Journal(pub Sender<Event>);

impl Journal {
    pub fn note(&self, name: &'static str, request: Option<(u64, u64)>, told: Told) {
        self.settled(name, request, false, told);
    }

    pub fn settled(
        &self,
        name: &'static str,
        request: Option<(u64, u64)>,
        was_accepted: bool,
        told: Told,
    ) {
        let at = Instant::now();
        // Nobody listens any more if the session is over.
        let settled = Settled {
            name,
            request,
            was_accepted,
            told,
            at,
        };
        let _ = self.0.send(Event::Settled(Box::new(settled)));
    }
}

/// What was heard so far.
#[derive(Default)]
pub struct Heard {
    pub settled: Vec<Settled>,
    expected: usize,
    enders: usize,
    ended: usize,
    is_driven: bool,
    is_closed: bool,
    pub troubles: Vec<String>,
}

impl Heard {
    /// Takes note that so many will be told something, and so many of them of the end.
    pub fn expect(&mut self, waiters: usize, enders: usize) {
        self.expected += waiters;
        self.enders += enders;
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Begun => self.expected += 1,
            Event::Driven { waiters, enders } => {
                self.expect(waiters, enders);
                self.is_driven = true;
            }
            Event::Settled(settled) => {
                self.ended += usize::from(settled.request.is_none());
                self.is_closed |= settled.name == "wait_closed";
                self.settled.push(*settled);
            }
        }
    }

    /// Listens until the connection has ended (`false`) or nothing happens any more (`true`).
    pub fn until_quiet(&mut self, events: &Receiver<Event>, link: &Link) -> bool {
        let (mut progress, since) = (None, Instant::now());
        while !self.is_closed {
            match events.recv_timeout(QUIET) {
                Ok(event) => self.note(event),
                // Before the cut it was slow at most.
                Err(_) if link.cut_at().is_none() && since.elapsed() < HANGING => {}
                Err(_) if progress == Some(link.progress()) => return true,
                Err(_) => progress = Some(link.progress()),
            }
        }
        false
    }

    /// Listens until our end has met the cut (`true`) or the connection has ended without (`false`):
    /// the octets of a session that is closed early are not always the same.
    pub fn until_cut(&mut self, events: &Receiver<Event>, link: &Link) -> bool {
        while !self.is_closed && link.cut_at().is_none() {
            crossbeam_channel::select! {
                recv(events) -> event => self.note(event.expect("we hold a sender")),
                recv(link.cuts()) -> _ => return true,
                default(HANGING) => {
                    self.troubles.push("the session does not come to the cut".to_owned());
                    return true;
                }
            }
        }
        link.cut_at().is_some()
    }

    /// Listens until all requests are settled.
    pub fn requests(&mut self, events: &Receiver<Event>) {
        self.until(events, |heard| {
            heard.settled.len() - heard.ended >= heard.expected - heard.enders
        });
    }

    /// Listens until everybody was told.
    pub fn everybody(&mut self, events: &Receiver<Event>) {
        self.until(events, |heard| heard.settled.len() >= heard.expected);
    }

    fn until(&mut self, events: &Receiver<Event>, is_enough: fn(&Self) -> bool) {
        while self.troubles.is_empty() && !(self.is_driven && is_enough(self)) {
            if let Ok(event) = events.recv_timeout(HANGING) {
                self.note(event);
            } else {
                let told: Vec<_> = self
                    .settled
                    .iter()
                    .map(|settled| (settled.name, settled.request))
                    .collect();
                self.troubles.push(format!(
                    "somebody waits for ever; these were told: {told:?}"
                ));
                return;
            }
        }
    }
}
