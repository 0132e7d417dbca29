//! The reading that is left to callers: every answer is read by somebody, whoever takes the
//! reading, wants it or closes, and no thread waits for ever.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{explore, explore_within, settle, spawn};
use crate::connection::duty::wait_for_reading;
use crate::connection::handover::Handover;
use crate::connection::message::Response;
use crate::connection::one_shot::OneShot;
use crate::sync::{Condvar, Mutex, expire};

/// What the peer says instead of an answer: that it has ended.
const GOODBYE: usize = usize::MAX;

/// A client whose peer answers at once.
struct Client {
    shared: Mutex<Shared>,
    inbound: Condvar,
    stream: Mutex<VecDeque<usize>>,
    /// Signalled when something can be read.
    arrived: Condvar,
    answers: Vec<OneShot>,
}

struct Shared {
    handover: Handover<Reading>,
    outstanding: usize,
    is_closing: bool,
}

/// The right to read, and what was read and not dealt out.
struct Reading {
    undealt: Option<usize>,
}

/// How a request is made.
#[derive(Clone, Copy)]
enum Purpose {
    Call,
    Submit,
}

impl Client {
    fn new(requests: usize) -> Arc<Self> {
        Arc::new(Self {
            shared: Mutex::new(Shared {
                handover: Handover::new(),
                outstanding: 0,
                is_closing: false,
            }),
            inbound: Condvar::new(),
            stream: Mutex::new(VecDeque::new()),
            arrived: Condvar::new(),
            answers: (0..requests).map(|_| OneShot::new()).collect(),
        })
    }

    fn send(&self, packet: usize) {
        self.stream.lock().push_back(packet);
        self.arrived.notify_one();
    }

    fn read(&self) -> usize {
        let mut stream = self.stream.lock();
        loop {
            match stream.pop_front() {
                Some(packet) => return packet,
                None => self.arrived.wait(&mut stream),
            }
        }
    }

    fn settle(&self, number: usize) {
        settle(&self.answers[number], Ok(Response::default()));
    }

    /// The receiver, which leaves the reading whenever it may.
    fn receive(&self) {
        let mut reading = Reading { undealt: None };
        loop {
            let number = reading.undealt.take().unwrap_or_else(|| self.read());
            if number == GOODBYE {
                return;
            }
            let mut shared = self.shared.lock();
            shared.outstanding -= 1;
            let leaves = shared.outstanding == 0 && !shared.is_closing;
            if !leaves {
                drop(shared);
                self.settle(number);
                continue;
            }
            shared.handover.leave(reading);
            drop(shared);
            self.settle(number);
            let mut shared = self.shared.lock();
            reading = wait_for_reading(&mut shared, &self.inbound, |shared| &mut shared.handover);
        }
    }

    /// Makes a request and waits for its answer; `false` if it comes too late.
    fn request(&self, number: usize, purpose: Purpose) -> bool {
        let mut shared = self.shared.lock();
        if shared.is_closing {
            return false;
        }
        shared.outstanding += 1;
        let reading = match purpose {
            Purpose::Call if shared.outstanding == 1 => shared.handover.take(),
            _ => None,
        };
        if reading.is_none() && shared.handover.want() {
            self.inbound.notify_all();
        }
        drop(shared);
        self.send(number);
        if let Some(reading) = reading {
            self.read_answer(reading, number);
        }
        assert!(self.answers[number].wait(None));
        true
    }

    fn read_answer(&self, mut reading: Reading, number: usize) {
        let packet = self.read();
        let mut shared = self.shared.lock();
        if packet != number {
            reading.undealt = Some(packet);
            shared.handover.give_back(reading);
            drop(shared);
            self.inbound.notify_all();
            return;
        }
        shared.outstanding -= 1;
        if shared.outstanding > 0 || shared.is_closing {
            shared.handover.give_back(reading);
            self.inbound.notify_all();
        } else if shared.handover.put_back(reading) {
            self.inbound.notify_all();
        }
        drop(shared);
        self.settle(number);
    }

    /// Lets nobody ask any more; the peer ends in turn.
    fn close(&self) {
        let mut shared = self.shared.lock();
        shared.is_closing = true;
        if shared.handover.want() {
            self.inbound.notify_all();
        }
        drop(shared);
        self.send(GOODBYE);
    }
}

/// The receiver, and beside it who makes these requests, and who does that at some time.
fn run(requests: &'static [Purpose], ticks: bool, beside: fn(&Arc<Client>)) {
    let client = Client::new(requests.len() + 1);
    if ticks {
        expire();
    }
    let receiver = spawn(&client, |client| client.receive());
    let caller = spawn(&client, |client| {
        for (number, purpose) in requests.iter().enumerate() {
            client.request(number, *purpose);
        }
    });
    beside(&client);
    caller.join().unwrap();
    client.close();
    receiver.join().unwrap();
    assert_eq!(client.shared.lock().outstanding, 0);
}

/// The number of the request that is made beside two others.
const BESIDE: usize = 2;

#[test]
fn callers_in_turn_read_their_own_answers() {
    explore("handover, a call after the other", || {
        run(&[Purpose::Call, Purpose::Call], false, |_| {});
    });
}

#[test]
fn receiver_that_ticks_takes_the_reading_from_nobody() {
    explore("handover, ticks", || {
        run(&[Purpose::Call, Purpose::Call], true, |_| {});
    });
}

#[test]
fn submitters_have_the_reading_go_on() {
    explore("handover, a submit after a call", || {
        run(&[Purpose::Call, Purpose::Submit], false, |_| {});
    });
}

#[test]
fn answers_to_others_are_dealt_out_while_a_caller_reads() {
    for ticks in [false, true] {
        explore_within("handover, another call beside", 3, move || {
            run(&[Purpose::Call, Purpose::Call], ticks, |client| {
                assert!(client.request(BESIDE, Purpose::Call));
            });
        });
    }
}

#[test]
fn submits_beside_a_caller_are_answered() {
    for ticks in [false, true] {
        explore_within("handover, a submit beside", 3, move || {
            run(&[Purpose::Call, Purpose::Call], ticks, |client| {
                assert!(client.request(BESIDE, Purpose::Submit));
            });
        });
    }
}

/// The end is read by whoever reads then.
#[test]
fn close_beside_a_caller_ends_the_receiver() {
    for ticks in [false, true] {
        explore_within("handover, a close beside", 3, move || {
            let client = Client::new(2);
            if ticks {
                expire();
            }
            let receiver = spawn(&client, |client| client.receive());
            let caller = spawn(&client, |client| {
                (0..2).all(|number| client.request(number, Purpose::Call))
            });
            let mut shared = client.shared.lock();
            shared.is_closing = true;
            if shared.handover.want() {
                client.inbound.notify_all();
            }
            drop(shared);
            caller.join().unwrap();
            client.send(GOODBYE);
            receiver.join().unwrap();
        });
    }
}

/// The peer ends by itself: no call that follows reads that.
#[test]
fn end_of_the_peer_is_read_though_nobody_calls_any_more() {
    explore("handover, the peer's end", || {
        let client = Client::new(2);
        expire();
        let receiver = spawn(&client, |client| client.receive());
        for number in 0..2 {
            client.request(number, Purpose::Call);
        }
        client.send(GOODBYE);
        receiver.join().unwrap();
    });
}
