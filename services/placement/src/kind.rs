//! Kinds of machine: what a node is, as opposed to what it has left. Few in a fleet of any size, so that a demand is compared with
//! the kinds and not with the nodes.

use wherry_model::{Architecture, Demand, GpuModel, IsolationSet, NodeState, ZoneName};

use crate::change::NodeSnapshot;

/// The kinds from this number on share the last bit; a node with that bit is looked at itself.
pub(crate) const SHARED_BIT: u32 = 63;

/// A zone is at most so many eighths fuller than another; beyond, it makes no difference.
const MOST_EIGHTHS: u128 = 8;

/// What decides whether a node can take a demand at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    architecture: Architecture,
    fences: bool,
    protocol: u32,
    isolation: IsolationSet,
    zone: Option<ZoneName>,
    gpus: bool,
    gpu_model: Option<GpuModel>,
}

impl Kind {
    fn of(node: &NodeSnapshot) -> Self {
        Self {
            architecture: node.architecture,
            fences: node.fences,
            protocol: node.protocol,
            isolation: node.isolation,
            zone: node.offer.zone,
            gpus: node.offer.gpus.count > 0,
            gpu_model: node.offer.gpus.model,
        }
    }

    fn suits(&self, demand: &Demand) -> bool {
        demand.architecture.is_none_or(|wanted| wanted == self.architecture)
            && (self.fences || !demand.fenced)
            && demand.protocol <= self.protocol
            && self.isolation.has(demand.isolation)
            && (demand.zone.is_none() || demand.zone == self.zone)
            && demand.gpu.is_none_or(|asked| self.gpus && (asked.model.is_none() || asked.model == self.gpu_model))
    }
}

#[derive(Debug, Clone, Copy)]
struct Known {
    kind: Kind,
    zone: u16,
    /// Nodes of it.
    nodes: u32,
    /// Those that take new instances.
    ready: u32,
}

/// A zone: what of it is ready to take instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Zone {
    name: Option<ZoneName>,
    cpu_millis: u128,
    used_millis: u128,
}

/// All kinds and zones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kinds {
    kinds: Vec<Known>,
    zones: Vec<Zone>,
}

impl Kinds {
    /// The number of the node's kind, which is made if it is new. A number whose nodes are all gone is given again.
    pub(crate) fn number_of(&mut self, node: &NodeSnapshot) -> u16 {
        let kind = Kind::of(node);
        let zone = self.zone_of(kind.zone);
        let known = self.kinds.iter().position(|known| known.kind == kind);
        let number = known.or_else(|| self.kinds.iter().position(|known| known.nodes == 0));
        let fresh = Known { kind, zone, nodes: 0, ready: 0 };
        let number = number.unwrap_or_else(|| {
            self.kinds.push(fresh);
            self.kinds.len() - 1
        });
        if self.kinds[number].kind != kind {
            self.kinds[number] = fresh;
        }
        u16::try_from(number).unwrap_or(u16::MAX)
    }

    fn zone_of(&mut self, name: Option<ZoneName>) -> u16 {
        let number = self.zones.iter().position(|zone| zone.name == name).unwrap_or_else(|| {
            self.zones.push(Zone { name, cpu_millis: 0, used_millis: 0 });
            self.zones.len() - 1
        });
        u16::try_from(number).unwrap_or(u16::MAX)
    }

    pub(crate) fn zone(&self, kind: u16) -> u16 {
        self.kinds[usize::from(kind)].zone
    }

    pub(crate) fn bit(kind: u16) -> u32 {
        u32::from(kind).min(SHARED_BIT)
    }

    /// Whether machines of this kind are what is asked for, whatever stands on them: their agents, zones and classes of isolation can be
    /// made others.
    pub(crate) fn is_for(&self, kind: u16, demand: &Demand) -> bool {
        let kind = &self.kinds[usize::from(kind)].kind;
        demand.architecture.is_none_or(|wanted| wanted == kind.architecture)
            && demand.gpu.is_none_or(|asked| asked.model.is_none() || asked.model == kind.gpu_model)
    }

    pub(crate) fn suits(&self, kind: u16, demand: &Demand) -> bool {
        self.kinds[usize::from(kind)].kind.suits(demand)
    }

    /// A node of this kind, in this state, is there from now on.
    pub(crate) fn add(&mut self, kind: u16, node: &NodeSnapshot) {
        let known = &mut self.kinds[usize::from(kind)];
        known.nodes += 1;
        if node.state == NodeState::Ready {
            known.ready += 1;
            let zone = &mut self.zones[usize::from(known.zone)];
            zone.cpu_millis += u128::from(node.capacity.cpu_millis);
            zone.used_millis += u128::from(node.used.cpu_millis);
        }
    }

    /// It is not any more.
    pub(crate) fn subtract(&mut self, kind: u16, node: &NodeSnapshot) {
        let known = &mut self.kinds[usize::from(kind)];
        known.nodes -= 1;
        if node.state == NodeState::Ready {
            known.ready -= 1;
            let zone = &mut self.zones[usize::from(known.zone)];
            zone.cpu_millis -= u128::from(node.capacity.cpu_millis);
            zone.used_millis -= u128::from(node.used.cpu_millis);
        }
    }

    /// A ready node of this kind has more or less in use.
    pub(crate) fn reuse(&mut self, kind: u16, before_millis: u64, after_millis: u64) {
        let zone = &mut self.zones[usize::from(self.kinds[usize::from(kind)].zone)];
        zone.used_millis = zone.used_millis - u128::from(before_millis) + u128::from(after_millis);
    }

    /// The kinds with ready nodes that suit, with their zones and how many are ready.
    pub(crate) fn suiting<'a>(&'a self, demand: &'a Demand) -> impl Iterator<Item = (u16, u16, u32)> + 'a {
        let kinds = self.kinds.iter().zip(0..).filter(|(known, _)| known.ready > 0 && known.kind.suits(demand));
        kinds.map(|(known, number)| (number, known.zone, known.ready))
    }

    /// By how many eighths of its CPU each zone is fuller than the emptiest; nothing where there is one zone.
    pub(crate) fn excess(&self) -> Vec<u8> {
        if self.zones.len() < 2 {
            return Vec::new();
        }
        let load = |zone: &Zone| (zone.used_millis * 1_000).checked_div(zone.cpu_millis);
        let least = self.zones.iter().filter_map(load).min().unwrap_or(0);
        let eighths = |zone: &Zone| load(zone).map_or(0, |load| (load - least) / 125);
        self.zones.iter().map(|zone| u8::try_from(eighths(zone).min(MOST_EIGHTHS)).unwrap_or(0)).collect()
    }

    #[cfg(test)]
    pub(crate) fn zone_name(&self, zone: u16) -> Option<ZoneName> {
        self.zones.get(usize::from(zone))?.name
    }
}
