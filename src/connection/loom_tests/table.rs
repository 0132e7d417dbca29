//! What is registered is settled, once and truly, however the connection ends meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{explore, settle, spawn};
use crate::connection::message::Response;
use crate::connection::one_shot::OneShot;
use crate::connection::open_count::{Hold, OpenCount};
use crate::connection::session::Closing;
use crate::connection::state::{Action, Failed, Key, Limits, Queued, State};
use crate::error::{Error, Result};
use crate::outcome::Outcome;
use crate::sync::Mutex;
use crate::wire::{ChannelId, Flags, Packet, RequestType};

const LIMITS: Limits = Limits {
    outstanding_requests: 4,
    outstanding_bytes: 100,
    send_queue_len: 8,
    inbound_requests: 2,
    inbound_bytes: 50,
    unowed_response: 1000,
};

/// What threads share of a session.
struct Session {
    shared: Mutex<Shared>,
    references: OpenCount,
    writer: Mutex<Writer>,
}

struct Shared {
    state: State<Arc<OneShot>>,
    queue: VecDeque<Queued>,
    closing: Closing,
}

/// What has been handed to the transport.
#[derive(Default)]
struct Writer {
    last_number: u64,
    requests: Vec<Key>,
    is_cut: bool,
}

type Submitted = (Key, Arc<OneShot>);

impl Session {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            shared: Mutex::new(Shared {
                state: State::new(LIMITS, false),
                queue: VecDeque::new(),
                closing: Closing::No,
            }),
            references: OpenCount::one(Hold::Guard),
            writer: Mutex::default(),
        })
    }

    fn submit(&self) -> Result<Submitted> {
        let one_shot = Arc::new(OneShot::new());
        let mut shared = self.shared.lock();
        shared.state.may_request()?;
        let channel = ChannelId::DEFAULT;
        let tag = shared.state.next_tag(channel);
        let packet = Packet::request(channel, tag, RequestType::from(0), Flags::NONE, []);
        let key = (channel, tag);
        one_shot.set_tag(tag);
        let number = shared.state.register(key, 0, Arc::clone(&one_shot));
        shared.queue.push_back(Queued { number, packet });
        self.references.refer(Hold::Guard);
        drop(shared);
        Ok((key, one_shot))
    }

    /// Submits and waits; `None` if the request was refused.
    fn call(&self) -> Option<(Key, Result<Response>)> {
        match self.submit() {
            Ok((key, one_shot)) => {
                assert!(one_shot.wait(None));
                Some((key, one_shot.take().unwrap()))
            }
            Err(error) => {
                assert_eq!(error.outcome(), Outcome::NotSent);
                None
            }
        }
    }

    /// Takes all that is queued out and hands it to the transport, in the sender's two steps.
    fn write(&self) {
        let mut batch: Vec<_> = self.shared.lock().queue.drain(..).collect();
        let mut shared = self.shared.lock();
        let state = &mut shared.state;
        state.take(&mut batch, |one_shot, tag| one_shot.set_tag(tag));
        drop(shared);
        let mut writer = self.writer.lock();
        for queued in batch {
            writer.last_number = queued.number;
            if queued.packet.is_request() && !writer.is_cut {
                let key = (queued.packet.channel(), queued.packet.tag());
                writer.requests.push(key);
            }
        }
    }

    /// The peer answers what has been written.
    fn answer(&self) {
        let requests = self.writer.lock().requests.clone();
        for (channel, tag) in requests {
            let packet = Packet::response(channel, tag, true, Flags::NONE, []).unwrap();
            let action = self.shared.lock().state.receive(&packet, false);
            if let Action::Settle(one_shot) = action {
                settle(&one_shot, Ok(Response::from(())));
            }
        }
    }

    /// Cancels the request that was queued with that number.
    fn cancel(&self, one_shot: &OneShot, number: u64) -> bool {
        let mut shared = self.shared.lock();
        let key = (ChannelId::DEFAULT, one_shot.tag());
        let cancelled = shared.state.cancel(key, number);
        drop(shared);
        let Some((one_shot, outcome)) = cancelled else {
            return false;
        };
        settle(&one_shot, Err(Error::Cancelled(outcome)));
        true
    }

    fn end_input(&self) {
        let failed = self.shared.lock().state.end_input(Error::PeerClosed);
        fail_all(failed);
    }

    fn fail_output(&self) {
        let last_number = self.writer.lock().last_number;
        let mut shared = self.shared.lock();
        shared.state.stop_output(&Error::Aborted, last_number, 0);
        drop(shared);
        // The end of the input may come in between.
        let failed = self.shared.lock().state.fail_output();
        fail_all(failed);
    }

    fn force(&self) {
        let mut shared = self.shared.lock();
        let last_number = {
            let mut writer = self.writer.lock();
            writer.is_cut = true;
            writer.last_number
        };
        let (failed, _) = shared.state.force(Error::Aborted, last_number);
        drop(shared);
        fail_all(failed);
    }

    /// Lets a reference go; starts the close if that was the last, and returns its goodbyes.
    fn release_and_close(&self) -> Option<(bool, bool)> {
        let is_last = self.references.release(
            Hold::Guard,
            || true,
            &self.shared,
            |shared| &mut shared.closing,
        );
        is_last.then(|| {
            let mut shared = self.shared.lock();
            shared.state.close();
            shared.state.goodbyes()
        })
    }

    /// Asserts that what a request failed with says whether it was written.
    fn check(&self, key: Key, result: &Result<Response>) {
        let was_written = self.writer.lock().requests.contains(&key);
        match result {
            Ok(_) => assert!(was_written),
            Err(error) if error.outcome() == Outcome::NotSent => assert!(!was_written),
            Err(error) => assert_eq!(error.outcome(), Outcome::Unknown),
        }
    }

    fn check_all(&self, calls: impl IntoIterator<Item = Option<(Key, Result<Response>)>>) {
        for (key, result) in calls.into_iter().flatten() {
            self.check(key, &result);
        }
        assert_eq!(self.shared.lock().state.outstanding(), 0);
    }
}

