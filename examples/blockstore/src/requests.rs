//! The requests: those of the original, 0 to 10, and a few of our own from 16 on.
//!
//! | number | request | answer |
//! |---|---|---|
//! | 0 | [`Add`] | the hashcode of the chunk |
//! | 1 | [`Get`] | the chunk, if it is there |
//! | 2 | [`Contains`] | yes or no |
//! | 3 | [`Flush`] | when all earlier additions are on disk |
//! | 4 | [`ListHashcodes`] | hashcodes in ascending order |
//! | 5 | [`HashHashcodes`] | a hashcode of such hashcodes, and the last of them |
//! | 6 | [`ArchiveLast`] | the last entry of an archive |
//! | 7 | [`ArchiveUpdate`] | one more entry for an archive |
//! | 8 | [`ArchiveList`] | all entries of an archive, the oldest first |
//! | 9 | [`Length`] | the number of chunks |
//! | 10 | [`ContainsIndirect`] | whether everything is there that a root stands for |
//! | 16 | [`Subscribe`] | the server then calls back with [`Progress`] |
//! | 17 | [`Statistics`] | the number of chunks and of their bytes |
//! | 18 | [`StoreLock`] | the text in the lock of the store's directory |
//! | 19 | [`ArchiveRecord`] | one more entry for an archive, unless it says nothing new |
//! | 20 | [`ArchiveNames`] | the last entries of an archive's names, a page at a time |
//!
//! In the other direction there is [`Progress`], 16, and only for a client that has asked for it:
//! a client of the original has no handler for requests.

use packetstream::payload::{self, Bytes, Encode, Input, Text, Trailing, VarUint};
use packetstream::typed::{FromResponse, TypedRequest, UnexpectedFlags, request};
use packetstream::{BoxError, Flags};

use crate::archive::{Entry, EntryOctets};
use crate::hash::{HashCode, HashKind};
use crate::store::Selection;

/// The number of [`Add`].
pub const ADD: u32 = 0;
/// The number of [`Get`].
pub const GET: u32 = 1;
/// The number of [`Contains`].
pub const CONTAINS: u32 = 2;
/// The number of [`Flush`].
pub const FLUSH: u32 = 3;
/// The number of [`ListHashcodes`].
pub const LIST_HASHCODES: u32 = 4;
/// The number of [`HashHashcodes`].
pub const HASH_HASHCODES: u32 = 5;
/// The number of [`ArchiveLast`].
pub const ARCHIVE_LAST: u32 = 6;
/// The number of [`ArchiveUpdate`].
pub const ARCHIVE_UPDATE: u32 = 7;
/// The number of [`ArchiveList`].
pub const ARCHIVE_LIST: u32 = 8;
/// The number of [`Length`].
pub const LENGTH: u32 = 9;
/// The number of [`ContainsIndirect`].
pub const CONTAINS_INDIRECT: u32 = 10;
/// The number of [`Subscribe`].
pub const SUBSCRIBE: u32 = 16;
/// The number of [`Statistics`].
pub const STATISTICS: u32 = 17;
/// The number of [`StoreLock`].
pub const STORE_LOCK: u32 = 18;
/// The number of [`ArchiveRecord`].
pub const ARCHIVE_RECORD: u32 = 19;
/// The number of [`ArchiveNames`].
pub const ARCHIVE_NAMES: u32 = 20;
/// The number of [`Progress`], which the server asks the client.
pub const PROGRESS: u32 = 16;

