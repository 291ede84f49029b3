//! The engine.

use std::collections::BTreeMap;

use wherry_model::{Capacity, Demand, NodeId};

use crate::change::{FleetChange, NodeSnapshot, Unapplied};
use crate::decision::{Placement, Refusal, Why};
use crate::index::Index;
use crate::limit::HardLimit;
use crate::score::{ExchangeRate, Score};

/// The fleet as values, and the decisions on it. See the crate's page.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// Where each node stands in `slots` and in the index.
    places: BTreeMap<NodeId, usize>,
    slots: Vec<NodeSnapshot>,
    /// Slots whose node is gone.
    vacant: Vec<usize>,
    index: Index,
    /// Sums over the capacity of all nodes, for the exchange rate.
    total_cpu_millis: u128,
    total_memory_mib: u128,
}

impl FromIterator<NodeSnapshot> for Fleet {
    fn from_iter<I: IntoIterator<Item = NodeSnapshot>>(nodes: I) -> Self {
        let mut fleet = Self::default();
        for node in nodes {
            fleet.put(node);
        }
        fleet
    }
}

impl Fleet {
    /// Takes in a change.
    pub fn apply(&mut self, change: FleetChange) -> Result<(), Unapplied> {
        match change {
            FleetChange::Node(node) => {
                self.put(node);
                Ok(())
            }
            FleetChange::Gone(id) => {
                let slot = self.places.remove(&id).ok_or(Unapplied::NoSuchNode(id))?;
                self.forget(slot);
                self.vacant.push(slot);
                Ok(())
            }
            FleetChange::Reserve { node, demand } => {
                let mut after = *self.node(node).ok_or(Unapplied::NoSuchNode(node))?;
                after.used = plus(after.used, taken_by(&demand));
                self.put(after);
                Ok(())
            }
            FleetChange::Release { node, demand } => {
                let mut after = *self.node(node).ok_or(Unapplied::NoSuchNode(node))?;
                let (used, given) = (after.used, taken_by(&demand));
                after.used = used.minus(given);
                self.put(after);
                if plus(after.used, given) == used { Ok(()) } else { Err(Unapplied::MoreThanUsed(node)) }
            }
        }
    }

    /// The best node for `demand`, or why there is none. Changes nothing: apply a [`FleetChange::Reserve`] when the row
    /// has agreed, or before asking for the next of several that are to be written together.
    pub fn decide(&self, demand: &Demand) -> Result<Placement, Refusal> {
        self.decide_excluding(demand, &[])
    }

    /// The same without some nodes: those whose row refused this demand a moment ago. Keep the list short, every
    /// candidate is compared with it.
    pub fn decide_excluding(&self, demand: &Demand, excluded: &[NodeId]) -> Result<Placement, Refusal> {
        let rate = self.exchange_rate();
        let mut best: Option<Score> = None;
        let mut candidates = 0;
        self.index.probe(demand, rate, &|slot| !excluded.contains(&self.slots[slot].id), |slot| {
            candidates += 1;
            let score = Score::of(&self.slots[slot], demand, rate);
            best.insert(best.map_or(score, |known| known.min(score))).residue_mib
        });
        match best {
            Some(score) => {
                Ok(Placement { node: score.node, why: Why { score, candidates, nodes: count(self.places.len()) } })
            }
            None => Err(self.refusal(demand, excluded)),
        }
    }

    /// What is known of a node.
    pub fn node(&self, id: NodeId) -> Option<&NodeSnapshot> {
        self.places.get(&id).map(|slot| &self.slots[*slot])
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeSnapshot> {
        self.places.values().map(|slot| &self.slots[*slot])
    }

    /// What CPU is worth in memory here.
    pub fn exchange_rate(&self) -> ExchangeRate {
        ExchangeRate::of(self.total_cpu_millis, self.total_memory_mib)
    }

    fn refusal(&self, demand: &Demand, excluded: &[NodeId]) -> Refusal {
        let refused_by = |limit: HardLimit| {
            self.nodes().filter(|node| limit.refuses(node, demand, excluded.contains(&node.id))).count()
        };
        let refused = HardLimit::ALL.map(|limit| (limit, count(refused_by(limit)))).into_iter();
        let holds_when_empty =
            |node: &NodeSnapshot| node.capacity.holds(*demand) && !HardLimit::Architecture.refuses(node, demand, false);
        Refusal {
            demand: Box::new(*demand),
            nodes: count(self.places.len()),
            refused: refused.filter(|(_, nodes)| *nodes > 0).collect(),
            fits_an_empty_node: self.nodes().any(holds_when_empty),
        }
    }

    fn put(&mut self, node: NodeSnapshot) {
        let slot = match self.places.get(&node.id).copied() {
            Some(slot) => {
                self.forget(slot);
                slot
            }
            None => self.vacant.pop().unwrap_or(self.slots.len()),
        };
        match self.slots.get_mut(slot) {
            Some(place) => *place = node,
            None => self.slots.push(node),
        }
        self.places.insert(node.id, slot);
        self.index.insert(slot, &node);
        self.total_cpu_millis += u128::from(node.capacity.cpu_millis);
        self.total_memory_mib += u128::from(node.capacity.memory_mib);
    }

    fn forget(&mut self, slot: usize) {
        let node = self.slots[slot];
        self.index.remove(slot, &node);
        self.total_cpu_millis -= u128::from(node.capacity.cpu_millis);
        self.total_memory_mib -= u128::from(node.capacity.memory_mib);
    }

    #[cfg(test)]
    pub(crate) fn visits(&self) -> u64 {
        self.index.visits()
    }

    #[cfg(test)]
    pub(crate) fn shape(&self) -> (Vec<NodeSnapshot>, ExchangeRate, Vec<String>) {
        (self.nodes().copied().collect(), self.exchange_rate(), self.index.shape())
    }
}

fn taken_by(demand: &Demand) -> Capacity {
    Capacity { cpu_millis: u64::from(demand.cpu.get()), memory_mib: u64::from(demand.memory.get()), instances: 1 }
}

fn plus(used: Capacity, more: Capacity) -> Capacity {
    Capacity {
        cpu_millis: used.cpu_millis.saturating_add(more.cpu_millis),
        memory_mib: used.memory_mib.saturating_add(more.memory_mib),
        instances: used.instances.saturating_add(more.instances),
    }
}

fn count(nodes: usize) -> u32 {
    u32::try_from(nodes).unwrap_or(u32::MAX)
}
