//! Which request types there are: what is served, and what the peer can be asked.

use std::any::{TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::caller::{self, CallOptions, Caller, Numbers};
use super::request::TypedRequest;
use crate::connection::{Incoming, Request, RequestHandler, Response};
use crate::error::{BoxError, Error, Result};
use crate::rejection::{Refusal, Rejection, rejection_text};
use crate::wire::{Flags, RequestType};

/// A request that can be served, with the context `C`: whatever the serving program is about.
///
/// # Examples
///
/// The five forms that an answer can have, all by `into`:
///
/// ```
/// use packetstream::typed::{Caller, Serve, Service, request};
/// use packetstream::{BoxError, Flags, Rejection, Response};
///
/// request! {
///     struct Form(u8);
/// }
///
/// impl Serve<()> for Form {
///     fn serve(self, _: &(), _: &Caller<'_>) -> Result<Response, BoxError> {
///         Ok(match self.0 {
///             0 => ().into(),
///             1 => Flags::from(7).into(),
///             2 => vec![1, 2, 3].into(),
///             3 => "text".into(),
///             4 => (Flags::from(7), vec![1, 2, 3]).into(),
///             _ => return Err(Rejection::new("there are five").into()),
///         })
///     }
/// }
///
/// # fn main() -> Result<(), BoxError> {
/// let service = Service::builder().serve::<Form>(0).build()?;
/// assert_eq!(service.exercise(&(), &Form(3))?.payload(), b"text");
/// let error = service.exercise(&(), &Form(5)).unwrap_err();
/// assert_eq!(error.rejection().map(Rejection::message).as_deref(), Some("there are five"));
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be served with the context `{C}`",
    note = "implement `Serve<{C}>` for it"
)]
pub trait Serve<C>: TypedRequest {
    /// Serves the request.
    ///
    /// The caller makes typed requests back over the same connection, to any depth.
    ///
    /// # Errors
    ///
    /// As for a [`RequestHandler`]: a [`Rejection`] chooses what the peer gets, any other error is
    /// answered `exception during handler` and logged.
    #[doc(alias = "fulfil")]
    fn serve(self, context: &C, caller: &Caller<'_>) -> Result<Response, BoxError>;
}

/// The request types of a connection: those that this end serves, with the context `C`, and those
/// that it asks the peer.
///
/// A clone is the same service; one serves any number of connections.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use packetstream::payload::{self, VarUint};
/// use packetstream::typed::{Caller, Serve, Service, request};
/// use packetstream::{BoxError, Request, Response};
///
/// request! {
///     /// Adds to the counter and returns the sum.
///     struct Add(VarUint) -> VarUint;
/// }
///
/// impl Serve<AtomicU64> for Add {
///     fn serve(self, counter: &AtomicU64, _: &Caller<'_>) -> Result<Response, BoxError> {
///         let sum = counter.fetch_add(self.0.0, Ordering::Relaxed) + self.0.0;
///         Ok(payload::encode(&VarUint(sum)).into())
///     }
/// }
///
/// # fn main() -> Result<(), BoxError> {
/// let service = Service::<AtomicU64>::builder().serve::<Add>(0).build()?;
///
/// // Exercised without a connection.
/// let counter = AtomicU64::new(40);
/// assert_eq!(service.exercise(&counter, &Add(VarUint(2)))?, VarUint(42));
/// assert!(service.handle(&counter, &Request::new(1)).is_err());
/// # Ok(())
/// # }
/// ```
#[doc(alias = "rq_type_map")]
pub struct Service<C> {
    inner: Arc<Inner<C>>,
}

struct Inner<C> {
    served: HashMap<RequestType, Served<C>>,
    called: Numbers,
}

struct Served<C> {
    type_id: TypeId,
    type_name: &'static str,
    serve: ServeFunction<C>,
}

type ServeFunction<C> = fn(Flags, &[u8], &C, &Caller<'_>) -> Result<Response, BoxError>;

impl<C> Service<C> {
    /// Creates a builder.
    pub fn builder() -> ServiceBuilder<C> {
        ServiceBuilder {
            served: HashMap::new(),
            called: Numbers::default(),
            mistake: None,
        }
    }

    /// Serves one request on this thread, without a connection: for tests of a service.
    ///
    /// What calls back the peer gets [`Error::Closed`].
    ///
    /// # Errors
    ///
    /// - A [`Rejection`] if the type is unknown or the request does not decode.
    /// - The error of the serving function.
    pub fn handle(&self, context: &C, request: &Request) -> Result<Response, BoxError> {
        // Whoever hands its error on is a handler that ran.
        self.serve_detached(context, request)
            .map_err(|error| match error.downcast::<Refusal>() {
                Ok(refusal) => refusal.into_rejection().into(),
                Err(error) => error,
            })
    }

    fn serve_detached(&self, context: &C, request: &Request) -> Result<Response, BoxError> {
        let nobody = caller::nobody();
        let caller = Caller::detached(&nobody, request, &self.inner.called);
        self.dispatch(context, &caller)
    }

    /// Encodes a request, serves it on this thread and decodes the answer, without a connection:
    /// for tests of a service.
    ///
    /// # Errors
    ///
    /// - [`Error::UnknownRequestType`] if it is not served.
    /// - [`Error::Rejected`] as the peer would get it.
    /// - [`Error::Payload`] if the answer does not decode.
    pub fn exercise<R: TypedRequest>(&self, context: &C, request: &R) -> Result<R::Response> {
        let number = self
            .inner
            .served
            .iter()
            .find(|(_, served)| served.type_id == TypeId::of::<R>())
            .map(|(number, _)| *number)
            .ok_or(Error::UnknownRequestType(type_name::<R>()))?;
        let request = caller::encoded(request, number, &CallOptions::new());
        match self.serve_detached(context, &request) {
            Ok(response) => caller::decode::<R>(response),
            Err(error) => {
                let rejection = Rejection::of_handler(error);
                Err(Error::Rejected(
                    rejection.unwrap_or_else(|_| Rejection::new(rejection_text::FAILED)),
                ))
            }
        }
    }

    pub(super) fn serves_nothing(&self) -> bool {
        self.inner.served.is_empty()
    }

    pub(super) fn called(&self) -> &Numbers {
        &self.inner.called
    }

    fn dispatch(&self, context: &C, caller: &Caller<'_>) -> Result<Response, BoxError> {
        let request = caller.request();
        let number = request.request_type();
        let Some(served) = self.inner.served.get(&number) else {
            return Err(Refusal::unknown_request_type(number).into());
        };
        (served.serve)(request.flags(), request.payload(), context, caller)
    }
}

fn serve<C, R: Serve<C>>(
    flags: Flags,
    payload: &[u8],
    context: &C,
    caller: &Caller<'_>,
) -> Result<Response, BoxError> {
    match R::decode(flags, payload) {
        Ok(request) => request.serve(context, caller),
        Err(error) => Err(Refusal::undecodable(&*error).into()),
    }
}

/// Serves a connection with a service.
pub(super) struct ServiceHandler<C> {
    pub(super) service: Service<C>,
    pub(super) context: Arc<C>,
}

impl<C: Send + Sync + 'static> RequestHandler for ServiceHandler<C> {
    fn handle(&self, incoming: Incoming) -> Result<Response, BoxError> {
        let caller = Caller::attached(&incoming, &self.service.inner.called);
        self.service.dispatch(&self.context, &caller)
    }
}

impl<C> Clone for Service<C> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<C> fmt::Debug for Service<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("served", &Names(&self.inner.served))
            .field("called", &self.inner.called)
            .finish()
    }
}

