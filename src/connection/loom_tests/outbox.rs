//! The sender that rests: whatever is queued meanwhile is sent, and what somebody waits for is
//! flushed though its grace never ends.

use std::sync::Arc;
use std::time::Instant;

use loom::thread::JoinHandle;

use super::{explore, explore_within, spawn};
use crate::connection::rest::{LONGEST_RUN, Rest, Run};
use crate::connection::state::Queued;
use crate::sync::{Condvar, Mutex, expire};
use crate::wire::Packet;

/// What threads share of a session.
pub(super) struct Session {
    shared: Mutex<Shared>,
    pub(super) rest: Rest,
    role: Mutex<WriteSide>,
    /// The number of the last packet that has reached the transport.
    sent: Mutex<u64>,
    progress: Condvar,
    /// Whether what nobody waits for stays in the buffer.
    has_grace: bool,
    /// So many packets are flushed though more are queued.
    most_unflushed: usize,
    pub(super) writer_fails: bool,
}

#[derive(Default)]
struct Shared {
    run: Run,
    last_queued: u64,
}

impl AsMut<Run> for Shared {
    fn as_mut(&mut self) -> &mut Run {
        &mut self.run
    }
}

#[derive(Default)]
struct WriteSide {
    last_taken: u64,
    unflushed: usize,
    is_waiting: bool,
    is_over: bool,
}

impl WriteSide {
    fn pump(&mut self, session: &Session, at_most: Option<usize>) {
        if self.is_over {
            return;
        }
        self.is_over = session.rest.is_abandoned();
        if self.is_over {
            return;
        }
        let mut left = at_most.unwrap_or(usize::MAX);
        while left > 0
            && self.unflushed < session.most_unflushed
            && let Some(run) = session.rest.pop()
        {
            session.rest.note_popped(run.len(), 0);
            left = left.saturating_sub(run.len());
            self.unflushed += run.len();
            self.last_taken = run.last().unwrap().number;
        }
        if session.writer_fails {
            self.is_over = true;
            session.rest.note_over();
            return;
        }
        if self.unflushed > 0 {
            let is_due = at_most.is_some()
                || !session.has_grace
                || self.unflushed >= session.most_unflushed
                || session.rest.is_wanted();
            if !is_due {
                self.is_waiting = true;
                return;
            }
            *session.sent.lock() = self.last_taken;
            session.progress.notify_all();
        }
        self.unflushed = 0;
        self.is_waiting = false;
        session.rest.note_flushed(self.last_taken);
    }
}

impl Session {
    /// One whose sender sends all it finds.
    pub(super) fn new() -> Self {
        Self {
            shared: Mutex::default(),
            rest: Rest::with_wakes(32),
            role: Mutex::default(),
            sent: Mutex::default(),
            progress: Condvar::new(),
            has_grace: false,
            most_unflushed: 512,
            writer_fails: false,
        }
    }

    /// One whose sender never sends what nobody waits for, with a packet in the buffer.
    pub(super) fn with_endless_grace(wakes: usize) -> Self {
        let mut session = Self::new();
        session.rest = Rest::with_wakes(wakes);
        session.has_grace = true;
        session.queue();
        session.rest.push_run(&mut session.shared.lock().run);
        session.role.lock().pump(&session, None);
        assert!(session.role.lock().is_waiting);
        session
    }

    /// The sender.
    pub(super) fn send(&self) {
        self.rest.enter_sender();
        self.go_on_sending();
    }

    /// The sender, which is about to rest for its grace.
    fn rest_and_send(&self) {
        self.rest.enter_sender();
        self.rest.park(&self.shared, Some(Instant::now()), || None);
        self.go_on_sending();
    }

    fn go_on_sending(&self) {
        loop {
            self.rest.push_run(&mut self.shared.lock().run);
            let mut role = self.role.lock();
            role.pump(self, None);
            let (is_over, is_waiting) = (role.is_over, role.is_waiting);
            drop(role);
            if is_over {
                return;
            }
            self.rest
                .park(&self.shared, is_waiting.then(Instant::now), || None);
        }
    }

    pub(super) fn queue(&self) -> u64 {
        self.queue_in(&mut self.shared.lock())
    }

    fn queue_in(&self, shared: &mut Shared) -> u64 {
        shared.last_queued += 1;
        let number = shared.last_queued;
        let packet = Packet::END_OF_REQUESTS;
        self.rest.push(&mut shared.run, Queued { number, packet });
        number
    }

