//! Settled once, and whoever is told, is told once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Instant;

use super::{explore, settle, spawn};
use crate::connection::message::Response;
use crate::connection::one_shot::{Answer, OneShot};
use crate::error::Error;
use crate::outcome::Outcome;
use crate::sync::{Condvar, Mutex, expire};

fn answer() -> Answer {
    Ok(Response::from("yes"))
}

fn cancelled() -> Answer {
    Err(Error::Cancelled(Outcome::Unknown))
}

#[test]
fn waiter_wakes_and_takes_the_one_answer_of_two() {
    explore("one-shot, wait", || {
        let shot = Arc::new(OneShot::new());
        let receiver = spawn(&shot, |shot| settle(shot, answer()));
        let canceller = spawn(&shot, |shot| settle(shot, cancelled()));
        assert!(shot.wait(None));
        assert!(shot.take().is_some());
        receiver.join().unwrap();
        canceller.join().unwrap();
        assert!(shot.take().is_none());
    });
}

#[test]
fn waiter_whose_time_passes_is_told_the_truth_and_can_wait_on() {
    explore("one-shot, timed wait", || {
        let shot = Arc::new(OneShot::new());
        let waiter = spawn(&shot, |shot| {
            if shot.wait(Some(Instant::now())) {
                assert!(shot.is_settled());
            } else {
                assert!(shot.wait(None));
            }
            shot.take()
        });
        let receiver = spawn(&shot, |shot| settle(shot, answer()));
        expire();
        assert!(waiter.join().unwrap().is_some());
        receiver.join().unwrap();
    });
}

/// Stands in for an executor: polls again when it has been woken.
#[derive(Default)]
struct Alarm {
    has_rung: Mutex<bool>,
    rings: Condvar,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        *self.has_rung.lock() = true;
        self.rings.notify_one();
    }
}

impl Alarm {
    fn wait(&self) {
        let mut has_rung = self.has_rung.lock();
        while !*has_rung {
            self.rings.wait(&mut has_rung);
        }
        *has_rung = false;
    }
}

#[test]
fn future_is_woken_for_the_answer_by_the_waker_of_its_last_poll() {
    explore("one-shot, poll", || {
        let shot = Arc::new(OneShot::new());
        let receiver = spawn(&shot, |shot| settle(shot, answer()));
        let canceller = spawn(&shot, |shot| settle(shot, cancelled()));
        let first_task = Waker::from(Arc::new(Alarm::default()));
        if shot.poll(&first_task).is_none() {
            let alarm = Arc::new(Alarm::default());
            let waker = Waker::from(Arc::clone(&alarm));
            while shot.poll(&waker).is_none() {
                alarm.wait();
            }
        }
        receiver.join().unwrap();
        canceller.join().unwrap();
        assert!(shot.take().is_none());
    });
}

#[test]
fn callback_is_called_once_whoever_comes_first() {
    explore("one-shot, callback", || {
        let shot = Arc::new(OneShot::new());
        let calls = Arc::new(AtomicUsize::new(0));
        let receiver = spawn(&shot, |shot| settle(shot, answer()));
        let canceller = spawn(&shot, |shot| settle(shot, cancelled()));
        let its_calls = Arc::clone(&calls);
        let callback = Box::new(move |_: Answer| {
            its_calls.fetch_add(1, Ordering::Relaxed);
        });
        if let Some((callback, answer)) = shot.call_back(callback) {
            callback(answer);
        }
        receiver.join().unwrap();
        canceller.join().unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert!(shot.take().is_none());
    });
}

#[test]
fn notice_is_given_once_and_the_answer_stays() {
    explore("one-shot, notice", || {
        let shot = Arc::new(OneShot::new());
        let notices = Arc::new(AtomicUsize::new(0));
        let receiver = spawn(&shot, |shot| settle(shot, answer()));
        let canceller = spawn(&shot, |shot| settle(shot, cancelled()));
        let (its_notices, its_shot) = (Arc::clone(&notices), Arc::clone(&shot));
        shot.notify(Box::new(move || {
            assert!(its_shot.is_settled());
            its_notices.fetch_add(1, Ordering::Relaxed);
        }));
        receiver.join().unwrap();
        canceller.join().unwrap();
        assert_eq!(notices.load(Ordering::Relaxed), 1);
        assert!(shot.take().is_some());
    });
}
