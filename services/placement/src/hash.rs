//! Look-up tables of ids. The order of such a table is never used: no decision may depend on it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table with [`Mix`].
pub(crate) type Table<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

/// Folded multiplication of eight bytes at a time. The keys are ids that we make ourselves, or hashes; a key of a tenant's own
/// choice reaches a table only within that tenant's bounded number of labels.
#[derive(Default)]
pub(crate) struct Mix(u64);

impl Mix {
    fn add(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let halves = product ^ (product >> 64);
        self.0 = u64::try_from(halves & u128::from(u64::MAX)).unwrap_or(0).rotate_left(23);
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.add(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }

    /// Lengths: the keys of a table are all of one length.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// SplitMix64's finaliser over both halves of an id: ids that begin alike get unlike numbers.
pub(crate) fn scatter(id: wherry_model::NodeId) -> u64 {
    let (high, low) = id.as_uuid().as_u64_pair();
    [high, low].into_iter().fold(0_u64, |hash, half| {
        let mut mixed = hash.wrapping_add(half).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}
