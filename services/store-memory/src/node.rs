//! Nodes, and the resources on their rows.

use async_trait::async_trait;
use wherry_model::lifecycle::Change;
use wherry_model::{
    Capacity, Demand, Drain, Gpus, NodeId, NodeOffer, NodeRecord, NodeState, Overcommit, Stock, Timestamp,
};
use wherry_store::{Applied, FenceOutcome, LifeOutcome, NodeRegistration, NodeStore, RemoveOutcome, StoreError};

use crate::MemoryStore;
use crate::database::Verdict;
use crate::instance;
use crate::state::{NodeRow, State, violation};

#[async_trait]
impl NodeStore for MemoryStore {
    async fn register_node(&self, node: &NodeRegistration, now: Timestamp) -> Result<Option<NodeRecord>, StoreError> {
        self.write("registering a node", |state| {
            let next = match state.nodes.get(&node.id) {
                Some(known) if known.removed => return Ok(Verdict::Undo(None)),
                _ if state.enrolments.get(&node.id).is_some_and(|enrolment| enrolment.removed_at.is_some()) => {
                    return Ok(Verdict::Undo(None));
                }
                Some(known) => renewed(known, node),
                None => new(node, now),
            };
            let record = next.record.clone();
            state.nodes.put(node.id, next);
            Ok(Verdict::Keep(Some(record)))
        })
        .await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        self.read("listing nodes", |state| present(state).cloned().collect()).await
    }

    async fn node(&self, id: NodeId) -> Result<Option<NodeRecord>, StoreError> {
        self.read("reading a node", |state| row(state, id).map(|row| row.record.clone())).await
    }

    async fn prove_life(&self, id: NodeId, at: Timestamp, epoch: u64) -> Result<LifeOutcome, StoreError> {
        self.write_quietly("storing a proof of life", |state| {
            let Some(known) = row(state, id) else { return Ok(Verdict::Undo(LifeOutcome::Unknown)) };
            let present = known.record.epoch;
            let doubt = (known.doubt > known.resolved_doubt).then_some(known.doubt);
            if present != epoch && known.knows_leases() {
                return Ok(Verdict::Undo(LifeOutcome::Fenced { epoch: present }));
            }
            state.nodes.change(&id, |row| {
                row.record.proof_at = row.record.proof_at.max(at);
                row.record.heartbeats += 1;
                row.record.fenced = false;
                row.record.fences = row.fences();
            });
            Ok(Verdict::Keep(LifeOutcome::Taken { doubt }))
        })
        .await
    }

    async fn raise_doubt(&self, id: NodeId) -> Result<bool, StoreError> {
        self.change_row("raising a doubt about a node", id, |row| row.doubt += 1).await
    }

    async fn resolve_doubt(&self, id: NodeId, doubt: u64) -> Result<bool, StoreError> {
        self.change_row("resolving a doubt about a node", id, |row| {
            row.resolved_doubt = row.resolved_doubt.max(doubt.min(row.doubt));
            if row.record.state == NodeState::Silent && row.doubt <= doubt {
                row.record.state = NodeState::Ready;
            }
        })
        .await
    }

    async fn fence(&self, id: NodeId, heartbeats: u64, changes: &[Change]) -> Result<FenceOutcome, StoreError> {
        self.write("fencing a node", |state| {
            if row(state, id).is_none_or(|row| row.record.heartbeats != heartbeats) {
                return Ok(Verdict::Undo(FenceOutcome::Heard));
            }
            for change in changes {
                match instance::apply(state, change)? {
                    Applied::Yes => {}
                    Applied::LostRace => return Ok(Verdict::Undo(FenceOutcome::LostRace)),
                    Applied::NodeRefused => {
                        return Err(violation("a fencing takes resources that a node does not have"));
                    }
                }
            }
            let mut epoch = 0;
            state.nodes.change(&id, |row| {
                row.record.epoch += 1;
                row.record.fenced = true;
                row.record.desired_revision += 1;
                epoch = row.record.epoch;
            });
            Ok(Verdict::Keep(FenceOutcome::Fenced(epoch)))
        })
        .await
    }

