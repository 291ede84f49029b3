//! The engine.

use wherry_model::{Capacity, Demand, ImageKey, InstanceId, NodeId, NodeState, Terms};

use crate::change::{FleetChange, NodeSnapshot, Unapplied};
use crate::company::{Company, Resident};
use crate::context::Context;
use crate::decision::{Ask, Placement, Refusal, Why};
use crate::evict::SpotSum;
use crate::hash::Table;
use crate::image::Images;
use crate::index::{Aisle, Index};
use crate::kind::Kinds;
use crate::score::ExchangeRate;
use crate::shape::Shapes;
use crate::share::Share;
use crate::shelf::Entry;
use crate::stand::{Stand, evictable};

/// One node, with what is known beside its row.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) node: NodeSnapshot,
    pub(crate) kind: u16,
    pub(crate) departs: u8,
    /// Its node is gone, and it waits for another.
    pub(crate) vacant: bool,
    /// What its spot instances would give back.
    pub(crate) spot: SpotSum,
    /// What lies there, in order.
    pub(crate) images: Box<[ImageKey]>,
    /// Who is settled there, in no order.
    pub(crate) residents: Vec<InstanceId>,
}

/// The fleet as values, and the decisions on it. See the crate's page.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// Where each node stands in `slots`.
    places: Table<NodeId, u32>,
    slots: Vec<Slot>,
    /// What of the slots decisions look at.
    stands: Vec<Stand>,
    vacant: Vec<u32>,
    pub(crate) kinds: Kinds,
    shapes: Shapes,
    /// The nodes that nobody has alone.
    shared: Index,
    /// Those that a tenant has alone.
    owned: Table<wherry_model::TenantId, Index>,
    /// The nodes with spot instances, by what they would have left without them.
    pub(crate) evictable: Index,
    pub(crate) company: Company,
    pub(crate) images: Images,
    pub(crate) share: Option<Share>,
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
            FleetChange::Node(node) => self.put(node),
            FleetChange::Gone(id) => {
                let at = self.places.remove(&id).ok_or(Unapplied::NoSuchNode(id))?;
                self.drop_node(at);
            }
            FleetChange::Reserve { node, demand } => {
                let at = self.place(node)?;
                self.change(at, |slot| reserve(&mut slot.node, &demand));
            }
            FleetChange::Release { node, demand } => {
                let at = self.place(node)?;
                if !self.change(at, |slot| release(&mut slot.node, &demand)) {
                    return Err(Unapplied::MoreThanUsed(node));
                }
            }
            FleetChange::Expect { node, departs } => {
                let at = self.place(node)?;
                self.change(at, |slot| slot.departs = departs);
            }
        }
        Ok(())
    }

    /// `instance` is on `node`, or will be: what counts for the terms of others, and what could be evicted. Its amounts are not
    /// counted by this ([`FleetChange::Reserve`] does). Where it was settled before it is not any more.
    pub fn settle(
        &mut self,
        instance: InstanceId,
        node: NodeId,
        demand: &Demand,
        terms: &Terms,
    ) -> Result<(), Unapplied> {
        let at = self.place(node)?;
        self.depart(instance);
        let zone = self.zone(at);
        self.company.settle(instance, zone, Resident::new(at, demand, terms));
        self.slots[index(at)].residents.push(instance);
        if demand.spot {
            self.change(at, |slot| slot.spot.add(demand));
        }
        Ok(())
    }

    /// `instance` is not on any node any more. False if it was not.
    pub fn depart(&mut self, instance: InstanceId) -> bool {
        let Some(at) = self.company.resident(instance).map(|resident| resident.slot) else { return false };
        let zone = self.zone(at);
        let residents = &mut self.slots[index(at)].residents;
        if let Some(place) = residents.iter().position(|known| *known == instance) {
            residents.swap_remove(place);
        }
        if let Some(demand) = self.company.depart(instance, zone).and_then(|resident| resident.spot) {
            self.change(at, |slot| slot.spot.subtract(&demand));
        }
        true
    }

    /// These images lie on `node`; replaces what was known.
    pub fn images(&mut self, node: NodeId, images: &[ImageKey]) -> Result<(), Unapplied> {
        let at = self.place(node)?;
        let mut images = images.to_vec();
        images.sort_unstable();
        images.dedup();
        self.lay(at, images.into_boxed_slice());
        Ok(())
    }

    /// From now on this engine is one of `of`, and rather takes a node of its own share where that costs nothing but fit.
    pub const fn prefer_share(&mut self, index: u32, of: u32) {
        self.share = Share::new(index, of);
    }

    /// The best node for `demand`, or why there is none. Changes nothing: apply a [`FleetChange::Reserve`] when the row
    /// has agreed, or before asking for the next of several that are to be written together.
    pub fn decide(&self, demand: &Demand) -> Result<Placement, Refusal> {
        self.decide_for(&Ask::of(demand))
    }

    /// The same without some nodes: those whose row refused this demand a moment ago. Keep the list short, every
    /// candidate is compared with it.
    pub fn decide_excluding(&self, demand: &Demand, excluded: &[NodeId]) -> Result<Placement, Refusal> {
        self.decide_for(&Ask { excluded, ..Ask::of(demand) })
    }

    /// The same with all that can be asked.
    pub fn decide_for(&self, ask: &Ask<'_>) -> Result<Placement, Refusal> {
        let context = Context::of(self, ask);
        let Some(best) = context.best() else { return Err(self.refusal(ask)) };
        let devices = ask.demand.gpu.and_then(|asked| self.slot(best.at).node.offer.gpus.choose(&asked));
        let why = Why { score: best.score, candidates: best.candidates, nodes: count(self.places.len()) };
        Ok(Placement { node: best.score.node, devices: devices.unwrap_or_default(), why })
    }

    fn refusal(&self, ask: &Ask<'_>) -> Refusal {
        Refusal {
            demand: Box::new(*ask.demand),
            nodes: count(self.places.len()),
            fits_an_empty_node: self.shapes.any_holds(&self.kinds, ask.demand),
        }
    }

    /// What is known of a node.
    pub fn node(&self, id: NodeId) -> Option<&NodeSnapshot> {
        self.places.get(&id).map(|at| &self.slot(*at).node)
    }

    /// All nodes, by id. Walks the fleet.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeSnapshot> {
        let mut nodes = self.present().map(|(_, slot)| &slot.node).collect::<Vec<_>>();
        nodes.sort_unstable_by_key(|node| node.id);
        nodes.into_iter()
    }

    /// What CPU is worth in memory here.
    pub fn exchange_rate(&self) -> ExchangeRate {
        ExchangeRate::of(self.total_cpu_millis, self.total_memory_mib)
    }

    /// How many nodes there are, and how many instances are settled.
    pub fn size(&self) -> (usize, usize) {
        (self.places.len(), self.company.len())
    }

    /// About how many bytes the picture of the nodes takes, and that of the settled instances.
    pub fn bytes(&self) -> (usize, usize) {
        let places = self.places.capacity() * (size_of::<(NodeId, u32)>() + 1);
        let slots = self.slots.capacity() * size_of::<Slot>()
            + self.stands.capacity() * size_of::<Stand>()
            + self.slots.iter().map(|slot| slot.images.len() * size_of::<ImageKey>()).sum::<usize>();
        let indexes = [&self.shared, &self.evictable].into_iter().chain(self.owned.values()).map(Index::bytes);
        let nodes = places + slots + indexes.sum::<usize>() + self.images.bytes();
        let lists = self.slots.iter().map(|slot| slot.residents.capacity() * size_of::<InstanceId>()).sum::<usize>();
        (nodes, lists + self.company.bytes())
    }

    pub(crate) fn slot(&self, at: u32) -> &Slot {
        &self.slots[index(at)]
    }

    pub(crate) fn stand(&self, at: u32) -> &Stand {
        &self.stands[index(at)]
    }

    #[cfg(test)]
    pub(crate) fn slot_of(&self, id: NodeId) -> Option<u32> {
        self.places.get(&id).copied()
    }

    /// Every node with its slot, in no order that may matter.
    pub(crate) fn present(&self) -> impl Iterator<Item = (u32, &Slot)> {
        (0..).zip(&self.slots).filter(|(_, slot)| !slot.vacant)
    }

    pub(crate) const fn shared(&self) -> &Index {
        &self.shared
    }

    pub(crate) fn owned_by(&self, tenant: Option<wherry_model::TenantId>) -> Option<&Index> {
        self.owned.get(&tenant?)
    }

    pub(crate) fn zone(&self, at: u32) -> u16 {
        self.kinds.zone(self.slot(at).kind)
    }

    fn place(&self, node: NodeId) -> Result<u32, Unapplied> {
        self.places.get(&node).copied().ok_or(Unapplied::NoSuchNode(node))
    }

    /// Changes what is in use of a node, or what is known beside its row. What it is stays.
    fn change<T>(&mut self, at: u32, change: impl FnOnce(&mut Slot) -> T) -> T {
        let slot = &mut self.slots[index(at)];
        let before = Before { owner: slot.node.offer.sole_tenant, evictable: evictable(at, slot) };
        let used_before = slot.node.used.cpu_millis;
        let done = change(slot);
        if slot.node.state == NodeState::Ready && slot.node.used.cpu_millis != used_before {
            self.kinds.reuse(slot.kind, used_before, slot.node.used.cpu_millis);
        }
        self.restand(at, before);
        done
    }

    fn lay(&mut self, at: u32, images: Box<[ImageKey]>) {
        let slot = &self.slots[index(at)];
        self.images.replace(slot.node.id, at, &slot.images, &images);
        self.change(at, |slot| slot.images = images);
    }

    /// Puts the node where it stands now.
    fn restand(&mut self, at: u32, before: Before) {
        let slot = &self.slots[index(at)];
        let (owner, can_be_evicted, stand) = (slot.node.offer.sole_tenant, evictable(at, slot), Stand::of(at, slot));
        let stood = std::mem::replace(&mut self.stands[index(at)], stand);
        let place = |stand: &Stand| stand.open.then_some((stand.aisle, stand.entry));
        if place(&stood) != place(&stand) || before.owner != owner {
            if let Some((aisle, entry)) = place(&stood) {
                self.unshelve(before.owner, aisle, entry);
            }
            if let Some((aisle, entry)) = place(&stand) {
                match owner {
                    None => self.shared.insert(aisle, entry),
                    Some(owner) => self.owned.entry(owner).or_default().insert(aisle, entry),
                }
            }
        }
        if before.evictable != can_be_evicted {
            if let Some(entry) = before.evictable {
                self.evictable.remove(Aisle::default(), entry.cpu, entry.memory, entry.id);
            }
            if let Some(entry) = can_be_evicted {
                self.evictable.insert(Aisle::default(), entry);
            }
        }
    }

    fn unshelve(&mut self, owner: Option<wherry_model::TenantId>, aisle: Aisle, entry: Entry) {
        let Some(owner) = owner else {
            self.shared.remove(aisle, entry.cpu, entry.memory, entry.id);
            return;
        };
        if let Some(index) = self.owned.get_mut(&owner) {
            index.remove(aisle, entry.cpu, entry.memory, entry.id);
            if index.is_bare() {
                self.owned.remove(&owner);
            }
        }
    }

    fn put(&mut self, node: NodeSnapshot) {
        let at = self.places.get(&node.id).copied().unwrap_or_else(|| self.settle_slot(node));
        let kind = self.kinds.number_of(&node);
        let slot = &mut self.slots[index(at)];
        let known = !slot.vacant;
        let before = if known {
            Before { owner: slot.node.offer.sole_tenant, evictable: evictable(at, slot) }
        } else {
            Before::default()
        };
        let zone_before = known.then(|| self.kinds.zone(slot.kind));
        if known {
            self.kinds.subtract(slot.kind, &slot.node);
            self.shapes.subtract(slot.kind, &slot.node);
            self.total_cpu_millis -= u128::from(slot.node.capacity.cpu_millis);
            self.total_memory_mib -= u128::from(slot.node.capacity.memory_mib);
        }
        slot.node = node;
        slot.kind = kind;
        slot.vacant = false;
        self.kinds.add(kind, &node);
        self.shapes.add(kind, &node);
        self.total_cpu_millis += u128::from(node.capacity.cpu_millis);
        self.total_memory_mib += u128::from(node.capacity.memory_mib);
        let zone = self.kinds.zone(kind);
        if let Some(zone_before) = zone_before.filter(|before| *before != zone) {
            for instance in &self.slots[index(at)].residents {
                self.company.moved(*instance, zone_before, zone);
            }
        }
        self.restand(at, before);
    }

    /// A slot for a node that is new.
    fn settle_slot(&mut self, node: NodeSnapshot) -> u32 {
        let at = self.vacant.pop().unwrap_or_else(|| {
            let at = count(self.slots.len());
            let (images, residents) = (Box::default(), Vec::new());
            self.slots.push(Slot {
                node,
                kind: 0,
                departs: 0,
                vacant: true,
                spot: SpotSum::default(),
                images,
                residents,
            });
            self.stands.push(Stand::of(at, &self.slots[index(at)]));
            at
        });
        self.places.insert(node.id, at);
        at
    }

    fn drop_node(&mut self, at: u32) {
        for instance in self.slots[index(at)].residents.clone() {
            self.depart(instance);
        }
        self.lay(at, Box::default());
        let slot = &mut self.slots[index(at)];
        let before = Before { owner: slot.node.offer.sole_tenant, evictable: evictable(at, slot) };
        slot.vacant = true;
        slot.departs = 0;
        self.kinds.subtract(slot.kind, &slot.node);
        self.shapes.subtract(slot.kind, &slot.node);
        self.total_cpu_millis -= u128::from(slot.node.capacity.cpu_millis);
        self.total_memory_mib -= u128::from(slot.node.capacity.memory_mib);
        self.vacant.push(at);
        self.restand(at, before);
    }

    /// All that decisions depend on: equal for equal fleets, however they came about.
    #[cfg(test)]
    pub(crate) fn shape(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let name = |at: u32| self.slot(at).node.id;
        let zone = |zone: u16| format!("{:?}", self.kinds.zone_name(zone));
        let nodes = self.nodes().map(|node| {
            let slot = self.slot(self.slot_of(node.id).unwrap());
            let mut residents = slot.residents.clone();
            residents.sort_unstable();
            (*node, slot.departs, slot.spot, residents)
        });
        let mut owned = self.owned.iter().map(|(owner, index)| (*owner, index.shape())).collect::<Vec<_>>();
        owned.sort_unstable_by_key(|(owner, _)| *owner);
        (
            (nodes.collect::<Vec<_>>(), self.exchange_rate()),
            (self.shared.shape(), owned, self.evictable.shape()),
            self.company.shape(name, zone),
            self.shapes.shape(),
            self.images.shape(name),
            self.nodes().map(|node| self.shape_of(self.slot_of(node.id).unwrap())).collect::<Vec<_>>(),
        )
    }

    /// How full its zone is, after a look at what decisions look at.
    #[cfg(test)]
    fn shape_of(&self, at: u32) -> u8 {
        assert_eq!(*self.stand(at), Stand::of(at, self.slot(at)));
        self.kinds.excess(self.zone(at), self.kinds.least_load())
    }
}

