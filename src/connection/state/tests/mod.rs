//! The state machine against the protocol, without threads or streams.

use super::*;
use crate::wire::{Flags, RequestType};

mod calls;
mod failing;
mod goodbyes;
mod inbound;
mod mutations;
mod random;

const LIMITS: Limits = Limits {
    outstanding_requests: 4,
    outstanding_bytes: 100,
    send_queue_len: 8,
    inbound_requests: 2,
    inbound_bytes: 50,
    unowed_response: 1000,
};

/// A state with the queue that its packets are numbered for.
struct End<W> {
    state: State<W>,
    queue: Vec<Queued>,
}

impl<W> End<W> {
    fn new() -> Self {
        Self::with(LIMITS, true)
    }

    fn with(limits: Limits, has_handler: bool) -> Self {
        Self {
            state: State::new(limits, has_handler),
            queue: Vec::new(),
        }
    }

    /// Makes a request on channel 0 without a payload.
    fn ask(&mut self, waiter: W) -> Key {
        self.ask_on(ChannelId::DEFAULT, 0, waiter)
    }

    fn ask_on(&mut self, channel: ChannelId, bytes: usize, waiter: W) -> Key {
        let key = (channel, self.state.next_tag(channel));
        let number = self.state.register(key, bytes, waiter);
        let packet = request(key, bytes);
        self.queue.push(Queued { number, packet });
        key
    }

    fn ask_and_send(&mut self, waiter: W) -> Key {
        let key = self.ask(waiter);
        self.take();
        key
    }

    /// Takes all out of the queue; returns what is to be written.
    fn take(&mut self) -> Vec<Packet> {
        let mut batch = std::mem::take(&mut self.queue);
        self.state.take(&mut batch, |_, _| ());
        batch.into_iter().map(|queued| queued.packet).collect()
    }

    /// Cancels the request that has this key now.
    fn cancel(&mut self, key: Key) -> Option<(W, Outcome)> {
        let number = self.state.calls.get(&key)?.number;
        self.state.cancel(key, number)
    }

    fn enqueue(&mut self, packet: Packet) -> u64 {
        let number = self.state.queue(&packet);
        self.queue.push(Queued { number, packet });
        number
    }

    /// The peer answers.
    fn answered(&mut self, key: Key) -> Action<W> {
        self.state.receive(&response(key, 0), false)
    }

    /// The peer asks, and nobody here waits.
    fn asked(&mut self, tag: u64) -> Action<W> {
        self.state.receive(&request(theirs(tag), 0), false)
    }

    /// Answers a request of the peer, if that can still be done.
    fn answer(&mut self, tag: u64) -> bool {
        let goes = self.state.served(theirs(tag));
        if goes {
            self.enqueue(response(theirs(tag), 0));
        }
        goes
    }

    /// Writing fails, and nothing more is to be heard of why.
    fn fail_output(&mut self, last_handed_over: u64, answers_in_buffer: u64) -> Vec<Failed<W>> {
        self.state
            .stop_output(&broken_pipe(), last_handed_over, answers_in_buffer);
        self.state.fail_output()
    }
}

fn theirs(tag: u64) -> Key {
    (ChannelId::DEFAULT, Tag::new(tag))
}

fn request(key: Key, bytes: usize) -> Packet {
    let payload = vec![0; bytes];
    Packet::request(key.0, key.1, RequestType::from(0), Flags::NONE, payload)
}

fn response(key: Key, bytes: usize) -> Packet {
    Packet::response(key.0, key.1, true, Flags::NONE, vec![0; bytes]).unwrap()
}

fn broken_pipe() -> Error {
    Error::Write(Arc::new(std::io::ErrorKind::BrokenPipe.into()))
}

fn reset() -> Error {
    Error::Read(Arc::new(std::io::ErrorKind::ConnectionReset.into()))
}

/// Who was told of a failure, and whether the request may have run, in the order of the requests.
fn outcomes<W: Copy>(failed: &[Failed<W>]) -> Vec<(W, Outcome)> {
    let outcomes = failed.iter();
    outcomes.map(|(waiter, e)| (*waiter, e.outcome())).collect()
}

#[track_caller]
fn assert_rejected<W: std::fmt::Debug>(action: &Action<W>, expected: &[u8]) {
    assert!(
        matches!(action, Action::Reject(text) if text.as_ref() == expected),
        "{action:?}"
    );
}
