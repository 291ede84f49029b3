//! Who is where: the instances that are settled on nodes, counted by group, node and zone, with the ports they hold.
//!
//! Everything here is a count or a list of what was settled; nothing is decided. Counts are kept as instances come and go, so that
//! a decision asks "how many of this group are on this node" in one step.

use wherry_model::{Demand, Group, HostPort, InstanceId, Protocol, Terms};

use crate::hash::Table;
use crate::node_set::NodeSet;

/// What is remembered of an instance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resident {
    pub(crate) slot: u32,
    /// What it would give back, if it may be evicted.
    pub(crate) spot: Option<Box<Demand>>,
    groups: Box<[Group]>,
    apart: Box<[Group]>,
    ports: Box<[HostPort]>,
}

impl Resident {
    pub(crate) fn new(slot: u32, demand: &Demand, terms: &Terms) -> Self {
        Self {
            slot,
            spot: demand.spot.then(|| Box::new(*demand)),
            groups: distinct(&terms.groups),
            apart: distinct(&terms.apart),
            ports: distinct(&terms.ports),
        }
    }

    fn bytes(&self) -> usize {
        let groups = (self.groups.len() + self.apart.len()) * size_of::<Group>();
        groups + self.ports.len() * size_of::<HostPort>() + self.spot.as_ref().map_or(0, |_| size_of::<Demand>())
    }
}

fn distinct<T: Copy + Ord>(all: &[T]) -> Box<[T]> {
    let mut all = all.to_vec();
    all.sort_unstable();
    all.dedup();
    all.into_boxed_slice()
}

/// How many there are on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct OnNode {
    slot: u32,
    /// Members of the group.
    members: u32,
    /// Instances that must be apart from the group.
    avoiders: u32,
}

/// A group, as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Members {
    /// By slot.
    nodes: Vec<OnNode>,
    /// Members by zone, by the zone's number.
    zones: Vec<(u16, u32)>,
    /// Members anywhere.
    total: u32,
    /// Avoiders anywhere.
    avoiders: u32,
    /// A bit for each node with members, and for each with avoiders; others share it. What lacks the bit need not be looked up.
    member_bits: u64,
    avoider_bits: u64,
    /// The same exactly, where there are too many nodes for the bits to tell much.
    large: Option<Box<Large>>,
}

/// A group on many nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Large {
    members: NodeSet,
    avoiders: NodeSet,
}

impl Large {
    fn note(&mut self, on: OnNode) {
        let note = |set: &mut NodeSet, there: bool| if there { set.insert(on.slot) } else { set.remove(on.slot) };
        note(&mut self.members, on.members > 0);
        note(&mut self.avoiders, on.avoiders > 0);
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.members.bytes() + self.avoiders.bytes()
    }
}

/// The bits are made anew when a node leaves a group of at most so many; beyond, some too many stay.
const REDRAWN: usize = if cfg!(test) { 4 } else { 64 };

const fn bit(slot: u32) -> u64 {
    1 << (slot.wrapping_mul(0x9e37_79b1) >> 26)
}

impl Members {
    fn on(&self, slot: u32) -> OnNode {
        let found = self.nodes.binary_search_by_key(&slot, |on| on.slot);
        found.map_or(OnNode::default(), |at| self.nodes[at])
    }

    pub(crate) fn members_on(&self, slot: u32) -> u32 {
        if self.has_members_on(slot) { self.on(slot).members } else { 0 }
    }

    pub(crate) fn has_members_on(&self, slot: u32) -> bool {
        match &self.large {
            Some(large) => large.members.contains(slot),
            None => self.member_bits & bit(slot) != 0 && self.on(slot).members > 0,
        }
    }

    pub(crate) fn has_avoiders_on(&self, slot: u32) -> bool {
        match &self.large {
            Some(large) => large.avoiders.contains(slot),
            None => self.avoider_bits & bit(slot) != 0 && self.on(slot).avoiders > 0,
        }
    }

    pub(crate) fn members_in(&self, zone: u16) -> u32 {
        self.zones.iter().find(|(known, _)| *known == zone).map_or(0, |(_, count)| *count)
    }

    pub(crate) const fn total(&self) -> u32 {
        self.total
    }

