//! The macro that declares requests.

/// Declares requests: structs with their layout, as [`payload!`](crate::payload!) does, and what
/// their answers are, as [`PayloadRequest`](crate::typed::PayloadRequest) does.
///
/// The type of the answer follows an arrow; without one it is
/// [`Response`](crate::Response), flags and payload as they are. What it can be says
/// [`FromResponse`](crate::typed::FromResponse).
///
/// # Examples
///
/// ```
/// use packetstream::Flags;
/// use packetstream::payload::{Bytes, Text, VarUint};
/// use packetstream::typed::request;
///
/// request! {
///     /// Stores a chunk; answers its number.
///     #[derive(Debug, PartialEq)]
///     pub struct Add { pub kind: VarUint, pub data: Bytes } -> VarUint;
///
///     /// Asks for a chunk: the flags say whether there is one.
///     pub struct Get(pub VarUint) -> (Flags, Vec<u8>);
///
///     pub struct Flush -> ();
///
///     /// The answer is the plain response.
///     pub struct Find { pub name: Text }
///     pub struct Last;
/// }
///
/// let add = Add { kind: VarUint(1), data: Bytes(b"chunk".to_vec()) };
/// assert_eq!(packetstream::payload::encode(&add), b"\x01\x05chunk");
/// ```
#[macro_export]
macro_rules! request {
    () => {};
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident { $($fields:tt)* } -> $response:ty;
        $($rest:tt)*
    ) => {
        $crate::payload! { $(#[$attribute])* $visibility struct $name { $($fields)* } }
        impl $crate::typed::PayloadRequest for $name {
            type Response = $response;
        }
        $crate::request! { $($rest)* }
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident { $($fields:tt)* }
        $($rest:tt)*
    ) => {
        $crate::request! {
            $(#[$attribute])* $visibility struct $name { $($fields)* } -> $crate::Response;
            $($rest)*
        }
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident ( $($fields:tt)* ) -> $response:ty;
        $($rest:tt)*
    ) => {
        $crate::payload! { $(#[$attribute])* $visibility struct $name ( $($fields)* ); }
        impl $crate::typed::PayloadRequest for $name {
            type Response = $response;
        }
        $crate::request! { $($rest)* }
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident ( $($fields:tt)* );
        $($rest:tt)*
    ) => {
        $crate::request! {
            $(#[$attribute])* $visibility struct $name ( $($fields)* ) -> $crate::Response;
            $($rest)*
        }
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident -> $response:ty;
        $($rest:tt)*
    ) => {
        $crate::payload! { $(#[$attribute])* $visibility struct $name; }
        impl $crate::typed::PayloadRequest for $name {
            type Response = $response;
        }
        $crate::request! { $($rest)* }
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident;
        $($rest:tt)*
    ) => {
        $crate::request! {
            $(#[$attribute])* $visibility struct $name -> $crate::Response;
            $($rest)*
        }
    };
}
