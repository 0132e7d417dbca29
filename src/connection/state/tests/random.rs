//! Invariants that hold after any sequence of inputs.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails, which is all it should do"
)]

use std::collections::BTreeMap;

use super::*;

const RUNS: usize = 2_000;

/// What has become of a request of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Waiting(Key),
    Answered,
    Failed(Outcome),
}

/// Drives a state as a session does, and keeps its own account.
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
struct Run {
    random: fastrand::Rng,
    end: End<u32>,
    fates: BTreeMap<u32, Fate>,
    /// Taken by the sender and not yet given to the writer.
    batch: Vec<Queued>,
    handed_over: u64,
    written: Vec<Packet>,
    is_cut: bool,
    has_failed: bool,
    /// Writing has failed, and our requests have not been told.
    fails_later: bool,
    has_input_ended: bool,
    serving: Vec<u64>,
    answers_refused: u64,
    dropped: u64,
    late: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            end: End::new(),
            fates: BTreeMap::new(),
            batch: Vec::new(),
            handed_over: 0,
            written: Vec::new(),
            is_cut: false,
            has_failed: false,
            fails_later: false,
            has_input_ended: false,
            serving: Vec::new(),
            answers_refused: 0,
            dropped: 0,
            late: 0,
        }
    }

    fn settle(&mut self, waiter: u32, fate: Fate) {
        let old = self.fates.insert(waiter, fate);
        assert!(
            matches!(old, Some(Fate::Waiting(_))),
            "{waiter}: {old:?}, then {fate:?}"
        );
    }

    fn fail(&mut self, failed: Vec<Failed<u32>>) {
        for (waiter, error) in failed {
            self.settle(waiter, Fate::Failed(error.outcome()));
        }
    }

    /// One of the tags in use, or one that is not.
    fn any_tag(&mut self) -> u64 {
        let next = self.end.state.next_tag(ChannelId::DEFAULT).get();
        self.random.u64(0..next + 2)
    }

    fn ask(&mut self) {
        let bytes = self.random.usize(0..60);
        if self.end.state.may_request().is_ok() && self.end.state.has_room(bytes) {
            let waiter = u32::try_from(self.fates.len()).unwrap();
            let key = self.end.ask_on(ChannelId::DEFAULT, bytes, waiter);
            self.fates.insert(waiter, Fate::Waiting(key));
        }
    }

    fn cancel(&mut self) {
        let key = theirs(self.any_tag());
        let waiting = self.fates.values().any(|fate| *fate == Fate::Waiting(key));
        let cancelled = self.end.state.cancel(key);
        assert_eq!(cancelled.is_some(), waiting);
        if let Some((waiter, outcome)) = cancelled {
            self.settle(waiter, Fate::Failed(outcome));
        }
    }

    fn receive(&mut self) {
        let key = theirs(self.any_tag());
        let bytes = self.random.usize(0..40);
        let packet = match self.random.u8(0..20) {
            0 => Packet::END_OF_REQUESTS,
            1..=9 => response(key, bytes),
            _ => request(key, bytes),
        };
        let is_waited = self.random.bool();
        match self.end.state.receive(&packet, is_waited) {
            Action::Serve => {
                self.serving.push(key.1.get());
            }
            Action::Reject(_) => self.queue_answer(key),
            Action::Settle(waiter) => {
                assert!(
                    self.written
                        .iter()
                        .chain(self.in_batch())
                        .any(|sent| sent.is_request() && (sent.channel(), sent.tag()) == key)
                );
                self.settle(waiter, Fate::Answered);
            }
            Action::Drop if packet.is_request() => self.dropped += 1,
            Action::Drop => self.late += 1,
            Action::RequestsFinished => {}
            Action::Ended(error) => {
                assert!(self.serving.contains(&key.1.get()), "{error:?}");
                self.end_input(error);
            }
        }
    }

    fn in_batch(&self) -> impl Iterator<Item = &Packet> {
        self.batch.iter().map(|queued| &queued.packet)
    }

    fn queue_answer(&mut self, key: Key) {
        self.end.enqueue(response(key, 0));
    }

    fn serve(&mut self) {
        if self.serving.is_empty() {
            return;
        }
        let index = self.random.usize(0..self.serving.len());
        let key = theirs(self.serving.swap_remove(index));
        if self.end.state.served(key) {
            self.queue_answer(key);
        } else {
            self.answers_refused += 1;
        }
    }

    fn take(&mut self) {
        if !self.batch.is_empty() || self.has_failed || self.end.queue.is_empty() {
            return;
        }
        let count = self.random.usize(1..=self.end.queue.len());
        self.batch = self.end.queue.drain(..count).collect();
        self.end.state.take(&mut self.batch);
    }

    fn write(&mut self) {
        let count = self.random.usize(0..=self.batch.len());
        for queued in self.batch.drain(..count) {
            self.handed_over = queued.number;
            if !(self.is_cut && queued.packet.is_request()) {
                self.written.push(queued.packet);
            }
        }
    }

    fn stop_output(&mut self) {
        self.has_failed = true;
        self.batch.clear();
        self.end.queue.clear();
        self.end
            .state
            .stop_output(&broken_pipe(), self.handed_over, 0);
        self.fails_later = true;
    }

    fn fail_output(&mut self) {
        self.fails_later = false;
        self.end.queue.clear();
        let failed = self.end.state.fail_output();
        self.fail(failed);
    }

    fn force(&mut self) {
        self.is_cut = true;
        let (failed, goodbye) = self.end.state.force(Error::Aborted, self.handed_over);
        self.fail(failed);
        if goodbye {
            self.end.enqueue(Packet::END_OF_STREAM);
        }
        if self.end.state.is_output_over() {
            self.has_failed = true;
        }
    }

    fn end_input(&mut self, cause: Error) {
        self.has_input_ended = true;
        let failed = self.end.state.end_input(cause);
        self.fail(failed);
    }

    fn step(&mut self) {
        match self.random.u8(0..100) {
            0..=19 => self.ask(),
            20..=26 => self.cancel(),
            27..=54 if !self.has_input_ended => self.receive(),
            55..=69 => self.serve(),
            70..=79 => self.take(),
            80..=89 => self.write(),
            90 => self.end.state.close(),
            91 => self.end.state.end_stream(),
            92 if self.end.state.finish_requests() => {
                self.end.enqueue(Packet::END_OF_REQUESTS);
            }
            93 if !self.has_input_ended => self.end_input(Error::PeerClosed),
            94 if !self.has_failed && self.random.bool() => self.stop_output(),
            96..=99 if self.fails_later => self.fail_output(),
            95 if self.random.bool() => self.force(),
            _ => {}
        }
        let (requests, stream) = self.end.state.goodbyes();
        if requests {
            self.end.enqueue(Packet::END_OF_REQUESTS);
        }
        if stream {
            self.end.enqueue(Packet::END_OF_STREAM);
        }
    }

    fn check(&self) {
        let waiting = self.fates.values();
        let waiting = waiting.filter(|fate| matches!(fate, Fate::Waiting(_)));
        assert!(self.end.state.outstanding() >= waiting.count());

        let taken = self.written.iter().chain(self.in_batch());
        let sent: Vec<_> = taken
            .chain(self.end.queue.iter().map(|q| &q.packet))
            .collect();
        let at = |packet: &Packet| {
            let places = sent.iter().enumerate();
            let places = places.filter(|(_, sent)| **sent == packet);
            places.map(|(place, _)| place).collect::<Vec<_>>()
        };
        let (requests, stream) = (at(&Packet::END_OF_REQUESTS), at(&Packet::END_OF_STREAM));
        assert!(requests.len() <= 1 && stream.len() <= 1, "{sent:?}");
        if let [place] = stream[..] {
            assert_eq!(place, sent.len() - 1, "after the end: {sent:?}");
            assert!(requests.is_empty() || requests[0] < place, "{sent:?}");
        }
        if let [place] = requests[..] {
            assert!(sent[place..].iter().all(|packet| !packet.is_request()));
        }
        let losses = self.end.state.losses();
        assert_eq!(losses.requests_dropped, self.dropped);
        assert_eq!(losses.late_responses, self.late);
    }

    /// Ends what is left, and balances the account.
    fn finish(mut self) {
        if self.fails_later {
            self.fail_output();
        }
        if self.has_input_ended || self.random.bool() {
            self.force();
        } else {
            self.end_input(Error::EndOfInput(None));
        }
        while !self.serving.is_empty() {
            self.serve();
        }
        self.check();
        assert_eq!(self.end.state.outstanding(), 0);
        assert_eq!(self.end.state.serving(), 0);
        assert_eq!(self.end.state.losses().answers_lost, self.answers_refused);
        for (waiter, fate) in &self.fates {
            assert!(!matches!(fate, Fate::Waiting(_)), "{waiter} was forgotten");
        }
        // The first request has tag 2, and so on: those reported as not sent were not.
        self.write();
        for packet in self.written.iter().filter(|packet| packet.is_request()) {
            let waiter = u32::try_from(packet.tag().get() - 2).unwrap();
            assert_ne!(self.fates[&waiter], Fate::Failed(Outcome::NotSent));
        }
    }
}

#[test]
fn any_sequence_of_inputs_settles_every_request_once_and_ends_each_direction_once() {
    for seed in 0..RUNS {
        let mut run = Run::new(u64::try_from(seed).unwrap());
        for _ in 0..120 {
            run.step();
            run.check();
        }
        run.finish();
    }
}
