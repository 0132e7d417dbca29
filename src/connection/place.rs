//! Which thread of which connection is running: what must not wait, and what lends its slot.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::pool::{Loan, Opening};
use super::session::Session;

/// How long a handler waits before its slot serves all requests that are older than its wait.
///
/// Long enough that a queue of requests that each call back does not become a crowd of threads,
/// short enough that a chain of such waits is broken without anybody noticing.
const ALL_AFTER: Duration = Duration::from_millis(100);

/// The same for the newest of them, times the square of the number of handlers that wait: about
/// what a call takes that nothing holds up. As each handler that waits may start another one, there
/// come to be so many that this is as long as they wait: few while the peer answers quickly.
const NEWEST_AFTER: Duration = Duration::from_micros(100);

/// What a thread of a connection does there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Receiver,
    Sender,
    Worker,
    Callbacks,
    Timer,
    Closer,
}

thread_local! {
    static PLACE: RefCell<Option<(Weak<Session>, Role)>> = const { RefCell::new(None) };
    /// This is a receiver that runs an inline handler.
    static IS_INLINE: Cell<bool> = const { Cell::new(false) };
    /// This thread runs the handler of a request that it has read.
    static IS_IN_PLACE: Cell<bool> = const { Cell::new(false) };
    /// This thread is in a wait that lends its slot: a wait inside of it lends nothing more.
    static IS_LENT: Cell<bool> = const { Cell::new(false) };
    /// The loan of a wait that has run out, and may go on: the slot stays lent until then.
    static KEPT: RefCell<Option<Loaned>> = const { RefCell::new(None) };
}

/// Marks the current thread as one of the session's, for the rest of its life.
pub(super) fn enter(session: &Arc<Session>, role: Role) {
    PLACE.with(|place| *place.borrow_mut() = Some((Arc::downgrade(session), role)));
}

/// Marks the current thread as one that closes the session, until what comes back is dropped: the
/// user's code that runs meanwhile must not wait for the end of the close.
pub(super) fn closing(session: &Arc<Session>) -> impl Drop + use<> {
    struct Restore(Option<(Weak<Session>, Role)>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let before = self.0.take();
            let _ = PLACE.try_with(|place| *place.borrow_mut() = before);
        }
    }
    let place = Some((Arc::downgrade(session), Role::Closer));
    let before = PLACE.try_with(|current| current.replace(place));
    Restore(before.ok().flatten())
}

/// Gives this thread of a connection another role there.
pub(super) fn take_role(role: Role) {
    PLACE.with(|place| {
        if let Some((_, current)) = &mut *place.borrow_mut() {
            *current = role;
        }
    });
}

/// Runs a handler on the thread that has read the request. It is a worker's place: nobody has to
/// come back before the reading goes on.
pub(super) fn in_place<T>(handler: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            IS_IN_PLACE.set(false);
            take_role(Role::Receiver);
        }
    }
    take_role(Role::Worker);
    IS_IN_PLACE.set(true);
    let _reset = Reset;
    handler()
}

/// Whether this is a thread of any connection: it must not wait for one to end.
pub(super) fn is_ours() -> bool {
    look(|_| true).unwrap_or(false)
}

/// Whether this thread runs a handler, of any connection.
pub(super) fn is_worker() -> bool {
    look(|(_, role)| *role == Role::Worker).unwrap_or(false)
}

/// Whether this thread runs a handler for that very session.
pub(super) fn serves(session: &Session) -> bool {
    look(|(of, role)| is(of, session) && (*role == Role::Worker || must_not_block()))
        .unwrap_or(false)
}

/// Whether this thread is the one that has to end waits for that session's answers.
pub(super) fn must_not_wait_for(session: &Session) -> bool {
    must_not_block()
        || look(|(of, role)| is(of, session) && matches!(role, Role::Receiver | Role::Sender))
            .unwrap_or(false)
}