struct Names<'a, C>(&'a HashMap<RequestType, Served<C>>);

impl<C> fmt::Debug for Names<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter();
        f.debug_map()
            .entries(names.map(|(number, served)| (number.get(), served.type_name)))
            .finish()
    }
}

/// Registers the request types of a [`Service`].
///
/// The two directions are separate: the same number may mean one thing when this end serves it and
/// another when the peer does.
///
/// # Examples
///
/// ```
/// use packetstream::typed::{Service, ServiceError, request};
///
/// request! {
///     struct Start;
///     struct Stop;
/// }
///
/// let mistaken = Service::<()>::builder().call::<Start>(3).call::<Stop>(3).build();
/// assert!(matches!(mistaken, Err(ServiceError::NumberTwice { .. })));
/// let mistaken = Service::<()>::builder().call::<Start>(3).call::<Start>(4).build();
/// assert!(matches!(mistaken, Err(ServiceError::TypeTwice { .. })));
/// ```
#[must_use = "nothing happens before it is built"]
pub struct ServiceBuilder<C> {
    served: HashMap<RequestType, Served<C>>,
    called: Numbers,
    mistake: Option<ServiceError>,
}

impl<C> ServiceBuilder<C> {
    /// Registers requests that this end serves, under the application's number.
    pub fn serve<R: Serve<C>>(mut self, number: impl Into<RequestType>) -> Self {
        let number = number.into();
        let (type_id, type_name) = (TypeId::of::<R>(), type_name::<R>());
        let same = self
            .served
            .iter()
            .find(|(_, served)| served.type_id == type_id);
        if let Some((first, _)) = same {
            let mistake = ServiceError::type_twice(type_name, *first, number);
            self.mistake.get_or_insert(mistake);
        } else if let Some(first) = self.served.get(&number) {
            let mistake = ServiceError::number_twice(number, first.type_name, type_name);
            self.mistake.get_or_insert(mistake);
        } else {
            let serve = serve::<C, R>;
            let served = Served {
                type_id,
                type_name,
                serve,
            };
            self.served.insert(number, served);
        }
        self
    }

