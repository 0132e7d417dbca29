//! The last reference starts the close, once, whoever refers to the session meanwhile.

use std::sync::Arc;

use super::{explore, spawn};
use crate::connection::open_count::{Hold, OpenCount};
use crate::connection::session::Closing;
use crate::sync::Mutex;

struct Session {
    references: OpenCount,
    closing: Mutex<Closing>,
}

impl Session {
    /// With one reference, as it starts.
    fn new() -> Arc<Self> {
        Arc::new(Self {
            references: OpenCount::one(Hold::Guard),
            closing: Mutex::new(Closing::No),
        })
    }

    /// Returns how many closes it makes due.
    fn release(&self, hold: Hold) -> usize {
        usize::from(
            self.references
                .release(hold, || true, &self.closing, |closing| closing),
        )
    }

    /// Closes as a guard; `true` if it has to see to the end of the session.
    fn close(&self) -> bool {
        self.references.close(&self.closing, |closing| closing)
    }

    /// What `open` does with a session that it finds: uses it if it is not closing.
    fn reopen(&self) -> usize {
        let is_open = |closing: &Closing| *closing == Closing::No;
        if !self
            .references
            .try_refer(Hold::Guard, &self.closing, is_open)
        {
            return 0;
        }
        assert_eq!(*self.closing.lock(), Closing::No, "closed under a guard");
        self.release(Hold::Guard)
    }

    /// A request that is made without a guard refers to the session under the lock.
    fn submit(&self) -> usize {
        let closing = self.closing.lock();
        self.references.refer(Hold::Result);
        drop(closing);
        self.release(Hold::Result)
    }
}

#[test]
fn last_of_three_releases_closes() {
    explore("open count, releases", || {
        let session = Session::new();
        session.references.refer(Hold::Guard);
        session.references.refer(Hold::Result);
        let second = spawn(&session, |session| session.release(Hold::Guard));
        let third = spawn(&session, |session| session.release(Hold::Result));
        let closes = session.release(Hold::Guard) + second.join().unwrap() + third.join().unwrap();
        assert_eq!(closes, 1);
        assert_eq!(*session.closing.lock(), Closing::Due);
    });
}

#[test]
fn reopening_either_keeps_the_session_open_or_comes_too_late() {
    explore("open count, two reopen", || {
        let session = Session::new();
        let second = spawn(&session, |session| session.reopen());
        let third = spawn(&session, |session| session.reopen());
        let closes = session.release(Hold::Guard) + second.join().unwrap() + third.join().unwrap();
        assert_eq!(closes, 1);
        assert_eq!(*session.closing.lock(), Closing::Due);
    });
}

#[test]
fn request_that_races_the_last_release_leaves_one_who_closes() {
    explore("open count, submit and reopen", || {
        let session = Session::new();
        let second = spawn(&session, |session| session.submit());
        let third = spawn(&session, |session| session.reopen());
        let closes = session.release(Hold::Guard) + second.join().unwrap() + third.join().unwrap();
        assert_eq!(closes, 1);
        assert_eq!(*session.closing.lock(), Closing::Due);
    });
}

/// An explicit close of the last guard ends the session, results or not, and nobody closes it twice.
#[test]
fn last_guard_to_close_closes_whatever_results_are_held() {
    explore("open count, close of the last guard", || {
        let session = Session::new();
        session.references.refer(Hold::Guard);
        session.references.refer(Hold::Result);
        let second = spawn(&session, |session| session.close());
        let third = spawn(&session, |session| session.release(Hold::Result));
        let first = session.close();
        assert!(
            first ^ second.join().unwrap(),
            "one of the guards is the last"
        );
        // It may begin what the guard then waits for.
        assert!(third.join().unwrap() <= 1);
        assert_eq!(*session.closing.lock(), Closing::Due);
    });
}

/// A guard that is dropped leaves the end to the result, unless another one closes.
#[test]
fn dropped_guard_and_result_leave_one_who_closes() {
    explore("open count, drop and close", || {
        let session = Session::new();
        session.references.refer(Hold::Guard);
        session.references.refer(Hold::Result);
        let second = spawn(&session, |session| usize::from(session.close()));
        let third = spawn(&session, |session| session.release(Hold::Result));
        let closes = session.release(Hold::Guard) + second.join().unwrap() + third.join().unwrap();
        // The guard that closes waits for the end whoever begins it.
        assert!((1..=2).contains(&closes), "{closes}");
        assert_eq!(*session.closing.lock(), Closing::Due);
    });
}
