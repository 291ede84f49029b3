//! What room the fleet has for what runs on it, and what it would have if machines were emptied or joined. Thought through on
//! copies by the engine that decides; nothing is changed.
//!
//! Two losses that the totals hide. *Stranded* is what is left over of one resource when a machine is filled up with more of
//! what is there until the other runs out. *Fragmentation* is the distance between how many more of a size fit machine by
//! machine and how many would fit into the sum.
//!
//! The mix is that of the instances on the machines. Of a large fleet some machines are looked at, evenly chosen, so that the
//! question costs the same whatever the size.

use std::collections::BTreeMap;

use wherry_model::{
    Capacity, CpuMillis, Demand, Gpus, InstanceId, InstanceName, MemoryMib, NodeId, NodeOffer, NodeRecord, NodeState,
    Principal, Scope, SpecError, Stock, TenantId, Terms,
};
use wherry_placement::{Ask, Fleet, FleetChange, NodeSnapshot};
use wherry_store::OnNode;

use crate::fleet::{plus, told};
use crate::{Control, Error, lock};

/// Machines whose instances are looked at.
const SAMPLED: usize = 200;

/// Sizes that are told.
const SHAPES: usize = 5;

/// Waiting instances that are placed on paper.
const MAX_WAITING: u32 = 1_000;

/// Machines that are emptied on paper, or join.
const MAX_DRAINED: usize = 100;
const MAX_ADDED: u32 = 1_000;

/// Moves that are told.
const MAX_MOVES: usize = 1_000;

/// What room there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Room {
    /// Nodes that take new instances and have any.
    pub used_nodes: u32,
    /// What these can hand out.
    pub capacity: Capacity,
    /// What these have handed out.
    pub used: Capacity,
    /// CPU that would be left over if all ready nodes were filled up with more of the mix, in thousandths of a core.
    pub stranded_cpu_millis: u64,
    /// Memory that would be left over likewise, in MiB.
    pub stranded_memory_mib: u64,
    /// The commonest sizes, the commonest first.
    pub shapes: Vec<ShapeRoom>,
    /// Nodes whose instances make the mix.
    pub sampled_nodes: u32,
}

/// How many more of a size fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShapeRoom {
    /// Its CPU.
    pub cpu: CpuMillis,
    /// Its memory.
    pub memory: MemoryMib,
    /// How many there are on the nodes that were looked at.
    pub instances: u32,
    /// How many more fit, node by node.
    pub fits: u64,
    /// How many more would fit into the sum of all that is free.
    pub fits_by_totals: u64,
}

/// A change of the fleet to think through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WhatIf {
    /// Names or ids of nodes that are emptied.
    pub drain: Vec<String>,
    /// How many nodes join, and what they are like.
    pub add: Option<(u32, NewNodes)>,
}

/// What nodes that join are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewNodes {
    /// As this one, by name or id.
    Like(String),
    /// Of this size, and otherwise as the first node that there is.
    Sized(CpuMillis, MemoryMib),
}

/// What would become of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// As it is.
    pub before: Room,
    /// As it would be.
    pub after: Room,
    /// What would leave, at most 1000 of it.
    pub moves: Vec<Move>,
    /// How much would leave in all.
    pub moved: u32,
    /// How many of these would find no place.
    pub stuck: u32,
    /// Instances that wait for room now, counted up to 1000.
    pub waiting: u32,
    /// How many of these would get a place.
    pub waiting_placed: u32,
}

/// An instance that would leave its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub instance: InstanceId,
    /// Its name.
    pub name: InstanceName,
    /// Whose.
    pub tenant: TenantId,
    /// What it asks of a node.
    pub demand: Demand,
    /// The name of its node.
    pub from: String,
    /// The name of the node that would take it, or why none would.
    pub to: Result<String, String>,
}

/// How many instances there are of which CPU and memory.
type Mix = BTreeMap<(CpuMillis, MemoryMib), u32>;

