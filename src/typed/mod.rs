//! Typed requests over a connection: `store.call(&Get { key })?` in the place of numbers, flags
//! and octets.
//!
//! # Example
//!
//! A store of texts, served and called:
//!
//! ```
//! use std::collections::HashMap;
//! use std::sync::Mutex;
//! use packetstream::payload::Text;
//! use packetstream::typed::{Caller, Serve, Service, TypedConnection, request};
//! use packetstream::{BoxError, Connection, Rejection, Response, Transport};
//!
//! type Store = Mutex<HashMap<String, String>>;
//!
//! request! {
//!     /// Stores a text under a key.
//!     struct Put { key: Text, value: Text } -> ();
//!     /// Asks for the text under a key.
//!     struct Get { key: Text } -> String;
//! }
//!
//! impl Serve<Store> for Put {
//!     fn serve(self, store: &Store, _: &Caller<'_>) -> Result<Response, BoxError> {
//!         store.lock().unwrap().insert(self.key.0, self.value.0);
//!         Ok(().into())
//!     }
//! }
//!
//! impl Serve<Store> for Get {
//!     fn serve(self, store: &Store, _: &Caller<'_>) -> Result<Response, BoxError> {
//!         let store = store.lock().unwrap();
//!         Ok(store.get(&self.key.0).ok_or(Rejection::new("no such key"))?.as_str().into())
//!     }
//! }
//!
//! # fn main() -> Result<(), BoxError> {
//! let service = Service::builder().serve_and_call::<Put>(0).serve_and_call::<Get>(1).build()?;
//! let (ours, theirs) = Transport::pair();
//! let server = TypedConnection::open(Connection::builder(), &service, Store::default(), theirs)?;
//! let client = TypedConnection::open(Connection::builder(), &service, Store::default(), ours)?;
//!
//! client.call(&Put { key: "one".into(), value: "eins".into() })?;
//! assert_eq!(client.call(&Get { key: "one".into() })?, "eins");
//! let error = client.call(&Get { key: "two".into() }).unwrap_err();
//! assert_eq!(error.to_string(), "the peer rejected the request: no such key");
//! # drop(server);
//! # Ok(())
//! # }
//! ```
//!
//! # The parts
//!
//! - A [`TypedRequest`] knows how it and its answer look on the wire; [`request!`] declares one in
//!   a line.
//! - [`Serve`] answers it, with a context of the program's own. A [`Caller`] asks back.
//! - A [`Service`] gives the types their numbers; each end has its own.
//! - A [`TypedConnection`] is a [`Connection`](crate::Connection) with a service and a context.
//!
//! # Errors
//!
//! | what happened | the caller gets |
//! |---|---|
//! | the serving function returned a [`Rejection`](crate::Rejection) | [`Error::Rejected`](crate::Error::Rejected) with its flags and text |
//! | its text would say that it did not run (a backend's `no request handler`) | `Rejected` with `handler: ` in front |
//! | it failed otherwise, or panicked | `Rejected` with `exception during handler` |
//! | the number is unknown there | `Rejected` with `unknown request type 5`; [not run](crate::Outcome::NotRun) |
//! | the request does not decode there | `Rejected` with `undecodable request: …`; [not run](crate::Outcome::NotRun) |
//! | the answer does not decode here | [`Error::Payload`](crate::Error::Payload) |
//! | the type has no number here | [`Error::UnknownRequestType`](crate::Error::UnknownRequestType); not sent |

mod caller;
mod connection;
mod macros;
mod request;
mod service;

pub use self::caller::{CallOptions, Caller};
pub use self::connection::TypedConnection;
pub use self::request::{FromResponse, PayloadRequest, TypedRequest, UnexpectedFlags};
pub use self::service::{Serve, Service, ServiceBuilder, ServiceError};
#[doc(inline)]
pub use crate::request;
