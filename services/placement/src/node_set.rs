//! A set of nodes, asked of one candidate after the other: a bit for each where they are many, a short list where they are few.

/// More than so many are kept as bits. A list of them is as large as the bits of 16,000 nodes.
const FEW: usize = if cfg!(test) { 3 } else { 512 };

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct NodeSet {
    /// In order; none where there are bits.
    few: Vec<u32>,
    bits: Vec<u64>,
    count: usize,
}

fn place(slot: u32) -> (usize, u64) {
    (usize::try_from(slot / u64::BITS).unwrap_or(usize::MAX), 1 << (slot % u64::BITS))
}

impl NodeSet {
    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn contains(&self, slot: u32) -> bool {
        if self.bits.is_empty() {
            return self.few.binary_search(&slot).is_ok();
        }
        let (word, bit) = place(slot);
        self.bits.get(word).is_some_and(|bits| bits & bit != 0)
    }

    pub(crate) fn insert(&mut self, slot: u32) {
        if self.contains(slot) {
            return;
        }
        self.count += 1;
        if self.bits.is_empty() && self.count <= FEW {
            self.few.insert(self.few.partition_point(|known| *known < slot), slot);
            return;
        }
        for slot in std::mem::take(&mut self.few).into_iter().chain([slot]) {
            let (word, bit) = place(slot);
            if self.bits.len() <= word {
                self.bits.resize(word + 1, 0);
            }
            self.bits[word] |= bit;
        }
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        if !self.contains(slot) {
            return;
        }
        self.count -= 1;
        if self.bits.is_empty() {
            self.few.retain(|known| *known != slot);
            return;
        }
        let (word, bit) = place(slot);
        self.bits[word] &= !bit;
        if self.count <= FEW / 2 {
            let words = (0..).zip(std::mem::take(&mut self.bits));
            let slots =
                words.flat_map(|(word, bits)| (0..u64::BITS).map(move |bit| (word * u64::BITS + bit, bits >> bit & 1)));
            self.few = slots.filter(|(_, set)| *set == 1).map(|(slot, _)| slot).collect();
        }
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.few.capacity() * size_of::<u32>() + self.bits.capacity() * size_of::<u64>()
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
        fn holds_what_a_set_holds(steps in vec((0_u32..300, any::<bool>()), 1..80)) {
            let (mut set, mut model) = (NodeSet::default(), BTreeSet::new());
            for (slot, add) in steps {
                if add {
                    set.insert(slot);
                    model.insert(slot);
                } else {
                    set.remove(slot);
                    model.remove(&slot);
                }
                prop_assert_eq!(set.is_empty(), model.is_empty());
                prop_assert!((0..320).all(|slot| set.contains(slot) == model.contains(&slot)));
            }
        }
    }
}
