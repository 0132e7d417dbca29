//! A connection that speaks in typed requests.

use std::fmt;
use std::process::Command;
use std::sync::Arc;

use super::caller::CallOptions;
use super::request::TypedRequest;
use super::service::{Service, ServiceHandler};
use crate::connection::{CloseReport, Connection, ConnectionBuilder, OpenGuard, PendingResponse};
use crate::error::Result;
use crate::transport::{Connector, Transport};

/// A connection that makes and serves typed requests.
///
/// Each clone is one more reference to the open connection, like an [`OpenGuard`]; the last to go
/// closes it. One made [`on_demand`](Self::on_demand) holds nothing open.
///
/// The context is shared with the handlers. If it owns the connection in turn, neither is ever
/// dropped: let it hold a [`Weak`](std::sync::Weak), or use the [`Caller`](super::Caller) that each
/// serving function gets.
///
/// # Examples
///
/// See the [module](super).
#[doc(alias = "HasPacketConnection")]
#[must_use = "dropping the last reference closes the connection at once, and blocks until it has ended"]
pub struct TypedConnection<C> {
    held: Held,
    service: Service<C>,
    context: Arc<C>,
}

#[derive(Clone)]
enum Held {
    Open(OpenGuard),
    OnDemand(Connection),
}

impl<C: Send + Sync + 'static> TypedConnection<C> {
    /// Opens a connection over a transport.
    ///
    /// The builder's settings hold, but for its handler, which the service takes the place of
    /// unless it serves nothing.
    ///
    /// # Errors
    ///
    /// Those of [`ConnectionBuilder::open`].
    pub fn open(
        builder: ConnectionBuilder,
        service: &Service<C>,
        context: impl Into<Arc<C>>,
        transport: Transport,
    ) -> Result<Self> {
        Self::with_builder(builder, service, context.into(), |builder| {
            Ok(Held::Open(builder.open(transport)?))
        })
    }

    /// Starts a program and opens a connection over its standard input and output; otherwise like
    /// [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// Those of [`ConnectionBuilder::spawn`].
    pub fn spawn(
        builder: ConnectionBuilder,
        service: &Service<C>,
        context: impl Into<Arc<C>>,
        command: Command,
    ) -> Result<Self> {
        Self::with_builder(builder, service, context.into(), |builder| {
            Ok(Held::Open(builder.spawn(command)?))
        })
    }

    /// Builds a connection that connects when a request is made, and is closed when the answer has
    /// been taken; [`keep_open`](Self::keep_open) keeps it open for longer.
    ///
    /// See [`ConnectionBuilder::build_on_demand`]; otherwise like [`open`](Self::open).
    ///
    /// # Examples
    ///
    /// ```
    /// use packetstream::typed::{Service, TypedConnection, request};
    /// use packetstream::{BoxError, Connection, Transport};
    ///
    /// request! {
    ///     struct Ask -> String;
    /// }
    ///
    /// # fn main() -> Result<(), BoxError> {
    /// let connector = || {
    ///     let (ours, theirs) = Transport::pair();
    ///     let server = Connection::builder().handler(|_| Ok("answer")).open(theirs);
    ///     std::thread::Builder::new().spawn(move || server.map(|server| server.serve()))?;
    ///     Ok(ours)
    /// };
    /// let service = Service::<()>::builder().call::<Ask>(0).build()?;
    /// let client = TypedConnection::on_demand(Connection::builder(), &service, (), connector);
    /// assert_eq!(client.call(&Ask)?, "answer");
    /// assert_eq!(client.call(&Ask)?, "answer");
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_demand(
        builder: ConnectionBuilder,
        service: &Service<C>,
        context: impl Into<Arc<C>>,
        connector: impl Connector,
    ) -> Self {
        let context = context.into();
        let builder = with_service(builder, service, &context);
        Self {
            held: Held::OnDemand(builder.build_on_demand(connector)),
            service: service.clone(),
            context,
        }
    }

    fn with_builder(
        builder: ConnectionBuilder,
        service: &Service<C>,
        context: Arc<C>,
        open: impl FnOnce(ConnectionBuilder) -> Result<Held>,
    ) -> Result<Self> {
        Ok(Self {
            held: open(with_service(builder, service, &context))?,
            service: service.clone(),
            context,
        })
    }
}