fn fail_all(failed: Vec<Failed<Arc<OneShot>>>) {
    for (one_shot, error) in failed {
        settle(&one_shot, Err(error));
    }
}

#[test]
fn no_waiter_outlives_the_closed_mark() {
    explore("table, two calls and the end of input", || {
        let session = Session::new();
        let first = spawn(&session, |session| session.call());
        let second = spawn(&session, |session| session.call());
        session.end_input();
        session.check_all([first.join().unwrap(), second.join().unwrap()]);
    });
}

#[test]
fn failing_writer_and_ending_input_settle_a_call_once_and_truly() {
    explore("table, a call, a write error, the end of input", || {
        let session = Session::new();
        let call = spawn(&session, |session| session.call());
        let sender = spawn(&session, |session| {
            session.write();
            session.fail_output();
        });
        session.end_input();
        sender.join().unwrap();
        session.check_all([call.join().unwrap()]);
    });
}

#[test]
fn forced_end_tells_whether_the_request_was_written() {
    explore("table, a call, the sender, a forced end", || {
        let session = Session::new();
        let call = spawn(&session, |session| session.call());
        let sender = spawn(&session, |session| session.write());
        session.force();
        sender.join().unwrap();
        session.check_all([call.join().unwrap()]);
    });
}

#[test]
fn cancellation_and_answer_settle_a_request_once() {
    explore("table, an answer, a cancellation, a waiter", || {
        let session = Session::new();
        let (key, one_shot) = session.submit().unwrap();
        let peer = spawn(&session, |session| {
            session.write();
            session.answer();
        });
        let cancelled = Arc::clone(&one_shot);
        let canceller = spawn(&session, move |session| session.cancel(&cancelled, 1));
        assert!(one_shot.wait(None));
        let result = one_shot.take().unwrap();
        peer.join().unwrap();
        let was_cancelled = canceller.join().unwrap();
        assert_eq!(was_cancelled, result.is_err());
        session.check(key, &result);
        let was_written = session.writer.lock().requests.contains(&key);
        let shared = session.shared.lock();
        assert_eq!(shared.state.outstanding(), 0);
        let late = shared.state.losses().late_responses;
        assert_eq!(late, u64::from(was_cancelled && was_written));
    });
}

