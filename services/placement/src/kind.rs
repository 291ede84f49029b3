//! Kinds of machine: what a node is, as opposed to what it has left. Few in a fleet of any size, so that a demand is compared with
//! the kinds and not with the nodes.

use wherry_model::{Architecture, Demand, GpuModel, Isolation, IsolationSet, NodeState, ZoneName};

use crate::change::NodeSnapshot;

/// The kinds from this number on share the last bit; a node with that bit is looked at itself.
pub(crate) const SHARED_BIT: u32 = 63;

/// A zone is at most so many eighths fuller than another; beyond, it makes no difference.
const MOST_EIGHTHS: u64 = 8;

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

impl Zone {
    /// Thousandths of its CPU that are in use; none where there is none.
    fn load(&self) -> Option<u64> {
        // As u64 where it fits, as it does: it is divided for each decision.
        let used = u64::try_from(self.used_millis).ok().and_then(|used| used.checked_mul(1_000));
        if let (Some(used), Ok(all)) = (used, u64::try_from(self.cpu_millis)) {
            return used.checked_div(all);
        }
        let load = (self.used_millis * 1_000).checked_div(self.cpu_millis)?;
        Some(u64::try_from(load).unwrap_or(u64::MAX))
    }
}

/// Which kinds with ready nodes have what, a bit for each. Made anew when a kind comes, goes or has its first or last ready node.
#[derive(Debug, Clone, Default)]
struct Masks {
    ready: u64,
    fencing: u64,
    with_gpus: u64,
    by_architecture: Vec<(Architecture, u64)>,
    by_isolation: Vec<(Isolation, u64)>,
    by_protocol: Vec<(u32, u64)>,
    by_gpu_model: Vec<(GpuModel, u64)>,
    /// By the zone's number.
    by_zone: Vec<u64>,
}

fn note<K: PartialEq>(masks: &mut Vec<(K, u64)>, key: K, bit: u64) {
    match masks.iter_mut().find(|(known, _)| *known == key) {
        Some((_, mask)) => *mask |= bit,
        None => masks.push((key, bit)),
    }
}

fn noted<K>(masks: &[(K, u64)], wanted: impl Fn(&K) -> bool) -> u64 {
    masks.iter().filter(|(known, _)| wanted(known)).fold(0, |all, (_, mask)| all | mask)
}

impl Masks {
    fn of(kinds: &[Known], zones: usize) -> Self {
        let mut masks = Self { by_zone: vec![0; zones], ..Self::default() };
        for (known, number) in kinds.iter().zip(0..).filter(|(known, _)| known.ready > 0) {
            let (kind, bit) = (&known.kind, 1 << Kinds::bit(number));
            masks.ready |= bit;
            masks.fencing |= if kind.fences { bit } else { 0 };
            masks.with_gpus |= if kind.gpus { bit } else { 0 };
            masks.by_zone[usize::from(known.zone)] |= bit;
            note(&mut masks.by_architecture, kind.architecture, bit);
            note(&mut masks.by_protocol, kind.protocol, bit);
            kind.isolation.iter().for_each(|class| note(&mut masks.by_isolation, class, bit));
            kind.gpu_model.into_iter().for_each(|model| note(&mut masks.by_gpu_model, model, bit));
        }
        masks
    }
}

/// All kinds and zones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kinds {
    known: Vec<Known>,
    zones: Vec<Zone>,
    masks: Masks,
}

