//! Tests of disks that fail, and of files that are not what was written.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use packetstream::payload;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::*;
use crate::archive::Entry;
use crate::block::BlockReference;
use crate::common;

/// A disk in memory that can break.
#[derive(Clone, Debug, Default)]
struct Disk {
    memory: Arc<InMemoryBackend>,
    cannot_write: Arc<AtomicBool>,
    cannot_read: Arc<AtomicBool>,
}

impl Disk {
    fn store(&self) -> Store {
        let disk = self.clone();
        let database = Database::with_backend(move || disk.clone(), HashKind::Blake3).unwrap();
        Store::start(database, None).unwrap()
    }

    fn check(is_broken: &AtomicBool) -> io::Result<()> {
        if is_broken.load(Ordering::Relaxed) {
            return Err(io::Error::other("no space left"));
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        Self::check(&self.cannot_read)?;
        self.memory.read(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > self.memory.len()? {
            Self::check(&self.cannot_write)?;
        }
        self.memory.set_len(len)
    }

    fn sync_data(&self, eventual: bool) -> io::Result<()> {
        self.memory.sync_data(eventual)
    }

    /// What is there can be written over, as on a disk that is full.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if data.len() > 8192 {
            Self::check(&self.cannot_write)?;
        }
        self.memory.write(offset, data)
    }
}

fn big(seed: u8) -> Vec<u8> {
    vec![seed; 1 << 20]
}

#[test]
fn after_a_write_has_failed_no_flush_succeeds_and_reading_goes_on() {
    common::watched(|| {
        let disk = Disk::default();
        let store = disk.store();
        let stored = store.add(big(0)).unwrap();
        store.append("files", b"entry").unwrap();
        store.flush().unwrap();

        disk.cannot_write.store(true, Ordering::Relaxed);
        let lost = store.add(big(1)).unwrap();
        let error = store.flush().unwrap_err();
        assert!(matches!(error, StoreError::Failed(_)), "{error}");
        let told = crate::chain(&error);
        assert!(told.contains("no space left"), "{told}");
        // Also once the disk works again: what was to be written is lost.
        for _ in 0..2 {
            assert!(store.add(big(2)).is_err());
            assert!(store.append("files", b"another").is_err());
            assert!(store.record("files", b"another").is_err());
            assert!(store.flush().is_err());

            assert_eq!(store.get(&stored).unwrap(), Some(big(0)));
            assert!(
                !store.contains(&lost).unwrap(),
                "nobody is told that it is there"
            );
            assert_eq!(store.get(&lost).unwrap(), None);
            assert_eq!(store.statistics().unwrap(), (1, 1 << 20));
            assert_eq!(store.entries("files").unwrap(), [b"entry"]);
            assert_eq!(store.last_entry("files").unwrap().unwrap(), b"entry");
            let mut hashes = Vec::new();
            let visited = store.visit(&Selection::default(), |hash| hashes.push(hash));
            visited.unwrap();
            assert_eq!(hashes, [stored]);
            // What is there need not be written.
            assert_eq!(store.add(big(0)).unwrap(), stored);
            disk.cannot_write.store(false, Ordering::Relaxed);
        }
    });
}

#[test]
fn readers_notice_nothing_of_a_write_that_fails_beside_them() {
    common::watched(|| {
        for _ in 0..10 {
            let disk = Disk::default();
            let store = disk.store();
            let hash = store.add(b"chunk".to_vec()).unwrap();
            let entry = BlockReference::Literal(b"contents".to_vec());
            let entry = payload::encode(&Entry::file("name", entry));
            store.append("files", &entry).unwrap();
            store.flush().unwrap();
            let is_over = AtomicBool::new(false);
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        while !is_over.load(Ordering::Relaxed) {
                            assert_eq!(store.get(&hash).unwrap().unwrap(), b"chunk");
                            assert!(store.contains(&hash).unwrap());
                            assert_eq!(store.last_entry("files").unwrap().unwrap(), entry);
                            assert_eq!(
                                store.entries("files").unwrap(),
                                std::slice::from_ref(&entry)
                            );
                            assert!(store.statistics().unwrap().0 >= 1);
                            let mut hashes = Vec::new();
                            let all = Selection::default();
                            store.visit(&all, |hash| hashes.push(hash)).unwrap();
                            assert!(hashes.contains(&hash) && hashes.is_sorted());
                            let page = store.latest_entries("files", None, 1 << 20);
                            assert_eq!(page.unwrap().len(), 1);
                        }
                    });
                }
                disk.cannot_write.store(true, Ordering::Relaxed);
                store.add(big(1)).unwrap();
                assert!(store.flush().is_err());
                is_over.store(true, Ordering::Relaxed);
            });
        }
    });
}

