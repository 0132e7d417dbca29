//! What a typed request is, and how its answer is read.

use crate::connection::Response;
use crate::error::BoxError;
use crate::payload::{self, DecodeOwned, Encode};
use crate::wire::Flags;

/// A request as a type of its own: how it is written into flags and a payload and read back, and
/// what its answer is.
///
/// Most requests are a payload and nothing else: [`request!`](crate::request) declares them, or
/// implement [`PayloadRequest`], which brings this trait along. Implement this one when the flags
/// mean something, or the answer is read in a way of its own.
///
/// # Examples
///
/// A request that says in a flag whether a field is there:
///
/// ```
/// use packetstream::payload::{self, Input, Text, VarUint};
/// use packetstream::typed::{TypedRequest, UnexpectedFlags};
/// use packetstream::{BoxError, Flags};
///
/// #[derive(Debug, PartialEq)]
/// struct List {
///     after: Option<String>,
/// }
///
/// impl List {
///     const HAS_AFTER: u64 = 1;
/// }
///
/// impl TypedRequest for List {
///     type Response = u64;
///
///     fn flags(&self) -> Flags {
///         Flags::from(u32::from(self.after.is_some()))
///     }
///
///     fn encode_payload(&self, out: &mut Vec<u8>) {
///         payload::Encode::encode(&self.after.as_ref().map(Text), out);
///     }
///
///     fn decode(flags: Flags, payload: &[u8]) -> Result<Self, BoxError> {
///         let mut input = Input::new(payload);
///         let after: Option<Text> = match flags.bits() {
///             0 => None,
///             Self::HAS_AFTER => Some(input.decode()?),
///             _ => return Err(UnexpectedFlags::new(flags).into()),
///         };
///         input.finish()?;
///         Ok(Self { after: after.map(Text::into_inner) })
///     }
///
///     fn decode_response(_: Flags, payload: Vec<u8>) -> Result<u64, BoxError> {
///         Ok(payload::decode::<VarUint>(&payload)?.0)
///     }
/// }
///
/// # fn main() -> Result<(), BoxError> {
/// let request = List { after: Some("x".into()) };
/// let mut written = Vec::new();
/// request.encode_payload(&mut written);
/// assert_eq!(List::decode(request.flags(), &written)?, request);
/// assert!(List::decode(Flags::NONE, &written).is_err());
/// # Ok(())
/// # }
/// ```
#[doc(alias = "BaseRequest")]
pub trait TypedRequest: Sized + Send + 'static {
    /// What the caller gets for it.
    type Response: Send + 'static;

    /// Returns the flags of the request. The default is none.
    fn flags(&self) -> Flags {
        Flags::NONE
    }

    /// Appends the payload of the request.
    fn encode_payload(&self, out: &mut Vec<u8>);

    /// Reads a request that has come.
    ///
    /// # Errors
    ///
    /// Whatever says what is wrong with it. The peer gets that as the text of a rejection.
    #[doc(alias = "from_request_payload")]
    fn decode(flags: Flags, payload: &[u8]) -> Result<Self, BoxError>;

    /// Reads the good answer to such a request; runs on the thread that waits for it.
    ///
    /// # Errors
    ///
    /// Whatever says what is wrong with it. The caller gets that as
    /// [`Error::Payload`](crate::Error::Payload).
    #[doc(alias = "decode_response_payload")]
    fn decode_response(flags: Flags, payload: Vec<u8>) -> Result<Self::Response, BoxError>;
}