impl Control {
    /// What room there is. No principal: what it says is in numbers, and its callers ask for the scope.
    pub async fn room(&self) -> Result<Room, Error> {
        let rows = self.store().nodes().await?;
        let (mix, sampled) = self.mix(&rows).await?;
        Ok(Room { sampled_nodes: sampled, ..room(rows.iter().map(NodeSnapshot::from), &mix) })
    }

    /// What would become of the fleet if machines were emptied or joined.
    pub async fn what_if(&self, principal: &Principal, change: &WhatIf) -> Result<Forecast, Error> {
        Self::require(principal, Scope::Admin)?;
        if change.drain.len() > MAX_DRAINED {
            return Err(SpecError::new("drain", format!("give at most {MAX_DRAINED} machines")).into());
        }
        let rows = self.store().nodes().await?;
        let (mix, sampled_nodes) = self.mix(&rows).await?;
        let mut names: BTreeMap<NodeId, String> = rows.iter().map(|row| (row.id, row.name.clone())).collect();
        let mut fleet = lock(&self.inner.fleet).picture();
        let before = Room { sampled_nodes, ..room(fleet.nodes().copied(), &mix) };
        let mut drained = Vec::new();
        for name in &change.drain {
            let row = called(&rows, name)?;
            if drained.contains(&row.id) {
                continue;
            }
            drained.push(row.id);
            if let Some(node) = fleet.node(row.id) {
                let closed = NodeSnapshot { state: NodeState::Draining, ..*node };
                learn(&mut fleet, FleetChange::Node(closed));
            }
        }
        for (number, node) in added(change, &rows)?.into_iter().enumerate() {
            names.insert(node.id, format!("new-{}", number + 1));
            learn(&mut fleet, FleetChange::Node(node));
        }
        let (mut moves, mut moved, mut stuck) = (Vec::new(), 0_u32, 0_u32);
        for node in drained {
            let Some(OnNode { instances, .. }) = self.store().instances_on(node).await? else { continue };
            for instance in instances.into_iter().filter(|instance| instance.holds_resources) {
                let (demand, terms) = (instance.demand(), instance.terms());
                let to = place(&mut fleet, instance.id, &demand, &terms);
                moved += 1;
                stuck += u32::from(to.is_err());
                if to.is_ok() {
                    learn(&mut fleet, FleetChange::Release { node, demand });
                }
                if moves.len() < MAX_MOVES {
                    let named = |id: NodeId| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
                    moves.push(Move {
                        instance: instance.id,
                        name: instance.name,
                        tenant: instance.tenant,
                        demand,
                        from: named(node),
                        to: to.map(named),
                    });
                }
            }
        }
        let pending = self.store().pending(MAX_WAITING).await?;
        let waiting = u32::try_from(pending.len()).unwrap_or(MAX_WAITING);
        let placed =
            pending.iter().filter(|one| place(&mut fleet, one.id, &one.demand(), &one.terms()).is_ok()).count();
        Ok(Forecast {
            before,
            after: Room { sampled_nodes, ..room(fleet.nodes().copied(), &mix) },
            moves,
            moved,
            stuck,
            waiting,
            waiting_placed: u32::try_from(placed).unwrap_or(MAX_WAITING),
        })
    }

    /// What is on the nodes, or on some of them.
    async fn mix(&self, rows: &[NodeRecord]) -> Result<(Mix, u32), Error> {
        let distance = rows.len().div_ceil(SAMPLED).max(1);
        let (mut mix, mut sampled) = (Mix::new(), 0_u32);
        for row in rows.iter().step_by(distance) {
            sampled += 1;
            if row.used.instances == 0 {
                continue;
            }
            let Some(OnNode { instances, .. }) = self.store().instances_on(row.id).await? else { continue };
            for instance in instances.iter().filter(|instance| instance.holds_resources) {
                let Demand { cpu, memory, .. } = instance.demand();
                *mix.entry((cpu, memory)).or_default() += 1;
            }
        }
        Ok((mix, sampled))
    }
}