request! {
    /// Adds a chunk.
    #[derive(Clone, Debug)]
    pub struct Add {
        /// The hash function, which must be that of the store.
        pub kind: HashKind,
        /// The chunk.
        pub chunk: Bytes,
    } -> HashCode;

    /// Asks for a chunk.
    #[derive(Clone, Debug)]
    pub struct Get(pub HashCode) -> Found;

    /// Asks whether a chunk is there.
    #[derive(Clone, Debug)]
    pub struct Contains(pub HashCode) -> Verdict;

    /// Asks for all earlier additions to be on disk; answered when they are.
    #[derive(Clone, Debug)]
    pub struct Flush -> ();

    /// Asks for the last entry of an archive.
    #[derive(Clone, Debug)]
    pub struct ArchiveLast {
        /// The archive.
        pub name: Text,
    } -> LastEntry;

    /// Appends an entry to an archive.
    #[derive(Clone, Debug)]
    pub struct ArchiveUpdate {
        /// The archive.
        pub name: Text,
        /// The entry.
        pub entry: EntryOctets,
    } -> ();

    /// Asks for all entries of an archive.
    #[derive(Clone, Debug)]
    pub struct ArchiveList {
        /// The archive.
        pub name: Text,
    } -> Vec<Entry>;

    /// Asks for the number of chunks.
    #[derive(Clone, Debug)]
    pub struct Length -> VarUint;

    /// Asks whether an indirect block is there with everything that it stands for.
    #[derive(Clone, Debug)]
    pub struct ContainsIndirect(pub HashCode) -> Verdict;

    /// Asks to be called back with [`Progress`] over this connection.
    #[derive(Clone, Debug)]
    pub struct Subscribe {
        /// After how many additions; 0 ends it.
        pub every: VarUint,
    } -> ();

    /// Asks for the size of the store.
    #[derive(Clone, Debug)]
    pub struct Statistics -> StoreSize;

    /// Asks for the text in the lock of the store's directory, by which a client that comes across
    /// the directory knows it; empty if there is no directory.
    #[derive(Clone, Debug)]
    pub struct StoreLock -> Text;

    /// Appends an entry to an archive, unless it says the same as the last one with its name, at
    /// another time; answers whether it has.
    #[derive(Clone, Debug)]
    pub struct ArchiveRecord {
        /// The archive.
        pub name: Text,
        /// The entry.
        pub entry: EntryOctets,
    } -> Verdict;

    /// Asks for the last entry of each name in an archive, in the order of the names' bytes. The
    /// answer is a page of them, at least one if there is any. The next page is what comes after
    /// the last name of this one.
    #[derive(Clone, Debug)]
    pub struct ArchiveNames {
        /// The archive.
        pub name: Text,
        /// After which name to begin; from the first if there is none.
        pub after: Trailing<Text>,
    } -> Vec<Entry>;

    /// Tells the client what it has added over this connection so far.
    #[derive(Clone, Debug)]
    pub struct Progress {
        /// The number of chunks.
        pub chunks: VarUint,
        /// The number of their octets.
        pub octets: VarUint,
    } -> ();
}

packetstream::payload! {
    /// How large a store is.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct StoreSize {
        /// The number of chunks.
        pub chunks: VarUint,
        /// The number of their octets.
        pub octets: VarUint,
    }

    /// What identifies a set of hashcodes.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct HashOfHashcodes {
        /// The digest of the digest of all digests.
        pub hash: HashCode,
        /// The last of the hashcodes, if there is any.
        pub last: Trailing<HashCode>,
    }
}

/// The flag of an answer that says "yes", or "here it is".
const YES: u64 = 1;

/// The answer to [`Get`]: the chunk, if it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found(pub Option<Vec<u8>>);

impl FromResponse for Found {
    fn from_response(flags: Flags, payload: Vec<u8>) -> Result<Self, BoxError> {
        is_yes(flags, &payload).map(|is_there| Self(is_there.then_some(payload)))
    }
}

/// The answer to [`Contains`] and [`ContainsIndirect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict(pub bool);

impl FromResponse for Verdict {
    fn from_response(flags: Flags, payload: Vec<u8>) -> Result<Self, BoxError> {
        payload::decode::<()>(&payload)?;
        is_yes(flags, &payload).map(Self)
    }
}

impl From<Verdict> for Flags {
    fn from(verdict: Verdict) -> Self {
        Self::from(u32::from(verdict.0))
    }
}

