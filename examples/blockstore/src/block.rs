//! Block references: how a run of octets is put together from chunks.
//!
//! What is read here comes from the peer or from chunks that anybody may have stored. So nothing
//! recurses: a reference may nest in others to a limited depth only, and the trees that indirect
//! blocks span are walked with a list of what is left to do.

use std::iter;

use packetstream::payload::{self, Decode, Encode, Input, PayloadError, VarUint};

use crate::hash::HashCode;

/// How deep references may nest within one reference. There is no use for more than one or two;
/// without a limit a chunk of `03 00 03 00 …` would be a chain as long as the chunk.
const MAX_NESTING: usize = 16;

const INDIRECT: u64 = 0x01;
const TYPED: u64 = 0x02;
const TYPE_FLAGS: u64 = 0x04;

const TYPE_HASH: u64 = 0;
const TYPE_RLE: u64 = 1;
const TYPE_LITERAL: u64 = 2;
const TYPE_SUB_BLOCK: u64 = 3;

/// A reference to a run of octets, which is called a block.
///
/// # Examples
///
/// ```
/// use blockstore::block::BlockReference;
/// use packetstream::payload::{self, PayloadError};
///
/// # fn main() -> Result<(), PayloadError> {
/// let zeros: BlockReference = payload::decode(&[0x04, 0x02, 0x64, 0x01, 0x00])?;
/// assert_eq!(zeros, BlockReference::Repeated { octet: 0, span: 100 });
/// assert_eq!(zeros.span(), 100);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockReference {
    /// The octets are a chunk.
    Chunk {
        /// The chunk.
        hash: HashCode,
        /// Its length in octets.
        span: u64,
    },
    /// The octets are those of the blocks that a chunk lists.
    Indirect {
        /// The chunk with the list of references.
        hash: HashCode,
        /// The number of octets that all of them stand for.
        span: u64,
    },
    /// One octet, many times.
    Repeated {
        /// The octet.
        octet: u8,
        /// How many times.
        span: u64,
    },
    /// The octets themselves.
    Literal(Vec<u8>),
    /// A part of another block.
    Part {
        /// Where the part begins in the other block.
        offset: u64,
        /// The length of the part, in octets.
        span: u64,
        /// The other block.
        of: Box<BlockReference>,
    },
}

impl BlockReference {
    /// Returns how many octets it stands for, as it claims.
    pub fn span(&self) -> u64 {
        match self {
            Self::Chunk { span, .. }
            | Self::Indirect { span, .. }
            | Self::Repeated { span, .. }
            | Self::Part { span, .. } => *span,
            Self::Literal(octets) => octets.len() as u64,
        }
    }

    /// Reads the list of references that is the chunk of an indirect block, one after the other.
    ///
    /// There is no collection of them, because it may take ten times the memory of the chunk. After
    /// an error the iterator ends.
    pub fn list(chunk: &[u8]) -> impl Iterator<Item = Result<Self, PayloadError>> {
        let mut input = Input::new(chunk);
        let mut has_failed = false;
        iter::from_fn(move || {
            if input.is_empty() || has_failed {
                return None;
            }
            let reference = input.decode();
            has_failed = reference.is_err();
            Some(reference)
        })
    }

    fn decode_nested(input: &mut Input<'_>, nesting: usize) -> Result<Self, PayloadError> {
        // What is left of a reference after its last field is ignored, as the original does.
        let mut input = input.nested()?;
        let unknown_flags = input.invalid("unknown flags of a block reference");
        let flags = input.varint()?;
        if flags & !(INDIRECT | TYPED | TYPE_FLAGS) != 0 {
            return Err(unknown_flags);
        }
        let span = input.varint()?;
        let unknown_type = input.invalid("an unknown type of a block reference");
        let block_type = match flags & TYPED {
            0 => TYPE_HASH,
            _ => input.varint()?,
        };
        if flags & TYPE_FLAGS != 0 {
            input.varint()?;
        }
        match (block_type, flags & INDIRECT != 0) {
            (TYPE_HASH, false) => Ok(Self::Chunk {
                hash: input.decode()?,
                span,
            }),
            (TYPE_HASH, true) => Ok(Self::Indirect {
                hash: input.decode()?,
                span,
            }),
            (TYPE_RLE, false) => Ok(Self::Repeated {
                octet: input.decode()?,
                span,
            }),
            (TYPE_LITERAL, false) => {
                let too_long = input.invalid("a literal block longer than memory");
                let len = usize::try_from(span).map_err(|_| too_long)?;
                Ok(Self::Literal(input.take(len)?.to_vec()))
            }
            (TYPE_SUB_BLOCK, false) => {
                let too_deep = input.invalid("block references nested too deeply");
                let offset = input.varint()?;
                let deeper = Some(nesting + 1).filter(|nesting| *nesting <= MAX_NESTING);
                let of = Self::decode_nested(&mut input, deeper.ok_or(too_deep)?)?;
                Ok(Self::Part {
                    offset,
                    span,
                    of: Box::new(of),
                })
            }
            _ => Err(unknown_type),
        }
    }
}