fn with_service<C: Send + Sync + 'static>(
    builder: ConnectionBuilder,
    service: &Service<C>,
    context: &Arc<C>,
) -> ConnectionBuilder {
    if service.serves_nothing() {
        return builder;
    }
    builder.request_handler(ServiceHandler {
        service: service.clone(),
        context: Arc::clone(context),
    })
}

impl<C> TypedConnection<C> {
    /// Makes a request and blocks until its answer is here.
    ///
    /// # Errors
    ///
    /// - [`Error::Rejected`](crate::Error::Rejected) if the peer answered "not ok", with its flags
    ///   and text.
    /// - [`Error::Payload`](crate::Error::Payload) if the answer does not decode.
    /// - [`Error::UnknownRequestType`](crate::Error::UnknownRequestType) if the service does not
    ///   [call](super::ServiceBuilder::call) this type.
    /// - Those of [`Connection::call`].
    #[doc(alias = "conn_do_remote")]
    pub fn call<R: TypedRequest>(&self, request: &R) -> Result<R::Response> {
        self.call_with(request, &CallOptions::new())
    }

    /// Makes a request with options; otherwise like [`call`](Self::call).
    ///
    /// # Errors
    ///
    /// Those of [`call`](Self::call), and [`Error::TimedOut`](crate::Error::TimedOut).
    pub fn call_with<R: TypedRequest>(
        &self,
        request: &R,
        options: &CallOptions,
    ) -> Result<R::Response> {
        let numbers = self.service.called();
        numbers.call(self.connection(), request, options)
    }

    /// Makes a request and returns the future of its answer; blocks while the limits are reached.
    ///
    /// # Errors
    ///
    /// - [`Error::UnknownRequestType`](crate::Error::UnknownRequestType) if the service does not
    ///   [call](super::ServiceBuilder::call) this type.
    /// - Those of [`Connection::submit`].
    #[doc(alias = "conn_submit")]
    pub fn submit<R: TypedRequest>(&self, request: &R) -> Result<PendingResponse<R::Response>> {
        self.submit_with(request, &CallOptions::new())
    }

    /// Makes a request with options; otherwise like [`submit`](Self::submit).
    ///
    /// # Errors
    ///
    /// Those of [`submit`](Self::submit), and [`Error::TimedOut`](crate::Error::TimedOut).
    pub fn submit_with<R: TypedRequest>(
        &self,
        request: &R,
        options: &CallOptions,
    ) -> Result<PendingResponse<R::Response>> {
        let numbers = self.service.called();
        numbers.submit(self.connection(), request, options)
    }

    /// Returns another reference, which keeps the connection open; one on demand is opened if it
    /// is not, which blocks as long as its connector does.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::open`].
    pub fn keep_open(&self) -> Result<Self> {
        Ok(Self {
            held: Held::Open(self.connection().open()?),
            service: self.service.clone(),
            context: Arc::clone(&self.context),
        })
    }

    /// Closes the connection if this is the last reference to it; blocks like
    /// [`OpenGuard::close`].
    ///
    /// One on demand holds no reference: it blocks until the others are gone and the connection is
    /// closed.
    pub fn close(self) -> CloseReport {
        match self.held {
            Held::Open(guard) => guard.close(),
            Held::OnDemand(connection) => connection.wait_closed(),
        }
    }

    /// Serves until the peer has ended its stream, then closes; blocks as long as that takes.
    pub fn serve(self) -> CloseReport {
        match self.held {
            Held::Open(guard) => guard.serve(),
            Held::OnDemand(connection) => connection.wait_closed(),
        }
    }

    /// Returns the context that requests of the peer are served with.
    pub fn context(&self) -> &C {
        &self.context
    }

    /// Returns the connection beneath.
    pub fn connection(&self) -> &Connection {
        match &self.held {
            Held::Open(guard) => guard,
            Held::OnDemand(connection) => connection,
        }
    }
}

impl<C> Clone for TypedConnection<C> {
    fn clone(&self) -> Self {
        Self {
            held: self.held.clone(),
            service: self.service.clone(),
            context: Arc::clone(&self.context),
        }
    }
}

impl<C> fmt::Debug for TypedConnection<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedConnection")
            .field("connection", self.connection())
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}
