//! How a connection comes to be open: once over a given transport, or anew on demand.

use std::sync::Arc;

use super::reference::Reference;
use super::session::Session;
use super::{Connection, Inner, LOG, Source, place};
use crate::error::{Error, Result};
use crate::transport::Transport;

impl Connection {
    /// Counts a reference, opening the connection if it is closed.
    pub(super) fn refer(&self) -> Result<Reference> {
        let mut life = self.inner.life.lock();
        loop {
            if life.is_opening {
                if place::must_not_block() {
                    return Err(Error::WouldDeadlock);
                }
                self.inner.opened.wait(&mut life);
                continue;
            }
            if let Some(session) = life.session.clone() {
                if let Some(reference) = session.try_refer() {
                    return Ok(reference);
                }
                if !self.is_on_demand() || place::belongs_to(&session) {
                    return Err(Error::Closed);
                }
                if place::must_not_block() {
                    return Err(Error::WouldDeadlock);
                }
                drop(life);
                session.wait_closed_quietly();
                life = self.inner.life.lock();
                let is_same = life
                    .session
                    .as_ref()
                    .is_some_and(|current| Arc::ptr_eq(current, &session));
                if !is_same || life.is_opening {
                    drop(life);
                    drop(session);
                    life = self.inner.life.lock();
                    continue;
                }
            }
            if self.is_on_demand() && place::must_not_block() {
                return Err(Error::WouldDeadlock);
            }
            life.is_opening = true;
            let transport = life.transport.take();
            drop(life);
            let opening = Opening { inner: &self.inner };
            return self.start(transport, opening);
        }
    }

    fn start(&self, transport: Option<Transport>, opening: Opening<'_>) -> Result<Reference> {
        let transport = match (&self.inner.source, transport) {
            (Source::OnDemand(connector), _) => connector
                .connect()
                .map_err(|error| Error::Connect(Arc::new(error)))?,
            (Source::Fixed(_), Some(transport)) => transport,
            (Source::Fixed(_), None) => return Err(Error::Closed),
        };
        match Session::start(self, transport) {
            Ok(reference) => {
                drop(opening);
                log::debug!(target: LOG, "{}: open", self.name());
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
        self.inner.life.lock().is_opening = false;
        self.inner.opened.notify_all();
    }
}
