//! Tuples: their parts one after the other.

use super::{Decode, Encode, Input, PayloadError};

impl Encode for () {
    fn encode(&self, _: &mut Vec<u8>) {}
}

impl<'a> Decode<'a> for () {
    fn decode(_: &mut Input<'a>) -> Result<Self, PayloadError> {
        Ok(())
    }
}

macro_rules! tuples {
    ($($($part:ident $value:ident),+;)*) => {$(
        impl<$($part: Encode),+> Encode for ($($part,)+) {
            fn encode(&self, out: &mut Vec<u8>) {
                let ($($value,)+) = self;
                $($value.encode(out);)+
            }
        }

        impl<'a, $($part: Decode<'a>),+> Decode<'a> for ($($part,)+) {
            fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
                Ok(($($part::decode(input)?,)+))
            }
        }
    )*};
}

tuples! {
    A a;
    A a, B b;
    A a, B b, C c;
    A a, B b, C c, D d;
    A a, B b, C c, D d, E e;
    A a, B b, C c, D d, E e, F f;
    A a, B b, C c, D d, E e, F f, G g;
    A a, B b, C c, D d, E e, F f, G g, H h;
}
