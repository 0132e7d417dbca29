//! Making typed requests: the numbers of their types, the options, and calls back to the peer.

use std::any::{TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::request::TypedRequest;
use super::service::ServiceError;
use crate::connection::{Connection, Incoming, PendingResponse, Request, Response};
use crate::error::{Error, Result};
use crate::transport::Transport;
use crate::wire::{ChannelId, RequestType};

/// What else can be said of a typed request that is made.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use packetstream::typed::CallOptions;
///
/// let options = CallOptions::new()
///     .with_label("nightly")
///     .with_timeout(Duration::from_secs(5));
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    channel: ChannelId,
    label: Option<String>,
    timeout: Option<Duration>,
}

impl CallOptions {
    /// Creates options that change nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the channel. The default is channel 0, because a Python peer refuses every other one.
    #[must_use]
    pub fn with_channel(mut self, channel: impl Into<ChannelId>) -> Self {
        self.channel = channel.into();
        self
    }

    /// Sets a label that names the request in this end's log lines. The default is none.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Sets how long the request may take, see [`Request::with_timeout`]. The default is the
    /// connection's.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// Makes typed requests back to the peer whose request is being served.
///
/// # Examples
///
/// ```
/// use packetstream::payload::{self, Text};
/// use packetstream::typed::{Caller, Serve, Service, TypedConnection, request};
/// use packetstream::{BoxError, Connection, Response, Transport};
///
/// request! {
///     struct Name -> String;
///     struct Greet -> String;
/// }
///
/// impl Serve<()> for Greet {
///     fn serve(self, _: &(), caller: &Caller<'_>) -> Result<Response, BoxError> {
///         Ok(format!("hello {}", caller.call(&Name)?).into())
///     }
/// }
///
/// impl Serve<String> for Name {
///     fn serve(self, name: &String, _: &Caller<'_>) -> Result<Response, BoxError> {
///         Ok(name.as_str().into())
///     }
/// }
///
/// # fn main() -> Result<(), BoxError> {
/// let (ours, theirs) = Transport::pair();
/// let greeter = Service::builder().serve::<Greet>(0).call::<Name>(0).build()?;
/// let _server = TypedConnection::open(Connection::builder(), &greeter, (), theirs)?;
/// let named = Service::builder().serve::<Name>(0).call::<Greet>(0).build()?;
/// let client = TypedConnection::open(Connection::builder(), &named, "you".to_owned(), ours)?;
/// assert_eq!(client.call(&Greet)?, "hello you");
/// # Ok(())
/// # }
/// ```
pub struct Caller<'a> {
    connection: &'a Connection,
    request: &'a Request,
    /// Absent when a service is exercised without a connection.
    incoming: Option<&'a Incoming>,
    numbers: &'a Numbers,
}

impl<'a> Caller<'a> {
    pub(super) fn attached(incoming: &'a Incoming, numbers: &'a Numbers) -> Self {
        Self {
            connection: incoming.connection(),
            request: incoming,
            incoming: Some(incoming),
            numbers,
        }
    }

    pub(super) fn detached(
        nobody: &'a Connection,
        request: &'a Request,
        numbers: &'a Numbers,
    ) -> Self {
        Self {
            connection: nobody,
            request,
            incoming: None,
            numbers,
        }
    }

    /// Makes a typed request and blocks until its answer is here; meanwhile this handler's place
    /// is lent to others.
    ///
    /// # Errors
    ///
    /// Those of [`TypedConnection::call`](super::TypedConnection::call).
    pub fn call<R: TypedRequest>(&self, request: &R) -> Result<R::Response> {
        self.call_with(request, &CallOptions::new())
    }

    /// Makes a typed request with options; otherwise like [`call`](Self::call).
    ///
    /// # Errors
    ///
    /// Those of [`TypedConnection::call`](super::TypedConnection::call).
    pub fn call_with<R: TypedRequest>(
        &self,
        request: &R,
        options: &CallOptions,
    ) -> Result<R::Response> {
        self.numbers.call(self.connection, request, options)
    }

    /// Makes a typed request and returns the future of its answer.
    ///
    /// # Errors
    ///
    /// Those of [`TypedConnection::submit`](super::TypedConnection::submit).
    pub fn submit<R: TypedRequest>(&self, request: &R) -> Result<PendingResponse<R::Response>> {
        self.submit_with(request, &CallOptions::new())
    }