    async fn set_node_state(&self, id: NodeId, state: NodeState) -> Result<bool, StoreError> {
        if state == NodeState::Draining {
            return Err(violation("a node is emptied by a drain, not by its state alone"));
        }
        self.change_row("setting a node's state", id, |row| match state {
            // A node that is not ready does not become silent: that would lose an operator's word.
            NodeState::Silent if row.record.state != NodeState::Ready => {}
            NodeState::Silent => row.record.state = state,
            NodeState::Ready | NodeState::Cordoned | NodeState::Draining => {
                row.record.state = state;
                row.record.drain = None;
            }
        })
        .await
    }

    async fn set_drain(&self, id: NodeId, drain: Option<&Drain>) -> Result<bool, StoreError> {
        self.change_row("draining a node", id, |row| {
            row.record.drain = drain.copied();
            row.record.state = if drain.is_some() { NodeState::Draining } else { NodeState::Cordoned };
        })
        .await
    }

    async fn remove_node(&self, id: NodeId, now: Timestamp) -> Result<RemoveOutcome, StoreError> {
        self.write("removing a node", |state| {
            let enrolled = state.enrolments.get(&id).is_some_and(|enrolment| enrolment.removed_at.is_none());
            if row(state, id).is_none() && !enrolled {
                return Ok(Verdict::Undo(RemoveOutcome::Unknown));
            }
            let bound = instance::placed_on(state, id).filter(|i| i.holds_resources || !i.state.is_settled());
            let placed = bound.count();
            if placed > 0 {
                let instances = u64::try_from(placed).unwrap_or(u64::MAX);
                return Ok(Verdict::Undo(RemoveOutcome::NotEmpty { instances }));
            }
            state.nodes.change(&id, |row| row.removed = true);
            state.enrolments.change(&id, |enrolment| enrolment.removed_at = Some(now));
            Ok(Verdict::Keep(RemoveOutcome::Removed))
        })
        .await
    }
}

impl MemoryStore {
    async fn change_row(
        &self,
        call: &'static str,
        id: NodeId,
        change: impl FnOnce(&mut NodeRow) + Send,
    ) -> Result<bool, StoreError> {
        self.write(call, |state| {
            if row(state, id).is_none() {
                return Ok(Verdict::Undo(false));
            }
            Ok(Verdict::Keep(state.nodes.change(&id, change)))
        })
        .await
    }
}

fn row(state: &State, id: NodeId) -> Option<&NodeRow> {
    state.nodes.get(&id).filter(|row| !row.removed)
}

/// Nodes that were not removed.
pub(crate) fn present(state: &State) -> impl Iterator<Item = &NodeRecord> {
    state.nodes.values().filter(|row| !row.removed).map(|row| &row.record)
}

fn new(node: &NodeRegistration, now: Timestamp) -> NodeRow {
    let record = NodeRecord {
        id: node.id,
        name: node.name.clone(),
        architecture: node.architecture,
        state: NodeState::Ready,
        capacity: node.capacity,
        used: Capacity::default(),
        boot: node.boot,
        range: node.range,
        proof_at: now,
        desired_revision: if node.held_revision > 0 { node.held_revision + 1 } else { 0 },
        epoch: 0,
        fenced: false,
        protocol: node.protocol,
        isolation: node.isolation,
        offer: NodeOffer {
            zone: node.zone,
            disk: node.disk_mib.map(|total_mib| Stock { total_mib, used_mib: 0 }),
            gpus: node.gpus.used([0; Gpus::MOST]),
            overcommit: node.overcommit,
            ..NodeOffer::default()
        },
        fences: node.protocol >= NodeRecord::PROTOCOL_OF_LEASES,
        heartbeats: 0,
        underlay: node.underlay,
        drain: None,
    };
    NodeRow { record, doubt: 0, resolved_doubt: 0, removed: false, unfenced_heartbeats: None }
}

fn renewed(known: &NodeRow, node: &NodeRegistration) -> NodeRow {
    let mut next = known.clone();
    let record = &mut next.record;
    record.name.clone_from(&node.name);
    record.architecture = node.architecture;
    if record.state == NodeState::Silent {
        record.state = NodeState::Ready;
    }
    record.capacity = node.capacity;
    record.isolation = node.isolation;
    let used_mib = record.offer.disk.map_or(0, |disk| disk.used_mib);
    record.offer.zone = node.zone;
    record.offer.disk = node.disk_mib.map(|total_mib| Stock { total_mib, used_mib });
    record.offer.gpus = node.gpus.used(record.offer.gpus.used_permille);
    record.offer.overcommit = node.overcommit;
    record.boot = node.boot;
    record.range = node.range;
    record.underlay = node.underlay;
    if record.desired_revision < node.held_revision {
        record.desired_revision = node.held_revision + 1;
    }
    record.protocol = node.protocol;
    match (known.knows_leases(), node.protocol >= NodeRecord::PROTOCOL_OF_LEASES) {
        (false, true) => {
            record.epoch += 1;
            record.desired_revision += 1;
            next.unfenced_heartbeats = Some(record.heartbeats);
        }
        (true, false) => {
            record.heartbeats += 1;
            record.fenced = false;
        }
        (true, true) | (false, false) => {}
    }
    next.record.fences = next.fences();
    next
}