    /// Queues a packet that nobody waits for yet.
    pub(super) fn submit(&self) -> u64 {
        let mut shared = self.shared.lock();
        let number = self.queue_in(&mut shared);
        let rings = self.rest.leave_run(&mut shared.run);
        drop(shared);
        if rings {
            self.rest.ring();
        }
        number
    }

    /// Queues a packet and begins to wait for the answer.
    fn call(&self) -> u64 {
        let mut shared = self.shared.lock();
        let number = self.queue_in(&mut shared);
        self.rest.push_run(&mut shared.run);
        drop(shared);
        self.flush_here(number);
        number
    }

    /// Begins to wait for a packet, on a thread that must not write.
    pub(super) fn flush(&self, number: u64) {
        self.rest.flush(&self.shared, number, || false);
    }

    /// Begins to wait for a packet, on a thread that may write.
    fn flush_here(&self, number: u64) {
        self.rest.flush(&self.shared, number, || {
            let Some(mut role) = self.role.try_lock() else {
                return false;
            };
            role.pump(self, Some(self.rest.waiting().0));
            true
        });
    }

    pub(super) fn wait_until_sent(&self, number: u64) {
        let mut sent = self.sent.lock();
        while *sent < number {
            self.progress.wait(&mut sent);
        }
    }

    /// Ends the sender.
    pub(super) fn end(&self) {
        self.rest.abandon();
    }
}

/// Waits until all up to that number is sent, and for all threads.
pub(super) fn finish<const N: usize>(
    session: &Session,
    number: u64,
    sender: JoinHandle<()>,
    others: [JoinHandle<()>; N],
) {
    session.wait_until_sent(number);
    for other in others {
        other.join().unwrap();
    }
    session.end();
    sender.join().unwrap();
}

#[test]
fn packet_that_is_left_to_a_resting_sender_is_sent() {
    explore("outbox, a packet is left", || {
        let session = Arc::new(Session::new());
        let sender = spawn(&session, |session| session.send());
        let number = session.submit();
        finish(&session, number, sender, []);
    });
}

#[test]
fn packets_that_two_threads_leave_are_sent() {
    explore_within("outbox, two packets are left", 3, || {
        let session = Arc::new(Session::new());
        let sender = spawn(&session, |session| session.send());
        let other = spawn(&session, |session| _ = session.submit());
        session.submit();
        session.wait_until_sent(2);
        session.end();
        other.join().unwrap();
        sender.join().unwrap();
    });
}

/// Who waits for it finds it in the buffer, or behind what is there.
#[test]
fn packet_that_is_wanted_is_flushed_though_the_grace_never_ends() {
    explore_within("outbox, the one in the buffer is wanted", 3, || {
        let session = Arc::new(Session::with_endless_grace(32));
        let sender = spawn(&session, |session| session.send());
        let submitter = spawn(&session, |session| _ = session.submit());
        session.flush(1);
        finish(&session, 1, sender, [submitter]);
    });
    explore_within("outbox, the one that was left is wanted", 3, || {
        let session = Arc::new(Session::with_endless_grace(32));
        let sender = spawn(&session, |session| session.send());
        let other = spawn(&session, |session| session.rest.want(1));
        let number = session.submit();
        session.flush(number);
        finish(&session, number, sender, [other]);
    });
}

#[test]
fn grace_is_cut_short_for_many_packets() {
    explore_within("outbox, many for the grace", 3, || {
        let session = Arc::new(Session {
            most_unflushed: 3,
            ..Session::with_endless_grace(2)
        });
        let sender = spawn(&session, |session| session.rest_and_send());
        let other = spawn(&session, |session| _ = session.submit());
        session.submit();
        finish(&session, 3, sender, [other]);
    });
}

/// The run is full just now, and one of its first packets is waited for by a thread that writes.
#[test]
fn packet_is_flushed_that_lies_in_a_run_which_is_being_put_into_the_queue() {
    explore_within("outbox, a full run", 3, || {
        let session = Arc::new(Session::with_endless_grace(512));
        for _ in 1..LONGEST_RUN {
            session.queue();
        }
        let sender = spawn(&session, |session| session.rest_and_send());
        let submitter = spawn(&session, |session| _ = session.submit());
        session.flush_here(2);
        finish(&session, 2, sender, [submitter]);
    });
}