/// The picture is a copy of its own, in which everything that is changed was found.
fn learn(fleet: &mut Fleet, change: FleetChange) {
    if let Err(unapplied) = fleet.apply(change) {
        tracing::debug!(%unapplied, "a forecast goes on without it");
    }
}

/// Puts `who` where it would go.
fn place(fleet: &mut Fleet, who: InstanceId, demand: &Demand, terms: &Terms) -> Result<NodeId, String> {
    let ask = Ask { demand, terms, excluded: &[] };
    let node = match fleet.decide_for(&ask) {
        Ok(placement) => placement.node,
        Err(refusal) => return Err(told(&refusal, Some(&fleet.explain(&ask).refused))),
    };
    learn(fleet, FleetChange::Reserve { node, demand: *demand });
    if let Err(unapplied) = fleet.settle(who, node, demand, terms) {
        tracing::debug!(%unapplied, "a forecast goes on without it");
    }
    Ok(node)
}

fn called<'r>(rows: &'r [NodeRecord], name_or_id: &str) -> Result<&'r NodeRecord, Error> {
    let found = rows.iter().find(|row| row.name == name_or_id || row.id.to_string() == name_or_id);
    found.ok_or_else(|| Error::NotFound(format!("the node {name_or_id}")))
}

/// Nodes that join, empty and ready.
fn added(change: &WhatIf, rows: &[NodeRecord]) -> Result<Vec<NodeSnapshot>, Error> {
    let Some((count, like)) = &change.add else { return Ok(Vec::new()) };
    if !(1..=MAX_ADDED).contains(count) {
        return Err(SpecError::new("add.count", format!("{count} is outside 1 to {MAX_ADDED}")).into());
    }
    let model = match like {
        NewNodes::Like(name) => NodeSnapshot::from(called(rows, name)?),
        NewNodes::Sized(cpu, memory) => {
            let first = rows.first().map(NodeSnapshot::from).ok_or_else(|| {
                SpecError::new("add", "there is no machine yet that new ones could be compared with: join one first")
            })?;
            let (cpu_millis, memory_mib) = (u64::from(cpu.get()), u64::from(memory.get()));
            NodeSnapshot { capacity: Capacity { cpu_millis, memory_mib, ..first.capacity }, ..first }
        }
    };
    let new = |number: u32| NodeSnapshot {
        // No id that was ever generated: those begin with a time.
        id: NodeId::from_uuid(uuid::Uuid::from_u128(u128::MAX - u128::from(MAX_ADDED - number))),
        state: NodeState::Ready,
        used: Capacity::default(),
        offer: NodeOffer {
            disk: model.offer.disk.map(|disk| Stock { used_mib: 0, ..disk }),
            gpus: Gpus { used_permille: Default::default(), ..model.offer.gpus },
            sole_tenant: None,
            ..model.offer
        },
        ..model
    };
    Ok((0..*count).map(new).collect())
}

fn room(nodes: impl Iterator<Item = NodeSnapshot>, mix: &Mix) -> Room {
    let ready: Vec<NodeSnapshot> = nodes.filter(|node| node.state == NodeState::Ready).collect();
    let mut room = Room::default();
    for node in ready.iter().filter(|node| !node.is_empty()) {
        room.used_nodes += 1;
        room.capacity = plus(room.capacity, node.capacity);
        room.used = plus(room.used, node.used);
    }
    let all_free = ready.iter().fold(Capacity::default(), |sum, node| plus(sum, node.free()));
    let (mut mix_cpu, mut mix_memory) = (0_u128, 0_u128);
    for ((cpu, memory), count) in mix {
        mix_cpu += u128::from(cpu.get()) * u128::from(*count);
        mix_memory += u128::from(memory.get()) * u128::from(*count);
    }
    if mix_cpu > 0 && mix_memory > 0 {
        for node in &ready {
            let free = node.free();
            let (cpu, memory) = (u128::from(free.cpu_millis), u128::from(free.memory_mib));
            // Each as far as the other reaches, in the proportion of the mix; never more than there is, so it fits.
            let least = |there: u128, reached: u128| u64::try_from(there.saturating_sub(reached)).unwrap_or(u64::MAX);
            room.stranded_cpu_millis += least(cpu, (memory * mix_cpu).div_ceil(mix_memory));
            room.stranded_memory_mib += least(memory, (cpu * mix_memory).div_ceil(mix_cpu));
        }
    }
    let mut shapes: Vec<_> = mix.iter().map(|(shape, count)| (*count, *shape)).collect();
    shapes.sort_unstable_by_key(|(count, shape)| (std::cmp::Reverse(*count), *shape));
    room.shapes = shapes
        .into_iter()
        .take(SHAPES)
        .map(|(instances, (cpu, memory))| ShapeRoom {
            cpu,
            memory,
            instances,
            fits: ready.iter().map(|node| times(node.free(), cpu, memory)).sum(),
            fits_by_totals: times(all_free, cpu, memory),
        })
        .collect();
    room
}

