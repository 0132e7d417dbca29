//! Many pending responses, collected as they complete.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::message::Response;
use super::pending::PendingResponse;
use super::place;
use crate::error::{Error, Result};
use crate::outcome::Outcome;

/// A set of pending responses, of one connection or of several, collected in the order in which
/// they complete.
///
/// Its iterator blocks until the next one completes and ends when the set is empty. Each item
/// carries the number under which it was inserted, counting from 0. More may be inserted at any
/// time.
///
/// # Drop
///
/// Dropping the set drops what it holds: the answers are forgotten, not the requests.
///
/// # Examples
///
/// ```
/// use packetstream::{Connection, PendingSet, Request, Transport};
///
/// # fn main() -> packetstream::Result<()> {
/// let (ours, theirs) = Transport::pair();
/// let _server = Connection::builder()
///     .handler(|incoming| Ok(incoming.into_payload()))
///     .open(theirs)?;
/// let client = Connection::builder().open(ours)?;
///
/// let mut set = PendingSet::new();
/// for word in ["zero", "one", "two"] {
///     set.insert(client.submit(Request::new(0).with_payload(word))?);
/// }
/// let mut seen = 0;
/// for (number, result) in &mut set {
///     assert_eq!(result?.payload(), ["zero", "one", "two"][number].as_bytes());
///     seen += 1;
/// }
/// assert_eq!(seen, 3);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "ResultSet")]
#[must_use = "dropping it forgets the answers, and whether there were any"]
pub struct PendingSet<T = Response> {
    /// In the order of insertion, so that the first is the one that has been waited for longest.
    members: BTreeMap<usize, PendingResponse<T>>,
    /// Members that nobody has begun to wait for.
    fresh: Vec<usize>,
    /// When the time given to a member is over.
    deadlines: BTreeSet<(Instant, usize)>,
    next_number: usize,
    completed: Arc<Completed>,
}

#[derive(Default)]
struct Completed {
    numbers: Mutex<VecDeque<usize>>,
    more: Condvar,
}

impl Completed {
    fn push(&self, number: usize) {
        self.numbers.lock().push_back(number);
        self.more.notify_one();
    }

    fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut numbers = self.numbers.lock();
        while numbers.is_empty() {
            match deadline {
                None => self.more.wait(&mut numbers),
                Some(deadline) => {
                    if self.more.wait_until(&mut numbers, deadline).timed_out() {
                        return !numbers.is_empty();
                    }
                }
            }
        }
        true
    }
}

impl<T> PendingSet<T> {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self {
            members: BTreeMap::new(),
            fresh: Vec::new(),
            deadlines: BTreeSet::new(),
            next_number: 0,
            completed: Arc::default(),
        }
    }

    /// Adds a pending response; returns its number, counting from 0.
    pub fn insert(&mut self, mut pending: PendingResponse<T>) -> usize {
        let number = self.next_number;
        self.next_number += 1;
        let completed = Arc::clone(&self.completed);
        pending.notify(move || completed.push(number));
        if let Some(deadline) = pending.deadline() {
            self.deadlines.insert((deadline, number));
        }
        self.members.insert(number, pending);
        self.fresh.push(number);
        number
    }

    /// Returns how many have not been collected.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns `true` if all have been collected.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Blocks until the next one completes, at most for the given time.
    ///
    /// Returns `None` if none did, or if the set is empty; [`is_empty`](Self::is_empty) tells
    /// which.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<(usize, Result<T>)> {
        self.next_until(Instant::now().checked_add(timeout))
    }

    /// Blocks until all have completed; returns their results in the order of insertion.
    ///
    /// Those that have been collected before are not among them.
    #[doc(alias = "report")]
    pub fn wait_all(mut self) -> Vec<Result<T>> {
        let mut results: Vec<_> = self.by_ref().collect();
        results.sort_by_key(|(number, _)| *number);
        results.into_iter().map(|(_, result)| result).collect()
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Option<(usize, Result<T>)> {
        if self.members.is_empty() {
            return None;
        }
        // A set may be made on one thread and waited for on another, so all are looked at.
        while let Some(number) = self.fresh.pop() {
            if let Some(Err(error)) = self.members.get(&number).map(PendingResponse::flush) {
                self.remove(number);
                return Some((number, Err(error)));
            }
        }
        loop {
            let ready = self.completed.numbers.lock().pop_front();
            if let Some(number) = ready {
                if let Some(pending) = self.remove(number) {
                    return Some((number, pending.wait()));
                }
                continue;
            }
            if place::must_not_block()
                && let Some(number) = self.members.keys().next().copied()
                && let Some(pending) = self.remove(number)
            {
                return Some((number, Err(pending.would_deadlock())));
            }
            if let Some((&number, pending)) = self.members.iter().next()
                && pending.is_elsewhere()
            {
                self.remove(number);
                return Some((number, Err(Error::OtherProcess(Outcome::Unknown))));
            }
            let first = self.deadlines.first().map(|(deadline, _)| *deadline);
            let until = match (deadline, first) {
                (Some(deadline), Some(first)) => Some(deadline.min(first)),
                (deadline, first) => deadline.or(first),
            };
            let oldest = self.members.first_key_value();
            let waited = oldest.map(|(_, pending)| pending.waited());
            if place::wait_lending(until, waited, |until| self.completed.wait(until)) {
                continue;
            }
            if until != first {
                return None;
            }
            if let Some((_, number)) = self.deadlines.pop_first()
                && let Some(pending) = self.members.remove(&number)
            {
                // Its time is over, so this does not block.
                return Some((number, pending.wait()));
            }
        }
    }

    fn remove(&mut self, number: usize) -> Option<PendingResponse<T>> {
        let pending = self.members.remove(&number)?;
        if let Some(deadline) = pending.deadline() {
            self.deadlines.remove(&(deadline, number));
        }
        Some(pending)
    }
}

impl<T> Iterator for PendingSet<T> {
    type Item = (usize, Result<T>);

    /// Blocks until the next one completes.
    fn next(&mut self) -> Option<Self::Item> {
        self.next_until(None)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl<T> ExactSizeIterator for PendingSet<T> {}

impl<T> Default for PendingSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Extend<PendingResponse<T>> for PendingSet<T> {
    fn extend<I: IntoIterator<Item = PendingResponse<T>>>(&mut self, pending: I) {
        for pending in pending {
            self.insert(pending);
        }
    }
}

impl<T> FromIterator<PendingResponse<T>> for PendingSet<T> {
    fn from_iter<I: IntoIterator<Item = PendingResponse<T>>>(pending: I) -> Self {
        let mut set = Self::new();
        set.extend(pending);
        set
    }
}

impl<T> fmt::Debug for PendingSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingSet")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