    /// Whether an instance anywhere must be apart from the group.
    pub(crate) const fn is_avoided(&self) -> bool {
        self.avoiders > 0
    }

    /// The nodes with members.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (u32, u32)> {
        self.nodes.iter().filter(|on| on.members > 0).map(|on| (on.slot, on.members))
    }

    /// At most so many nodes have members.
    pub(crate) const fn nodes_at_most(&self) -> usize {
        self.nodes.len()
    }

    fn change(&mut self, slot: u32, change: impl Fn(&mut OnNode)) {
        let at = self.nodes.binary_search_by_key(&slot, |on| on.slot).unwrap_or_else(|at| {
            self.nodes.insert(at, OnNode { slot, ..OnNode::default() });
            at
        });
        let before = self.nodes[at];
        change(&mut self.nodes[at]);
        let after = self.nodes[at];
        if (after.members, after.avoiders) == (0, 0) {
            self.nodes.remove(at);
        }
        self.draw(after);
        let lost = (before.members > 0 && after.members == 0) || (before.avoiders > 0 && after.avoiders == 0);
        if lost && self.nodes.len() <= REDRAWN {
            (self.member_bits, self.avoider_bits) = (0, 0);
            for at in 0..self.nodes.len() {
                self.draw(self.nodes[at]);
            }
        }
        self.enlarge(after);
    }

    /// Keeps the sets of a group on many nodes, of which one is now like this.
    fn enlarge(&mut self, on: OnNode) {
        if self.nodes.len() <= REDRAWN {
            self.large = None;
        } else if let Some(large) = &mut self.large {
            large.note(on);
        } else {
            let mut large = Large::default();
            self.nodes.iter().for_each(|on| large.note(*on));
            self.large = Some(Box::new(large));
        }
    }

    fn draw(&mut self, on: OnNode) {
        self.member_bits |= if on.members > 0 { bit(on.slot) } else { 0 };
        self.avoider_bits |= if on.avoiders > 0 { bit(on.slot) } else { 0 };
    }

    fn count_zone(&mut self, zone: u16, change: impl Fn(u32) -> u32) {
        if let Some(at) = self.zones.iter().position(|(known, _)| *known == zone) {
            self.zones[at].1 = change(self.zones[at].1);
            if self.zones[at].1 == 0 {
                self.zones.swap_remove(at);
            }
        } else {
            self.zones.push((zone, change(0)));
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Company {
    residents: Table<InstanceId, Resident>,
    groups: Table<Group, Members>,
    /// How many instances hold a port of a node: more than one only where rows were written that placement did not propose.
    ports: Table<u64, u32>,
    /// On which nodes a port is held.
    holders: Table<HostPort, NodeSet>,
}

impl Company {
    pub(crate) fn resident(&self, instance: InstanceId) -> Option<&Resident> {
        self.residents.get(&instance)
    }

    pub(crate) fn group(&self, group: &Group) -> Option<&Members> {
        self.groups.get(group)
    }

    /// The nodes where the port is taken; none if it is nowhere.
    pub(crate) fn holders(&self, port: HostPort) -> Option<&NodeSet> {
        self.holders.get(&port)
    }

    /// `instance` was not settled before.
    pub(crate) fn settle(&mut self, instance: InstanceId, zone: u16, resident: Resident) {
        self.count(&resident, zone);
        self.residents.insert(instance, resident);
    }

    /// Forgets `instance`; what was remembered of it.
    pub(crate) fn depart(&mut self, instance: InstanceId, zone: u16) -> Option<Resident> {
        let resident = self.residents.remove(&instance)?;
        self.discount(&resident, zone);
        Some(resident)
    }

    /// The node on which `instance` is has come into another zone.
    pub(crate) fn moved(&mut self, instance: InstanceId, from: u16, to: u16) {
        if let Some(resident) = self.residents.remove(&instance) {
            self.discount(&resident, from);
            self.count(&resident, to);
            self.residents.insert(instance, resident);
        }
    }

    fn count(&mut self, resident: &Resident, zone: u16) {
        for group in &resident.groups {
            let members = self.groups.entry(*group).or_default();
            members.change(resident.slot, |on| on.members += 1);
            members.count_zone(zone, |count| count + 1);
            members.total += 1;
        }
        for group in &resident.apart {
            let members = self.groups.entry(*group).or_default();
            members.change(resident.slot, |on| on.avoiders += 1);
            members.avoiders += 1;
        }
        for port in &resident.ports {
            *self.ports.entry(port_key(resident.slot, *port)).or_default() += 1;
            self.holders.entry(*port).or_default().insert(resident.slot);
        }
    }

    fn discount(&mut self, resident: &Resident, zone: u16) {
        for group in &resident.groups {
            if let Some(members) = self.groups.get_mut(group) {
                members.change(resident.slot, |on| on.members -= 1);
                members.count_zone(zone, |count| count - 1);
                members.total -= 1;
            }
        }
        for group in &resident.apart {
            if let Some(members) = self.groups.get_mut(group) {
                members.change(resident.slot, |on| on.avoiders -= 1);
                members.avoiders -= 1;
            }
        }
        for group in resident.groups.iter().chain(&resident.apart) {
            if self.groups.get(group).is_some_and(|members| members.nodes.is_empty()) {
                self.groups.remove(group);
            }
        }
        for port in &resident.ports {
            let key = port_key(resident.slot, *port);
            let Some(count) = self.ports.get_mut(&key) else { continue };
            *count -= 1;
            if *count > 0 {
                continue;
            }
            self.ports.remove(&key);
            if let Some(holders) = self.holders.get_mut(port) {
                holders.remove(resident.slot);
                if holders.is_empty() {
                    self.holders.remove(port);
                }
            }
        }
    }

    /// How many instances are settled.
    pub(crate) fn len(&self) -> usize {
        self.residents.len()
    }

    /// Bytes on the heap, about.
    pub(crate) fn bytes(&self) -> usize {
        let residents = self.residents.capacity() * (size_of::<(InstanceId, Resident)>() + 1)
            + self.residents.values().map(Resident::bytes).sum::<usize>();
        let groups = self.groups.capacity() * (size_of::<(Group, Members)>() + 1)
            + self
                .groups
                .values()
                .map(|members| {
                    members.nodes.capacity() * size_of::<OnNode>()
                        + members.zones.capacity() * size_of::<(u16, u32)>()
                        + members.large.as_ref().map_or(0, |large| large.bytes())
                })
                .sum::<usize>();
        let holders = self.holders.capacity() * (size_of::<(HostPort, NodeSet)>() + 1)
            + self.holders.values().map(NodeSet::bytes).sum::<usize>();
        residents + groups + holders + self.ports.capacity() * (size_of::<(u64, u32)>() + 1)
    }

    /// Groups and ports in order, with slots and zones told by these names: equal for equal company.
    #[cfg(test)]
    pub(crate) fn shape(
        &self,
        node: impl Fn(u32) -> wherry_model::NodeId,
        zone: impl Fn(u16) -> String,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        for (group, members) in &self.groups {
            let mut nodes = members.nodes.iter().map(|on| (node(on.slot), on.members, on.avoiders)).collect::<Vec<_>>();
            nodes.sort_unstable();
            let mut zones = members.zones.iter().map(|(number, count)| (zone(*number), *count)).collect::<Vec<_>>();
            zones.sort_unstable();
            lines.push(format!("{group:?} {nodes:?} {zones:?} {} {}", members.total, members.avoiders));
        }
        for (key, count) in &self.ports {
            let slot = u32::try_from(key >> 32).unwrap();
            let protocol = if key & (1 << 16) == 0 { Protocol::Tcp } else { Protocol::Udp };
            let port = HostPort { protocol, port: u16::try_from(key & 0xffff).unwrap() };
            assert!(self.holders[&port].contains(slot), "{slot} holds {port:?}");
            lines.push(format!("{} {:x} {count}", node(slot), key & 0xffff_ffff));
        }
        assert_eq!(self.holders.values().map(NodeSet::len).sum::<usize>(), self.ports.len());
        lines.sort_unstable();
        lines
    }
}

fn port_key(slot: u32, port: HostPort) -> u64 {
    let protocol = match port.protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1_u64 << 16,
    };
    (u64::from(slot) << 32) | protocol | u64::from(port.port)
}