/// A request that is its payload: without flags, read whole.
///
/// Any type that is [`Encode`] and [`DecodeOwned`] can be one.
///
/// # Examples
///
/// ```
/// use packetstream::payload;
/// use packetstream::payload::Text;
/// use packetstream::typed::{PayloadRequest, TypedRequest};
/// use packetstream::{Flags, Response};
///
/// payload! {
///     struct Greet { name: Text }
/// }
///
/// impl PayloadRequest for Greet {
///     type Response = Response;
/// }
///
/// assert!(Greet::decode(Flags::NONE, b"\x03you").is_ok());
/// assert!(Greet::decode(Flags::NONE, b"\x03you and more").is_err());
/// assert!(Greet::decode(Flags::from(1), b"\x03you").is_err());
/// ```
pub trait PayloadRequest: Encode + DecodeOwned + Send + 'static {
    /// What the caller gets for it; [`Response`] for flags and payload as they are.
    type Response: FromResponse;
}

impl<R: PayloadRequest> TypedRequest for R {
    type Response = <R as PayloadRequest>::Response;

    fn encode_payload(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }

    fn decode(flags: Flags, payload: &[u8]) -> Result<Self, BoxError> {
        without_flags(flags)?;
        Ok(payload::decode(payload)?)
    }

    fn decode_response(flags: Flags, payload: Vec<u8>) -> Result<Self::Response, BoxError> {
        FromResponse::from_response(flags, payload)
    }
}

/// What the good answer to a [`PayloadRequest`] can be read as.
///
/// | type | flags | payload |
/// |---|---|---|
/// | [`Response`] | any | any |
/// | a type that is [`DecodeOwned`], `()` included | none | read whole |
/// | [`Flags`] | any | empty |
/// | ([`Flags`], a type that is [`DecodeOwned`]) | any | read whole |
///
/// # Examples
///
/// ```
/// use packetstream::payload::VarUint;
/// use packetstream::typed::FromResponse;
/// use packetstream::{BoxError, Flags};
///
/// # fn main() -> Result<(), BoxError> {
/// assert_eq!(VarUint::from_response(Flags::NONE, vec![5])?, VarUint(5));
/// assert!(VarUint::from_response(Flags::from(1), vec![5]).is_err());
/// assert!(<()>::from_response(Flags::NONE, vec![5]).is_err());
/// let (flags, rest) = <(Flags, Vec<u8>)>::from_response(Flags::from(1), vec![5])?;
/// assert_eq!((flags.bits(), rest), (1, vec![5]));
/// # Ok(())
/// # }
/// ```
pub trait FromResponse: Sized + Send + 'static {
    /// Reads the answer.
    ///
    /// # Errors
    ///
    /// Whatever says what is wrong with it.
    fn from_response(flags: Flags, payload: Vec<u8>) -> Result<Self, BoxError>;
}

impl FromResponse for Response {
    fn from_response(flags: Flags, payload: Vec<u8>) -> Result<Self, BoxError> {
        Ok(Self::new(flags, payload))
    }
}

impl FromResponse for Flags {
    fn from_response(flags: Flags, payload: Vec<u8>) -> Result<Self, BoxError> {
        payload::decode::<()>(&payload)?;
        Ok(flags)
    }
}

impl<T: DecodeOwned + Send + 'static> FromResponse for T {
    fn from_response(flags: Flags, payload: Vec<u8>) -> Result<Self, BoxError> {
        without_flags(flags)?;
        Ok(payload::decode(&payload)?)
    }
}

impl<T: DecodeOwned + Send + 'static> FromResponse for (Flags, T) {
    fn from_response(flags: Flags, payload: Vec<u8>) -> Result<Self, BoxError> {
        Ok((flags, payload::decode(&payload)?))
    }
}

fn without_flags(flags: Flags) -> Result<(), UnexpectedFlags> {
    if flags.is_empty() {
        Ok(())
    } else {
        Err(UnexpectedFlags(flags))
    }
}

/// The error of flags that mean nothing where they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unexpected flags {0}")]
pub struct UnexpectedFlags(Flags);

impl UnexpectedFlags {
    /// Creates the error, for a decode function of one's own.
    pub fn new(flags: Flags) -> Self {
        Self(flags)
    }

    /// Returns the flags that came.
    pub fn flags(&self) -> Flags {
        self.0
    }
}
