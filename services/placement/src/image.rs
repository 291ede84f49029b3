//! Which nodes have an image.
//!
//! What lies on a node stands with the node; here is the way back. Nodes are kept in the order of a hash of their ids: a few that follow
//! a given one are found in a few steps, and are a sample of all that have the image, the same on every replica.

use wherry_model::{ImageKey, NodeId};

use crate::hash::{Table, scatter};

/// So many nodes that follow the best one in its aisle are asked for images. Few where it is tested, so that tests reach it.
pub(crate) const NEIGHBOURS: usize = if cfg!(test) { 2 } else { 32 };
/// If none of them has all, of each image at most so many nodes that have it are looked at.
pub(crate) const LOOKED_AT: usize = if cfg!(test) { 3 } else { 8 };
/// Of so many images of an instance at most.
pub(crate) const IMAGES: usize = 4;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Images(Table<ImageKey, Holders>);

impl Images {
    /// What lies on the node at `slot` is now `after`. Both in order.
    pub(crate) fn replace(&mut self, node: NodeId, slot: u32, before: &[ImageKey], after: &[ImageKey]) {
        let holder = (scatter(node), slot);
        for image in before.iter().filter(|image| after.binary_search(image).is_err()) {
            if let Some(holders) = self.0.get_mut(image) {
                holders.remove(holder);
                if holders.count == 0 {
                    self.0.remove(image);
                }
            }
        }
        for image in after.iter().filter(|image| before.binary_search(image).is_err()) {
            self.0.entry(*image).or_default().insert(holder);
        }
    }

    /// The slots of so many of the nodes that have one of the first images of `asked`: those that follow `after`, then from the first on.
    /// One may come more than once.
    pub(crate) fn holders_after(&self, after: NodeId, asked: &[ImageKey]) -> impl Iterator<Item = u32> {
        let after = scatter(after);
        let holders = asked.iter().take(IMAGES).filter_map(|image| self.0.get(image));
        holders.flat_map(move |holders| holders.after(after).take(LOOKED_AT))
    }

    /// Bytes on the heap, about.
    pub(crate) fn bytes(&self) -> usize {
        let holders = self.0.values().map(Holders::bytes).sum::<usize>();
        self.0.capacity() * (size_of::<(ImageKey, Holders)>() + 1) + holders
    }

    #[cfg(test)]
    pub(crate) fn shape(&self, node: impl Fn(u32) -> NodeId) -> Vec<(ImageKey, Vec<NodeId>)> {
        let named = |holders: &Holders| holders.after(u64::MAX).map(&node).collect();
        let mut shape = self.0.iter().map(|(image, holders)| (*image, named(holders))).collect::<Vec<_>>();
        shape.sort_unstable();
        shape
    }
}

/// The hash of a node's id, and its slot.
type Holder = (u64, u32);

/// The nodes that have an image, in order, in a power of two of buckets by their first bits: as hashes are even, so are the buckets.
#[derive(Debug, Clone)]
struct Holders {
    buckets: Vec<Vec<Holder>>,
    count: usize,
}

impl Default for Holders {
    fn default() -> Self {
        Self { buckets: vec![Vec::new()], count: 0 }
    }
}

impl Holders {
    /// A bucket has about so many, between half and twice as much.
    const BUCKET: usize = 16;

    fn bucket(&self, hash: u64) -> usize {
        let number = hash.checked_shr(u64::BITS - self.buckets.len().ilog2()).unwrap_or(0);
        usize::try_from(number).unwrap_or(0)
    }

    fn insert(&mut self, holder: Holder) {
        let at = self.bucket(holder.0);
        let bucket = &mut self.buckets[at];
        let Err(place) = bucket.binary_search(&holder) else { return };
        bucket.insert(place, holder);
        self.count += 1;
        if self.count > self.buckets.len() * Self::BUCKET * 2 {
            self.rearrange(self.buckets.len() * 2);
        }
    }

    fn remove(&mut self, holder: Holder) {
        let at = self.bucket(holder.0);
        let bucket = &mut self.buckets[at];
        let Ok(place) = bucket.binary_search(&holder) else { return };
        bucket.remove(place);
        self.count -= 1;
        if self.buckets.len() > 1 && self.count < self.buckets.len() * Self::BUCKET / 2 {
            self.rearrange(self.buckets.len() / 2);
        }
    }

    fn rearrange(&mut self, buckets: usize) {
        let all = std::mem::replace(&mut self.buckets, vec![Vec::new(); buckets]);
        for holder in all.into_iter().flatten() {
            let at = self.bucket(holder.0);
            self.buckets[at].push(holder);
        }
    }

    /// All slots once, from the first with a larger hash on.
    fn after(&self, hash: u64) -> impl Iterator<Item = u32> {
        let at = self.bucket(hash);
        let (before, after) = self.buckets[at].split_at(self.buckets[at].partition_point(|holder| holder.0 <= hash));
        let others = self.buckets[at + 1..].iter().chain(&self.buckets[..at]).flatten();
        after.iter().chain(others).chain(before).map(|(_, slot)| *slot)
    }

    fn bytes(&self) -> usize {
        let entries = self.buckets.iter().map(|bucket| bucket.capacity() * size_of::<Holder>()).sum::<usize>();
        self.buckets.capacity() * size_of::<Vec<Holder>>() + entries
    }
}

/// 0 when all of `asked` are among `there`, which is in order, 1 when some are, 2 when none is.
pub(crate) fn cold(there: &[ImageKey], asked: &[ImageKey]) -> u8 {
    if asked.is_empty() {
        return 0;
    }
    match asked.iter().filter(|image| there.binary_search(image).is_ok()).count() {
        0 => 2,
        all if all == asked.len() => 0,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holders_follow_each_other_around_the_circle(
            steps in vec((0_u64..200, any::<bool>()), 1..600),
            asked in vec(any::<u64>(), 1..10),
        ) {
            let (mut holders, mut model) = (Holders::default(), BTreeSet::new());
            for (number, add) in steps {
                let holder = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15), u32::try_from(number).unwrap());
                if add {
                    holders.insert(holder);
                    model.insert(holder);
                } else {
                    holders.remove(holder);
                    model.remove(&holder);
                }
                prop_assert_eq!(holders.count, model.len());
            }
            for after in asked.into_iter().chain([0, u64::MAX]) {
                let (larger, others) = model.iter().partition::<Vec<_>, _>(|holder| holder.0 > after);
                let slots = larger.into_iter().chain(others).map(|(_, slot)| slot).collect::<Vec<_>>();
                prop_assert_eq!(holders.after(after).collect::<Vec<_>>(), slots);
            }
        }
    }
}
