//! How lives end: a fuse that some event sets off, and the last steps that all of them take.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "test helpers; each test binary uses a part of them"
)]

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use fastrand::Rng;
use packetstream::CloseReport;
use parking_lot::Mutex;

use super::super::narrow::Harm;
use super::super::pairs::start;
use super::chances::Ending;
use super::{Life, PLENTY};

/// The patience with a link that stalls.
const LITTLE: Duration = Duration::from_millis(10);

thread_local! {
    /// Whether this thread is to answer a request, whatever runs on it: callbacks and wakers, too.
    static HOLDS_RESPONDER: Cell<bool> = const { Cell::new(false) };
}

/// Says that this thread holds a responder from now on, to its end.
pub(super) fn hold_responder() {
    HOLDS_RESPONDER.set(true);
}

/// Ends an end at some event.
pub(super) struct Fuse {
    pub(super) at: usize,
    pub(super) end: usize,
    pub(super) ending: Ending,
    /// On the thread of the event, whichever that is.
    pub(super) is_in_place: bool,
    pub(super) wake: Mutex<Option<crossbeam_channel::Sender<()>>>,
}

impl Fuse {
    pub(super) fn new(rng: &mut Rng, end: usize, ending: Ending, requests: usize) -> Self {
        Self {
            at: rng.usize(1..3 * requests + 3),
            end,
            ending,
            is_in_place: rng.bool(),
            wake: Mutex::default(),
        }
    }
}

impl Life {
    /// Something has happened: perhaps the end comes now.
    pub(super) fn event(self: &Arc<Self>) {
        let now = self.events.fetch_add(1, Ordering::Relaxed) + 1;
        for number in 0..self.fuses.len() {
            if self.fuses[number].at == now {
                self.set_off(number);
            }
        }
    }

    pub(super) fn set_off(self: &Arc<Self>, number: usize) {
        let fuse = &self.fuses[number];
        if !fuse.is_in_place {
            let wake = fuse.wake.lock().take();
            if let Some(wake) = wake {
                let _ = wake.send(());
            }
        } else if HOLDS_RESPONDER.get() {
            // A close that it waited for would wait for it.
            let life = Arc::clone(self);
            let aside = start(move || life.end_now(number));
            self.aside.lock().push(aside);
        } else {
            self.end_now(number);
        }
    }

    pub(super) fn end_now(&self, number: usize) {
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
            Ending::ShutdownSoon(limit) => drop(connection.shutdown(Some(limit))),
            Ending::Abort => drop(connection.abort()),
            Ending::Harm(harm) => {
                let harm_link = self.harm.lock().clone();
                if let Some(harm_link) = harm_link {
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

    pub(super) fn keep(&self, report: CloseReport) {
        if report.is_last() && !report.in_progress() {
            self.reports.lock().push(report);
        }
    }

    /// Closes what is still open, and waits for everybody.
    pub(super) fn finish(&self, serving: Option<JoinHandle<()>>, is_orderly: bool) {
        // Of the end that serves nobody need let go.
        let kept = self.kept.lock().take();
        drop(kept);
        for end in [0, 1] {
            let guard = self.guards[end].lock().take();
            if let Some(guard) = guard {
                self.keep(guard.close());
            }
        }
        if let Some(serving) = serving {
            serving.join().unwrap();
        }
        let aside = std::mem::take(&mut *self.aside.lock());
        for ending in aside {
            ending.join().unwrap();
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
