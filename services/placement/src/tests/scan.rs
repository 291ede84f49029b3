//! Someone who looks at every node and every instance. Written a second time on purpose, with lists and no counts.

use std::collections::{BTreeMap, BTreeSet};

use wherry_model::{
    Capacity, Demand, GpuAmount, Group, ImageKey, InstanceId, NodeId, NodeState, Overcommit, SpreadOver, Terms,
    ZoneName,
};

use crate::hash::scatter;
use crate::image::{IMAGES, LOOKED_AT, NEIGHBOURS};
use crate::index::size_class;
use crate::{Ask, Fleet, NodeSnapshot, Score};

/// What is known of the fleet, as lists.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) nodes: BTreeMap<NodeId, NodeSnapshot>,
    pub(super) departs: BTreeMap<NodeId, u8>,
    pub(super) settled: BTreeMap<InstanceId, (NodeId, Demand, Terms)>,
    pub(super) images: BTreeMap<NodeId, Vec<ImageKey>>,
    /// Which part, of how many, is preferred.
    pub(super) share: Option<(u32, u32)>,
}

impl Known {
    /// A fleet that learns it all at once.
    pub(super) fn build(&self) -> Fleet {
        // In another order than it came about.
        let mut fleet = self.nodes.values().rev().copied().collect::<Fleet>();
        for (node, departs) in &self.departs {
            fleet.apply(crate::FleetChange::Expect { node: *node, departs: *departs }).unwrap();
        }
        for (instance, (node, demand, terms)) in self.settled.iter().rev() {
            fleet.settle(*instance, *node, demand, terms).unwrap();
        }
        for (node, images) in &self.images {
            fleet.images(*node, images).unwrap();
        }
        fleet
    }

    fn members_on(&self, node: NodeId, group: &Group) -> usize {
        let on = self.settled.values().filter(|(on, ..)| *on == node);
        on.filter(|(_, _, terms)| terms.groups.contains(group)).count()
    }

    fn members_in(&self, zone: Option<ZoneName>, group: &Group) -> usize {
        let nodes = self.nodes.values().filter(|node| node.offer.zone == zone);
        nodes.map(|node| self.members_on(node.id, group)).sum()
    }

    /// Whether nothing speaks against it.
    pub(super) fn may_take(&self, node: &NodeSnapshot, ask: &Ask<'_>) -> bool {
        self.suits(node, ask) && has_room(node, ask.demand)
    }

    /// The same, apart from the amounts.
    pub(super) fn suits(&self, node: &NodeSnapshot, ask: &Ask<'_>) -> bool {
        node.state == NodeState::Ready
            && is_of_a_kind_for(node, ask.demand)
            && !ask.excluded.contains(&node.id)
            && may_own(node, ask.demand)
            && self.suits_the_others(node, ask.terms)
            && self.is_spread(node, ask)
    }

    fn suits_the_others(&self, node: &NodeSnapshot, terms: &Terms) -> bool {
        let here = || self.settled.values().filter(|(on, ..)| *on == node.id).map(|(_, _, terms)| terms);
        let near = |group: &Group| {
            let nobody = !self.settled.values().any(|(_, _, terms)| terms.groups.contains(group));
            (nobody && terms.groups.contains(group)) || here().any(|other| other.groups.contains(group))
        };
        terms.near.iter().all(near)
            && !terms.apart.iter().any(|group| here().any(|other| other.groups.contains(group)))
            && !terms.groups.iter().any(|group| here().any(|other| other.apart.contains(group)))
            && !terms.ports.iter().any(|port| here().any(|other| other.ports.contains(port)))
    }