    /// Makes a typed request with options; otherwise like [`submit`](Self::submit).
    ///
    /// # Errors
    ///
    /// Those of [`TypedConnection::submit`](super::TypedConnection::submit).
    pub fn submit_with<R: TypedRequest>(
        &self,
        request: &R,
        options: &CallOptions,
    ) -> Result<PendingResponse<R::Response>> {
        self.numbers.submit(self.connection, request, options)
    }

    /// Returns the request that is being served, as it came.
    pub fn request(&self) -> &Request {
        self.request
    }

    /// Returns the connection that it came over.
    pub fn connection(&self) -> &Connection {
        self.connection
    }

    /// Returns `true` if the answer can no longer be sent, see [`Incoming::peer_gone`].
    pub fn peer_gone(&self) -> bool {
        self.incoming.is_some_and(Incoming::peer_gone)
    }

    /// Runs code that blocks, and lends the handler's place to other requests meanwhile, see
    /// [`Incoming::lend`].
    pub fn lend<T>(&self, code: impl FnOnce() -> T) -> T {
        match self.incoming {
            Some(incoming) => incoming.lend(code),
            None => code(),
        }
    }
}

impl fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("connection", &self.connection)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// A connection that is never open, for a service that is exercised without one.
pub(super) fn nobody() -> Connection {
    Connection::builder().build(Transport::new(io::empty(), io::sink()))
}

/// The numbers of the types that the peer can be asked.
#[derive(Default)]
pub(super) struct Numbers {
    by_type: HashMap<TypeId, (RequestType, &'static str)>,
}

impl Numbers {
    pub(super) fn insert<R: TypedRequest>(
        &mut self,
        number: RequestType,
    ) -> Result<(), ServiceError> {
        let name = type_name::<R>();
        if let Some((first, _)) = self.by_type.get(&TypeId::of::<R>()) {
            return Err(ServiceError::type_twice(name, *first, number));
        }
        if let Some((_, first)) = self.by_type.values().find(|(taken, _)| *taken == number) {
            return Err(ServiceError::number_twice(number, first, name));
        }
        self.by_type.insert(TypeId::of::<R>(), (number, name));
        Ok(())
    }

    pub(super) fn submit<R: TypedRequest>(
        &self,
        connection: &Connection,
        request: &R,
        options: &CallOptions,
    ) -> Result<PendingResponse<R::Response>> {
        let pending = connection.submit(self.encode(request, options)?)?;
        Ok(pending.and_then(|response| {
            let flags = response.flags();
            R::decode_response(flags, response.into_payload())
        }))
    }

    pub(super) fn call<R: TypedRequest>(
        &self,
        connection: &Connection,
        request: &R,
        options: &CallOptions,
    ) -> Result<R::Response> {
        decode::<R>(connection.call(self.encode(request, options)?)?)
    }

    fn encode<R: TypedRequest>(&self, request: &R, options: &CallOptions) -> Result<Request> {
        match self.by_type.get(&TypeId::of::<R>()) {
            Some((number, _)) => Ok(encoded(request, *number, options)),
            None => Err(Error::UnknownRequestType(type_name::<R>())),
        }
    }
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = self.by_type.values();
        f.debug_map()
            .entries(numbers.map(|(number, name)| (number.get(), name)))
            .finish()
    }
}

pub(super) fn encoded<R: TypedRequest>(
    request: &R,
    number: RequestType,
    options: &CallOptions,
) -> Request {
    let mut payload = Vec::new();
    request.encode_payload(&mut payload);
    let mut encoded = Request::new(number)
        .with_flags(request.flags())
        .with_payload(payload)
        .with_channel(options.channel);
    if let Some(label) = &options.label {
        encoded = encoded.with_label(label.as_str());
    }
    if let Some(timeout) = options.timeout {
        encoded = encoded.with_timeout(timeout);
    }
    encoded
}

pub(super) fn decode<R: TypedRequest>(response: Response) -> Result<R::Response> {
    let flags = response.flags();
    R::decode_response(flags, response.into_payload())
        .map_err(|error| Error::Payload(Arc::from(error)))
}
