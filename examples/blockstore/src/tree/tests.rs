//! Tests of cutting up and putting together, over a map in the place of a store.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;

use super::*;

const KIND: HashKind = HashKind::Blake3;

/// A source that counts.
#[derive(Default)]
struct Chunks {
    by_hash: RefCell<HashMap<HashCode, Vec<u8>>>,
    pending: Cell<usize>,
    most_pending: Cell<usize>,
    requests: Cell<usize>,
}

impl Chunks {
    fn add(&self, octets: &[u8]) -> HashCode {
        let hash = HashCode::of(KIND, octets);
        self.by_hash.borrow_mut().insert(hash, octets.to_vec());
        hash
    }

    fn data(&self, octets: &[u8]) -> BlockReference {
        BlockReference::Chunk {
            hash: self.add(octets),
            span: octets.len() as u64,
        }
    }

    fn list(&self, references: &[BlockReference]) -> BlockReference {
        BlockReference::Indirect {
            hash: self.add(&payload::encode(references)),
            span: references.iter().map(BlockReference::span).sum(),
        }
    }

    fn store(&self) -> impl FnMut(Chunk) -> Result<(), Infallible> {
        |chunk| {
            assert_eq!(self.add(&chunk.octets), chunk.hash);
            Ok(())
        }
    }
}

impl Source for &Chunks {
    type Pending = HashCode;
    type Error = Infallible;

    fn request(&self, hash: HashCode) -> Result<HashCode, Infallible> {
        self.requests.set(self.requests.get() + 1);
        self.pending.set(self.pending.get() + 1);
        self.most_pending
            .set(self.most_pending.get().max(self.pending.get()));
        Ok(hash)
    }

    fn is_ready(&self, _pending: &HashCode) -> bool {
        false
    }

    fn wait(&self, pending: HashCode) -> Result<Option<Vec<u8>>, Infallible> {
        self.pending.set(self.pending.get() - 1);
        Ok(self.by_hash.borrow().get(&pending).cloned())
    }
}

fn root_hash(root: &BlockReference) -> HashCode {
    match root {
        BlockReference::Indirect { hash, .. } => *hash,
        other => panic!("{other:?} is no root"),
    }
}

fn read(chunks: &Chunks, root: &BlockReference) -> Result<Vec<u8>, TreeError<Infallible>> {
    let mut reader = TreeReader::open(chunks, root_hash(root))?;
    let mut octets = Vec::new();
    while let Some(run) = reader.next_run()? {
        assert!(!run.is_empty() && run.len() <= MAX_CHUNK);
        octets.extend(run);
    }
    assert_eq!(octets.len() as u64, reader.span());
    Ok(octets)
}