    /// Registers requests that this end makes, under the number that they have at the peer.
    pub fn call<R: TypedRequest>(mut self, number: impl Into<RequestType>) -> Self {
        if let Err(mistake) = self.called.insert::<R>(number.into()) {
            self.mistake.get_or_insert(mistake);
        }
        self
    }

    /// Registers requests that both ends serve, under the same number.
    pub fn serve_and_call<R: Serve<C>>(self, number: impl Into<RequestType>) -> Self {
        let number = number.into();
        self.serve::<R>(number).call::<R>(number)
    }

    /// Builds the service.
    ///
    /// # Errors
    ///
    /// The first mistake that was made: a type registered twice, or a number used twice, in one
    /// direction.
    pub fn build(self) -> Result<Service<C>, ServiceError> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        let inner = Inner {
            served: self.served,
            called: self.called,
        };
        Ok(Service {
            inner: Arc::new(inner),
        })
    }
}

impl<C> fmt::Debug for ServiceBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceBuilder")
            .field("served", &Names(&self.served))
            .field("called", &self.called)
            .field("mistake", &self.mistake)
            .finish()
    }
}

/// A mistake in the registration of request types.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// Two types have the same number.
    #[error("request type {number} is registered twice, as {first} and as {second}")]
    NumberTwice {
        /// The application's number.
        number: RequestType,
        /// The name of the type that had it first.
        first: &'static str,
        /// The name of the type that it was given to next.
        second: &'static str,
    },

    /// A type has two numbers.
    #[error("{type_name} is registered twice, as request type {first} and as {second}")]
    TypeTwice {
        /// The name of the type.
        type_name: &'static str,
        /// The number that it had first.
        first: RequestType,
        /// The number that it was given next; maybe the same.
        second: RequestType,
    },
}

impl ServiceError {
    pub(super) fn number_twice(
        number: RequestType,
        first: &'static str,
        second: &'static str,
    ) -> Self {
        Self::NumberTwice {
            number,
            first,
            second,
        }
    }

    pub(super) fn type_twice(
        type_name: &'static str,
        first: RequestType,
        second: RequestType,
    ) -> Self {
        Self::TypeTwice {
            type_name,
            first,
            second,
        }
    }
}
