//! One demand against the fleet: what of the fleet its terms speak of, looked up once, and then asked of each candidate.

use wherry_model::{GpuAmount, SpreadOver};

use crate::company::Members;
use crate::decision::Ask;
use crate::fleet::Fleet;
use crate::image::{self, NEIGHBOURS};
use crate::index::{Aisle, Found, Index, Search, size_class};
use crate::kind::SHARED_BIT;
use crate::limit::HardLimit;
use crate::node_set::NodeSet;
use crate::score::{ExchangeRate, Score};
use crate::shelf::{Entry, Needs};
use crate::stand::{Signature, Stand};

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
    /// Of the emptiest zone; none where there is one.
    least_load: Option<u64>,
    /// The bits of the kinds that suit.
    suiting: u64,
    /// The bits of the images that are asked for.
    wanted_images: Signature,
    /// The kinds that will do, by how full their zones are, and how full that is.
    passes: [u64; PASSES],
    excess_of_pass: [u8; PASSES],
    pass_count: usize,
    /// Something must be near that is nowhere.
    nowhere: bool,
    near: Vec<&'a Members>,
    apart: Vec<&'a Members>,
    /// The groups that it belongs to and that something must be apart from.
    avoided: Vec<&'a Members>,
    /// Where the ports that it takes are taken.
    ports: Vec<&'a NodeSet>,
    over_nodes: Vec<Bound<'a>>,
    over_zones: Vec<Bound<'a>>,
    /// More is to be asked of a candidate than its entry says.
    asks_more: bool,
}

/// The best one found, and how many were compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Best {
    pub(crate) at: u32,
    pub(crate) score: Score,
    pub(crate) candidates: u32,
}