/// Whether this thread must not block at all: a receiver that runs an inline handler.
pub(super) fn must_not_block() -> bool {
    IS_INLINE.get()
}

/// Runs a handler on the receiver.
pub(super) fn inline<T>(handler: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            IS_INLINE.set(false);
        }
    }
    IS_INLINE.set(true);
    let _reset = Reset;
    handler()
}

/// Whether this thread is one that the end of that session waits for.
pub(super) fn belongs_to(session: &Session) -> bool {
    look(|(of, _)| is(of, session)).unwrap_or(false)
}

/// The session of the connection that this thread belongs to.
pub(super) fn session_of(connection: &Arc<super::Inner>) -> Option<Arc<Session>> {
    let session = look(|(of, _)| of.upgrade())??;
    std::ptr::eq(session.connection.as_ptr(), Arc::as_ptr(connection)).then_some(session)
}

fn worker_session() -> Option<Arc<Session>> {
    if IS_LENT.get() {
        return None;
    }
    look(|(of, role)| (*role == Role::Worker).then(|| of.upgrade()))??
}

/// Looks at where this thread is, if it is anywhere. A guard may be dropped by the destructor of
/// somebody's thread-local value, when ours is gone.
fn look<T>(at: impl FnOnce(&(Weak<Session>, Role)) -> T) -> Option<T> {
    PLACE
        .try_with(|place| place.borrow().as_ref().map(at))
        .ok()?
}

fn is(of: &Weak<Session>, session: &Session) -> bool {
    std::ptr::eq(of.as_ptr(), session)
}

/// Since when handlers have waited for one thing, in however many pieces: the age of their wait.
///
/// Dropping it ends the wait, if it has run out and been kept. Most are never set, and take little
/// room then.
#[derive(Default)]
pub(super) struct Waited(Cell<Option<Box<Instant>>>);

impl Waited {
    /// What it was waited for has come, or is given up.
    pub(super) fn end(&self) {
        if self.0.take().is_some() {
            end_wait();
        }
    }

    /// Takes note that a handler looks whether it has come, and that it has not: a wait of no time.
    pub(super) fn poll(&self) {
        if worker_session().is_some() {
            wait_lending(Some(Instant::now()), Some(self), |_| false);
        }
    }

    /// The same for a handler that may sleep from now on until a waker wakes it: the timer goes on
    /// with the wait.
    pub(super) fn leave_to_timer(&self) {
        self.poll();
        let began = self.0.take();
        if let Some(began) = began {
            let age = *began;
            self.0.set(Some(began));
            if let Some(mut loaned) = take_kept() {
                loaned.leave_to_timer(age);
                keep(loaned);
            }
        }
    }
}

impl Drop for Waited {
    fn drop(&mut self) {
        if self.0.take().is_none() {
            return;
        }
        // In a fork nobody gives a lock back that another thread had.
        let loaned = ManuallyDrop::new(take_kept());
        let is_left = |loaned: &Loaned| loaned.session.home.is_left();
        if !loaned.as_ref().is_some_and(is_left) {
            drop(ManuallyDrop::into_inner(loaned));
        }
    }
}

/// Takes back the slot of a wait that has run out: nothing is waited for any more. To be called at
/// the end of each handler.
pub(super) fn end_wait() {
    // The loan is dropped outside.
    drop(take_kept());
}

fn take_kept() -> Option<Loaned> {
    KEPT.try_with(|kept| kept.borrow_mut().take()).ok()?
}

fn keep(loaned: Loaned) {
    // If the place for it is gone already, at the end of the thread, the slot is taken back.
    let _ = KEPT.try_with(|kept| *kept.borrow_mut() = Some(loaned));
}

