//! Truth values.

use super::{Decode, Encode, Input, PayloadError};

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl<'a> Decode<'a> for bool {
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        let offset = input.offset();
        match input.decode()? {
            0 => Ok(false),
            1 => Ok(true),
            octet => Err(PayloadError::Bool { offset, octet }),
        }
    }
}