impl<'a> Context<'a> {
    pub(crate) fn of(fleet: &'a Fleet, ask: &'a Ask<'a>) -> Self {
        let (demand, terms) = (ask.demand, ask.terms);
        let known = |group: &wherry_model::Group| fleet.company.group(group);
        let apart = terms.apart.iter().filter_map(known).filter(|members| members.total() > 0).collect();
        let avoided = terms.groups.iter().filter_map(known).filter(|members| members.is_avoided()).collect();
        let mut context = Self {
            fleet,
            ask,
            rate: fleet.exchange_rate(),
            least_load: fleet.kinds.least_load(),
            suiting: fleet.kinds.suiting(demand),
            wanted_images: Signature::of(&terms.images),
            passes: [0; PASSES],
            excess_of_pass: [0; PASSES],
            pass_count: 0,
            nowhere: false,
            near: Vec::new(),
            apart,
            avoided,
            ports: terms.ports.iter().filter_map(|port| fleet.company.holders(*port)).collect(),
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
        // Of whole GPUs the aisle and the kind tell enough.
        let asks_share = demand.gpu.is_some_and(|asked| matches!(asked.amount, GpuAmount::Share(_)));
        context.asks_more = asks_share
            || !(context.ports.is_empty()
                && context.near.is_empty()
                && context.apart.is_empty()
                && context.avoided.is_empty()
                && context.over_nodes.is_empty());
        context.arrange();
        context
    }

    fn arrange(&mut self) {
        let mut by_excess = [0_u64; PASSES];
        for (zone, kinds) in self.fleet.kinds.zones() {
            let kinds = kinds & self.suiting;
            if kinds != 0 && !self.zone_is_full(zone) {
                by_excess[usize::from(self.excess_of(zone)).min(PASSES - 1)] |= kinds;
            }
        }
        for (excess, kinds) in (0..).zip(by_excess).filter(|(_, kinds)| *kinds != 0) {
            self.passes[self.pass_count] = kinds;
            self.excess_of_pass[self.pass_count] = excess;
            self.pass_count += 1;
        }
    }

    fn excess_of(&self, zone: u16) -> u8 {
        self.fleet.kinds.excess(zone, self.least_load)
    }

    fn fewest_on_a_node(&self, members: Option<&Members>) -> u32 {
        let ready = self.fleet.kinds.suiting_each(self.ask.demand).fold(0_u32, |sum, (_, ready)| sum + ready);
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
        let zones = self.fleet.kinds.suiting_each(self.ask.demand).map(|(zone, _)| zone);
        zones.map(|zone| members.map_or(0, |members| members.members_in(zone))).min().unwrap_or(0)
    }

    /// Whether there are too many of a group in the whole zone.
    fn zone_is_full(&self, zone: u16) -> bool {
        let too_many = |(members, most): &Bound<'_>| members.map_or(0, |members| members.members_in(zone)) > *most;
        self.over_zones.iter().any(too_many)
    }

    /// Whether this limit refuses the node.
    pub(crate) fn refuses(&self, limit: HardLimit, at: u32) -> bool {
        match limit {
            HardLimit::Ports => self.ports.iter().any(|holders| holders.contains(at)),
            HardLimit::Near => self.nowhere || self.near.iter().any(|members| !members.has_members_on(at)),
            HardLimit::Apart => {
                self.apart.iter().any(|members| members.has_members_on(at))
                    || self.avoided.iter().any(|members| members.has_avoiders_on(at))
            }
            HardLimit::Spread => {
                let too_many =
                    |(members, most): &Bound<'_>| members.map_or(0, |members| members.members_on(at)) > *most;
                self.over_nodes.iter().any(too_many) || self.zone_is_full(self.fleet.zone(at))
            }
            _ => {
                let node = &self.fleet.slot(at).node;
                limit.refuses(node, self.ask.demand, self.ask.excluded.contains(&node.id))
            }
        }
    }

    /// Whether nothing refuses the node: as [`Self::refuses`] would say of every limit, with a look at its line alone as far as that goes.
    pub(crate) fn takes(&self, at: u32) -> bool {
        let stand = self.fleet.stand(at);
        let (entry, demand) = (&stand.entry, self.ask.demand);
        let has = stand.open
            && entry.cpu >= demand.cpu.get()
            && entry.memory >= demand.memory.get()
            && entry.disk >= demand.disk.get()
            && self.suiting & (1 << entry.kind_bit()) != 0;
        has && demand.gpu.is_none_or(|asked| stand.aisle.may_have(asked.amount))
            && (entry.kind_bit() < SHARED_BIT || self.fleet.kinds.suits(stand.kind, demand))
            && (!demand.dedicated || stand.owned || stand.aisle.empty())
            && (!stand.owned || self.fleet.slot(at).node.offer.sole_tenant == demand.tenant)
            && !self.ask.excluded.contains(&entry.id)
            && (self.over_zones.is_empty() || !self.zone_is_full(self.fleet.kinds.zone(stand.kind)))
            && self.suits_the_others(at)
    }

    /// What of it is not in the entry.
    fn admits(&self, entry: &Entry, pass: usize) -> bool {
        if !self.ask.excluded.is_empty() && self.ask.excluded.contains(&entry.id) {
            return false;
        }
        if entry.kind_bit() == SHARED_BIT {
            let kind = self.fleet.stand(entry.slot()).kind;
            let zone = self.fleet.kinds.zone(kind);
            let here = self.excess_of(zone) == self.excess_of_pass[pass] && !self.zone_is_full(zone);
            if !here || !self.fleet.kinds.suits(kind, self.ask.demand) {
                return false;
            }
        }
        self.suits_the_others(entry.slot())
    }

    /// Nothing that is asked of the node beyond its entry speaks against it, apart from its zone.
    fn suits_the_others(&self, at: u32) -> bool {
        if !self.asks_more {
            return true;
        }
        let too_many = |(members, most): &Bound<'_>| members.map_or(0, |members| members.members_on(at)) > *most;
        let limits = [HardLimit::Ports, HardLimit::Near, HardLimit::Apart];
        let share = self.ask.demand.gpu.filter(|asked| matches!(asked.amount, GpuAmount::Share(_)));
        !self.over_nodes.iter().any(too_many)
            && share.is_none_or(|share| self.fleet.slot(at).node.offer.gpus.choose(&share).is_some())
            && !limits.into_iter().any(|limit| self.refuses(limit, at))
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

    /// The node with the least score. Warmth is compared among those near what is asked for, where those are few. Elsewhere the best one
    /// without regard to images is found, and compared with those that follow it in its aisle; and if none of them has all the
    /// images, with a few of those that have one.
    pub(crate) fn best(&self) -> Option<Best> {
        if self.nowhere || self.pass_count == 0 {
            return None;
        }
        let least_spread = self.near.iter().min_by_key(|members| members.nodes_at_most());
        if let Some(members) = least_spread.filter(|members| members.nodes_at_most() <= FEW) {
            return self.better(None, members.slots().map(|(at, _)| at));
        }
        let demand = self.ask.demand;
        let in_own = || self.fleet.owned_by(demand.tenant).and_then(|own| Some((own, self.search(own, false)?)));
        let in_shared = || Some((self.fleet.shared(), self.search(self.fleet.shared(), demand.dedicated)?));
        let (index, found) = in_own().or_else(in_shared)?;
        let plain = self.best_of(&found, index);
        if plain.score.cold == 0 {
            return Some(plain);
        }
        let following = index.following(&found, demand.memory.get()).take(NEIGHBOURS);
        let warmer = following.filter(|entry| self.may_be_warm(entry)).map(Entry::slot);
        let best = self.better(Some(plain), warmer);
        if best.is_some_and(|best| best.score.cold == 0) {
            return best;
        }
        self.better(best, self.fleet.images.holders_after(plain.score.node, &self.ask.terms.images))
    }

    fn best_of(&self, found: &Found, index: &Index) -> Best {
        let at = found.entry.slot();
        let parts = Parts {
            entry: &found.entry,
            aisle: found.aisle,
            shared: std::ptr::eq(index, self.fleet.shared()),
            zone_excess: self.excess_of_pass[found.pass],
        };
        let is_asked = !self.ask.terms.images.is_empty();
        let cold = if is_asked { self.cold(self.fleet.stand(at)) } else { 0 };
        let score = Score { cold, ..self.score_of(parts) };
        Best { at, score, candidates: found.candidates }
    }

    fn better(&self, best: Option<Best>, slots: impl Iterator<Item = u32>) -> Option<Best> {
        slots.filter(|at| self.takes(*at)).fold(best, |best, at| {
            let candidates = best.map_or(1, |best| best.candidates + 1);
            let stand = self.fleet.stand(at);
            // What lies there is looked up where it could matter: the list is far away.
            let mut score = Score { cold: self.least_cold(stand), ..self.score_but_cold(stand) };
            if best.is_none_or(|best| score < best.score) {
                score.cold = self.cold(stand);
            }
            Some(match best.filter(|best| best.score <= score) {
                Some(best) => Best { candidates, ..best },
                None => Best { at, score, candidates },
            })
        })
    }

    /// The best one of an index without regard to images.
    fn search(&self, index: &Index, empty_only: bool) -> Option<Found> {
        let search = Search {
            needs: self.needs(),
            rate: self.rate,
            gpus: self.ask.demand.gpu.map(|asked| asked.amount),
            empty_only,
            departs: self.ask.terms.departs,
            passes: &self.passes[..self.pass_count],
            own: self.fleet.share,
        };
        index.search(&search, &|entry: &Entry, pass| self.admits(entry, pass))
    }

    /// 0 when all the images that are asked for are there, 1 when some are, 2 when none is.
    fn cold(&self, stand: &Stand) -> u8 {
        match self.least_cold(stand) {
            2 => 2,
            _ => image::cold(&self.fleet.slot(stand.entry.slot()).images, &self.ask.terms.images),
        }
    }

    /// At least so cold, by the bits of the images alone.
    fn least_cold(&self, stand: &Stand) -> u8 {
        if self.wanted_images.is_in(stand) {
            return 0;
        }
        let some = self.ask.terms.images.iter().any(|image| Signature::of(&[*image]).is_in(stand));
        2 - u8::from(some)
    }

    /// Whether some of the images may be there.
    fn may_be_warm(&self, entry: &Entry) -> bool {
        self.wanted_images.is_in_entry(entry)
            || self.ask.terms.images.iter().any(|image| Signature::of(&[*image]).is_in_entry(entry))
    }

    /// The score of a node that takes the demand.
    pub(crate) fn score(&self, at: u32) -> Score {
        let stand = self.fleet.stand(at);
        Score { cold: self.cold(stand), ..self.score_but_cold(stand) }
    }

    fn score_but_cold(&self, stand: &Stand) -> Score {
        let zone_excess = self.excess_of(self.fleet.kinds.zone(stand.kind));
        self.score_of(Parts { entry: &stand.entry, aisle: stand.aisle, shared: !stand.owned, zone_excess })
    }

    fn score_of(&self, Parts { entry, aisle, shared, zone_excess }: Parts<'_>) -> Score {
        let demand = self.ask.demand;
        let cpu_left = size_class(u64::from(entry.cpu)).saturating_sub(u64::from(demand.cpu.get()));
        let cpu_mib = self.rate.as_mib(cpu_left);
        let memory_mib = u64::from(entry.memory.saturating_sub(demand.memory.get()));
        Score {
            shared,
            unasked_gpus: demand.gpu.is_none() && aisle.has_gpus(),
            wakes_empty_node: aisle.empty(),
            cold: 0,
            unused_gpus: if demand.gpu.is_some() { aisle.unused_gpus() } else { 0 },
            departure_gap: self.ask.terms.departs.gap(aisle.departs()),
            zone_excess,
            others_share: self.fleet.share.is_some_and(|share| !share.has(entry.id)),
            residue_mib: cpu_mib.max(memory_mib),
            imbalance_mib: cpu_mib.abs_diff(memory_mib),
            node: entry.id,
        }
    }
}

/// What a score is made of, beside the demand.
struct Parts<'a> {
    entry: &'a Entry,
    aisle: Aisle,
    shared: bool,
    zone_excess: u8,
}
