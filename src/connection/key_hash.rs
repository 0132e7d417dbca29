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
        // Both halves of the product: each bit of the number reaches all of the sum.
        let product = u128::from(self.state ^ number).wrapping_mul(u128::from(self.factor));
        let [low, high] = halves(product);
        self.state = (low ^ high).rotate_left(23);
    }

    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.write_u64(u64::from(*octet));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.state
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "that is what halves are")]
fn halves(product: u128) -> [u64; 2] {
    [product as u64, (product >> 64) as u64]
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
    fn keys_that_peers_use_spread_over_the_table() {
        let build = KeyHash::default();
        for stride in [1, 2, 64, 1 << 16, 1 << 32, 1 << 57] {
            let keys =
                (0..4096_u64).map(|n| (ChannelId::from(n % 3), Tag::new(n.wrapping_mul(stride))));
            let keys: HashSet<Key> = keys.collect();
            // The table looks at the lowest bits for the place and at the seven highest to tell
            // neighbours apart.
            let places: HashSet<_> = keys
                .iter()
                .map(|key| build.hash_one(key) & 0x1fff)
                .collect();
            let expected = keys.len() * 6 / 10;
            assert!(
                places.len() > expected,
                "{stride}: {} of {}",
                places.len(),
                keys.len()
            );
            let tops: HashSet<_> = keys.iter().map(|key| build.hash_one(key) >> 57).collect();
            assert!(tops.len() > keys.len().min(128) / 2, "{stride}");
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
