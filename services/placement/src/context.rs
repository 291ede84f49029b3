//! One demand against the fleet: what of the fleet its terms speak of, looked up once, and then asked of each candidate.

use wherry_model::{NodeId, SpreadOver};

use crate::company::Members;
use crate::decision::Ask;
use crate::fleet::Fleet;
use crate::index::{Index, Search};
use crate::kind::{Kinds, SHARED_BIT};
use crate::limit::HardLimit;
use crate::score::{ExchangeRate, Score};
use crate::shelf::{Entry, Needs};

/// A group that the instance must be near to is walked itself while at most so many nodes have members of it.
const FEW: usize = 1_024;
/// Zones differ by at most so many eighths, and one.
const PASSES: usize = 9;

/// A group, if it has anybody, and how many members there may be beside the new one.
type Bound<'a> = (Option<&'a Members>, u32);

pub(crate) struct Context<'a> {
    pub(crate) fleet: &'a Fleet,
    pub(crate) ask: &'a Ask<'a>,
    rate: ExchangeRate,
    /// Of each zone, by its number; empty where there is one zone.
    excess: Vec<u8>,
    /// The kinds that will do, by how full their zones are, and how full that is.
    passes: [u64; PASSES],
    excess_of_pass: [u8; PASSES],
    pass_count: usize,
    /// Something must be near that is nowhere.
    nowhere: bool,
    near: Vec<&'a Members>,
    apart: Vec<&'a Members>,
    /// The groups that it belongs to.
    joins: Vec<&'a Members>,
    over_nodes: Vec<Bound<'a>>,
    over_zones: Vec<Bound<'a>>,
    /// More is to be asked of a candidate than its entry says.
    asks_more: bool,
}

impl<'a> Context<'a> {
    pub(crate) fn of(fleet: &'a Fleet, ask: &'a Ask<'a>) -> Self {
        let (demand, terms) = (ask.demand, ask.terms);
        let groups = |groups: &[wherry_model::Group]| {
            groups.iter().filter_map(|group| fleet.company.group(group)).collect::<Vec<_>>()
        };
        let mut context = Self {
            fleet,
            ask,
            rate: fleet.exchange_rate(),
            excess: fleet.kinds.excess(),
            passes: [0; PASSES],
            excess_of_pass: [0; PASSES],
            pass_count: 0,
            nowhere: false,
            near: Vec::new(),
            apart: groups(&terms.apart),
            joins: groups(&terms.groups),
            over_nodes: Vec::new(),
            over_zones: Vec::new(),
            asks_more: false,
        };
        for group in &terms.near {
            match fleet.company.group(group).filter(|members| members.total() > 0) {
                Some(members) => context.near.push(members),
                None => context.nowhere |= !terms.groups.contains(group),
            }
        }
        for spread in &terms.spread {
            let members = fleet.company.group(&spread.group);
            let itself = u32::from(terms.groups.contains(&spread.group));
            let (bounds, fewest) = match spread.over {
                SpreadOver::Nodes => {
                    let fewest = context.fewest_on_a_node(members);
                    (&mut context.over_nodes, fewest)
                }
                SpreadOver::Zones => {
                    let fewest = context.fewest_in_a_zone(members);
                    (&mut context.over_zones, fewest)
                }
            };
            // Without members or beyond the bound already when empty: the bound is what counts.
            bounds.push((members, fewest.saturating_add(spread.max_skew).saturating_sub(itself)));
        }
        context.asks_more = demand.gpu.is_some()
            || !(terms.ports.is_empty()
                && context.near.is_empty()
                && context.apart.is_empty()
                && context.joins.is_empty()
                && context.over_nodes.is_empty());
        context.arrange();
        context
    }

    fn arrange(&mut self) {
        let mut by_excess = [0_u64; PASSES];
        for (kind, zone, _) in self.fleet.kinds.suiting(self.ask.demand) {
            if self.zone_is_full(zone).is_none() {
                by_excess[usize::from(self.excess_of(zone)).min(PASSES - 1)] |= 1 << Kinds::bit(kind);
            }
        }
        for (excess, kinds) in (0..).zip(by_excess).filter(|(_, kinds)| *kinds != 0) {
            self.passes[self.pass_count] = kinds;
            self.excess_of_pass[self.pass_count] = excess;
            self.pass_count += 1;
        }
    }

    fn excess_of(&self, zone: u16) -> u8 {
        self.excess.get(usize::from(zone)).copied().unwrap_or(0)
    }

    fn fewest_on_a_node(&self, members: Option<&Members>) -> u32 {
        let ready = self.fleet.kinds.suiting(self.ask.demand).fold(0_u32, |sum, (_, _, ready)| sum + ready);
        let Some(members) = members else { return 0 };
        // Fewer nodes with members than nodes: one has none, and nobody needs to be asked.
        if u32::try_from(members.nodes_at_most()).unwrap_or(u32::MAX) < ready {
            return 0;
        }
        let eligible = |slot: u32| {
            let slot = self.fleet.slot(slot);
            slot.node.state == wherry_model::NodeState::Ready && self.fleet.kinds.suits(slot.kind, self.ask.demand)
        };
        let mut with_members = 0;
        let mut fewest = u32::MAX;
        for (_, count) in members.slots().filter(|(slot, _)| eligible(*slot)) {
            with_members += 1;
            fewest = fewest.min(count);
        }
        if with_members < ready { 0 } else { fewest }
    }

