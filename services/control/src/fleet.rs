//! The picture of the fleet that places are proposed from. The rows of the store are the truth; this picture may be
//! behind them, and learns from each refusal, from the follower of other replicas' writes, and from a look at the rows
//! every second.

use std::collections::{BTreeMap, BTreeSet};

use wherry_model::{Capacity, Demand, IsolationSet, NodeId, NodeRecord, ZoneName};
use wherry_placement::{Fleet, FleetChange, NodeSnapshot, Refusal};

use crate::watch::Seeing;
use crate::{Control, Error, lock};

/// The placement engine with what happens around it.
#[derive(Clone, Default)]
pub(crate) struct FleetIndex {
    fleet: Fleet,
    /// What is proposed and not yet decided by the row, by node: a row that is read meanwhile does not know of it.
    proposed: BTreeMap<NodeId, Capacity>,
}

impl FleetIndex {
    /// Why `demand` could not be placed now, or none if it could.
    pub(crate) fn why_not(&self, demand: &Demand) -> Option<String> {
        self.fleet.decide(demand).err().map(|refusal| for_tenants(&refusal))
    }

    /// A copy to think on.
    pub(crate) fn picture(&self) -> Fleet {
        self.fleet.clone()
    }

    /// The isolation classes that machines of the fleet offer; none where there is no machine.
    pub(crate) fn offered_isolation(&self) -> Option<IsolationSet> {
        self.fleet.nodes().map(|node| node.isolation).reduce(IsolationSet::or)
    }

    /// The zones in which machines of the fleet stand.
    pub(crate) fn zones(&self) -> BTreeSet<ZoneName> {
        self.fleet.nodes().filter_map(|node| node.offer.zone).collect()
    }

    /// An instance has left `node`.
    pub(crate) fn release(&mut self, node: NodeId, demand: Demand) {
        self.apply(FleetChange::Release { node, demand });
    }

    fn learn(&mut self, record: &NodeRecord) {
        let mut snapshot = NodeSnapshot::from(record);
        if let Some(proposed) = self.proposed.get(&record.id) {
            snapshot.used = plus(snapshot.used, *proposed);
        }
        self.apply(FleetChange::Node(snapshot));
    }

    fn apply(&mut self, change: FleetChange) {
        if let Err(unapplied) = self.fleet.apply(change) {
            tracing::debug!(%unapplied, "the picture of the fleet is behind, it is renewed by itself");
        }
    }

    pub(crate) fn propose(&mut self, demand: &Demand) -> Result<NodeId, Refusal> {
        let placement = self.fleet.decide(demand)?;
        tracing::debug!(node = %placement.node, why = %placement.why, "place proposed");
        self.apply(FleetChange::Reserve { node: placement.node, demand: *demand });
        let proposed = self.proposed.entry(placement.node).or_default();
        *proposed = plus(*proposed, amount(demand));
        Ok(placement.node)
    }

    /// The row has decided, one way or the other.
    fn decided(&mut self, node: NodeId, demand: &Demand) {
        if let Some(proposed) = self.proposed.get_mut(&node) {
            *proposed = proposed.minus(amount(demand));
            if *proposed == Capacity::default() {
                self.proposed.remove(&node);
            }
        }
    }
}

fn amount(demand: &Demand) -> Capacity {
    Capacity { cpu_millis: u64::from(demand.cpu.get()), memory_mib: u64::from(demand.memory.get()), instances: 1 }
}

pub(crate) fn plus(a: Capacity, b: Capacity) -> Capacity {
    Capacity {
        cpu_millis: a.cpu_millis.saturating_add(b.cpu_millis),
        memory_mib: a.memory_mib.saturating_add(b.memory_mib),
        instances: a.instances.saturating_add(b.instances),
    }
}

/// A refusal without the fleet in it: tenants do not learn how many machines there are, or what is on them.
pub(crate) fn for_tenants(refusal: &Refusal) -> String {
    let Demand { cpu, memory, architecture, fenced, isolation, .. } = *refusal.demand;
    let kind = architecture.map(|architecture| format!(" on {architecture}")).unwrap_or_default();
    let way_out = if refusal.fits_an_empty_node || refusal.nodes == 0 {
        "try again later, or ask for less"
    } else {
        "it is more than any machine has, ask for less"
    };
    let replaced = if fenced { " for on_node_loss replace" } else { "" };
    let apart = if isolation.is_shared() { String::new() } else { format!(" with isolation {isolation}") };
    format!("{cpu} CPU and {memory} memory{kind}{apart}{replaced} are not free; {way_out}")
}

/// A place that is proposed and kept free in the picture, so that creates that are decided at the same time do not all
/// propose the same last gap. Given back when dropped, unless the row has agreed.
pub(crate) struct Reservation {
    control: Control,
    node: NodeId,
    demand: Demand,
    kept: bool,
}

impl Reservation {
    /// Where.
    pub(crate) const fn node(&self) -> NodeId {
        self.node
    }

