//! The ways in which a life makes requests.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use packetstream::{Connection, Error, PendingResponse, PendingSet, Request};

use super::super::ledger::{Fate, Slip};
use super::super::pairs::block_on;
use super::Life;
use super::chances::Place;

impl Life {
    /// Makes one request (or a few) in one of the ways there are.
    pub(super) fn ask(
        self: &Arc<Self>,
        end: usize,
        connection: &Connection,
        place: Place,
        rng: &mut Rng,
    ) {
        if place == Place::Caller && self.is_one_sided && rng.bool() {
            // So many alone that the caller comes to read.
            for _ in 0..rng.usize(1..40) {
                self.ledger.call(end, rng.usize(..8), connection);
                self.event();
            }
        }
        let words = match rng.u8(..16) {
            0 => rng.usize(..3000),
            _ => rng.usize(..8),
        };
        let slip = self.ledger.ask(end, words);
        let request = Request::new(1).with_payload(slip.question());
        let way = match rng.u8(..12) {
            // An executor of the user's own blocks the thread, and nobody knows.
            8 if matches!(place, Place::Handler | Place::Inline) => 7,
            way => way,
        };
        if way == 0 {
            self.ledger.settle(slip, None, connection.call(request));
            return self.event();
        }
        let request = match way {
            1 => request.with_timeout(Duration::from_micros(rng.u64(..1000))),
            _ => request,
        };
        let submitted = match way {
            2 => connection.try_submit(request).map_err(Error::from),
            _ => connection.submit(request),
        };
        self.event();
        let pending = match submitted {
            Ok(pending) => pending,
            Err(error) => return self.ledger.settle(slip, None, Err(error)),
        };
        self.take(end, slip, pending, way, connection, rng);
        self.event();
    }

    fn take(
        self: &Arc<Self>,
        end: usize,
        slip: Slip,
        pending: PendingResponse,
        way: u8,
        connection: &Connection,
        rng: &mut Rng,
    ) {
        // It may change until the request is sent; the answer tells it.
        let tag = None;
        let ledger = &self.ledger;
        match way {
            3 => {
                let patience = Duration::from_micros(rng.u64(..500));
                let result = match pending.wait_timeout(patience) {
                    Ok(result) => result,
                    Err(pending) => pending.wait(),
                };
                ledger.settle(slip, tag, result);
            }
            4 => {
                let outcome = pending.cancel();
                ledger.enter(slip, Fate::GivenUp(outcome));
            }
            5 => {
                ledger.enter(slip, Fate::Forgotten);
                drop(pending);
            }
            6 | 7 => {
                let life = Arc::clone(self);
                pending.on_complete(move |result| {
                    life.event();
                    life.ledger.settle(slip, tag, result);
                });
            }
            8 => ledger.settle(slip, tag, block_on(pending)),
            9 => self.take_several(end, slip, pending, connection, rng),
            10 => {
                let canceller = pending.canceller();
                canceller.cancel();
                ledger.settle(slip, tag, pending.wait());
            }
            _ => ledger.settle(slip, tag, pending.wait()),
        }
    }

    /// Adds more, and collects them as they complete.
    fn take_several(
        &self,
        end: usize,
        slip: Slip,
        pending: PendingResponse,
        connection: &Connection,
        rng: &mut Rng,
    ) {
        let mut slips = vec![slip];
        let mut set = PendingSet::from_iter([pending]);
        for _ in 0..rng.usize(1..4) {
            let slip = self.ledger.ask(end, rng.usize(..8));
            match connection.submit(Request::new(1).with_payload(slip.question())) {
                Ok(pending) => {
                    slips.push(slip);
                    set.insert(pending);
                }
                Err(error) => self.ledger.settle(slip, None, Err(error)),
            }
        }
        for (number, result) in set {
            self.ledger.settle(slips[number], None, result);
        }
    }
}