#[test]
fn cancellation_and_end_of_input_settle_a_request_once() {
    explore("table, the end of input, a cancellation, a sender", || {
        let session = Session::new();
        let (key, one_shot) = session.submit().unwrap();
        let sender = spawn(&session, |session| session.write());
        let cancelled = Arc::clone(&one_shot);
        let canceller = spawn(&session, move |session| session.cancel(&cancelled, 1));
        session.end_input();
        assert!(one_shot.wait(None));
        let result = one_shot.take().unwrap();
        sender.join().unwrap();
        let was_cancelled = canceller.join().unwrap();
        assert_eq!(
            was_cancelled,
            matches!(&result, Err(Error::Cancelled(_))),
            "{result:?}"
        );
        session.check_all([Some((key, result))]);
    });
}

/// The tag of what is withdrawn goes to what is behind it, in the table, for who cancels and on the
/// wire.
#[test]
fn withdrawn_request_uses_up_no_tag_and_its_canceller_leaves_the_next_one_alone() {
    explore("table, two requests, a sender, two cancellations", || {
        let session = Session::new();
        let (_, first) = session.submit().unwrap();
        let (_, second) = session.submit().unwrap();
        let sender = spawn(&session, |session| session.write());
        let withdrawn = Arc::clone(&first);
        let canceller = spawn(&session, move |session| {
            assert!(session.cancel(&withdrawn, 1));
            assert!(!session.cancel(&withdrawn, 1), "of somebody else");
        });
        sender.join().unwrap();
        canceller.join().unwrap();
        let first = first.take().unwrap();
        let was_sent = first.unwrap_err().outcome() == Outcome::Unknown;
        let requests = session.writer.lock().requests.clone();
        let tags: Vec<_> = requests.iter().map(|key| key.1.get()).collect();
        let expected: &[u64] = if was_sent { &[2, 3] } else { &[2] };
        assert_eq!(tags, expected);
        assert_eq!(Some(&second.tag().get()), expected.last());
        let next = session.shared.lock().state.next_tag(ChannelId::DEFAULT);
        assert_eq!(Some(next.get() - 1), expected.last().copied());
        if was_sent {
            assert!(session.cancel(&second, 2));
            return;
        }
        session.answer();
        assert!(second.take().unwrap().is_ok(), "answered under its tag");
        assert_eq!(session.shared.lock().state.outstanding(), 0);
    });
}

/// The closer either sees the request and waits for its answer, or the request is refused.
#[test]
fn close_of_the_last_reference_sees_the_request_or_refuses_it() {
    explore("table, a request, its answer, the last release", || {
        let session = Session::new();
        let call = spawn(&session, |session| {
            let Ok((_, one_shot)) = session.submit() else {
                return None;
            };
            session.write();
            session.answer();
            assert!(one_shot.wait(None));
            let result = one_shot.take().unwrap();
            assert!(result.is_ok(), "the close did not wait: {result:?}");
            session.release_and_close()
        });
        let closes = [session.release_and_close(), call.join().unwrap()];
        let now = session.shared.lock().state.goodbyes();
        let goodbyes: Vec<_> = closes.into_iter().flatten().collect();
        assert_eq!(goodbyes.len(), 1, "one of them closes");
        let ends = goodbyes.iter().chain([&now]).filter(|(_, stream)| *stream);
        assert_eq!(ends.count(), 1, "one goodbye, after the answer");
    });
}