    fn fewest_in_a_zone(&self, members: Option<&Members>) -> u32 {
        let zones = self.fleet.kinds.suiting(self.ask.demand).map(|(_, zone, _)| zone);
        zones.map(|zone| members.map_or(0, |members| members.members_in(zone))).min().unwrap_or(0)
    }

    /// The limit that keeps the instance out of the whole zone.
    fn zone_is_full(&self, zone: u16) -> Option<HardLimit> {
        let too_many = |(members, most): &Bound<'_>| members.map_or(0, |members| members.members_in(zone)) > *most;
        self.over_zones.iter().any(too_many).then_some(HardLimit::Spread)
    }

    /// Whether this limit refuses the node.
    pub(crate) fn refuses(&self, limit: HardLimit, at: u32) -> bool {
        let terms = self.ask.terms;
        match limit {
            HardLimit::Ports => terms.ports.iter().any(|port| self.fleet.company.port_is_taken(at, *port)),
            HardLimit::Near => self.nowhere || self.near.iter().any(|members| members.members_on(at) == 0),
            HardLimit::Apart => {
                self.apart.iter().any(|members| members.members_on(at) > 0)
                    || self.joins.iter().any(|members| members.avoiders_on(at) > 0)
            }
            HardLimit::Spread => {
                let too_many =
                    |(members, most): &Bound<'_>| members.map_or(0, |members| members.members_on(at)) > *most;
                self.over_nodes.iter().any(too_many) || self.zone_is_full(self.fleet.zone(at)).is_some()
            }
            _ => {
                let node = &self.fleet.slot(at).node;
                limit.refuses(node, self.ask.demand, self.ask.excluded.contains(&node.id))
            }
        }
    }

    /// Whether nothing refuses the node.
    pub(crate) fn takes(&self, at: u32) -> bool {
        !HardLimit::ALL.into_iter().any(|limit| self.refuses(limit, at))
    }

    /// What of it is not in the entry.
    fn admits(&self, entry: &Entry, pass: usize) -> bool {
        let at = entry.slot();
        if self.ask.excluded.contains(&entry.id) {
            return false;
        }
        if entry.kind_bit() == SHARED_BIT {
            let kind = self.fleet.slot(at).kind;
            let zone = self.fleet.kinds.zone(kind);
            let here = self.excess_of(zone) == self.excess_of_pass[pass] && self.zone_is_full(zone).is_none();
            if !here || !self.fleet.kinds.suits(kind, self.ask.demand) {
                return false;
            }
        }
        !self.asks_more
            || ![HardLimit::Gpu, HardLimit::Ports, HardLimit::Near, HardLimit::Apart, HardLimit::Spread]
                .into_iter()
                .any(|limit| self.refuses(limit, at))
    }

    pub(crate) fn needs(&self) -> Needs {
        let demand = self.ask.demand;
        Needs {
            cpu: demand.cpu.get(),
            memory: demand.memory.get(),
            disk: demand.disk.get(),
            kinds: self.passes.iter().fold(0, |all, kinds| all | kinds),
        }
    }

    /// Calls `look` with nodes that take the demand, the best one surely among them, as far as images are not asked for.
    pub(crate) fn search(&self, mut look: impl FnMut(u32) -> u64) {
        if self.nowhere || self.pass_count == 0 {
            return;
        }
        let least_spread = self.near.iter().min_by_key(|members| members.nodes_at_most());
        if let Some(members) = least_spread.filter(|members| members.nodes_at_most() <= FEW) {
            for (at, _) in members.slots().filter(|(at, _)| self.takes(*at)) {
                look(at);
            }
            return;
        }
        let demand = self.ask.demand;
        let found = self.fleet.owned_by(demand.tenant).is_some_and(|own| self.search_in(own, false, &mut look));
        if !found {
            self.search_in(self.fleet.shared(), demand.dedicated, &mut look);
        }
    }

    fn search_in(&self, index: &Index, empty_only: bool, look: &mut impl FnMut(u32) -> u64) -> bool {
        let search = Search {
            needs: self.needs(),
            rate: self.rate,
            gpus: self.ask.demand.gpu.is_some(),
            empty_only,
            departs: self.ask.terms.departs,
            passes: &self.passes[..self.pass_count],
            own: self.fleet.share,
        };
        index.search(&search, &|entry: &Entry, pass| self.admits(entry, pass), look)
    }

    /// Nodes with some of the images that take the demand: a bounded number, those after `node` first.
    pub(crate) fn warm_after(&self, node: NodeId) -> impl Iterator<Item = u32> {
        let holders = self.fleet.images.holders_after(node, &self.ask.terms.images);
        holders.filter_map(|id| self.fleet.slot_of(id)).filter(|at| self.takes(*at))
    }

    /// The score of a node that takes the demand.
    pub(crate) fn score(&self, at: u32) -> Score {
        let slot = self.fleet.slot(at);
        let terms = self.ask.terms;
        Score {
            cold: self.fleet.images.cold(slot.node.id, &terms.images),
            departure_gap: terms.departs.gap(slot.departs),
            zone_excess: if self.excess.is_empty() { 0 } else { self.excess_of(self.fleet.zone(at)) },
            others_share: self.fleet.share.is_some_and(|share| !share.has(slot.node.id)),
            ..Score::of(&slot.node, self.ask.demand, self.rate)
        }
    }
}