/// Waits with `wait`, which is given a deadline and says whether what it waits for has come.
///
/// On a handler's thread the handler's slot is lent meanwhile, whatever connection it waits on. If
/// the wait runs out, it stays lent until the handler goes on waiting, or gives up: a handler that
/// waits in pieces waits all the time. How long it has waited for the same thing, `waited`, decides
/// which requests the slot is lent to.
pub(super) fn wait_lending(
    deadline: Option<Instant>,
    waited: Option<&Waited>,
    mut wait: impl FnMut(Option<Instant>) -> bool,
) -> bool {
    let Some(session) = worker_session() else {
        return wait(deadline);
    };
    let mut loaned = take_kept().unwrap_or_else(|| Loaned::new(session));
    let within = Within::enter();
    let now = Instant::now();
    let began = match waited {
        None => now,
        Some(waited) => {
            let began = waited.0.take().unwrap_or_else(|| Box::new(now));
            let age = *began;
            waited.0.set(Some(began));
            age
        }
    };
    let mut has_run_out = false;
    for (after, opening) in loaned.openings() {
        if opening <= loaned.opening {
            continue;
        }
        let opens = began.checked_add(after);
        if opens.is_none_or(|opens| opens > now) {
            let until = match (deadline, opens) {
                (Some(deadline), Some(opens)) => Some(deadline.min(opens)),
                (deadline, opens) => deadline.or(opens),
            };
            if wait(until) {
                return true;
            }
            has_run_out = deadline.is_some() && until == deadline;
            if has_run_out {
                break;
            }
        }
        loaned.open(opening);
    }
    if !has_run_out && wait(deadline) {
        return true;
    }
    drop(within);
    keep(loaned);
    false
}

/// Runs code that blocks; if this is the thread of a handler, its slot is lent meanwhile, to any
/// request at once: nobody but the code knows how long it will take.
pub(super) fn lending<T>(code: impl FnOnce() -> T) -> T {
    let Some(session) = worker_session() else {
        return code();
    };
    let mut loaned = take_kept().unwrap_or_else(|| Loaned::new(session));
    loaned.open(Opening::All);
    let _within = Within::enter();
    code()
}

/// The time of a wait.
struct Within;

impl Within {
    fn enter() -> Self {
        IS_LENT.set(true);
        Self
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        IS_LENT.set(false);
    }
}

/// A lent slot, taken back when dropped.
struct Loaned {
    session: Arc<Session>,
    loan: Loan,
    opening: Opening,
    /// How many slots are lent, with this one.
    lent: u32,
    /// When the timer opens it.
    times: Option<[(Instant, Opening); 2]>,
}

impl Loaned {
    fn new(session: Arc<Session>) -> Self {
        let (loan, lent) = session.lend_slot();
        // Once is enough: whoever reads then does so for good.
        if IS_IN_PLACE.replace(false) {
            session.want_reading();
        }
        Self {
            session,
            loan,
            opening: Opening::None,
            lent: u32::try_from(lent).unwrap_or(u32::MAX),
            times: None,
        }
    }

    /// After what time of waiting it is opened, and how far.
    fn openings(&self) -> [(Duration, Opening); 2] {
        let square = self.lent.saturating_mul(self.lent);
        let newest_after = NEWEST_AFTER.saturating_mul(square).min(ALL_AFTER);
        [(newest_after, Opening::Newest), (ALL_AFTER, Opening::All)]
    }

    /// Has the timer open it, for a handler that has waited since `began`.
    fn leave_to_timer(&mut self, began: Instant) {
        if self.times.is_some() || self.opening == Opening::All {
            return;
        }
        let times = self
            .openings()
            .map(|(after, opening)| (began + after, opening));
        if self.session.open_loan_at(self.loan, times) {
            self.times = Some(times);
        } else {
            // Nobody could open it later: rather too many threads than a handler that never ends.
            self.open(Opening::All);
        }
    }

    fn open(&mut self, opening: Opening) {
        if opening > self.opening {
            self.opening = opening;
            self.session.open_loan(self.loan, opening);
        }
    }
}

impl Drop for Loaned {
    fn drop(&mut self) {
        if let Some(times) = self.times {
            self.session.timer.remove_loan(self.loan, times);
        }
        self.session.take_slot_back(self.loan);
    }
}
