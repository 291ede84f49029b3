//! The nodes that can take something, arranged so that the best one is found without looking at the others.
//!
//! Nodes stand in shelves: empty or not, architecture, fencing or not, version of the agent, isolation classes, size class of the free CPU. A shelf is an ordered set by free
//! memory. A decision walks the shelves upward from the demand's own class. On each shelf one or two look-ups find the best
//! of it, and the walk ends where the CPU left over is by itself worse than the best so far. There are at most
//! [`STEPS`] classes for each doubling of the CPU, so the number of shelves does not grow with the fleet.

use std::collections::BTreeMap;

use wherry_model::{Architecture, Demand, IsolationSet, NodeState};

use crate::change::NodeSnapshot;
use crate::forest::{Forest, Link};
use crate::score::ExchangeRate;

/// Width of the smallest size classes, in thousandths of a core.
const FINEST_MILLIS: u64 = 256;
/// Size classes for each doubling of the CPU above `STEPS * FINEST_MILLIS`.
const STEPS: u64 = 16;

/// `cpu_millis` rounded down to its size class: the boundary is never more than one 16th away, or 256m for small amounts.
pub(crate) const fn size_class(cpu_millis: u64) -> u64 {
    let mut width = FINEST_MILLIS;
    if cpu_millis >= FINEST_MILLIS * STEPS * 2 {
        width = 1 << (cpu_millis.ilog2() - STEPS.ilog2());
    }
    cpu_millis - cpu_millis % width
}

/// Which shelves. Those in use come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Aisle {
    empty: bool,
    architecture: Architecture,
    fences: bool,
    protocol: u32,
    isolation: IsolationSet,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    aisles: BTreeMap<Aisle, BTreeMap<u64, Link>>,
    forest: Forest,
}

impl Index {
    /// Puts a node where it belongs: nowhere if it takes nothing new or has no instance left to give.
    pub(crate) fn insert(&mut self, slot: usize, node: &NodeSnapshot) {
        let free = node.free();
        if !takes_anything(node) {
            return;
        }
        let shelves = self.aisles.entry(aisle_of(node)).or_default();
        let root = shelves.entry(size_class(free.cpu_millis)).or_default();
        *root = Some(self.forest.insert(*root, slot, node.id, free.cpu_millis, free.memory_mib));
    }

    /// Takes a node out; `node` is what it was put in with.
    pub(crate) fn remove(&mut self, slot: usize, node: &NodeSnapshot) {
        if !takes_anything(node) {
            return;
        }
        let class = size_class(node.free().cpu_millis);
        let Some(shelves) = self.aisles.get_mut(&aisle_of(node)) else { return };
        let Some(root) = shelves.get_mut(&class) else { return };
        *root = self.forest.remove(*root, slot);
        if root.is_none() {
            shelves.remove(&class);
        }
    }

    /// Calls `look` with nodes that hold `demand` and are admitted, the best one surely among them. `look` returns the residue
    /// (MiB) of the best one so far.
    pub(crate) fn probe(
        &self,
        demand: &Demand,
        rate: ExchangeRate,
        admits: &impl Fn(usize) -> bool,
        mut look: impl FnMut(usize) -> u64,
    ) {
        let (cpu, memory) = (u64::from(demand.cpu.get()), u64::from(demand.memory.get()));
        let mut found_in = None;
        let mut least_residue = u64::MAX;
        for (aisle, shelves) in &self.aisles {
            if found_in.is_some_and(|empty| empty != aisle.empty) {
                return;
            }
            let other = demand.architecture.is_some_and(|wanted| wanted != aisle.architecture);
            let other = other || !aisle.isolation.has(demand.isolation);
            if other || (demand.fenced && !aisle.fences) || demand.protocol > aisle.protocol {
                continue;
            }
            for (class, root) in shelves.range(size_class(cpu)..) {
                let cpu_left = rate.as_mib(class.saturating_sub(cpu));
                if cpu_left > least_residue {
                    break;
                }
                if let Some(slot) = self.best_on_shelf(*root, cpu, memory, cpu_left, admits) {
                    least_residue = look(slot);
                    found_in = Some(aisle.empty);
                }
            }
        }
    }

    /// Where the CPU left is what counts (memory left is at most as much), most memory is nearest to balance. Where
    /// there is no such node, the memory left counts, and least memory is best. Equals by id.
    fn best_on_shelf(
        &self,
        root: Link,
        cpu: u64,
        memory: u64,
        cpu_left: u64,
        admits: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let balanced = memory.saturating_add(cpu_left);
        let from = match self.forest.last(root, balanced, cpu, admits).map(|slot| self.forest.memory(slot)) {
            Some(most) if most >= memory => most,
            _ => balanced,
        };
        self.forest.first(root, from, cpu, admits)
    }

    #[cfg(test)]
    pub(crate) fn visits(&self) -> u64 {
        self.forest.visits.get()
    }

    /// Every shelf that is not bare: equal for equal fleets.
    #[cfg(test)]
    pub(crate) fn shape(&self) -> Vec<String> {
        let shelves = self.aisles.iter().flat_map(|(aisle, shelves)| shelves.iter().map(move |shelf| (aisle, shelf)));
        shelves.map(|(aisle, (class, root))| format!("{aisle:?} {class} {:?}", self.forest.shape(*root))).collect()
    }
}

fn takes_anything(node: &NodeSnapshot) -> bool {
    node.state == NodeState::Ready && node.free().instances > 0
}

fn aisle_of(node: &NodeSnapshot) -> Aisle {
    let (architecture, fences, protocol) = (node.architecture, node.fences, node.protocol);
    Aisle { empty: node.is_empty(), architecture, fences, protocol, isolation: node.isolation }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_round_down_by_less_than_a_16th_and_are_few() {
        let mut classes = std::collections::BTreeSet::new();
        for cpu in (0..2_000_000).step_by(7).chain([u64::MAX]) {
            let class = size_class(cpu);
            assert!(class <= cpu && cpu - class < (cpu / 16 + 1).max(FINEST_MILLIS), "{cpu} {class}");
            assert_eq!(size_class(class), class);
            classes.insert(class);
        }
        assert!(classes.len() < 170, "{}", classes.len());
    }
}