    /// The row has agreed.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut index = lock(&self.control.inner.fleet);
        index.decided(self.node, &self.demand);
        if !self.kept {
            index.release(self.node, self.demand);
        }
    }
}

impl Control {
    /// Proposes a place for `demand`.
    pub(crate) fn propose(&self, demand: &Demand) -> Result<Reservation, Error> {
        let proposed = lock(&self.inner.fleet).propose(demand);
        let node = proposed.map_err(|refusal| Error::CapacityUnavailable(for_tenants(&refusal)))?;
        Ok(Reservation { control: self.clone(), node, demand: *demand, kept: false })
    }

    /// The picture for one that wonders what would fit, with these rows, just read, in it: what is proposed there takes nothing from
    /// anybody.
    pub(crate) fn fleet_apart(&self, records: &[NodeRecord]) -> FleetIndex {
        let mut apart = lock(&self.inner.fleet).clone();
        for record in records {
            apart.learn(record);
        }
        apart
    }

    /// Takes the node's row into the picture.
    pub(crate) async fn learn_node(&self, node: NodeId) -> Result<(), Error> {
        if let Some(record) = self.store().node(node).await? {
            self.see_node(&record);
            return Ok(());
        }
        let before = lock(&self.inner.watch).forget(node);
        lock(&self.inner.fleet).apply(FleetChange::Gone(node));
        lock(&self.inner.progress).remove(&node);
        if before.is_some() {
            self.tell_seen(&[Seeing { before, after: None }]);
        }
        Ok(())
    }

    /// Takes a row that was just read into the picture.
    pub(crate) fn see_node(&self, record: &NodeRecord) {
        let seeing = lock(&self.inner.watch).look(record);
        lock(&self.inner.fleet).learn(record);
        self.tell_seen(&[seeing]);
    }

    /// Takes all rows into the picture.
    pub(crate) async fn load_fleet(&self) -> Result<(), Error> {
        let records = self.store().nodes().await?;
        let seeings = lock(&self.inner.watch).look_at_all(&records);
        {
            let mut index = lock(&self.inner.fleet);
            for record in &records {
                index.learn(record);
            }
            for gone in seeings.iter().filter(|seeing| seeing.after.is_none()) {
                if let Some(before) = &gone.before {
                    index.apply(FleetChange::Gone(before.id));
                    lock(&self.inner.progress).remove(&before.id);
                }
            }
        }
        self.tell_seen(&seeings);
        Ok(())
    }

    /// Tells what has changed: nodes of their peers, operators in the fleet's events.
    fn tell_seen(&self, seeings: &[Seeing]) {
        let around = |record: &Option<NodeRecord>| record.as_ref().map(|record| (record.range, record.underlay));
        if seeings.iter().any(|seeing| around(&seeing.before) != around(&seeing.after)) {
            self.inner.zone.tell();
        }
        self.inner.fleet_events.note(seeings, self.now());
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use wherry_model::{Architecture, BootId, CpuMillis, MemoryMib, NodeState, Timestamp};

    use super::*;

    fn row(used: Capacity) -> NodeRecord {
        NodeRecord {
            id: NodeId::from_uuid(uuid::Uuid::nil()),
            name: "node-0".to_owned(),
            architecture: Architecture::Amd64,
            state: NodeState::Ready,
            capacity: Capacity { cpu_millis: 1_000, memory_mib: 1_024, instances: 10 },
            used,
            boot: BootId::from_uuid(uuid::Uuid::nil()),
            range: (Ipv4Addr::new(10, 0, 0, 0), 24),
            proof_at: Timestamp::default(),
            desired_revision: 0,
            epoch: 0,
            heartbeats: 0,
            fenced: false,
            protocol: NodeRecord::PROTOCOL_OF_LEASES,
            isolation: wherry_model::IsolationSet::default(),
            offer: wherry_model::NodeOffer::default(),
            fences: true,
            underlay: None,
            drain: None,
        }
    }

    #[test]
    fn a_row_that_is_read_meanwhile_does_not_free_what_is_proposed() {
        let demand = Demand::new(CpuMillis::new(600), MemoryMib::new(64));
        let mut index = FleetIndex::default();
        index.learn(&row(Capacity::default()));
        let node = index.propose(&demand).unwrap();
        // The follower reads the row before the transaction of the proposal has ended.
        index.learn(&row(Capacity::default()));
        assert!(index.propose(&demand).is_err(), "the last gap is proposed once");
        // The row agreed, and is read again.
        index.decided(node, &demand);
        index.learn(&row(amount(&demand)));
        assert!(index.why_not(&demand).is_some());
        index.learn(&row(Capacity::default()));
        assert!(index.why_not(&demand).is_none());
        // Refused: the gap is free again at once.
        let node = index.propose(&demand).unwrap();
        index.decided(node, &demand);
        index.release(node, demand);
        assert!(index.why_not(&demand).is_none());
    }
}