    fn is_spread(&self, node: &NodeSnapshot, ask: &Ask<'_>) -> bool {
        let eligible =
            || self.nodes.values().filter(|node| node.state == NodeState::Ready && is_of_a_kind_for(node, ask.demand));
        ask.terms.spread.iter().all(|spread| {
            let itself = usize::from(ask.terms.groups.contains(&spread.group));
            let (here, fewest) = match spread.over {
                SpreadOver::Nodes => (
                    self.members_on(node.id, &spread.group),
                    eligible().map(|node| self.members_on(node.id, &spread.group)).min(),
                ),
                SpreadOver::Zones => (
                    self.members_in(node.offer.zone, &spread.group),
                    eligible().map(|node| self.members_in(node.offer.zone, &spread.group)).min(),
                ),
            };
            here + itself <= fewest.unwrap_or(0) + usize::try_from(spread.max_skew).unwrap()
        })
    }

    fn cold(&self, node: NodeId, images: &[ImageKey]) -> u8 {
        let there = self.images.get(&node).map_or(&[][..], |there| there);
        let missing = images.iter().filter(|image| !there.contains(image)).count();
        if missing == 0 { 0 } else { 1 + u8::from(missing == images.len()) }
    }

    fn zone_excess(&self, zone: Option<ZoneName>) -> u8 {
        let load = |zone: Option<ZoneName>| {
            let ready = self.nodes.values().filter(|node| node.state == NodeState::Ready && node.offer.zone == zone);
            let (used, all) =
                ready.fold((0, 0), |(used, all), node| (used + node.used.cpu_millis, all + node.capacity.cpu_millis));
            (used * 1_000).checked_div(all)
        };
        let least = self.nodes.values().filter_map(|node| load(node.offer.zone)).min().unwrap_or(0);
        u8::try_from(load(zone).map_or(0, |load| (load - least) / 125).min(8)).unwrap()
    }

    pub(super) fn score(&self, node: &NodeSnapshot, ask: &Ask<'_>, mib_per_core: u64) -> Score {
        let (demand, terms) = (ask.demand, ask.terms);
        let cpu_left = size_class(free_cpu(node)).saturating_sub(u64::from(demand.cpu.get()));
        let cpu_mib = cpu_left * mib_per_core / 1_000;
        let memory_mib = free_memory(node) - u64::from(demand.memory.get());
        let departs = self.departs.get(&node.id).copied().unwrap_or(0);
        let gpus = node.offer.gpus;
        let unused = gpus.used_permille[..usize::from(gpus.count)].iter().filter(|used| **used == 0).count();
        Score {
            shared: node.offer.sole_tenant.is_none(),
            unasked_gpus: gpus.count > 0 && demand.gpu.is_none(),
            wakes_empty_node: node.is_empty(),
            cold: self.cold(node.id, &terms.images),
            unused_gpus: if demand.gpu.is_some() { u8::try_from(unused).unwrap() } else { 0 },
            departure_gap: terms.departs.0[usize::from(departs)],
            zone_excess: self.zone_excess(node.offer.zone),
            others_share: self.share.is_some_and(|(own, of)| scatter(node.id) % u64::from(of) != u64::from(own)),
            residue_mib: cpu_mib.max(memory_mib),
            imbalance_mib: cpu_mib.abs_diff(memory_mib),
            node: node.id,
        }
    }