/// Where a node stood, as far as its stand does not tell.
#[derive(Debug, Default)]
struct Before {
    owner: Option<wherry_model::TenantId>,
    evictable: Option<Entry>,
}

fn reserve(node: &mut NodeSnapshot, demand: &Demand) {
    node.used = plus(node.used, taken_by(demand));
    if let Some(disk) = &mut node.offer.disk {
        disk.used_mib = disk.used_mib.saturating_add(u64::from(demand.disk.get()));
    }
    if let Some(asked) = &demand.gpu {
        let devices = if asked.devices.is_empty() { node.offer.gpus.choose(asked) } else { Some(asked.devices) };
        node.offer.gpus.take(asked, devices.unwrap_or_default());
    }
    if demand.dedicated && node.offer.sole_tenant.is_none() {
        node.offer.sole_tenant = demand.tenant;
    }
}

/// False if less was in use than is given back.
pub(crate) fn release(node: &mut NodeSnapshot, demand: &Demand) -> bool {
    let (used, given) = (node.used, taken_by(demand));
    node.used = used.minus(given);
    let mut all = plus(node.used, given) == used;
    if let Some(disk) = &mut node.offer.disk {
        all &= disk.used_mib >= u64::from(demand.disk.get());
        disk.used_mib = disk.used_mib.saturating_sub(u64::from(demand.disk.get()));
    }
    if let Some(given) = &demand.gpu {
        all &= !given.devices.is_empty() && node.offer.gpus.give_back(given);
    }
    if node.used.instances == 0 {
        node.offer.sole_tenant = None;
    }
    all
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

fn index(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}