/// Takes `demand` from the node's row if the node is ready, of the right kind, fences if it must, has an agent that
/// understands what is asked, and has it left. The row is the referee.
pub(crate) fn take(state: &mut State, node: NodeId, demand: Demand) -> bool {
    let fits = row(state, node).is_some_and(|row| {
        let record = &row.record;
        record.state == NodeState::Ready
            && offered(record).minus(record.used).holds(demand)
            && demand.architecture.is_none_or(|wanted| wanted == record.architecture)
            && (record.fences || !demand.fenced)
            && record.protocol >= demand.protocol
            && record.isolation.has(demand.isolation)
            && record.offer.disk.is_none_or(|disk| {
                let total = Overcommit::of(disk.total_mib, record.offer.overcommit.disk_percent);
                total.saturating_sub(disk.used_mib) >= u64::from(demand.disk.get())
            })
            && demand.gpu.is_none_or(|asked| record.offer.gpus.has_room(&asked))
            && demand.zone.is_none_or(|zone| record.offer.zone == Some(zone))
            && (record.used.instances == 0
                || match record.offer.sole_tenant {
                    Some(tenant) => demand.tenant == Some(tenant),
                    None => !demand.dedicated,
                })
    });
    fits && state.nodes.change(&node, |row| {
        let used = &mut row.record.used;
        used.cpu_millis += u64::from(demand.cpu.get());
        used.memory_mib += u64::from(demand.memory.get());
        used.instances += 1;
        let offer = &mut row.record.offer;
        if let Some(disk) = &mut offer.disk {
            disk.used_mib += u64::from(demand.disk.get());
        }
        if let Some(asked) = &demand.gpu {
            offer.gpus.take(asked, asked.devices);
        }
        if demand.dedicated {
            offer.sole_tenant = demand.tenant;
        }
    })
}

/// What it hands out, which may be more than it has.
fn offered(record: &NodeRecord) -> Capacity {
    let Overcommit { cpu_percent, memory_percent, .. } = record.offer.overcommit;
    Capacity {
        cpu_millis: Overcommit::of(record.capacity.cpu_millis, cpu_percent),
        memory_mib: Overcommit::of(record.capacity.memory_mib, memory_percent),
        ..record.capacity
    }
}

/// Gives back what [`take`] took. More than is taken is a bug of the caller.
pub(crate) fn give_back(state: &mut State, node: NodeId, demand: Demand) -> Result<(), StoreError> {
    let less = |used: Capacity| {
        Some(Capacity {
            cpu_millis: used.cpu_millis.checked_sub(u64::from(demand.cpu.get()))?,
            memory_mib: used.memory_mib.checked_sub(u64::from(demand.memory.get()))?,
            instances: used.instances.checked_sub(1)?,
        })
    };
    let rest = state.nodes.get(&node).and_then(|row| less(row.record.used));
    let rest = rest.ok_or_else(|| violation(format!("more was given back to node {node} than was taken from it")))?;
    state.nodes.change(&node, |row| {
        let record = &mut row.record;
        record.used = rest;
        if let Some(disk) = &mut record.offer.disk {
            disk.used_mib = disk.used_mib.saturating_sub(u64::from(demand.disk.get()));
        }
        if let Some(given) = &demand.gpu {
            record.offer.gpus.give_back(given);
        }
        if rest.instances == 0 {
            record.offer.gpus.used_permille = [0; Gpus::MOST];
            record.offer.sole_tenant = None;
        }
    });
    Ok(())
}

/// Counts a change of what the node must do.
pub(crate) fn bump_desired(state: &mut State, node: NodeId) {
    state.nodes.change(&node, |row| row.record.desired_revision += 1);
}
