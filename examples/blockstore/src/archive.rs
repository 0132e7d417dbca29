//! Archive entries: a name, when it was stored, and the root of its blocks.

use std::time::{SystemTime, UNIX_EPOCH};

use packetstream::payload::{self, Bytes, Decode, Encode, Input, PayloadError, Text, VarUint};

use crate::block::BlockReference;

/// What kind of thing a directory entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    SymbolicLink,
    /// Something whose description is elsewhere.
    Indirect,
}

impl EntryKind {
    const ALL: [Self; 4] = [
        Self::File,
        Self::Directory,
        Self::SymbolicLink,
        Self::Indirect,
    ];
}

impl Encode for EntryKind {
    fn encode(&self, out: &mut Vec<u8>) {
        let number: u8 = match self {
            Self::File => 0,
            Self::Directory => 1,
            Self::SymbolicLink => 2,
            Self::Indirect => 3,
        };
        VarUint::from(number).encode(out);
    }
}

impl<'a> Decode<'a> for EntryKind {
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        let unknown = input.invalid("an unknown type of a directory entry");
        let number = usize::try_from(input.varint()?).map_err(|_| unknown)?;
        Self::ALL.get(number).copied().ok_or(unknown)
    }
}

/// Which fields of a directory entry there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryFlags(u8);

impl EntryFlags {
    const META: u8 = 0x01;
    const NAME: u8 = 0x02;
    const NO_BLOCK: u8 = 0x04;
    const UUID: u8 = 0x08;
    const PREVIOUS: u8 = 0x10;
    const EXTENDED: u8 = 0x20;
    const ALL: u8 = 0x3f;

    fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }
}

impl Encode for EntryFlags {
    fn encode(&self, out: &mut Vec<u8>) {
        VarUint::from(self.0).encode(out);
    }
}

impl<'a> Decode<'a> for EntryFlags {
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        let unknown = input.invalid("unknown flags of a directory entry");
        match u8::try_from(input.varint()?) {
            Ok(flags) if flags & !Self::ALL == 0 => Ok(Self(flags)),
            _ => Err(unknown),
        }
    }
}

packetstream::payload! {
    /// One entry of an archive.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Entry {
        /// When it was made: seconds since 1970 in decimal.
        pub when: Text,
        /// What it is about.
        pub kind: EntryKind,
        /// Which of the fields that follow there are.
        pub flags: EntryFlags,
        /// The name.
        pub name: Option<Text> if flags.has(EntryFlags::NAME),
        /// Permissions, times and such, as text.
        pub meta: Option<Text> if flags.has(EntryFlags::META),
        /// What identifies the thing across its names.
        pub uuid: Option<[u8; 16]> if flags.has(EntryFlags::UUID),
        /// The contents.
        pub block: Option<BlockReference> if !flags.has(EntryFlags::NO_BLOCK),
        /// The entry before this one.
        pub previous: Option<BlockReference> if flags.has(EntryFlags::PREVIOUS),
        /// What later versions add.
        pub extended: Option<Bytes> if flags.has(EntryFlags::EXTENDED),
    }
}

impl Entry {
    /// Makes the entry of a file, of now.
    pub fn file(name: &str, contents: BlockReference) -> Self {
        // A clock before 1970 is wrong anyway.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            when: Text::from(format!("{:.3}", now.as_secs_f64()).as_str()),
            kind: EntryKind::File,
            flags: EntryFlags(EntryFlags::NAME),
            name: Some(Text::from(name)),
            meta: None,
            uuid: None,
            block: Some(contents),
            previous: None,
            extended: None,
        }
    }
}

/// Returns an entry as it is stored without its first field, the time; `None` if it has none.
pub fn without_time(entry: &[u8]) -> Option<&[u8]> {
    let mut input = Input::new(entry);
    input.decode::<Text<&str>>().ok()?;
    entry.get(input.offset()..)
}

/// An entry as it came, octet for octet, which is how a store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryOctets(Vec<u8>);

impl EntryOctets {
    /// Returns the octets.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl From<&Entry> for EntryOctets {
    fn from(entry: &Entry) -> Self {
        Self(payload::encode(entry))
    }
}

impl Encode for EntryOctets {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

impl<'a> Decode<'a> for EntryOctets {
    /// Reads the entry only to see that it is one and where it ends.
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        let mut ahead = input.clone();
        ahead.decode::<Entry>()?;
        let len = ahead.offset() - input.offset();
        Ok(Self(input.take(len)?.to_vec()))
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::hash::{HashCode, HashKind};

    fn contents() -> BlockReference {
        let hash = HashCode::of(HashKind::Sha256, b"list");
        BlockReference::Indirect { hash, span: 7 }
    }

    #[test]
    fn a_file_has_a_name_and_a_block() {
        let mut entry = Entry::file("a file", contents());
        assert!(entry.when.0.parse::<f64>().is_ok_and(|when| when > 0.0));
        entry.when = Text::from("1234567890.5");
        let octets = payload::encode(&entry);
        let expected = [
            b"\x0c1234567890.5\x00\x02\x06a file".as_slice(),
            &payload::encode(&contents()),
        ]
        .concat();
        assert_eq!(octets, expected);
        assert_eq!(payload::decode(&octets), Ok(entry));
    }

    #[test]
    fn every_field_is_read_in_its_place() {
        let octets = [
            b"\x011\x01\x3b\x01n\x01m0123456789abcdef".as_slice(),
            &payload::encode(&contents()),
            &payload::encode(&contents()),
            b"\x03ext",
        ]
        .concat();
        let entry: Entry = payload::decode(&octets).unwrap();
        assert_eq!(entry.kind, EntryKind::Directory);
        assert_eq!(entry.meta, Some(Text::from("m")));
        assert_eq!(entry.uuid.as_ref(), Some(b"0123456789abcdef"));
        assert_eq!(entry.previous, Some(contents()));
        assert_eq!(entry.extended, Some(Bytes(b"ext".to_vec())));
        assert_eq!(payload::encode(&entry), octets);
        let stored: EntryOctets = payload::decode(&octets).unwrap();
        assert_eq!(stored.as_slice(), octets);

        let bare: Entry = payload::decode(b"\x011\x02\x04").unwrap();
        assert_eq!((bare.name, bare.block), (None, None));
    }

    #[test]
    fn unknown_types_and_flags_are_refused() {
        assert!(payload::decode::<Entry>(b"\x011\x04\x04").is_err());
        assert!(payload::decode::<Entry>(b"\x011\x00\x44").is_err());
        assert!(payload::decode::<Entry>(b"\x011\x00\x82\x04").is_err());
    }
}