fn noise(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(len as u64);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

#[test]
fn a_file_of_any_size_comes_back() {
    let sizes = [
        0,
        1,
        MIN_CHUNK - 1,
        MIN_CHUNK,
        MIN_CHUNK + 1,
        AVERAGE_CHUNK,
        MAX_CHUNK - 1,
        MAX_CHUNK,
        MAX_CHUNK + 1,
        3_000_000,
    ];
    for size in sizes {
        // Zeros have no place to cut, so their chunks are as long as may be.
        for file in [noise(size), vec![0; size]] {
            let chunks = Chunks::default();
            let root = split(&file[..], KIND, chunks.store()).unwrap();
            assert_eq!(root.span(), size as u64);
            assert_eq!(read(&chunks, &root).unwrap(), file, "{size}");
            for octets in chunks.by_hash.borrow().values() {
                assert!(octets.len() <= MAX_CHUNK);
            }
        }
    }
}

#[test]
fn an_insertion_changes_few_chunks() {
    let mut file = noise(4_000_000);
    let chunks = Chunks::default();
    split(&file[..], KIND, chunks.store()).unwrap();
    let before = chunks.by_hash.borrow().len();
    file.splice(2_000_000..2_000_000, *b"inserted");
    split(&file[..], KIND, chunks.store()).unwrap();
    let new = chunks.by_hash.borrow().len() - before;
    assert!(
        new <= 5,
        "{new} new chunks of {before}, the root among them"
    );
}

#[test]
fn trees_of_every_shape_keep_the_order_of_their_leaves() {
    for fan_out in [2, 3, 7] {
        for leaves in 0..60_u8 {
            let chunks = Chunks::default();
            let mut tree = TreeBuilder::new(KIND, fan_out);
            for leaf in 0..leaves {
                tree.push(chunks.data(&[leaf]), &mut chunks.store())
                    .unwrap();
            }
            let root = tree.finish(&mut chunks.store()).unwrap();
            let expected: Vec<u8> = (0..leaves).collect();
            assert_eq!(read(&chunks, &root).unwrap(), expected);
            for octets in chunks
                .by_hash
                .borrow()
                .values()
                .filter(|octets| octets.len() > 1)
            {
                assert!(BlockReference::list(octets).count() <= fan_out);
            }
        }
    }
}

#[test]
fn a_single_list_is_the_root_itself() {
    let chunks = Chunks::default();
    split(&noise(1000)[..], KIND, chunks.store()).unwrap();
    assert_eq!(chunks.by_hash.borrow().len(), 2);
    let empty = split(io::empty(), KIND, chunks.store()).unwrap();
    assert_eq!(root_hash(&empty), HashCode::of(KIND, b""));
}

#[test]
fn chunks_are_asked_for_ahead_up_to_a_limit() {
    let chunks = Chunks::default();
    let file = noise(20_000_000);
    let root = split(&file[..], KIND, chunks.store()).unwrap();
    assert_eq!(read(&chunks, &root).unwrap(), file);
    let most = chunks.most_pending.get();
    let limit = 8 * 1024 * 1024 / AVERAGE_CHUNK;
    assert!(most > limit / 3 && most < 2 * limit, "{most} at a time");
}

#[test]
fn every_kind_of_block_is_read() {
    let chunks = Chunks::default();
    let part = |offset, span, of: &BlockReference| BlockReference::Part {
        offset,
        span,
        of: Box::new(of.clone()),
    };
    let digits = chunks.data(b"0123456789");
    let literal = BlockReference::Literal(b"abcdef".to_vec());
    let zs = BlockReference::Repeated {
        octet: b'z',
        span: 4,
    };
    let inner = chunks.list(&[digits.clone(), literal.clone(), zs.clone()]);
    let root = chunks.list(&[
        inner.clone(),
        part(3, 4, &digits),
        part(1, 2, &literal),
        part(0, 1, &zs),
        part(8, 10, &inner),
        part(1, 3, &part(8, 10, &inner)),
        part(5, 0, &inner),
        BlockReference::Literal(Vec::new()),
    ]);
    let expected = b"0123456789abcdefzzzz3456bcz89abcdefzz9ab";
    assert_eq!(read(&chunks, &root).unwrap(), expected);
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let chunks = Chunks::default();
    let absent = HashCode::of(KIND, b"absent");
    let root = chunks.list(&[BlockReference::Chunk {
        hash: absent,
        span: 6,
    }]);
    let error = read(&chunks, &root).unwrap_err();
    assert!(matches!(error, TreeError::Missing(hash) if hash == absent));

    let root = chunks.list(&[chunks.data(b"present")]);
    let present = HashCode::of(KIND, b"present");
    chunks
        .by_hash
        .borrow_mut()
        .insert(present, b"twisted".to_vec());
    let error = read(&chunks, &root).unwrap_err();
    assert!(matches!(error, TreeError::Corrupt(hash) if hash == present));

    let list = chunks.list(&[BlockReference::Indirect {
        hash: chunks.add(b"no list"),
        span: 7,
    }]);
    let error = read(&chunks, &list).unwrap_err();
    assert!(matches!(error, TreeError::NotAList { .. }));
}

#[test]
fn spans_that_are_not_true_are_refused() {
    let chunks = Chunks::default();
    let hash = chunks.add(b"seven!!");
    let list = root_hash(&chunks.list(&[chunks.data(b"seven!!")]));
    for span in [1, 6, 8, u64::MAX] {
        for wrong in [
            BlockReference::Chunk { hash, span },
            BlockReference::Indirect { hash: list, span },
        ] {
            let root = BlockReference::Indirect {
                hash: chunks.add(&payload::encode(&wrong)),
                span,
            };
            assert!(
                matches!(read(&chunks, &root), Err(TreeError::Span)),
                "{wrong:?}"
            );
        }
    }
    let outside = BlockReference::Part {
        offset: 5,
        span: 3,
        of: Box::new(chunks.data(b"seven!!")),
    };
    assert!(matches!(
        read(&chunks, &chunks.list(&[outside])),
        Err(TreeError::Span)
    ));
    let huge = BlockReference::Repeated {
        octet: 0,
        span: u64::MAX,
    };
    let root = BlockReference::Indirect {
        hash: chunks.add(&payload::encode(&[huge.clone(), huge][..])),
        span: 0,
    };
    assert!(matches!(read(&chunks, &root), Err(TreeError::Span)));
}

#[test]
fn trees_without_end_are_refused() {
    let chunks = Chunks::default();
    let mut root = chunks.list(&[chunks.data(b"x")]);
    for _ in 0..100 {
        root = chunks.list(&[root]);
    }
    assert!(matches!(read(&chunks, &root), Err(TreeError::TooDeep)));

    // 2^40 empty blocks: nothing comes of them, so none is fetched.
    let mut root = chunks.list(&[]);
    for _ in 0..40 {
        root = chunks.list(&[root.clone(), root]);
    }
    chunks.requests.set(0);
    assert_eq!(read(&chunks, &root).unwrap(), b"");
    assert_eq!(chunks.requests.get(), 1);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("bad sector"))
        }
    }

    let chunks = Chunks::default();
    let error = split(Broken, KIND, chunks.store()).unwrap_err();
    assert!(matches!(&error, SplitError::Read(error) if error.to_string().contains("bad sector")));
}