    /// The least score: of all where something is to be near, else of the best one without regard to images and of those that follow it
    /// in its aisle. If none of them has all, also of the first nodes that have one of the first images, counted from that one on.
    pub(super) fn best(&self, ask: &Ask<'_>, mib_per_core: u64) -> Option<Score> {
        let fit = || self.nodes.values().filter(|node| self.may_take(node, ask));
        let score = |node: &NodeSnapshot| self.score(node, ask, mib_per_core);
        let is_somewhere = |group: &Group| self.settled.values().any(|(_, _, terms)| terms.groups.contains(group));
        if ask.terms.near.iter().any(is_somewhere) {
            return fit().map(score).min();
        }
        let plain = fit().min_by_key(|node| Score { cold: 0, ..score(node) })?;
        let aisle = |node: &NodeSnapshot| {
            let departs = self.departs.get(&node.id).copied().unwrap_or(0);
            let offer = &node.offer;
            let stands = node.state == NodeState::Ready
                && node.used.instances < node.capacity.instances
                && offer.addresses.is_none_or(|addresses| node.used.instances < addresses);
            let gpus = &offer.gpus.used_permille[..usize::from(offer.gpus.count)];
            let unused = gpus.iter().filter(|used| **used == 0).count();
            let room = gpus.iter().map(|used| 1_000_u16.saturating_sub(*used) / 64).max().filter(|_| unused == 0);
            let gpus = (offer.gpus.count > 0, unused, room);
            stands.then(|| (offer.sole_tenant, node.is_empty(), departs, gpus))
        };
        let place = |node: &NodeSnapshot| (size_class(free_cpu(node)), free_memory(node), node.id);
        let in_its_aisle = self.nodes.values().filter(|node| {
            aisle(node) == aisle(plain)
                && place(node) > place(plain)
                && free_memory(node) >= u64::from(ask.demand.memory.get())
        });
        let mut following = in_its_aisle.collect::<Vec<_>>();
        following.sort_by_key(|node| place(node));
        let mut looked_at = BTreeSet::from([plain.id]);
        looked_at.extend(following.into_iter().take(NEIGHBOURS).map(|node| node.id));
        let best = fit().filter(|node| looked_at.contains(&node.id)).map(score).min();
        if best.is_some_and(|best| best.cold == 0) {
            return best;
        }
        for image in ask.terms.images.iter().take(IMAGES) {
            let has = |node: &NodeId| self.images.get(node).is_some_and(|there| there.contains(image));
            let mut holders = self.nodes.keys().copied().filter(has).collect::<Vec<_>>();
            holders.sort_by_key(|node| (scatter(*node) <= scatter(plain.id), scatter(*node)));
            looked_at.extend(holders.into_iter().take(LOOKED_AT));
        }
        fit().filter(|node| looked_at.contains(&node.id)).map(score).min()
    }
}

fn may_own(node: &NodeSnapshot, demand: &Demand) -> bool {
    match node.offer.sole_tenant {
        Some(owner) => demand.tenant == Some(owner),
        None => !demand.dedicated || node.used == Capacity::default() || node.is_empty(),
    }
}

fn free_cpu(node: &NodeSnapshot) -> u64 {
    (node.capacity.cpu_millis * u64::from(node.offer.overcommit.cpu_percent) / 100).saturating_sub(node.used.cpu_millis)
}

fn free_memory(node: &NodeSnapshot) -> u64 {
    let offered = node.capacity.memory_mib * u64::from(node.offer.overcommit.memory_percent) / 100;
    offered.saturating_sub(node.used.memory_mib)
}

fn is_of_a_kind_for(node: &NodeSnapshot, demand: &Demand) -> bool {
    (!demand.fenced || node.fences)
        && demand.protocol <= node.protocol
        && node.isolation.iter().any(|class| class == demand.isolation)
        && (demand.architecture.is_none() || demand.architecture == Some(node.architecture))
        && (demand.zone.is_none() || demand.zone == node.offer.zone)
        && demand.gpu.is_none_or(|asked| {
            node.offer.gpus.count > 0 && (asked.model.is_none() || asked.model == node.offer.gpus.model)
        })
}

pub(super) fn has_room(node: &NodeSnapshot, demand: &Demand) -> bool {
    let gpus = &node.offer.gpus.used_permille[..usize::from(node.offer.gpus.count)];
    node.used.instances < node.capacity.instances
        && node.offer.addresses.is_none_or(|addresses| node.used.instances < addresses)
        && u64::from(demand.cpu.get()) <= free_cpu(node)
        && u64::from(demand.memory.get()) <= free_memory(node)
        && node.offer.disk.is_none_or(|disk| {
            let offered = Overcommit::of(disk.total_mib, node.offer.overcommit.disk_percent);
            disk.used_mib + u64::from(demand.disk.get()) <= offered || (demand.disk.get() == 0)
        })
        && demand.gpu.is_none_or(|asked| match asked.amount {
            GpuAmount::Whole(count) => gpus.iter().filter(|used| **used == 0).count() >= usize::from(count),
            GpuAmount::Share(share) => gpus.iter().any(|used| used + share <= 1_000),
        })
}
