//! The macro that gives structs their layout.

/// Defines structs with their layout: the fields one after the other, in the order in which they
/// are written.
///
/// A struct gets implementations of [`Encode`](crate::payload::Encode) and
/// [`Decode`](crate::payload::Decode); each field has to be of a type that has them too.
///
/// # Examples
///
/// There may be any number of structs, with named fields, with unnamed fields or without fields.
///
/// ```
/// use packetstream::payload; // the module and this macro
/// use packetstream::payload::{Bytes, PayloadError, VarUint};
///
/// payload! {
///     /// Asks for nothing, in no octets.
///     #[derive(Debug, PartialEq)]
///     pub struct Flush;
///
///     /// The digest of a chunk.
///     #[derive(Debug, PartialEq)]
///     pub struct HashCode(pub VarUint, pub [u8; 4]);
///
///     /// Some chunks; what is large can be borrowed from the payload.
///     #[derive(Debug, PartialEq)]
///     pub struct Select<'a> {
///         pub which: u8,
///         pub first: Option<Bytes<&'a [u8]>> if which == 2,
///         pub limit: VarUint,
///     }
/// }
///
/// # fn main() -> Result<(), PayloadError> {
/// assert_eq!(payload::encode(&Flush), []);
/// assert_eq!(payload::encode(&HashCode(VarUint(1), [9; 4])), [1, 9, 9, 9, 9]);
///
/// let select: Select = payload::decode(&[2, 1, 0xaa, 7])?;
/// assert_eq!(select.first, Some(Bytes(&[0xaa][..])));
/// assert_eq!(payload::encode(&select), [2, 1, 0xaa, 7]);
///
/// let select: Select = payload::decode(&[1, 7])?;
/// assert_eq!((select.first, select.limit), (None, VarUint(7)));
///
/// let error = payload::decode::<Select>(&[2, 1]).unwrap_err();
/// assert_eq!(error, PayloadError::Length { offset: 1, len: 1, left: 0 });
/// # Ok(())
/// # }
/// ```
///
/// # The parts
///
/// - Attributes and visibility of structs and of fields are kept. `cfg` is the exception: put it
///   on an invocation of its own, since the implementations would not follow it.
/// - A struct may have one lifetime parameter, that of the payload, and no other parameter.
/// - A named field `name: Option<T> if condition` is decoded if the condition holds. It may use
///   the fields before it by their names. Encoding does not look at it: a field that is `Some` is
///   encoded, one that is `None` is not, and that they agree with the other fields is up to the
///   program.
/// - An invocation may have some hundred structs, and a struct that has conditions some hundred
///   fields. Beyond that the compiler asks for a higher `recursion_limit`.
#[macro_export]
macro_rules! payload {
    () => {};
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident $(<$lifetime:lifetime $(,)?>)? { $($fields:tt)* }
        $($rest:tt)*
    ) => {
        $crate::__payload_struct! {
            $(#[$attribute])* $visibility struct $name $(<$lifetime>)? { $($fields)* }
        }
        $crate::payload! { $($rest)* }
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident $(<$lifetime:lifetime $(,)?>)? ( $($fields:tt)* );
        $($rest:tt)*
    ) => {
        $crate::__payload_struct! {
            $(#[$attribute])* $visibility struct $name $(<$lifetime>)? ( $($fields)* );
        }
        $crate::payload! { $($rest)* }
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident;
        $($rest:tt)*
    ) => {
        $crate::__payload_struct! { $(#[$attribute])* $visibility struct $name; }
        $crate::payload! { $($rest)* }
    };
}

/// One struct of [`payload!`].
///
/// Its fields are brought into one form, `[name: Type, method Value, condition]`: the name of the
/// local variable that holds the field, and the method of `Input` that decodes it with its
/// arguments. Taking one field after the other is left for the structs that need it, since the
/// steps of a macro are limited (`recursion_limit`).
#[doc(hidden)]
#[macro_export]
macro_rules! __payload_struct {
    // Named fields without conditions.
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident $(<$lifetime:lifetime>)? {
            $($(#[$note:meta])* $access:vis $field:ident: $type:ty),* $(,)?
        }
    ) => {
        $(#[$attribute])*
        $visibility struct $name $(<$lifetime>)? {
            $($(#[$note])* $access $field: $type,)*
        }
        $crate::__payload_impls! {
            $name [$($lifetime)?] [{ $($field),* }] [$([$field: $type, decode $type])*]
        }
    };
    // Named fields, some of them with conditions: one after the other.
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident $(<$lifetime:lifetime>)? { $($fields:tt)* }
    ) => {
        $crate::__payload_named! {
            [$(#[$attribute])* $visibility] $name [$($lifetime)?] [] $($fields)*
        }
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident $(<$lifetime:lifetime>)? (
            $($(#[$note:meta])* $access:vis $type:ty),* $(,)?
        );
    ) => {
        $(#[$attribute])*
        $visibility struct $name $(<$lifetime>)? ( $($(#[$note])* $access $type,)* );
        $crate::__payload_unnamed! { $name [$($lifetime)?] [] $($type,)* }
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident;
    ) => {
        $(#[$attribute])*
        $visibility struct $name;
        $crate::__payload_impls! { $name [] [] [] }
    };
}

/// Takes one named field after the other.
#[doc(hidden)]
#[macro_export]
macro_rules! __payload_named {
    // The end.
    (
        [$($head:tt)*] $name:ident [$($lifetime:lifetime)?]
        [$([[$($kept:tt)*] $field:ident: $type:ty, $how:ident $value:ty $(, $condition:expr)?])*]
        $(,)?
    ) => {
        $($head)* struct $name $(<$lifetime>)? { $($($kept)* $field: $type,)* }
        $crate::__payload_impls! {
            $name [$($lifetime)?] [{ $($field),* }]
            [$([$field: $type, $how $value $(, $condition)?])*]
        }
    };
    // This comes before those with conditions, whose patterns do not stop at a `Cow<'a, str>`.
    (
        $head:tt $name:ident $lifetime:tt [$($done:tt)*]
        $(#[$note:meta])* $access:vis $field:ident: $type:ty $(, $($rest:tt)*)?
    ) => {
        $crate::__payload_named! {
            $head $name $lifetime
            [$($done)* [[$(#[$note])* $access] $field: $type, decode $type]]
            $($($rest)*)?
        }
    };
    // In a pattern a type cannot be followed by `if`, but the `>` at its end can.
    (
        $head:tt $name:ident $lifetime:tt [$($done:tt)*]
        $(#[$note:meta])* $access:vis $field:ident:
            $($option:ident)::+<$type:ty> if $condition:expr $(, $($rest:tt)*)?
    ) => {
        $crate::__payload_named! {
            $head $name $lifetime
            [$($done)* [
                [$(#[$note])* $access] $field: $($option)::+<$type>, optional $type, $condition
            ]]
            $($($rest)*)?
        }
    };
    (
        $head:tt $name:ident $lifetime:tt [$($done:tt)*]
        $(#[$note:meta])* $access:vis $field:ident:
            :: $($option:ident)::+<$type:ty> if $condition:expr $(, $($rest:tt)*)?
    ) => {
        $crate::__payload_named! {
            $head $name $lifetime
            [$($done)* [
                [$(#[$note])* $access] $field: ::$($option)::+<$type>, optional $type, $condition
            ]]
            $($($rest)*)?
        }
    };
    ($head:tt $name:ident $lifetime:tt $done:tt $($fields:tt)*) => {
        ::core::compile_error! { ::core::concat!(
            "a field of `",
            ::core::stringify!($name),
            "` must be `name: Type` or `name: Option<Type> if condition`, where there is `",
            ::core::stringify!($($fields)*),
            "`",
        ) }
    };
}

/// Gives each unnamed field a local variable: the name is the same for all, and hygiene makes
/// them different, since each comes from a step of its own.
#[doc(hidden)]
#[macro_export]
macro_rules! __payload_unnamed {
    ($name:ident $lifetime:tt [$([$field:ident: $done:ty])*]) => {
        $crate::__payload_impls! {
            $name $lifetime [($($field),*)] [$([$field: $done, decode $done])*]
        }
    };
    ($name:ident $lifetime:tt [$($done:tt)*] $type:ty, $($rest:tt)*) => {
        $crate::__payload_unnamed! { $name $lifetime [$($done)* [field: $type]] $($rest)* }
    };
}

/// The implementations, from the parts that [`__payload_struct!`] has sorted.
///
/// Types are written out where they could be inferred, so that a compiler that does not find their
/// implementations points at the field.
#[doc(hidden)]
#[macro_export]
macro_rules! __payload_impls {
    ($name:ident [] $pattern:tt $fields:tt) => {
        $crate::__payload_impls! { [] 'payload [$name] $pattern $fields }
    };
    ($name:ident [$lifetime:lifetime] $pattern:tt $fields:tt) => {
        $crate::__payload_impls! { [<$lifetime>] $lifetime [$name<$lifetime>] $pattern $fields }
    };
    (
        [$($parameter:tt)*] $lifetime:lifetime [$($itself:tt)*]
        [$($pattern:tt)*]
        [$([$field:ident: $type:ty, $how:ident $value:ty $(, $condition:expr)?])*]
    ) => {
        impl $($parameter)* $crate::payload::Encode for $($itself)* {
            fn encode(&self, out: &mut ::std::vec::Vec<::core::primitive::u8>) {
                // Without fields nothing else would use it.
                let _ = out;
                let Self $($pattern)* = self;
                $(<$type as $crate::payload::Encode>::encode($field, out);)*
            }
        }

        impl<$lifetime> $crate::payload::Decode<$lifetime> for $($itself)* {
            fn decode(
                input: &mut $crate::payload::Input<$lifetime>,
            ) -> ::core::result::Result<Self, $crate::payload::PayloadError> {
                let _ = input;
                $(
                    let $field: $type =
                        $crate::payload::Input::$how::<$value>(input $(, $condition)?)?;
                )*
                ::core::result::Result::Ok(Self $($pattern)*)
            }
        }
    };
}