/// The answer to [`ArchiveLast`].
#[derive(Clone, Debug, PartialEq)]
pub struct LastEntry(pub Option<Entry>);

impl FromResponse for LastEntry {
    fn from_response(flags: Flags, payload: Vec<u8>) -> Result<Self, BoxError> {
        Ok(Self(if is_yes(flags, &payload)? {
            Some(payload::decode(&payload)?)
        } else {
            None
        }))
    }
}

/// Reads the flag of an answer; a "no" has no payload.
fn is_yes(flags: Flags, payload: &[u8]) -> Result<bool, BoxError> {
    match flags.bits() {
        YES => Ok(true),
        0 => Ok(payload::decode::<()>(payload).map(|()| false)?),
        _ => Err(UnexpectedFlags::new(flags).into()),
    }
}

/// Asks for hashcodes in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListHashcodes(pub HashcodeQuery);

/// Asks for a hashcode of hashcodes, to compare two stores with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashHashcodes(pub HashcodeQuery);

/// Which hashcodes are asked for, and of which hash function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashcodeQuery {
    /// The hash function.
    pub kind: HashKind,
    /// Which of its hashcodes.
    pub selection: Selection,
}

impl HashcodeQuery {
    const AFTER: u64 = 0x01;
    const HAS_START: u64 = 0x02;

    fn flags(&self) -> Flags {
        let after = u32::from(self.selection.after);
        let has_start = 2 * u32::from(self.selection.start.is_some());
        Flags::from(after | has_start)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        Text(self.kind.name()).encode(out);
        self.selection.start.encode(out);
        VarUint(self.selection.limit.unwrap_or(0)).encode(out);
    }

    /// What follows the last field is ignored, as the original does.
    fn decode(flags: Flags, payload: &[u8]) -> Result<Self, BoxError> {
        let bits = flags.bits();
        if bits & !(Self::AFTER | Self::HAS_START) != 0 {
            return Err(UnexpectedFlags::new(flags).into());
        }
        let mut input = Input::new(payload);
        let unknown = input.invalid("an unknown hash function");
        let Text(name) = input.decode::<Text<&str>>()?;
        let kind = HashKind::from_name(name).ok_or(unknown)?;
        let other = input.invalid("a start of another hash function");
        let start: Option<HashCode> = input.optional(bits & Self::HAS_START != 0)?;
        if start.is_some_and(|start| start.kind() != kind) {
            return Err(other.into());
        }
        let after = bits & Self::AFTER != 0;
        if after && start.is_none() {
            return Err("after what? There is no start".into());
        }
        let limit = Some(input.varint()?).filter(|limit| *limit > 0);
        Ok(Self {
            kind,
            selection: Selection {
                start,
                after,
                limit,
            },
        })
    }
}

impl TypedRequest for ListHashcodes {
    type Response = Vec<HashCode>;

    fn flags(&self) -> Flags {
        self.0.flags()
    }

    fn encode_payload(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(flags: Flags, payload: &[u8]) -> Result<Self, BoxError> {
        HashcodeQuery::decode(flags, payload).map(Self)
    }

    fn decode_response(flags: Flags, payload: Vec<u8>) -> Result<Vec<HashCode>, BoxError> {
        FromResponse::from_response(flags, payload)
    }
}

impl TypedRequest for HashHashcodes {
    type Response = HashOfHashcodes;

    fn flags(&self) -> Flags {
        self.0.flags()
    }

    fn encode_payload(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(flags: Flags, payload: &[u8]) -> Result<Self, BoxError> {
        let query = HashcodeQuery::decode(flags, payload)?;
        // The original passes its "no limit" on and fails.
        match query.selection.limit {
            Some(_) => Ok(Self(query)),
            None => Err("a hash of hashcodes needs a limit".into()),
        }
    }

    fn decode_response(flags: Flags, payload: Vec<u8>) -> Result<HashOfHashcodes, BoxError> {
        FromResponse::from_response(flags, payload)
    }
}
