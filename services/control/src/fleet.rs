//! The picture of the fleet that places are proposed from. The rows of the store are the truth; this picture may be
//! behind them, and learns from each refusal, from the follower of other replicas' writes, and from a look at the rows
//! every second.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use wherry_agent_api::NodeHello;
use wherry_model::{
    Capacity, Demand, DeviceSet, GpuDemand, GpuModel, ImageKey, Instance, InstanceId, IsolationSet, NodeId, NodeRecord,
    Terms, Timestamp, ZoneName,
};
use wherry_placement::{Ask, Eviction, Fleet, FleetChange, HardLimit, NodeSnapshot, Refusal};
use wherry_store::OnNode;

use crate::watch::Seeing;
use crate::{Control, Error, lock};

/// Of a larger fleet it is not looked at node by node why a create was refused: that walks the fleet, and a full one refuses often.
const MAX_EXPLAINED: usize = 1_000;

/// Images that are known of one node.
const MAX_IMAGES: usize = NodeHello::MAX_IMAGES;

/// A spot instance that makes room.
#[derive(Debug, Clone)]
struct Notice {
    node: NodeId,
    demand: Demand,
    terms: Terms,
    until: Timestamp,
}

/// Places that were proposed to the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProposalCounts {
    /// All of them.
    pub made: u64,
    /// Those that a row refused, most often because another replica was first: placed again with what was learnt.
    pub refused: u64,
}

/// The same while it is counted.
#[derive(Default)]
pub(crate) struct Proposals {
    made: AtomicU64,
    refused: AtomicU64,
}

/// How room is made for a regular instance.
pub(crate) enum MakingRoom {
    /// It is not: there is nobody who could.
    No,
    /// Those who were asked before make enough.
    UnderWay,
    /// These have to go.
    By(Vec<InstanceId>),
}

/// The placement engine with what happens around it.
#[derive(Default, Clone)]
pub(crate) struct FleetIndex {
    fleet: Fleet,
    /// What is proposed and not yet decided by the row, by node: a row that is read meanwhile does not know of it.
    proposed: BTreeMap<NodeId, Capacity>,
    /// The GPUs among it.
    proposed_gpus: BTreeMap<NodeId, Vec<GpuDemand>>,
    /// The images that are known to lie on nodes, those that were seen last first.
    images: BTreeMap<NodeId, VecDeque<ImageKey>>,
    /// Instances for which a place is proposed: a record that is read meanwhile does not know of it.
    placing: BTreeSet<InstanceId>,
    /// Spot instances that were told to make room.
    notices: BTreeMap<InstanceId, Notice>,
}