impl Kinds {
    /// The number of the node's kind, which is made if it is new. A number whose nodes are all gone is given again.
    pub(crate) fn number_of(&mut self, node: &NodeSnapshot) -> u16 {
        let kind = Kind::of(node);
        let zone = self.zone_of(kind.zone);
        let known = self.known.iter().position(|known| known.kind == kind);
        let number = known.or_else(|| self.known.iter().position(|known| known.nodes == 0));
        let fresh = Known { kind, zone, nodes: 0, ready: 0 };
        let number = number.unwrap_or_else(|| {
            self.known.push(fresh);
            self.known.len() - 1
        });
        if self.known[number].kind != kind {
            self.known[number] = fresh;
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
        self.known[usize::from(kind)].zone
    }

    pub(crate) fn bit(kind: u16) -> u32 {
        u32::from(kind).min(SHARED_BIT)
    }

    /// Whether machines of this kind are what is asked for, whatever stands on them: their agents, zones and classes of isolation can be
    /// made others.
    pub(crate) fn is_for(&self, kind: u16, demand: &Demand) -> bool {
        let kind = &self.known[usize::from(kind)].kind;
        demand.architecture.is_none_or(|wanted| wanted == kind.architecture)
            && demand.gpu.is_none_or(|asked| asked.model.is_none() || asked.model == kind.gpu_model)
    }

    pub(crate) fn suits(&self, kind: u16, demand: &Demand) -> bool {
        self.known[usize::from(kind)].kind.suits(demand)
    }

    /// A node of this kind, in this state, is there from now on.
    pub(crate) fn add(&mut self, kind: u16, node: &NodeSnapshot) {
        let known = &mut self.known[usize::from(kind)];
        known.nodes += 1;
        if node.state == NodeState::Ready {
            known.ready += 1;
            let zone = &mut self.zones[usize::from(known.zone)];
            zone.cpu_millis += u128::from(node.capacity.cpu_millis);
            zone.used_millis += u128::from(node.used.cpu_millis);
            if known.ready == 1 {
                self.masks = Masks::of(&self.known, self.zones.len());
            }
        }
    }

    /// It is not any more.
    pub(crate) fn subtract(&mut self, kind: u16, node: &NodeSnapshot) {
        let known = &mut self.known[usize::from(kind)];
        known.nodes -= 1;
        if node.state == NodeState::Ready {
            known.ready -= 1;
            let zone = &mut self.zones[usize::from(known.zone)];
            zone.cpu_millis -= u128::from(node.capacity.cpu_millis);
            zone.used_millis -= u128::from(node.used.cpu_millis);
            if known.ready == 0 {
                self.masks = Masks::of(&self.known, self.zones.len());
            }
        }
    }

    /// A ready node of this kind has more or less in use.
    pub(crate) fn reuse(&mut self, kind: u16, before_millis: u64, after_millis: u64) {
        let zone = &mut self.zones[usize::from(self.known[usize::from(kind)].zone)];
        zone.used_millis = zone.used_millis - u128::from(before_millis) + u128::from(after_millis);
    }

    /// The bits of the kinds with ready nodes that suit, if the demand stood alone with each: with the last bit one of those that share it
    /// has to be asked itself.
    pub(crate) fn suiting(&self, demand: &Demand) -> u64 {
        let masks = &self.masks;
        let mut suiting = masks.ready & noted(&masks.by_isolation, |class| *class == demand.isolation);
        if let Some(wanted) = demand.architecture {
            suiting &= noted(&masks.by_architecture, |known| *known == wanted);
        }
        if demand.fenced {
            suiting &= masks.fencing;
        }
        if demand.protocol > 0 {
            suiting &= noted(&masks.by_protocol, |known| *known >= demand.protocol);
        }
        if demand.zone.is_some() {
            let zone = self.zones.iter().position(|zone| zone.name == demand.zone);
            suiting &= zone.and_then(|zone| masks.by_zone.get(zone)).copied().unwrap_or(0);
        }
        if let Some(asked) = &demand.gpu {
            suiting &= asked.model.map_or(masks.with_gpus, |model| noted(&masks.by_gpu_model, |known| *known == model));
        }
        suiting
    }

    /// The same kinds one by one, with their zones and how many of their nodes are ready.
    pub(crate) fn suiting_each<'a>(&'a self, demand: &'a Demand) -> impl Iterator<Item = (u16, u32)> + 'a {
        let suiting = self.suiting(demand);
        let kinds = self.known.iter().zip(0..);
        kinds.filter_map(move |(known, number)| {
            let bit = Self::bit(number);
            let suits = suiting & (1 << bit) != 0 && known.ready > 0 && (bit < SHARED_BIT || known.kind.suits(demand));
            suits.then_some((known.zone, known.ready))
        })
    }

    /// The zones with ready nodes, by number, with the bits of the kinds there.
    pub(crate) fn zones(&self) -> impl Iterator<Item = (u16, u64)> {
        (0..).zip(self.masks.by_zone.iter().copied()).filter(|(_, kinds)| *kinds != 0)
    }

    /// How full the emptiest zone is, for [`Self::excess`]; none where there is one zone.
    pub(crate) fn least_load(&self) -> Option<u64> {
        if self.zones.len() < 2 {
            return None;
        }
        Some(self.zones.iter().filter_map(Zone::load).min().unwrap_or(0))
    }

    /// By how many eighths of its CPU a zone is fuller than the emptiest.
    pub(crate) fn excess(&self, zone: u16, least_load: Option<u64>) -> u8 {
        let Some(least) = least_load else { return 0 };
        let load = self.zones.get(usize::from(zone)).and_then(Zone::load);
        let eighths = load.map_or(0, |load| load.saturating_sub(least) / 125);
        u8::try_from(eighths.min(MOST_EIGHTHS)).unwrap_or(0)
    }

    #[cfg(test)]
    pub(crate) fn zone_name(&self, zone: u16) -> Option<ZoneName> {
        self.zones.get(usize::from(zone))?.name
    }
}
