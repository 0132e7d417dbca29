//! Hashcodes: what a chunk is called, which is the digest of its octets.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use packetstream::payload::{Decode, Encode, Input, PayloadError, VarUint};
use sha2::Digest as _;

/// The length of the longest digest, in octets.
const MAX_DIGEST_LEN: usize = 32;

/// A hash function. A store uses one for all its chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum HashKind {
    /// Unkeyed BLAKE3, 32 octets. The default, because it is the fastest by far.
    #[default]
    Blake3,
    /// SHA-256, 32 octets.
    Sha256,
    /// SHA-1, 20 octets. For stores that exist; it does not withstand an attacker.
    Sha1,
}

impl HashKind {
    const ALL: [Self; 3] = [Self::Blake3, Self::Sha256, Self::Sha1];

    /// Returns the number that stands for it in a hashcode.
    pub fn number(self) -> u64 {
        match self {
            Self::Sha1 => 0,
            Self::Sha256 => 1,
            Self::Blake3 => 2,
        }
    }

    /// Returns the hash function with that number.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Returns its name: `blake3`, `sha256` or `sha1`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha256",
            Self::Sha1 => "sha1",
        }
    }

    /// Returns the hash function with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns the length of its digests, in octets.
    pub fn digest_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 | Self::Blake3 => 32,
        }
    }
}

/// Hashes octets that come in pieces.
#[derive(Clone, Debug)]
pub struct Hasher(Hashing);

#[derive(Clone, Debug)]
enum Hashing {
    Blake3(Box<blake3::Hasher>),
    Sha256(sha2::Sha256),
    Sha1(sha1::Sha1),
}

impl Hasher {
    /// Starts a digest.
    pub fn new(kind: HashKind) -> Self {
        Self(match kind {
            HashKind::Blake3 => Hashing::Blake3(Box::default()),
            HashKind::Sha256 => Hashing::Sha256(sha2::Sha256::new()),
            HashKind::Sha1 => Hashing::Sha1(sha1::Sha1::new()),
        })
    }

    /// Adds octets.
    pub fn update(&mut self, octets: &[u8]) {
        match &mut self.0 {
            Hashing::Blake3(hasher) => {
                hasher.update(octets);
            }
            Hashing::Sha256(hasher) => hasher.update(octets),
            Hashing::Sha1(hasher) => hasher.update(octets),
        }
    }

    /// Returns the digest of all that was added.
    pub fn finish(self) -> HashCode {
        match self.0 {
            Hashing::Blake3(hasher) => {
                HashCode::new(HashKind::Blake3, hasher.finalize().as_bytes())
            }
            Hashing::Sha256(hasher) => HashCode::new(HashKind::Sha256, &hasher.finalize()),
            Hashing::Sha1(hasher) => HashCode::new(HashKind::Sha1, &hasher.finalize()),
        }
    }
}

impl Encode for HashKind {
    fn encode(&self, out: &mut Vec<u8>) {
        VarUint(self.number()).encode(out);
    }
}

impl<'a> Decode<'a> for HashKind {
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        let unknown = input.invalid("an unknown hash function");
        Self::from_number(input.varint()?).ok_or(unknown)
    }
}

impl fmt::Display for HashKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of a chunk: which hash function, and the digest of the chunk's octets.
///
/// Hashcodes are ordered by their digests. As text one is `blake3:` and the digest in hexadecimal.
///
/// # Examples
///
/// ```
/// use blockstore::hash::{HashCode, HashKind, ParseHashCodeError};
///
/// # fn main() -> Result<(), ParseHashCodeError> {
/// let hash = HashCode::of(HashKind::Sha1, b"abc");
/// assert_eq!(hash.to_string(), "sha1:a9993e364706816aba3e25717850c26c9cd0d89d");
/// assert_eq!(hash, hash.to_string().parse()?);
/// assert!("md5:00".parse::<HashCode>().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HashCode {
    kind: HashKind,
    /// The digest, then zeros.
    octets: [u8; MAX_DIGEST_LEN],
}

impl HashCode {
    /// Hashes a chunk.
    pub fn of(kind: HashKind, chunk: &[u8]) -> Self {
        let mut hasher = Hasher::new(kind);
        hasher.update(chunk);
        hasher.finish()
    }