/// How often a size fits into what is free.
fn times(free: Capacity, cpu: CpuMillis, memory: MemoryMib) -> u64 {
    let by = |free: u64, one: u32| free.checked_div(u64::from(one)).unwrap_or(u64::MAX);
    by(free.cpu_millis, cpu.get()).min(by(free.memory_mib, memory.get())).min(u64::from(free.instances))
}

#[cfg(test)]
mod tests {
    use wherry_model::{Architecture, IsolationSet};

    use super::*;

    fn node(number: u128, capacity: (u64, u64), used: (u64, u64)) -> NodeSnapshot {
        let amount = |(cpu_millis, memory_mib): (u64, u64), instances| Capacity { cpu_millis, memory_mib, instances };
        NodeSnapshot {
            id: NodeId::from_uuid(uuid::Uuid::from_u128(number)),
            architecture: Architecture::Amd64,
            state: NodeState::Ready,
            capacity: amount(capacity, 100),
            used: amount(used, u32::from(used.0 > 0)),
            fences: true,
            protocol: 3,
            isolation: IsolationSet::default(),
            offer: wherry_model::NodeOffer::default(),
        }
    }

    fn shape(cpu: u32, memory: u32) -> (CpuMillis, MemoryMib) {
        (CpuMillis::new(cpu), MemoryMib::new(memory))
    }

    #[test]
    fn what_the_totals_hide() {
        // One core and one GiB each are free on two nodes, and a core without memory on a third.
        let nodes = [
            node(1, (4_000, 4_096), (3_000, 3_072)),
            node(2, (4_000, 4_096), (3_000, 3_072)),
            node(3, (4_000, 4_096), (3_000, 4_096)),
            NodeSnapshot { state: NodeState::Cordoned, ..node(4, (4_000, 4_096), (0, 0)) },
        ];
        let mix = Mix::from([(shape(2_000, 2_048), 7), (shape(500, 512), 9)]);
        let found = room(nodes.into_iter(), &mix);
        assert_eq!((found.used_nodes, found.used.cpu_millis, found.capacity.cpu_millis), (3, 9_000, 12_000));
        assert_eq!((found.stranded_cpu_millis, found.stranded_memory_mib), (1_000, 0));
        let told: Vec<_> =
            found.shapes.iter().map(|one| (one.cpu.get(), one.instances, one.fits, one.fits_by_totals)).collect();
        assert_eq!(told, [(500, 9, 4, 4), (2_000, 7, 0, 1)], "a large one fits only into the sum");
    }

    #[test]
    fn without_instances_nothing_is_stranded_and_nothing_is_divided_by_nothing() {
        let found = room([node(1, (4_000, 1), (0, 0))].into_iter(), &Mix::new());
        assert_eq!(found, Room::default());
        assert_eq!(times(Capacity { instances: 3, ..Capacity::default() }, CpuMillis::new(0), MemoryMib::new(0)), 3);
    }
}
