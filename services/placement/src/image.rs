//! Which images lie on which nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use wherry_model::{ImageKey, NodeId};

use crate::hash::Table;

/// Of each image at most so many nodes that have it are looked at for a decision.
const LOOKED_AT: usize = 32;
/// Of so many images of an instance at most.
const IMAGES: usize = 4;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Images {
    on: Table<NodeId, Box<[ImageKey]>>,
    holders: BTreeMap<ImageKey, BTreeSet<NodeId>>,
}

impl Images {
    pub(crate) fn put(&mut self, node: NodeId, images: &[ImageKey]) {
        for image in self.on.remove(&node).unwrap_or_default() {
            if let Some(holders) = self.holders.get_mut(&image) {
                holders.remove(&node);
                if holders.is_empty() {
                    self.holders.remove(&image);
                }
            }
        }
        if images.is_empty() {
            return;
        }
        let mut images = images.to_vec();
        images.sort_unstable();
        images.dedup();
        for image in &images {
            self.holders.entry(*image).or_default().insert(node);
        }
        self.on.insert(node, images.into_boxed_slice());
    }

    /// 0 when all of `asked` are on the node, 1 when some are, 2 when none is.
    pub(crate) fn cold(&self, node: NodeId, asked: &[ImageKey]) -> u8 {
        if asked.is_empty() {
            return 0;
        }
        let there = self.on.get(&node).map_or(&[][..], |images| images);
        match asked.iter().filter(|image| there.binary_search(image).is_ok()).count() {
            0 => 2,
            all if all == asked.len() => 0,
            _ => 1,
        }
    }

    /// Of the nodes that have one of the first images of `asked` so many, those whose ids follow `after` first, then from the least on.
    /// One may come more than once.
    pub(crate) fn holders_after(&self, after: NodeId, asked: &[ImageKey]) -> impl Iterator<Item = NodeId> {
        let holders = asked.iter().take(IMAGES).filter_map(|image| self.holders.get(image));
        holders.flat_map(move |holders| {
            let following = holders.range((Bound::Excluded(after), Bound::Unbounded));
            following.chain(holders.range(..=after)).take(LOOKED_AT).copied()
        })
    }

    /// Bytes on the heap, about.
    pub(crate) fn bytes(&self) -> usize {
        let lists = self.on.values().map(|images| images.len() * size_of::<ImageKey>()).sum::<usize>();
        let holders = self.holders.values().map(|holders| holders.len() * size_of::<NodeId>() * 3 / 2).sum::<usize>();
        self.on.capacity() * (size_of::<(NodeId, Box<[ImageKey]>)>() + 1) + lists + holders
    }

    #[cfg(test)]
    pub(crate) fn shape(&self) -> Vec<(ImageKey, Vec<NodeId>)> {
        self.holders.iter().map(|(image, holders)| (*image, holders.iter().copied().collect())).collect()
    }
}