    /// Makes one of a digest; `None` if that has the wrong length.
    pub fn from_digest(kind: HashKind, digest: &[u8]) -> Option<Self> {
        (digest.len() == kind.digest_len()).then(|| Self::new(kind, digest))
    }

    fn new(kind: HashKind, digest: &[u8]) -> Self {
        let mut octets = [0; MAX_DIGEST_LEN];
        for (octet, of_digest) in octets.iter_mut().zip(digest) {
            *octet = *of_digest;
        }
        Self { kind, octets }
    }

    /// Returns the hash function.
    pub fn kind(&self) -> HashKind {
        self.kind
    }

    /// Returns the digest.
    pub fn digest(&self) -> &[u8] {
        &self.octets[..self.kind.digest_len()]
    }
}

impl Ord for HashCode {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_digest = self.digest().cmp(other.digest());
        by_digest.then_with(|| self.kind.number().cmp(&other.kind.number()))
    }
}

impl PartialOrd for HashCode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Encode for HashCode {
    fn encode(&self, out: &mut Vec<u8>) {
        self.kind.encode(out);
        out.extend_from_slice(self.digest());
    }
}

impl<'a> Decode<'a> for HashCode {
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        let kind: HashKind = input.decode()?;
        Ok(Self::new(kind, input.take(kind.digest_len())?))
    }
}

impl fmt::Display for HashCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.kind)?;
        self.digest()
            .iter()
            .try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for HashCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a hashcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hashcode is blake3:, sha256: or sha1: and the digest in hexadecimal")]
pub struct ParseHashCodeError;

impl FromStr for HashCode {
    type Err = ParseHashCodeError;

    fn from_str(text: &str) -> Result<Self, ParseHashCodeError> {
        let (name, digits) = text.split_once(':').ok_or(ParseHashCodeError)?;
        let kind = HashKind::from_name(name).ok_or(ParseHashCodeError)?;
        if digits.len() != 2 * kind.digest_len() {
            return Err(ParseHashCodeError);
        }
        let mut octets = [0; MAX_DIGEST_LEN];
        for (octet, pair) in octets.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            *octet = pair.iter().try_fold(0, |octet, digit| {
                let digit = char::from(*digit).to_digit(16).ok_or(ParseHashCodeError)?;
                Ok(octet << 4 | u8::try_from(digit).map_err(|_| ParseHashCodeError)?)
            })?;
        }
        Ok(Self { kind, octets })
    }
}

#[cfg(test)]
mod tests {
    use packetstream::payload;

    use super::*;

    #[test]
    fn digests_are_those_of_the_standards() {
        let cases = [
            (
                HashKind::Sha1,
                "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
            ),
            (
                HashKind::Sha256,
                "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ),
            (
                HashKind::Blake3,
                "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
            ),
        ];
        for (kind, text) in cases {
            assert_eq!(HashCode::of(kind, b"").to_string(), text);
        }
    }

    #[test]
    fn a_hashcode_is_the_number_of_its_function_and_the_digest() {
        for (kind, number, len) in [
            (HashKind::Sha1, 0, 21),
            (HashKind::Sha256, 1, 33),
            (HashKind::Blake3, 2, 33),
        ] {
            let hash = HashCode::of(kind, b"some chunk");
            let octets = payload::encode(&hash);
            assert_eq!((octets.len(), octets[0]), (len, number));
            assert_eq!(&octets[1..], hash.digest());
            assert_eq!(payload::decode::<HashCode>(&octets), Ok(hash));
            for end in 0..octets.len() {
                assert!(payload::decode::<HashCode>(&octets[..end]).is_err());
            }
        }
        assert!(
            payload::decode::<HashCode>(&[3; 33]).is_err(),
            "no such function"
        );
    }

    #[test]
    fn text_that_is_no_hashcode_is_refused() {
        let good = HashCode::of(HashKind::Sha1, b"").to_string();
        for bad in [
            "",
            ":",
            "sha1:",
            "sha1",
            &good[..good.len() - 1],
            &good.replace("sha1", "sha256"),
            &good.replace('d', "g"),
            &good.replace("da39a3", "+a3é"),
        ] {
            assert_eq!(bad.parse::<HashCode>(), Err(ParseHashCodeError), "{bad}");
        }
    }
}
