//! The integer of the wire: big-endian groups of 7 bits, the high bit set on every octet but the
//! last.
//!
//! | value | octets |
//! |---|---|
//! | 0 | `00` |
//! | 127 | `7f` |
//! | 128 | `81 00` |
//! | 300 | `82 2c` |
//! | `u64::MAX` | `81 ff ff ff ff ff ff ff ff 7f` |
//!
//! Leading groups of zeros (`80`) are accepted and never written.

/// The length of the longest integer that is accepted, in octets: what 64 bits need.
pub const MAX_LEN: usize = 10;

/// Set on every octet of an integer but the last.
pub(super) const CONTINUES: u8 = 0x80;

/// Appends an integer in its shortest form.
///
/// # Examples
///
/// ```
/// use packetstream::wire::varint;
///
/// let mut out = Vec::new();
/// varint::encode(300, &mut out);
/// assert_eq!(out, [0x82, 0x2c]);
/// ```
#[inline]
pub fn encode(value: u64, out: &mut Vec<u8>) {
    match u8::try_from(value) {
        Ok(octet) if octet < CONTINUES => out.push(octet),
        _ => encode_groups(value, out),
    }
}

/// Returns how many octets [`encode`] appends for a value, 1 to 10.
///
/// # Examples
///
/// ```
/// use packetstream::wire::varint;
///
/// assert_eq!(varint::encoded_len(127), 1);
/// assert_eq!(varint::encoded_len(128), 2);
/// assert_eq!(varint::encoded_len(u64::MAX), varint::MAX_LEN);
/// ```
#[inline]
pub const fn encoded_len(value: u64) -> usize {
    let mut len: usize = 1;
    let mut rest = value >> 7;
    while rest != 0 {
        rest >>= 7;
        len = len.saturating_add(1);
    }
    len
}

/// Reads the integer at the front of `input` and says how many octets it takes.
///
/// Returns `None` if `input` ends before the integer does. Never looks at more than [`MAX_LEN`]
/// octets.
///
/// # Errors
///
/// [`IntegerTooLarge`] if the value does not fit 64 bits, or takes more than [`MAX_LEN`] octets.
///
/// # Examples
///
/// ```
/// use packetstream::wire::varint::{self, IntegerTooLarge};
///
/// # fn main() -> Result<(), IntegerTooLarge> {
/// assert_eq!(varint::decode(&[0x82, 0x2c, 0xff])?, Some((300, 2)));
/// assert_eq!(varint::decode(&[0x80, 0x05])?, Some((5, 2))); // longer than need be
/// assert_eq!(varint::decode(&[0x82])?, None);
/// assert!(varint::decode(&[0xff; 10]).is_err());
/// # Ok(())
/// # }
/// ```
#[inline]
pub fn decode(input: &[u8]) -> Result<Option<(u64, usize)>, IntegerTooLarge> {
    match decode_short(input) {
        Some((value, rest)) => Ok(Some((value, input.len().saturating_sub(rest.len())))),
        None => decode_groups(input),
    }
}

/// The error of an integer of more than 64 bits, or of more than [`MAX_LEN`] octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an integer is longer than 64 bits")]
#[non_exhaustive]
pub struct IntegerTooLarge;

/// Decodes an integer of up to three octets; returns what follows it too.
#[inline]
pub(super) fn decode_short(input: &[u8]) -> Option<(u64, &[u8])> {
    let group = |octet: u8| u64::from(octet & !CONTINUES);
    match input {
        [octet, rest @ ..] if *octet < CONTINUES => Some((u64::from(*octet), rest)),
        [high, low, rest @ ..] if *low < CONTINUES => {
            Some((group(*high) << 7 | u64::from(*low), rest))
        }
        [high, middle, low, rest @ ..] if *low < CONTINUES => {
            let value = group(*high) << 14 | group(*middle) << 7 | u64::from(*low);
            Some((value, rest))
        }
        _ => None,
    }
}

fn encode_groups(value: u64, out: &mut Vec<u8>) {
    let mut octets = [0; MAX_LEN];
    let mut start = 0;
    let mut rest = value;
    let mut continues = 0;
    for (position, octet) in octets.iter_mut().enumerate().rev() {
        let [low, ..] = rest.to_le_bytes();
        *octet = low & !CONTINUES | continues;
        continues = CONTINUES;
        start = position;
        rest >>= 7;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(octets.get(start..).unwrap_or_default());
}

fn decode_groups(input: &[u8]) -> Result<Option<(u64, usize)>, IntegerTooLarge> {
    let mut value: u64 = 0;
    for (&octet, len) in input.iter().zip(1..=MAX_LEN) {
        // Only a tenth group can find these bits in use, so that what is wrong with an integer does
        // not depend on how many of its octets have arrived.
        if value >> (u64::BITS - 7) != 0 {
            return Err(IntegerTooLarge);
        }
        value = value << 7 | u64::from(octet & !CONTINUES);
        if octet < CONTINUES {
            return Ok(Some((value, len)));
        }
    }
    if input.len() < MAX_LEN {
        Ok(None)
    } else {
        Err(IntegerTooLarge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        encode(value, &mut out);
        out
    }

    fn edges() -> impl Iterator<Item = u64> {
        (0..64)
            .flat_map(|shift| [(1_u64 << shift) - 1, 1 << shift, (1 << shift) + 1])
            .chain([u64::MAX - 1, u64::MAX])
    }

    #[test]
    fn documented_values_have_the_documented_octets() {
        assert_eq!(encoded(0), [0]);
        assert_eq!(encoded(127), [0x7f]);
        assert_eq!(encoded(128), [0x81, 0]);
        assert_eq!(
            encoded(u64::MAX),
            [0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]
        );
    }

    #[test]
    fn every_value_survives_a_round_trip_in_the_announced_length() {
        let mut random = fastrand::Rng::with_seed(1);
        let values = edges().chain((0..2000).map(|_| random.u64(..) >> random.u32(0..64)));
        for value in values {
            let octets = encoded(value);
            assert_eq!(octets.len(), encoded_len(value), "{value}");
            assert_eq!(decode(&octets), Ok(Some((value, octets.len()))), "{value}");
            for cut in 0..octets.len() {
                assert_eq!(decode(&octets[..cut]), Ok(None), "{value} cut to {cut}");
            }
        }
    }

    #[test]
    fn leading_zeros_are_accepted_up_to_ten_octets() {
        for value in edges() {
            let shortest = encoded(value);
            for zeros in 0..12 {
                let mut octets = vec![CONTINUES; zeros];
                octets.extend_from_slice(&shortest);
                let expected = if octets.len() <= MAX_LEN {
                    Ok(Some((value, octets.len())))
                } else {
                    Err(IntegerTooLarge)
                };
                assert_eq!(decode(&octets), expected, "{value} after {zeros}");
            }
        }
    }

    #[test]
    fn more_than_64_bits_are_refused_at_the_tenth_octet() {
        let two_to_the_64 = [0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0];
        assert_eq!(decode(&two_to_the_64), Err(IntegerTooLarge));
        assert_eq!(decode(&two_to_the_64[..9]), Ok(None));
        assert_eq!(decode(&[0xff; 9]), Ok(None));
        assert_eq!(decode(&[0xff; 10]), Err(IntegerTooLarge));
        assert_eq!(decode(&[0x80; 10]), Err(IntegerTooLarge));
    }
}
