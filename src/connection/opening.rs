//! How a connection comes to be open: once over a given transport, or anew on demand.

use std::process;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use log::Level;

use super::logging::log;
use super::open_count::Hold;
use super::reference::Reference;
use super::session::Session;
use super::{Connection, Inner, Source, place};
use crate::error::{Error, Result};
use crate::outcome::Outcome;
use crate::transport::Transport;

impl Connection {
    /// Counts a reference for a request that must be answered by the deadline.
    pub(super) fn refer_for_request(&self, deadline: Option<Instant>) -> Result<Reference> {
        let reference = self.refer(Hold::Result, deadline)?;
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            // To connect took all the time, and what is queued may be sent before anybody looks.
            return Err(Error::TimedOut(Outcome::NotSent));
        }
        Ok(reference)
    }

    /// Counts a reference, opening the connection if it is closed. Waits for others that open or
    /// close it, until the deadline; the connector takes as long as it likes.
    pub(super) fn refer(&self, hold: Hold, deadline: Option<Instant>) -> Result<Reference> {
        let mut life = self.inner.life.lock();
        loop {
            if let Some(connecting) = life.opening {
                if place::must_not_block() || connecting == thread::current().id() {
                    return Err(Error::WouldDeadlock(Outcome::NotSent));
                }
                drop(life);
                self.wait_for_attempt(deadline)?;
                life = self.inner.life.lock();
                continue;
            }
            if let Some(session) = life.session.clone() {
                if let Some(reference) = session.try_refer(hold) {
                    return Ok(reference);
                }
                // Its close waits for this thread, or for an answer that this one may have to give.
                let is_awaited = place::belongs_to(&session) || self.is_for_a_request_of(&session);
                if !self.is_on_demand() || is_awaited {
                    return Err(Error::Closed);
                }
                if place::must_not_block() {
                    return Err(Error::WouldDeadlock(Outcome::NotSent));
                }
                drop(life);
                if !session.wait_closed_quietly(deadline) {
                    return Err(Error::TimedOut(Outcome::NotSent));
                }
                life = self.inner.life.lock();
                let is_same = life
                    .session
                    .as_ref()
                    .is_some_and(|current| Arc::ptr_eq(current, &session));
                if !is_same || life.opening.is_some() {
                    drop(life);
                    drop(session);
                    life = self.inner.life.lock();
                    continue;
                }
            }
            if self.is_on_demand() && place::must_not_block() {
                return Err(Error::WouldDeadlock(Outcome::NotSent));
            }
            life.opening = Some(thread::current().id());
            let transport = life.transport.take();
            drop(life);
            let opening = Opening { inner: &self.inner };
            return self.start(transport, opening, hold);
        }
    }

    /// Whether this is the connection of an `Incoming` of that session, where requests are
    /// unanswered.
    fn is_for_a_request_of(&self, session: &Arc<Session>) -> bool {
        let served_by = self.served_by.as_ref();
        served_by.is_some_and(|served_by| ptr::eq(served_by.as_ptr(), Arc::as_ptr(session)))
            && session.is_serving()
    }

    /// Blocks until nobody connects any more, which is another thread's work: on a handler's thread
    /// its slot is lent, since that thread may wait for what is asked over this very link.
    fn wait_for_attempt(&self, deadline: Option<Instant>) -> Result<()> {
        let has_ended = place::wait_lending(deadline, None, |until| {
            let mut life = self.inner.life.lock();
            while life.opening.is_some() {
                match until {
                    None => self.inner.opened.wait(&mut life),
                    Some(until) => {
                        if self.inner.opened.wait_until(&mut life, until).timed_out() {
                            return life.opening.is_none();
                        }
                    }
                }
            }
            true
        });
        if has_ended {
            return Ok(());
        }
        // Nobody goes on waiting for it.
        place::end_wait();
        Err(Error::TimedOut(Outcome::NotSent))
    }

    fn start(
        &self,
        transport: Option<Transport>,
        opening: Opening<'_>,
        hold: Hold,
    ) -> Result<Reference> {
        let transport = match (&self.inner.source, transport) {
            (Source::OnDemand(connector), _) => connector
                .connect()
                .map_err(|error| Error::Connect(Arc::new(error)))?,
            (Source::Fixed(_), Some(transport)) => transport,
            (Source::Fixed(_), None) => return Err(Error::Closed),
        };
        match Session::start(self, transport, hold) {
            Ok(reference) => {
                drop(opening);
                log(Level::Debug, format_args!("{}: open", self.name()));
                Ok(reference)
            }
            Err((error, transport)) => {
                if !self.is_on_demand() {
                    self.inner.life.lock().transport = transport.map(|transport| *transport);
                }
                drop(opening);
                Err(error)
            }
        }
    }

    /// Makes a session the present one; returns the last one.
    pub(super) fn publish(&self, session: &Arc<Session>) -> Option<Arc<Session>> {
        let mut life = self.inner.life.lock();
        self.inner.opener.store(process::id(), Ordering::Relaxed);
        if let Source::Fixed(first) = &self.inner.source {
            // Without the lock for each request. There is no second one.
            let _ = first.set(Arc::clone(session));
        }
        life.session.replace(Arc::clone(session))
    }
}

/// An attempt to connect. When it ends, by a panic of the connector too, others may try.
struct Opening<'a> {
    inner: &'a Inner,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.inner.life.lock().opening = None;
        self.inner.opened.notify_all();
    }
}
