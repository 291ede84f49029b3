//! Ordered sets of nodes that answer "the least memory from here on, among those with enough CPU" in logarithmic time.
//!
//! Treaps (Seidel, Aragon 1996) in one arena, each entry knowing the largest free CPU below it. A `BTreeSet` cannot carry that,
//! so within a size class it would walk past every node with enough memory and too little CPU. Priorities are a hash
//! of the id: a set has one shape, however it came about, and no randomness is needed.

use wherry_model::NodeId;

/// The root of a tree, or a child.
pub(crate) type Link = Option<usize>;

/// One node of the fleet in a tree; its place in the arena is its slot.
#[derive(Debug, Clone)]
struct Entry {
    memory: u64,
    id: NodeId,
    cpu: u64,
    most_cpu: u64,
    priority: u64,
    left: Link,
    right: Link,
}

impl Entry {
    fn key(&self) -> (u64, NodeId) {
        (self.memory, self.id)
    }
}

/// All trees.
#[derive(Debug, Clone, Default)]
pub(crate) struct Forest {
    entries: Vec<Entry>,
    /// How many entries look-ups have touched: what must not grow with the fleet.
    #[cfg(test)]
    pub(crate) visits: std::cell::Cell<u64>,
}

impl Forest {
    /// Puts `slot` with these amounts into the tree at `root`; returns the new root. A slot is in one
    /// tree at a time.
    pub(crate) fn insert(&mut self, root: Link, slot: usize, id: NodeId, cpu: u64, memory: u64) -> usize {
        let entry = Entry { memory, id, cpu, most_cpu: cpu, priority: priority_of(id), left: None, right: None };
        if slot >= self.entries.len() {
            self.entries.resize(slot + 1, entry.clone());
        }
        self.entries[slot] = entry;
        self.graft(root, slot)
    }

    fn graft(&mut self, root: Link, slot: usize) -> usize {
        let Some(top) = root else { return slot };
        let (new, old) = (&self.entries[slot], &self.entries[top]);
        if (new.priority, new.id) > (old.priority, old.id) {
            let (left, right) = self.split(root, self.entries[slot].key());
            self.entries[slot].left = left;
            self.entries[slot].right = right;
            return self.renewed(slot);
        }
        if new.key() < old.key() {
            self.entries[top].left = Some(self.graft(old.left, slot));
        } else {
            self.entries[top].right = Some(self.graft(old.right, slot));
        }
        self.renewed(top)
    }

    /// Takes `slot` out of the tree at `root`, which holds it; returns the new root.
    pub(crate) fn remove(&mut self, root: Link, slot: usize) -> Link {
        let top = root?;
        let entry = &self.entries[top];
        let (left, right) = (entry.left, entry.right);
        if top == slot {
            return self.merge(left, right);
        }
        if self.entries[slot].key() < entry.key() {
            self.entries[top].left = self.remove(left, slot);
        } else {
            self.entries[top].right = self.remove(right, slot);
        }
        Some(self.renewed(top))
    }

    /// The first in order of (memory, id) with at least `memory` and `cpu` that is admitted.
    pub(crate) fn first(&self, root: Link, memory: u64, cpu: u64, admits: &impl Fn(usize) -> bool) -> Link {
        let top = root?;
        #[cfg(test)]
        self.visits.set(self.visits.get() + 1);
        let entry = &self.entries[top];
        if entry.most_cpu < cpu {
            return None;
        }
        if entry.memory < memory {
            return self.first(entry.right, memory, cpu, admits);
        }
        self.first(entry.left, memory, cpu, admits)
            .or_else(|| (entry.cpu >= cpu && admits(top)).then_some(top))
            .or_else(|| self.first(entry.right, memory, cpu, admits))
    }

    /// The last in that order with at most `memory` and at least `cpu` that is admitted.
    pub(crate) fn last(&self, root: Link, memory: u64, cpu: u64, admits: &impl Fn(usize) -> bool) -> Link {
        let top = root?;
        #[cfg(test)]
        self.visits.set(self.visits.get() + 1);
        let entry = &self.entries[top];
        if entry.most_cpu < cpu {
            return None;
        }
        if entry.memory > memory {
            return self.last(entry.left, memory, cpu, admits);
        }
        self.last(entry.right, memory, cpu, admits)
            .or_else(|| (entry.cpu >= cpu && admits(top)).then_some(top))
            .or_else(|| self.last(entry.left, memory, cpu, admits))
    }

    /// Free memory of `slot`, in MiB.
    pub(crate) fn memory(&self, slot: usize) -> u64 {
        self.entries[slot].memory
    }

    /// Below `key`, and from `key` on.
    fn split(&mut self, root: Link, key: (u64, NodeId)) -> (Link, Link) {
        let Some(top) = root else { return (None, None) };
        let entry = &self.entries[top];
        if entry.key() < key {
            let (below, above) = self.split(entry.right, key);
            self.entries[top].right = below;
            (Some(self.renewed(top)), above)
        } else {
            let (below, above) = self.split(entry.left, key);
            self.entries[top].left = above;
            (below, Some(self.renewed(top)))
        }
    }

    /// One tree of two, all of `low` being below all of `high`.
    fn merge(&mut self, low: Link, high: Link) -> Link {
        let (Some(a), Some(b)) = (low, high) else { return low.or(high) };
        let (left, right) = (&self.entries[a], &self.entries[b]);
        if (left.priority, left.id) > (right.priority, right.id) {
            self.entries[a].right = self.merge(left.right, high);
            Some(self.renewed(a))
        } else {
            self.entries[b].left = self.merge(low, right.left);
            Some(self.renewed(b))
        }
    }

    /// Counts the largest CPU below `slot` again.
    fn renewed(&mut self, slot: usize) -> usize {
        let entry = &self.entries[slot];
        let below = [entry.left, entry.right].into_iter().flatten().map(|child| self.entries[child].most_cpu).max();
        self.entries[slot].most_cpu = entry.cpu.max(below.unwrap_or(0));
        slot
    }

    /// (memory, id, cpu, most_cpu) from the root down, children in brackets' order: equal for equal sets.
    #[cfg(test)]
    pub(crate) fn shape(&self, root: Link) -> Vec<(u64, NodeId, u64, u64)> {
        let Some(top) = root else { return Vec::new() };
        let entry = &self.entries[top];
        let mut shape = vec![(entry.memory, entry.id, entry.cpu, entry.most_cpu)];
        shape.extend(self.shape(entry.left));
        shape.extend(self.shape(entry.right));
        shape
    }
}

/// SplitMix64's finaliser over both halves: ids that begin alike get unlike priorities.
fn priority_of(id: NodeId) -> u64 {
    let (high, low) = id.as_uuid().as_u64_pair();
    [high, low].into_iter().fold(0_u64, |hash, half| {
        let mut mixed = hash.wrapping_add(half).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}