#[test]
fn after_a_read_has_failed_reading_goes_on_and_what_was_not_on_disk_is_not_covered() {
    common::watched(|| {
        let disk = Disk::default();
        let store = disk.store();
        // More than is cached.
        let hashes: Vec<_> = (0..40).map(|seed| store.add(big(seed)).unwrap()).collect();
        store.flush().unwrap();
        disk.cannot_read.store(true, Ordering::Relaxed);
        let failed = hashes.iter().filter(|hash| store.get(hash).is_err());
        assert!(failed.count() > 0);
        disk.cannot_read.store(false, Ordering::Relaxed);
        for (seed, hash) in (0..).zip(&hashes) {
            assert_eq!(store.get(hash).unwrap(), Some(big(seed)));
        }
        let outcome = store.add(big(100)).and_then(|_| store.flush());
        assert!(
            outcome.is_err(),
            "commits that were not on disk may be lost"
        );
    });
}

#[test]
fn a_file_that_is_damaged_is_an_error_in_words() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(opening::FILE_NAMES[0]);
        drop(Store::open(directory.path(), None).unwrap());
        let whole = fs::read(&path).unwrap();
        let page = |bytes: &[u8]| [&whole[..4096], bytes].concat();
        for (contents, expected) in [
            (Vec::new(), "it is empty"),
            (whole[..100].to_vec(), ""),
            (whole[..4096].to_vec(), "it is shorter than it was"),
            (
                whole[..whole.len() / 2].to_vec(),
                "it is shorter than it was",
            ),
            (
                whole[..whole.len() - 1].to_vec(),
                "it is shorter than it was",
            ),
            (page(&vec![0xff; whole.len() - 4096]), ""),
            (
                b"something else".repeat(1000),
                "it is something else than a database",
            ),
            (vec![0; 10_000], "it is something else than a database"),
        ] {
            fs::write(&path, &contents).unwrap();
            match Store::open(directory.path(), None) {
                Err(error) => {
                    let told = crate::chain(&error);
                    assert!(told.contains(expected), "{told}");
                    assert!(told.starts_with("the database of the store"), "{told}");
                }
                Ok(_) => assert_eq!(expected, "", "it is opened"),
            }
        }
        fs::write(&path, &whole).unwrap();
        Store::open(directory.path(), None).unwrap();
    });
}

#[test]
fn a_store_whose_making_was_cut_short_is_made() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(opening::FILE_NAMES[1]), "").unwrap();
        fs::write(directory.path().join("blocks.lock"), "process 1 since 1\n").unwrap();
        let store = Store::open(directory.path(), None).unwrap();
        store.add(b"chunk".to_vec()).unwrap();
        store.flush().unwrap();
        assert!(!directory.path().join(opening::FILE_NAMES[1]).exists());
    });
}

#[cfg(unix)]
#[test]
fn a_store_that_is_open_says_who_has_it() {
    common::watched(|| {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), None).unwrap();
        let error = Store::open(directory.path(), None).unwrap_err();
        let expected = format!("process {} has it open", std::process::id());
        assert_eq!(error.to_string(), expected);
        let first = store.lock_text().to_owned();
        let lock = directory.path().join("blocks.lock");
        assert!(is_part_of_a_store(&lock, &first));
        assert!(!is_part_of_a_store(
            &lock.with_file_name("blocks.redb2"),
            &first
        ));
        drop(store);
        // No other opening is taken for this one.
        let store = Store::open(directory.path(), None).unwrap();
        assert!(!is_part_of_a_store(&lock, &first));
        assert!(is_part_of_a_store(&lock, store.lock_text()));
        assert!(!is_part_of_a_store(&lock, ""));
    });
}
