//! Which spot instances have to go so that one that is not spot finds a place.
//!
//! Cheapest means: the fewest instances, then the least of them (memory, and CPU as memory), then the node's id, then theirs. Over a
//! node with at most [`EXACT`] spot instances every set is looked at. Beyond, the largest go in first until it fits and
//! then every one that need not go is spared, the largest first. Of a large fleet [`NODES`] nodes are looked at from
//! either end of the order, those with least and those with most to give (in powers of two): on a fleet with no more such nodes the answer is that of
//! someone who looks at all of them.

use std::cmp::Reverse;

use wherry_model::{Demand, DeviceSet, InstanceId, NodeId};

use crate::context::Context;
use crate::decision::Ask;
use crate::fleet::Fleet;
use crate::limit::HardLimit;
use crate::shelf::Entry;

/// Sets of so many instances are all looked at.
const EXACT: usize = 12;
/// Nodes that are looked at, from either end.
const NODES: usize = 32;

/// What the spot instances of a node would give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SpotSum {
    pub(crate) cpu_millis: u64,
    pub(crate) memory_mib: u64,
    pub(crate) disk_mib: u64,
    pub(crate) instances: u32,
}

impl SpotSum {
    pub(crate) fn add(&mut self, demand: &Demand) {
        self.cpu_millis += u64::from(demand.cpu.get());
        self.memory_mib += u64::from(demand.memory.get());
        self.disk_mib += u64::from(demand.disk.get());
        self.instances += 1;
    }

    pub(crate) fn subtract(&mut self, demand: &Demand) {
        self.cpu_millis -= u64::from(demand.cpu.get());
        self.memory_mib -= u64::from(demand.memory.get());
        self.disk_mib -= u64::from(demand.disk.get());
        self.instances -= 1;
    }
}

/// A proposal to evict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    /// From where. The place is there once they have left.
    pub node: NodeId,
    /// Who, by id.
    pub instances: Vec<InstanceId>,
    /// What they have together, in MiB, CPU counted as memory.
    pub worth_mib: u64,
    /// The GPUs that the demand would get; none if none are asked for.
    pub devices: DeviceSet,
}

impl Eviction {
    fn cost(&self) -> (usize, u64, NodeId, &[InstanceId]) {
        (self.instances.len(), self.worth_mib, self.node, &self.instances)
    }
}

/// A spot instance of the node that is looked at.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    id: InstanceId,
    demand: &'a Demand,
    worth_mib: u64,
}

impl Fleet {
    /// The cheapest set of spot instances without which `ask` would have a place; none if there is no such set, or if `ask` is spot
    /// itself. Meant for what was refused.
    pub fn victims(&self, ask: &Ask<'_>) -> Option<Eviction> {
        if ask.demand.spot {
            return None;
        }
        let context = Context::of(self, ask);
        let fits_otherwise = |at: u32| {
            let limits = HardLimit::ALL.into_iter().filter(|limit| !limit.is_amount());
            !limits.into_iter().any(|limit| context.refuses(limit, at))
        };
        let gives_enough = |at: u32| {
            let slot = self.slot(at);
            let (free, spot, demand) = (slot.node.free(), &slot.spot, ask.demand);
            let disk = slot.node.free_disk_mib();
            free.cpu_millis.saturating_add(spot.cpu_millis) >= u64::from(demand.cpu.get())
                && free.memory_mib.saturating_add(spot.memory_mib) >= u64::from(demand.memory.get())
                && disk.is_none_or(|left| left.saturating_add(spot.disk_mib) >= u64::from(demand.disk.get()))
        };
        let admits = |entry: &Entry| gives_enough(entry.slot()) && fits_otherwise(entry.slot());
        let nodes = self.evictable.some(&context.needs(), NODES, admits);
        let evictions = nodes.into_iter().filter_map(|at| self.victims_on(at, ask.demand));
        evictions.min_by(|a, b| a.cost().cmp(&b.cost()))
    }

    fn victims_on(&self, at: u32, demand: &Demand) -> Option<Eviction> {
        let slot = self.slot(at);
        let rate = self.exchange_rate();
        let candidate = |id: &InstanceId| {
            let demand = self.company.resident(*id)?.spot.as_deref()?;
            let worth_mib = u64::from(demand.memory.get()) + rate.as_mib(u64::from(demand.cpu.get()));
            Some(Candidate { id: *id, demand, worth_mib })
        };
        let mut candidates = slot.residents.iter().filter_map(candidate).collect::<Vec<_>>();
        candidates.sort_unstable_by_key(|one| (Reverse(one.worth_mib), one.id));
        let room = |victims: &[Candidate<'_>]| {
            let mut node = slot.node;
            for victim in victims {
                crate::fleet::release(&mut node, victim.demand);
            }
            let refused =
                HardLimit::ALL.into_iter().any(|limit| limit.is_amount() && limit.refuses(&node, demand, false));
            (!refused).then_some(node)
        };
        let eviction = |victims: &[Candidate<'_>]| {
            let node = room(victims)?;
            let mut instances = victims.iter().map(|victim| victim.id).collect::<Vec<_>>();
            instances.sort_unstable();
            let devices = demand.gpu.and_then(|asked| node.offer.gpus.choose(&asked)).unwrap_or_default();
            let worth_mib = victims.iter().map(|victim| victim.worth_mib).sum();
            Some(Eviction { node: node.id, instances, worth_mib, devices })
        };
        if candidates.len() > EXACT {
            return eviction(&spared(&candidates, |victims| room(victims).is_some())?);
        }
        let sets = (1_u32..1 << candidates.len()).filter_map(|set| {
            let chosen = candidates.iter().zip(0..).filter(|(_, bit)| set & (1 << bit) != 0);
            eviction(&chosen.map(|(one, _)| *one).collect::<Vec<_>>())
        });
        sets.min_by(|a, b| a.cost().cmp(&b.cost()))
    }
}

/// The first of `candidates` with which it fits, without those that need not go.
fn spared<'a>(candidates: &[Candidate<'a>], fits: impl Fn(&[Candidate<'a>]) -> bool) -> Option<Vec<Candidate<'a>>> {
    let enough = (1..=candidates.len()).find(|count| fits(&candidates[..*count]))?;
    let mut victims = candidates[..enough].to_vec();
    let mut at = 0;
    while at < victims.len() {
        let one = victims.remove(at);
        if victims.is_empty() || !fits(&victims) {
            victims.insert(at, one);
            at += 1;
        }
    }
    Some(victims)
}
