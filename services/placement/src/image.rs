//! Which nodes have an image.
//!
//! What lies on a node stands with the node; here is the way back. Nodes are kept in the order of a hash of their ids: a few that follow
//! a given one are found in a few steps, and are a sample of all that have the image, the same on every replica.

use std::collections::BTreeSet;
use std::ops::Bound;

use wherry_model::{ImageKey, NodeId};

use crate::hash::{Table, scatter};

/// Of each image at most so many nodes that have it are looked at for a decision. Few where it is tested, so that tests reach it.
pub(crate) const LOOKED_AT: usize = if cfg!(test) { 3 } else { 16 };
/// Of so many images of an instance at most.
pub(crate) const IMAGES: usize = 4;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Images {
    /// By the hash of the node's id; its slot beside.
    holders: Table<ImageKey, BTreeSet<(u64, u32)>>,
}

impl Images {
    /// What lies on the node at `slot` is now `after`. Both in order.
    pub(crate) fn replace(&mut self, node: NodeId, slot: u32, before: &[ImageKey], after: &[ImageKey]) {
        let key = (scatter(node), slot);
        for image in before.iter().filter(|image| after.binary_search(image).is_err()) {
            if let Some(holders) = self.holders.get_mut(image) {
                holders.remove(&key);
                if holders.is_empty() {
                    self.holders.remove(image);
                }
            }
        }
        for image in after.iter().filter(|image| before.binary_search(image).is_err()) {
            self.holders.entry(*image).or_default().insert(key);
        }
    }

    /// The slots of so many of the nodes that have one of the first images of `asked`: those that follow `after`, then from the first on.
    /// One may come more than once.
    pub(crate) fn holders_after(&self, after: NodeId, asked: &[ImageKey]) -> impl Iterator<Item = u32> {
        let from = (scatter(after), u32::MAX);
        let holders = asked.iter().take(IMAGES).filter_map(|image| self.holders.get(image));
        holders.flat_map(move |holders| {
            let following = holders.range((Bound::Excluded(from), Bound::Unbounded));
            following.chain(holders).take(LOOKED_AT.min(holders.len())).map(|(_, slot)| *slot)
        })
    }

    /// Bytes on the heap, about.
    pub(crate) fn bytes(&self) -> usize {
        let holders = self.holders.values().map(|holders| holders.len() * size_of::<(u64, u32)>() * 3 / 2);
        self.holders.capacity() * (size_of::<(ImageKey, BTreeSet<(u64, u32)>)>() + 1) + holders.sum::<usize>()
    }

    #[cfg(test)]
    pub(crate) fn shape(&self, node: impl Fn(u32) -> NodeId) -> Vec<(ImageKey, Vec<NodeId>)> {
        let named = |holders: &BTreeSet<(u64, u32)>| holders.iter().map(|(_, slot)| node(*slot)).collect();
        let mut shape = self.holders.iter().map(|(image, holders)| (*image, named(holders))).collect::<Vec<_>>();
        shape.sort_unstable();
        shape
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