impl FleetIndex {
    /// Why an instance with this demand and these terms could not be placed now, or none if it could.
    pub(crate) fn why_not(&self, demand: &Demand, terms: &Terms) -> Option<String> {
        let ask = Ask { demand, terms, excluded: &[] };
        let refusal = self.fleet.decide_for(&ask).err()?;
        Some(told(&refusal, Some(&self.fleet.explain(&ask).refused)))
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

    /// The kinds of GPU that machines of the fleet have; those of no name are none.
    pub(crate) fn gpus(&self) -> BTreeSet<Option<GpuModel>> {
        self.fleet.nodes().map(|node| node.offer.gpus).filter(|gpus| gpus.count > 0).map(|gpus| gpus.model).collect()
    }

    /// These images lie on the node, and no others, as it says itself.
    pub(crate) fn lie_on(&mut self, node: NodeId, images: &[ImageKey]) {
        let images = images.iter().take(MAX_IMAGES).copied().collect();
        self.images.insert(node, images);
        self.tell_images(node);
    }

    /// The images that an instance has had fetched lie where it is. Which of them are removed there later is not told before the machine
    /// introduces itself again: it costs a pull.
    fn learn_images(&mut self, instance: &Instance) {
        let Some(node) = instance.node.filter(|_| instance.deleted_at.is_none()) else { return };
        let fetched = instance.spec.containers.iter().filter(|container| {
            instance.container(&container.name).is_some_and(|status| status.image_digest.is_some())
        });
        let mut is_news = false;
        for key in fetched.map(|container| ImageKey::of(&container.image.to_string())) {
            let known = self.images.entry(node).or_default();
            let before = known.iter().position(|one| *one == key).and_then(|index| known.remove(index));
            is_news |= before.is_none();
            known.push_front(key);
            known.truncate(MAX_IMAGES);
        }
        if is_news {
            self.tell_images(node);
        }
    }

    fn tell_images(&mut self, node: NodeId) {
        let Some(images) = self.images.get_mut(&node) else { return };
        if self.fleet.images(node, images.make_contiguous()).is_err() {
            self.images.remove(&node);
        }
    }

    /// This replica is one of `of` that decide: it rather proposes machines of its own share.
    pub(crate) const fn prefer_share(&mut self, index: u32, of: u32) {
        self.fleet.prefer_share(index, of);
    }

    /// An instance has left `node`.
    pub(crate) fn release(&mut self, node: NodeId, demand: Demand) {
        self.apply(FleetChange::Release { node, demand });
    }

    /// Takes a stored record into the picture: who is where, and who makes room. Amounts are the rows'.
    pub(crate) fn observe(&mut self, instance: &Instance) {
        let id = instance.id;
        self.learn_images(instance);
        let place = instance.node.filter(|_| instance.holds_resources);
        match (place, instance.evict_at) {
            (Some(node), Some(until)) => {
                self.notices.insert(id, Notice { node, demand: instance.demand(), terms: instance.terms(), until });
            }
            _ => {
                self.notices.remove(&id);
            }
        }
        match place {
            Some(node) => {
                if let Err(unapplied) = self.fleet.settle(id, node, &instance.demand(), &instance.terms()) {
                    tracing::debug!(%unapplied, "the picture of the fleet is behind, it is renewed by itself");
                }
            }
            None if self.placing.contains(&id) => {}
            None => {
                self.fleet.depart(id);
            }
        }
    }

    /// Those whose time to make room is over.
    pub(crate) fn overdue(&self, now: Timestamp) -> Vec<InstanceId> {
        self.notices.iter().filter(|(_, notice)| notice.until <= now).map(|(id, _)| *id).collect()
    }

    /// Who has to go so that an instance that was refused finds a place.
    pub(crate) fn victims(&mut self, demand: &Demand, terms: &Terms) -> MakingRoom {
        let ask = Ask { demand, terms, excluded: &[] };
        if demand.spot {
            return MakingRoom::No;
        }
        let by = |eviction: Option<Eviction>| match eviction {
            Some(eviction) => MakingRoom::By(eviction.instances),
            None => MakingRoom::No,
        };
        if self.notices.is_empty() {
            return by(self.fleet.victims(&ask));
        }
        // As it will be when those have left who were told to. In place, for as long as nobody else looks: they are few, and a copy of
        // the fleet is not.
        let told: BTreeSet<NodeId> = self.notices.values().map(|notice| notice.node).collect();
        let before: Vec<NodeSnapshot> = told.iter().filter_map(|node| self.fleet.node(*node).copied()).collect();
        let notices = std::mem::take(&mut self.notices);
        for (id, notice) in &notices {
            self.fleet.depart(*id);
            self.release(notice.node, notice.demand);
        }
        let making = match self.fleet.decide_for(&ask) {
            Ok(_) => MakingRoom::UnderWay,
            Err(_) => by(self.fleet.victims(&ask)),
        };
        for snapshot in before {
            self.apply(FleetChange::Node(snapshot));
        }
        for (id, notice) in &notices {
            if let Err(unapplied) = self.fleet.settle(*id, notice.node, &notice.demand, &notice.terms) {
                tracing::debug!(%unapplied, "the picture of the fleet is behind, it is renewed by itself");
            }
        }
        self.notices = notices;
        making
    }

    fn learn(&mut self, record: &NodeRecord) {
        let mut snapshot = NodeSnapshot::from(record);
        if let Some(proposed) = self.proposed.get(&record.id) {
            snapshot.used = plus(snapshot.used, *proposed);
        }
        for gpu in self.proposed_gpus.get(&record.id).into_iter().flatten() {
            snapshot.offer.gpus.take(gpu, gpu.devices);
        }
        self.apply(FleetChange::Node(snapshot));
    }

    pub(crate) fn apply(&mut self, change: FleetChange) {
        if let FleetChange::Gone(node) = &change {
            self.images.remove(node);
        }
        if let Err(unapplied) = self.fleet.apply(change) {
            tracing::debug!(%unapplied, "the picture of the fleet is behind, it is renewed by itself");
        }
    }

    pub(crate) fn propose(
        &mut self,
        who: Option<InstanceId>,
        demand: &Demand,
        terms: &Terms,
    ) -> Result<(NodeId, Demand), String> {
        let ask = Ask { demand, terms, excluded: &[] };
        let placement = self.fleet.decide_for(&ask).map_err(|refusal| {
            let is_small = self.fleet.size().0 <= MAX_EXPLAINED;
            let reasons = is_small.then(|| self.fleet.explain(&ask).refused);
            told(&refusal, reasons.as_ref())
        })?;
        let (node, devices) = (placement.node, placement.devices);
        let demand = &Demand { gpu: demand.gpu.map(|asked| GpuDemand { devices, ..asked }), ..*demand };
        tracing::debug!(%node, why = %placement.why, "place proposed");
        self.apply(FleetChange::Reserve { node, demand: *demand });
        if let Some(id) = who {
            self.placing.insert(id);
            if let Err(unapplied) = self.fleet.settle(id, node, demand, terms) {
                tracing::debug!(%unapplied, "the picture of the fleet is behind, it is renewed by itself");
            }
        }
        let proposed = self.proposed.entry(node).or_default();
        *proposed = plus(*proposed, amount(demand));
        if let Some(gpu) = demand.gpu {
            self.proposed_gpus.entry(node).or_default().push(gpu);
        }
        Ok((node, *demand))
    }

    /// The row has decided, one way or the other.
    fn decided(&mut self, node: NodeId, demand: &Demand) {
        if let Some(proposed) = self.proposed.get_mut(&node) {
            *proposed = proposed.minus(amount(demand));
            if *proposed == Capacity::default() {
                self.proposed.remove(&node);
            }
        }
        if let (Some(gpu), Some(proposed)) = (demand.gpu, self.proposed_gpus.get_mut(&node)) {
            if let Some(index) = proposed.iter().position(|one| *one == gpu) {
                proposed.swap_remove(index);
            }
            if proposed.is_empty() {
                self.proposed_gpus.remove(&node);
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

/// A refusal without the fleet in it: tenants learn what was in the way, and not how many machines there are, or what is on them.
pub(crate) fn told(refusal: &Refusal, reasons: Option<&BTreeMap<HardLimit, u32>>) -> String {
    let Demand { cpu, memory, architecture, fenced, isolation, zone, dedicated, .. } = *refusal.demand;
    let mut kind = architecture.map(|architecture| format!(" on {architecture}")).unwrap_or_default();
    if let Some(zone) = zone {
        kind = format!("{kind} in {zone}");
    }
    let way_out = if refusal.fits_an_empty_node || refusal.nodes == 0 {
        "try again later, or ask for less"
    } else {
        "it is more than any machine has, ask for less"
    };
    let replaced = if fenced { " for on_node_loss replace" } else { "" };
    let alone = if dedicated { " on a machine of its own" } else { "" };
    let apart = if isolation.is_shared() { String::new() } else { format!(" with isolation {isolation}") };
    let words = |limit: &HardLimit| match limit {
        HardLimit::State => "that take nothing new".to_owned(),
        limit => limit.to_string(),
    };
    let reasons: Vec<String> = reasons.into_iter().flatten().map(|(limit, _)| words(limit)).collect();
    let because =
        if reasons.is_empty() { String::new() } else { format!(": there are only machines {}", reasons.join(", or ")) };
    format!("{cpu} CPU and {memory} memory{kind}{apart}{replaced}{alone} are not free{because}; {way_out}")
}

/// A place that is proposed and kept free in the picture, so that creates that are decided at the same time do not all
/// propose the same last gap. Given back when dropped, unless the row has agreed.
pub(crate) struct Reservation {
    control: Control,
    node: NodeId,
    demand: Demand,
    /// Who is to be there.
    who: InstanceId,
    kept: bool,
}

impl Reservation {
    /// Which GPUs of it.
    pub(crate) fn gpus(&self) -> DeviceSet {
        self.demand.gpu.map(|gpu| gpu.devices).unwrap_or_default()
    }

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
        index.placing.remove(&self.who);
        if !self.kept {
            index.release(self.node, self.demand);
            index.fleet.depart(self.who);
        }
    }
}

impl Control {
    /// Proposes a place for `who`.
    pub(crate) fn propose(&self, who: InstanceId, demand: &Demand, terms: &Terms) -> Result<Reservation, Error> {
        let terms = &self.expecting(who, demand, terms);
        let proposed = lock(&self.inner.fleet).propose(Some(who), demand, terms);
        let (node, demand) = proposed.map_err(Error::CapacityUnavailable)?;
        self.inner.proposals.made.fetch_add(1, Ordering::Relaxed);
        Ok(Reservation { control: self.clone(), node, demand, who, kept: false })
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

    /// The row refused what was proposed: the picture was behind.
    pub(crate) async fn row_refused(&self, node: NodeId) -> Result<(), Error> {
        self.inner.proposals.refused.fetch_add(1, Ordering::Relaxed);
        self.learn_node(node).await
    }

    /// The places that this process has proposed since its start.
    pub fn proposal_counts(&self) -> ProposalCounts {
        let Proposals { made, refused } = &self.inner.proposals;
        ProposalCounts { made: made.load(Ordering::Relaxed), refused: refused.load(Ordering::Relaxed) }
    }

    /// Takes all that is placed into the picture.
    pub(crate) async fn load_residents(&self) -> Result<(), Error> {
        let nodes: Vec<NodeId> =
            lock(&self.inner.fleet).fleet.nodes().filter(|node| !node.is_empty()).map(|node| node.id).collect();
        for node in nodes {
            let Some(OnNode { instances, .. }) = self.store().instances_on(node).await? else { continue };
            {
                let mut index = lock(&self.inner.fleet);
                for instance in &instances {
                    index.observe(instance);
                }
            }
            self.resume_lives(&instances);
        }
        Ok(())
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
        let wanted =
            |record: &Option<NodeRecord>| record.as_ref().map(|record| (record.desired_revision, record.epoch));
        for seeing in seeings.iter().filter(|seeing| wanted(&seeing.before) != wanted(&seeing.after)) {
            match (&seeing.before, &seeing.after) {
                (_, Some(record)) => self.inner.bells.ring(record.id),
                (Some(record), None) => {
                    self.inner.bells.forget(record.id);
                    self.inner.call_bells.forget(record.id);
                }
                (None, None) => {}
            }
        }
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

    use wherry_model::{Architecture, BootId, CpuMillis, MemoryMib, NodeState};

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
        let none = Terms::default();
        let mut index = FleetIndex::default();
        index.learn(&row(Capacity::default()));
        let (node, _) = index.propose(None, &demand, &none).unwrap();
        // The follower reads the row before the transaction of the proposal has ended.
        index.learn(&row(Capacity::default()));
        assert!(index.propose(None, &demand, &none).is_err(), "the last gap is proposed once");
        // The row agreed, and is read again.
        index.decided(node, &demand);
        index.learn(&row(amount(&demand)));
        assert!(index.why_not(&demand, &none).is_some());
        index.learn(&row(Capacity::default()));
        assert!(index.why_not(&demand, &none).is_none());
        // Refused: the gap is free again at once.
        let (node, _) = index.propose(None, &demand, &none).unwrap();
        index.decided(node, &demand);
        index.release(node, demand);
        assert!(index.why_not(&demand, &none).is_none());
    }
}