#[test]
fn end_of_a_gathering_leaves_nothing_behind() {
    explore_within("outbox, a gathering and a packet", 3, || {
        let session = Arc::new(Session::new());
        let sender = spawn(&session, |session| session.send());
        let submitter = spawn(&session, |session| _ = session.submit());
        drop(session.rest.gather(&session.shared));
        finish(&session, 1, sender, [submitter]);
    });
    explore_within("outbox, a gathering and a flush", 2, || {
        let session = Arc::new(Session::with_endless_grace(32));
        let sender = spawn(&session, |session| session.send());
        let submitter = spawn(&session, |session| _ = session.submit());
        let waiter = spawn(&session, |session| session.flush(1));
        drop(session.rest.gather(&session.shared));
        finish(&session, 1, sender, [submitter, waiter]);
    });
    explore_within("outbox, a gathering and a call", 3, || {
        let session = Arc::new(Session::with_endless_grace(32));
        let sender = spawn(&session, |session| session.send());
        let caller = spawn(&session, |session| _ = session.call());
        drop(session.rest.gather(&session.shared));
        finish(&session, 2, sender, [caller]);
    });
}

#[test]
fn two_gatherings_leave_nothing_behind() {
    explore_within("outbox, two gatherings and a packet", 2, || {
        let session = Arc::new(Session::new());
        let sender = spawn(&session, |session| session.send());
        let other = spawn(&session, |session| {
            drop(session.rest.gather(&session.shared));
        });
        let submitter = spawn(&session, |session| _ = session.submit());
        drop(session.rest.gather(&session.shared));
        finish(&session, 1, sender, [other, submitter]);
    });
    explore_within("outbox, two gatherings and a flush", 2, || {
        let session = Arc::new(Session::with_endless_grace(32));
        let sender = spawn(&session, |session| session.send());
        let other = spawn(&session, |session| {
            drop(session.rest.gather(&session.shared));
        });
        let waiter = spawn(&session, |session| session.flush(1));
        drop(session.rest.gather(&session.shared));
        finish(&session, 1, sender, [other, waiter]);
    });
}

/// It writes one packet, and the next may be one that it leaves.
#[test]
fn caller_that_writes_leaves_nothing_behind() {
    explore_within("outbox, a caller that writes", 3, || {
        let session = Arc::new(Session {
            most_unflushed: 1,
            ..Session::new()
        });
        let sender = spawn(&session, |session| session.send());
        let submitter = spawn(&session, |session| _ = session.submit());
        session.call();
        finish(&session, 2, sender, [submitter]);
    });
    explore_within("outbox, two callers that write", 3, || {
        let session = Arc::new(Session::with_endless_grace(32));
        let sender = spawn(&session, |session| session.send());
        let other = spawn(&session, |session| _ = session.call());
        session.call();
        finish(&session, 3, sender, [other]);
    });
}

/// It stops behind what is in the buffer, before its own packet.
#[test]
fn sender_goes_on_where_a_caller_stops_writing() {
    explore_within("outbox, a caller that writes a part", 3, || {
        let session = Arc::new(Session {
            most_unflushed: 1,
            ..Session::with_endless_grace(512)
        });
        let sender = spawn(&session, |session| session.rest_and_send());
        let number = session.call();
        finish(&session, number, sender, []);
    });
}

#[test]
fn sender_ends_when_a_caller_cannot_write() {
    explore("outbox, a write that fails", || {
        let session = Arc::new(Session {
            writer_fails: true,
            ..Session::new()
        });
        let sender = spawn(&session, |session| {
            session.rest.enter_sender();
            session.rest.park(&session.shared, None, || None);
            session.go_on_sending();
        });
        session.call();
        sender.join().unwrap();
    });
}

/// The memory that is kept for a while is looked at when that is over.
#[test]
fn sender_does_not_rest_past_what_it_is_to_look_at() {
    explore("outbox, something to look at", || {
        let session = Arc::new(Session::new());
        let kept = Arc::new(Mutex::new(false));
        expire();
        let sender = {
            let kept = Arc::clone(&kept);
            spawn(&session, move |session| {
                session.rest.enter_sender();
                while !*kept.lock() {
                    session
                        .rest
                        .park(&session.shared, None, || kept.lock().then(Instant::now));
                }
            })
        };
        *kept.lock() = true;
        session.rest.ring();
        sender.join().unwrap();
    });
}
