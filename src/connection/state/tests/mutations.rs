//! The state machine on what a peer may send: recorded streams with some damage, between the
//! deeds of our own end.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails, which is all it should do"
)]

#[path = "../../../../tests/fuzzing/inputs.rs"]
mod inputs;

use std::collections::BTreeSet;

use super::*;
use crate::wire::Decoder;

/// A million takes seconds with optimization, and minutes without.
const INPUTS: u64 = if cfg!(debug_assertions) {
    20_000
} else {
    1_000_000
};

/// What our end knows by itself.
#[derive(Default)]
struct Account {
    /// How often each of our requests has been settled.
    settled: Vec<u32>,
    /// Requests of the peer that we have accepted and not answered.
    serving: BTreeSet<Key>,
    has_ended: bool,
    answered: u64,
    dropped: u64,
    late: u64,
}

impl Account {
    fn settle(&mut self, waiter: usize) {
        self.settled[waiter] += 1;
    }

    fn fail(&mut self, failed: Vec<Failed<usize>>) {
        for (waiter, _) in failed {
            self.settle(waiter);
        }
    }
}

/// Returns how many packets were understood, and how many of our requests were answered.
fn hear(input: &[u8], seed: u64) -> (u64, u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut end: End<usize> = End::with(LIMITS, random.u8(0..8) != 0);
    let mut account = Account::default();
    let mut decoder = Decoder::new();
    let mut left = input;
    let mut packets = 0;
    for _ in 0..random.usize(0..12) {
        act(&mut end, &mut account, &mut random);
    }
    let cause = loop {
        act(&mut end, &mut account, &mut random);
        match decoder.decode(&mut left) {
            Ok(Some(packet)) => {
                packets += 1;
                if let Some(cause) = receive(&mut end, &mut account, &packet, random.bool()) {
                    break cause;
                }
            }
            Ok(None) => break Error::EndOfInput(None),
            Err(error) => break error.into(),
        }
        assert_eq!(end.state.serving(), account.serving.len());
    };
    let failed = end.state.end_input(cause);
    account.fail(failed);
    for key in std::mem::take(&mut account.serving) {
        if end.state.served(key) {
            end.enqueue(response(key, 0));
        }
    }
    let (_, says_goodbye) = end.state.goodbyes();
    assert!(says_goodbye || account.has_ended, "our end is forgotten");
    assert!(account.settled.iter().all(|times| *times == 1));
    assert_eq!((end.state.outstanding(), end.state.serving()), (0, 0));
    let losses = end.state.losses();
    assert_eq!(
        (losses.requests_dropped, losses.late_responses),
        (account.dropped, account.late)
    );
    (packets, account.answered)
}

/// Something that our end may do between two packets of the peer.
fn act(end: &mut End<usize>, account: &mut Account, random: &mut fastrand::Rng) {
    match random.u8(0..12) {
        0..5 if end.state.may_request().is_ok() && end.state.has_room(1) => {
            // Recorded sessions use these channels.
            let channel = ChannelId::new([0, 0, 0, 257][random.usize(0..4)]);
            end.ask_on(channel, 1, account.settled.len());
            account.settled.push(0);
        }
        5..8 => {
            end.take();
        }
        8 => {
            let next = end.state.next_tag(ChannelId::DEFAULT).get();
            if let Some((waiter, _)) = end.cancel(theirs(random.u64(0..=next))) {
                account.settle(waiter);
            }
        }
        9 => {
            if let Some(key) = account.serving.pop_first()
                && end.state.served(key)
            {
                end.enqueue(response(key, 0));
            }
        }
        10 if random.u8(0..8) == 0 => end.state.close(),
        11 if random.u8(0..8) == 0 => end.state.end_stream(),
        _ => {}
    }
    let (requests, stream) = end.state.goodbyes();
    if requests {
        end.enqueue(Packet::END_OF_REQUESTS);
    }
    if stream {
        assert!(account.serving.is_empty(), "what was accepted is answered");
        end.enqueue(Packet::END_OF_STREAM);
        account.has_ended = true;
    }
}

fn receive(
    end: &mut End<usize>,
    account: &mut Account,
    packet: &Packet,
    is_waited: bool,
) -> Option<Error> {
    let key = (packet.channel(), packet.tag());
    let was_owed = end.state.is_owed(key);
    match end.state.receive(packet, is_waited) {
        Action::Serve => {
            assert!(packet.is_request());
            assert!(account.serving.insert(key), "served twice");
        }
        Action::Reject(_) => {
            assert!(packet.is_request());
            end.enqueue(response(key, 0));
        }
        Action::Settle(waiter) => {
            assert!(was_owed && packet.is_response());
            account.settle(waiter);
            account.answered += 1;
        }
        Action::Drop if packet.is_request() => account.dropped += 1,
        Action::Drop => account.late += 1,
        Action::RequestsFinished => {}
        Action::Ended(error) => return Some(error),
    }
    None
}

#[test]
fn any_stream_settles_every_request_once_and_accepts_each_tag_once_at_a_time() {
    let recorded = inputs::recorded();
    let (mut packets, mut answered) = (0, 0);
    for seed in 0..INPUTS {
        let input = inputs::mutated(&mut fastrand::Rng::with_seed(seed), &recorded);
        let (understood, settled) = hear(&input, seed);
        packets += understood;
        answered += settled;
    }
    eprintln!("{INPUTS} inputs: {packets} packets, {answered} answers");
    assert!(
        packets > INPUTS && answered > INPUTS / 20,
        "the inputs are too bad"
    );
}
