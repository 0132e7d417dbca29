//! Hashing of the keys of requests: quick, and not for a peer to foresee.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

/// Builds hashers with secrets of their own.
///
/// A peer chooses the tags of its requests, so it must not know which of them collide. The
/// hasher of `std` sees to that with more effort than these two numbers need: it would be a tenth
/// of the time of a short call.
#[derive(Clone, Debug)]
pub(super) struct KeyHash {
    start: u64,
    factor: u64,
}

impl Default for KeyHash {
    fn default() -> Self {
        let random = || RandomState::new().build_hasher().finish();
        Self {
            start: random(),
            // Odd, so that multiplying by it loses nothing.
            factor: random() | 1,
        }
    }
}

impl BuildHasher for KeyHash {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher {
            state: self.start,
            factor: self.factor,
        }
    }
}

pub(super) struct KeyHasher {
    state: u64,
    factor: u64,
}

impl Hasher for KeyHasher {
    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.state = folded(self.state ^ number, self.factor);
    }

    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.write_u64(u64::from(*octet));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        // Tags mostly grow by one, and one product of such numbers keeps some of their order.
        folded(self.state, 0x9e37_79b9_7f4a_7c15)
    }
}

/// Both halves of the product: each bit of the number reaches all of the result.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "that is what halves are")]
fn folded(number: u64, factor: u64) -> u64 {
    let product = u128::from(number).wrapping_mul(u128::from(factor));
    (product as u64 ^ (product >> 64) as u64).rotate_left(23)
}

/// Gives back what a table took for a burst that is over.
pub(super) fn release_room<K: Eq + Hash, V>(table: &mut HashMap<K, V, KeyHash>) {
    /// What the usual windows need.
    const KEPT: usize = 512;
    if table.is_empty() && table.capacity() > 2 * KEPT {
        table.shrink_to(KEPT);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::connection::state::Key;
    use crate::wire::{ChannelId, Tag};

    #[test]
    fn keys_that_peers_use_spread_over_the_table_whatever_the_secrets() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..100 {
            let build = KeyHash {
                start: random.u64(..),
                factor: random.u64(..) | 1,
            };
            for stride in [1, 2, 64, 1 << 16, 1 << 32, 1 << 57] {
                let tags = (0..4096_u64).map(|n| n.wrapping_mul(stride));
                let keys: HashSet<Key> = tags
                    .map(|tag| (ChannelId::from(tag % 3), Tag::new(tag)))
                    .collect();
                // The table looks at the lowest bits for the place and at the seven highest to
                // tell neighbours apart. By chance, 79 of 100 of 4,096 keys have a place to
                // themselves or are the first there.
                let hashes = || keys.iter().map(|key| build.hash_one(key));
                let places: HashSet<_> = hashes().map(|hash| hash & 0x1fff).collect();
                assert!(
                    places.len() > keys.len() * 7 / 10,
                    "{build:?}, {stride}: {} of {}",
                    places.len(),
                    keys.len()
                );
                let tops: HashSet<_> = hashes().map(|hash| hash >> 57).collect();
                assert!(tops.len() > keys.len().min(128) / 2, "{build:?}, {stride}");
            }
        }
    }

    #[test]
    fn two_tables_do_not_collide_alike() {
        let key = (ChannelId::DEFAULT, Tag::new(7));
        assert_ne!(
            KeyHash::default().hash_one(key),
            KeyHash::default().hash_one(key)
        );
    }
}
