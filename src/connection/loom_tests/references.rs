//! The last reference starts the close, once, whoever refers to the session meanwhile.

use std::sync::Arc;

use super::{explore, spawn};
use crate::connection::open_count::OpenCount;
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
            references: OpenCount::one(),
            closing: Mutex::new(Closing::No),
        })
    }

    fn release(&self) -> usize {
        usize::from(self.references.release(&self.closing, |closing| closing))
    }

    /// What `open` does with a session that it finds: uses it if it is not closing.
    fn reopen(&self) -> usize {
        let is_open = |closing: &Closing| *closing == Closing::No;
        if !self.references.try_refer(&self.closing, is_open) {
            return 0;
        }
        assert_eq!(*self.closing.lock(), Closing::No, "closed under a guard");
        self.release()
    }

    /// A request that is made without a guard refers to the session under the lock.
    fn submit(&self) -> usize {
        let closing = self.closing.lock();
        self.references.refer();
        drop(closing);
        self.release()
    }
}

#[test]
fn last_of_three_releases_closes() {
    explore("open count, releases", || {
        let session = Session::new();
        session.references.refer();
        session.references.refer();
        let second = spawn(&session, |session| session.release());
        let third = spawn(&session, |session| session.release());
        let closes = session.release() + second.join().unwrap() + third.join().unwrap();
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
        let closes = session.release() + second.join().unwrap() + third.join().unwrap();
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
        let closes = session.release() + second.join().unwrap() + third.join().unwrap();
        assert_eq!(closes, 1);
        assert_eq!(*session.closing.lock(), Closing::Due);
    });
}