impl Encode for BlockReference {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut fields = Vec::new();
        let mut head = |flags: u64, block_type: u64| {
            VarUint(flags).encode(&mut fields);
            VarUint(self.span()).encode(&mut fields);
            if flags & TYPED != 0 {
                VarUint(block_type).encode(&mut fields);
            }
        };
        match self {
            Self::Chunk { hash, .. } => {
                head(0, TYPE_HASH);
                hash.encode(&mut fields);
            }
            Self::Indirect { hash, .. } => {
                head(INDIRECT, TYPE_HASH);
                hash.encode(&mut fields);
            }
            Self::Repeated { octet, .. } => {
                head(TYPED, TYPE_RLE);
                octet.encode(&mut fields);
            }
            Self::Literal(octets) => {
                head(TYPED, TYPE_LITERAL);
                fields.extend_from_slice(octets);
            }
            Self::Part { offset, of, .. } => {
                head(TYPED, TYPE_SUB_BLOCK);
                VarUint(*offset).encode(&mut fields);
                of.encode(&mut fields);
            }
        }
        payload::Bytes(fields).encode(out);
    }
}

impl<'a> Decode<'a> for BlockReference {
    fn decode(input: &mut Input<'a>) -> Result<Self, PayloadError> {
        Self::decode_nested(input, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::HashKind;

    fn some_hash() -> HashCode {
        HashCode::of(HashKind::Blake3, b"some chunk")
    }

    fn decode(octets: &[u8]) -> Result<BlockReference, PayloadError> {
        payload::decode(octets)
    }

    #[test]
    fn the_examples_of_the_original_are_encoded_and_decoded() {
        let with_hash = |head: &[u8]| [head, some_hash().digest()].concat();
        let examples = [
            (
                with_hash(b"\x24\x00\x83\x74\x02"),
                BlockReference::Chunk {
                    hash: some_hash(),
                    span: 500,
                },
            ),
            (
                with_hash(b"\x24\x01\x94\x2b\x02"),
                BlockReference::Indirect {
                    hash: some_hash(),
                    span: 2603,
                },
            ),
            (
                b"\x06\x02\x03\x02lit".to_vec(),
                BlockReference::Literal(b"lit".to_vec()),
            ),
            (
                b"\x04\x02\x64\x01\x00".to_vec(),
                BlockReference::Repeated {
                    octet: 0,
                    span: 100,
                },
            ),
            (
                b"\x0b\x02\x02\x03\x01\x06\x02\x03\x02lit".to_vec(),
                BlockReference::Part {
                    offset: 1,
                    span: 2,
                    of: Box::new(BlockReference::Literal(b"lit".to_vec())),
                },
            ),
        ];
        for (octets, reference) in &examples {
            assert_eq!(payload::encode(reference), *octets);
            assert_eq!(decode(octets).as_ref(), Ok(reference));
            for end in 0..octets.len() {
                assert!(decode(&octets[..end]).is_err(), "{reference:?} up to {end}");
            }
        }
        let all: Vec<u8> = examples
            .iter()
            .flat_map(|(octets, _)| octets)
            .copied()
            .collect();
        let listed: Result<Vec<_>, _> = BlockReference::list(&all).collect();
        assert_eq!(listed, Ok(examples.map(|(_, block)| block).to_vec()));

        let cut = BlockReference::list(&all[..all.len() - 1]);
        assert_eq!(cut.filter(Result::is_err).count(), 1);
    }

    #[test]
    fn octets_after_the_last_field_are_ignored() {
        let zeros = BlockReference::Repeated {
            octet: 0,
            span: 100,
        };
        assert_eq!(decode(b"\x06\x02\x64\x01\x00\xff\xff"), Ok(zeros));
    }

    #[test]
    fn flags_of_the_type_are_ignored() {
        let zeros = BlockReference::Repeated { octet: 0, span: 1 };
        assert_eq!(decode(b"\x05\x06\x01\x01\x7f\x00"), Ok(zeros));
    }

    #[test]
    fn unknown_flags_and_types_are_refused() {
        assert!(decode(b"\x04\x0a\x64\x01\x00").is_err(), "flag 8");
        assert!(decode(b"\x04\x02\x64\x04\x00").is_err(), "type 4");
        assert!(
            decode(b"\x04\x03\x64\x01\x00").is_err(),
            "an indirect RLE block"
        );
        assert!(decode(b"\x00").is_err(), "no fields");
    }

    #[test]
    fn references_that_nest_without_end_are_refused() {
        let nest = |depth: usize| {
            let innermost = BlockReference::Literal(Vec::new());
            (0..depth).fold(innermost, |of, _| BlockReference::Part {
                offset: 0,
                span: 0,
                of: Box::new(of),
            })
        };
        let deepest = nest(MAX_NESTING);
        assert_eq!(decode(&payload::encode(&deepest)), Ok(deepest));
        assert!(decode(&payload::encode(&nest(MAX_NESTING + 1))).is_err());

        let mut hostile = b"\x04\x02\x00\x02\x00".to_vec();
        for _ in 0..1000 {
            let fields = [&[2, 0, 3, 0], hostile.as_slice()].concat();
            hostile = payload::encode(&payload::Bytes(fields));
        }
        assert!(decode(&hostile).is_err());
    }

    #[test]
    fn a_literal_that_claims_more_than_there_is_is_refused() {
        let mut fields = vec![2];
        VarUint(u64::MAX).encode(&mut fields);
        fields.extend_from_slice(b"\x02abc");
        assert!(decode(&payload::encode(&payload::Bytes(fields))).is_err());
    }
}
