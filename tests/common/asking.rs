//! The ways in which a life makes requests.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use fastrand::Rng;
use packetstream::{Connection, Error, Flags, PendingResponse, PendingSet, Request};

use super::super::ledger::{Fate, Slip};
use super::super::pairs::{OnWake, block_on};
use super::Life;
use super::chances::Place;

/// Handlers call back and forth at most that deep, beyond what chance makes of it anyway.
const DEPTH: u64 = 40;

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
        let is_deep = place == Place::Caller && !self.is_one_sided && rng.u8(..24) == 0;
        let depth = if is_deep { rng.u64(1..DEPTH) } else { 0 };
        self.ask_deeply(end, connection, place, depth, rng);
    }

    /// The same with a request whose handler calls back, and so on.
    pub(super) fn ask_deeply(
        self: &Arc<Self>,
        end: usize,
        connection: &Connection,
        place: Place,
        depth: u64,
        rng: &mut Rng,
    ) {
        let words = match rng.u8(..16) {
            0 => rng.usize(..3000),
            _ => rng.usize(..8),
        };
        let slip = self.ledger.ask(end, words);
        let request = Request::new(1)
            .with_payload(slip.question())
            .with_flags(Flags::new(depth).unwrap_or_default());
        let way = match rng.u8(..16) {
            // An executor of the user's own blocks the thread, and nobody knows.
            8 if matches!(place, Place::Handler | Place::Inline | Place::Told) => 7,
            way => way,
        };
        if way == 0 {
            self.ledger.settle(slip, None, connection.call(request));
            return self.event();
        }
        let request = match way {
            1 | 15 => request.with_timeout(Duration::from_micros(rng.u64(..1000))),
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
        self.take(end, slip, pending, (way, place), connection, rng);
        self.event();
    }

    fn take(
        self: &Arc<Self>,
        end: usize,
        slip: Slip,
        pending: PendingResponse,
        (way, place): (u8, Place),
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
            6 | 7 | 15 => self.take_by_callback(end, slip, pending, place, connection, rng),
            8 => ledger.settle(slip, tag, block_on(pending)),
            9 => self.take_several(end, slip, pending, connection, None, rng),
            10 => {
                let canceller = pending.canceller();
                canceller.cancel();
                ledger.settle(slip, tag, pending.wait());
            }
            12 => ledger.settle(slip, tag, wait_in_pieces(pending, rng)),
            13 => {
                let piece = Duration::from_micros(rng.u64(..2000));
                self.take_several(end, slip, pending, connection, Some(piece), rng);
            }
            14 => self.take_when_woken(end, slip, pending, place, connection, rng),
            _ => ledger.settle(slip, tag, pending.wait()),
        }
    }

    fn take_by_callback(
        self: &Arc<Self>,
        end: usize,
        slip: Slip,
        pending: PendingResponse,
        place: Place,
        connection: &Connection,
        rng: &mut Rng,
    ) {
        let life = Arc::clone(self);
        let tag = None;
        let again = self.again(place, connection, rng);
        pending.on_complete(move |result| {
            life.event();
            life.ledger.settle(slip, tag, result);
            if let Some((connection, mut rng)) = again {
                life.ask(end, &connection, Place::Told, &mut rng);
            }
        });
    }

    /// What a callback or a waker asks with. One that asks again and again would never end.
    fn again(
        &self,
        place: Place,
        connection: &Connection,
        rng: &mut Rng,
    ) -> Option<(Connection, Rng)> {
        let may_ask = place == Place::Caller && !self.is_one_sided;
        (may_ask && rng.bool()).then(|| (connection.clone(), rng.fork()))
    }

    /// Polls once, with a waker that may ask and may end everything; then takes the result in
    /// another way, so that nothing depends on it.
    fn take_when_woken(
        self: &Arc<Self>,
        end: usize,
        slip: Slip,
        mut pending: PendingResponse,
        place: Place,
        connection: &Connection,
        rng: &mut Rng,
    ) {
        let life = Arc::clone(self);
        let tag = None;
        let again = self.again(place, connection, rng);
        let waker = OnWake::waker(move || {
            life.event();
            if let Some((connection, mut rng)) = again {
                life.ask(end, &connection, Place::Told, &mut rng);
            }
        });
        match Pin::new(&mut pending).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => self.ledger.settle(slip, tag, result),
            Poll::Pending if rng.u8(..4) == 0 => {
                self.ledger.enter(slip, Fate::Forgotten);
            }
            Poll::Pending => self.ledger.settle(slip, tag, pending.wait()),
        }
    }

    /// Adds more, and collects them as they complete, in pieces of waiting if that is said.
    fn take_several(
        self: &Arc<Self>,
        end: usize,
        slip: Slip,
        pending: PendingResponse,
        connection: &Connection,
        piece: Option<Duration>,
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
        while !set.is_empty() {
            let next = match piece {
                Some(piece) => set.next_timeout(piece),
                None => set.next(),
            };
            if let Some((number, result)) = next {
                self.ledger.settle(slips[number], None, result);
            }
        }
    }
}

fn wait_in_pieces(
    mut pending: PendingResponse,
    rng: &mut Rng,
) -> Result<packetstream::Response, Error> {
    loop {
        match pending.wait_timeout(Duration::from_micros(rng.u64(..2000))) {
            Ok(result) => return result,
            Err(again) => pending = again,
        }
    }
}
