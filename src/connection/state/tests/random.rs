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
    Waiting,
    Answered,
    Failed(Outcome),
}

/// Drives a state as a session does, and keeps its own account.
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
struct Run {
    random: fastrand::Rng,
    end: End<u32>,
    fates: BTreeMap<u32, Fate>,
    /// By which each request is cancelled: as its owner has it.
    handles: BTreeMap<u32, (Key, u64)>,
    /// Taken by the sender and not yet given to the writer.
    batch: Vec<Queued>,
    handed_over: u64,
    written: Vec<Queued>,
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
            handles: BTreeMap::new(),
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
            matches!(old, Some(Fate::Waiting)),
            "{waiter}: {old:?}, then {fate:?}"
        );
    }

    fn fail(&mut self, failed: Vec<Failed<u32>>) {
        for (waiter, error) in failed {
            self.settle(waiter, Fate::Failed(error.outcome()));
        }
    }

    fn any_channel(&mut self) -> ChannelId {
        ChannelId::new([0, 0, 5][self.random.usize(0..3)])
    }

    /// One of the tags in use, or one that is not.
    fn any_key(&mut self) -> Key {
        let channel = self.any_channel();
        let next = self.end.state.next_tag(channel).get();
        (channel, Tag::new(self.random.u64(0..next + 2)))
    }

    /// A tag of the peer's.
    fn their_key(&mut self) -> Key {
        theirs(self.random.u64(0..20))
    }

    fn ask(&mut self) {
        let bytes = self.random.usize(0..60);
        if self.end.state.may_request().is_ok() && self.end.state.has_room(bytes) {
            let waiter = u32::try_from(self.fates.len()).unwrap();
            let channel = self.any_channel();
            let key = self.end.ask_on(channel, bytes, waiter);
            self.fates.insert(waiter, Fate::Waiting);
            self.handles
                .insert(waiter, (key, self.end.state.last_queued()));
        }
    }

    fn cancel(&mut self) {
        // Also one that is settled, whose tag may be another's by now.
        let Ok(count) = u32::try_from(self.handles.len()) else {
            return;
        };
        if count == 0 {
            return;
        }
        let waiter = self.random.u32(0..count);
        let (key, number) = self.handles[&waiter];
        let waiting = self.fates[&waiter] == Fate::Waiting;
        let cancelled = self.end.state.cancel(key, number);
        assert_eq!(
            cancelled.map(|(waiter, _)| waiter),
            waiting.then_some(waiter)
        );
        if let Some((_, outcome)) = cancelled {
            self.settle(waiter, Fate::Failed(outcome));
        }
    }

    fn receive(&mut self) {
        let bytes = self.random.usize(0..40);
        let packet = match self.random.u8(0..20) {
            0 => Packet::END_OF_REQUESTS,
            1..=9 => response(self.any_key(), bytes),
            _ => request(self.their_key(), bytes),
        };
        let key = (packet.channel(), packet.tag());
        let is_waited = self.random.bool();
        match self.end.state.receive(&packet, is_waited) {
            Action::Serve => {
                self.serving.push(key.1.get());
            }
            Action::Reject(_) => self.queue_answer(key),
            Action::Settle(waiter) => {
                let (_, number) = self.handles[&waiter];
                let mut sent = self.written.iter().chain(&self.batch);
                let sent = sent.find(|sent| sent.number == number).unwrap();
                assert_eq!((sent.packet.channel(), sent.packet.tag()), key);
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
        let renumbered = std::cell::RefCell::new(Vec::new());
        self.end.state.take(&mut self.batch, |waiter, tag| {
            renumbered.borrow_mut().push((*waiter, tag));
        });
        for (waiter, tag) in renumbered.into_inner() {
            self.handles.get_mut(&waiter).unwrap().0.1 = tag;
        }
    }

    fn write(&mut self) {
        let count = self.random.usize(0..=self.batch.len());
        for queued in self.batch.drain(..count) {
            self.handed_over = queued.number;
            if !(self.is_cut && queued.packet.is_request()) {
                self.written.push(queued);
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
        let waiting = waiting.filter(|fate| matches!(fate, Fate::Waiting));
        assert!(self.end.state.outstanding() >= waiting.count());

        let taken = self.written.iter().chain(&self.batch);
        let sent: Vec<_> = taken
            .chain(&self.end.queue)
            .map(|queued| &queued.packet)
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
            assert!(!matches!(fate, Fate::Waiting), "{waiter} was forgotten");
        }
        // The tags on the wire have no gaps, and those reported as not sent were not.
        self.write();
        let mut next = BTreeMap::from([(0, 2), (5, 0)]);
        for sent in self.written.iter().filter(|sent| sent.packet.is_request()) {
            let next = next.get_mut(&sent.packet.channel().get()).unwrap();
            assert_eq!(sent.packet.tag().get(), *next);
            *next += 1;
            let mut handles = self.handles.iter();
            let owner = handles.find(|(_, handle)| handle.1 == sent.number);
            let (waiter, (key, _)) = owner.unwrap();
            assert_eq!(*key, (sent.packet.channel(), sent.packet.tag()));
            assert_ne!(self.fates[waiter], Fate::Failed(Outcome::NotSent));
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
