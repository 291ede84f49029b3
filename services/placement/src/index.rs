//! The nodes that can take something, arranged so that the best one is found without looking at the others.
//!
//! Nodes stand in aisles, by what decides before the fit does: GPUs, empty or not, expected departure. An aisle has a shelf for
//! each size class of the free CPU, ordered by free memory. A decision takes the aisles from the best on, and walks the shelves
//! of one upward from the demand's own class. On each shelf one or two look-ups find the best of it, and the walk ends where
//! the CPU left over is by itself worse than the best so far. There are at most [`STEPS`] classes for each doubling of the
//! CPU, so the number of shelves does not grow with the fleet. What kind of machine a node is (architecture, zone, agent, …)
//! is a bit in its entry: a piece of a shelf without a bit that will do is passed over.

use std::ops::Range;

use wherry_model::{Departure, GpuAmount, Gpus, NodeId};

use crate::score::ExchangeRate;
use crate::shelf::{Entry, Needs, Shelf};

/// Width of the smallest size classes, in thousandths of a core.
const FINEST_MILLIS: u64 = 256;
/// Size classes for each doubling of the CPU above `STEPS * FINEST_MILLIS`.
const STEPS: u64 = 16;
/// Classes of the finest width.
const FINE_CLASSES: u64 = STEPS * 2;
/// The bits of an amount that all fine classes lie below.
const FINE_BITS: u32 = (FINEST_MILLIS * FINE_CLASSES).ilog2();
/// More classes than an amount of 32 bits can have.
const CLASSES: usize = 384;

/// `cpu_millis` rounded down to its size class: the boundary is never more than one 16th away, or 256m for small amounts.
pub(crate) const fn size_class(cpu_millis: u64) -> u64 {
    let mut width = FINEST_MILLIS;
    if cpu_millis >= FINEST_MILLIS * FINE_CLASSES {
        width = 1 << (cpu_millis.ilog2() - STEPS.ilog2());
    }
    cpu_millis - cpu_millis % width
}

/// The number of the size class of `cpu_millis`, growing with it.
fn class_number(cpu_millis: u32) -> usize {
    let cpu = u64::from(cpu_millis);
    let number = if cpu < FINEST_MILLIS * FINE_CLASSES {
        cpu / FINEST_MILLIS
    } else {
        let doublings = cpu.ilog2() - FINE_BITS;
        FINE_CLASSES + STEPS * u64::from(doublings) + (cpu >> (cpu.ilog2() - STEPS.ilog2())) - STEPS
    };
    usize::try_from(number).unwrap_or(CLASSES - 1)
}

/// The least CPU of the size class with this number.
fn class_floor(number: usize) -> u64 {
    let number = number as u64;
    if number < FINE_CLASSES {
        return number * FINEST_MILLIS;
    }
    let (doublings, step) = ((number - FINE_CLASSES) / STEPS, (number - FINE_CLASSES) % STEPS);
    (STEPS + step) << (doublings + u64::from(FINE_BITS - STEPS.ilog2()))
}

/// Which shelves. Ordered as decisions go through them, apart from the expected departure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Aisle(u16);

const HAS_GPUS: u16 = 1 << 11;
const EMPTY: u16 = 1 << 10;
const GPU_SHIFT: u32 = 4;
const GPU_BITS: u16 = 0b11_1111;
const DEPARTS_BITS: u16 = 0b1111;
/// Thousandths of a GPU to a class of room, where none is unused.
const ROOM_STEP: u16 = 64;
/// The classes of room, 1 to this: what is above are unused GPUs.
const ROOMS: u16 = 16;

impl Aisle {
    /// Of a node with these GPUs, on which nothing is or something, and that is expected to be left at the moment of that class.
    pub(crate) fn new(gpus: &Gpus, empty: bool, departs: u8) -> Self {
        let last = u16::try_from(Departure::CLASSES - 1).unwrap_or(DEPARTS_BITS);
        let mut aisle = u16::from(departs).min(last) | if empty { EMPTY } else { 0 };
        if gpus.count > 0 {
            let used = &gpus.used_permille[..usize::from(gpus.count).min(Gpus::MOST)];
            let most = used.iter().map(|used| Gpus::WHOLE.saturating_sub(*used)).max().unwrap_or(0);
            let unused = u16::from(gpus.unused());
            let code = if unused > 0 { ROOMS + unused } else { 1 + most / ROOM_STEP };
            aisle |= HAS_GPUS | (code << GPU_SHIFT);
        }
        Self(aisle)
    }

    pub(crate) const fn has_gpus(self) -> bool {
        self.0 & HAS_GPUS != 0
    }

    pub(crate) const fn empty(self) -> bool {
        self.0 & EMPTY != 0
    }

    /// The class of the expected departure.
    pub(crate) fn departs(self) -> u8 {
        u8::try_from(self.0 & DEPARTS_BITS).unwrap_or(0)
    }

    const fn gpu_code(self) -> u16 {
        (self.0 >> GPU_SHIFT) & GPU_BITS
    }

    /// How many GPUs nobody uses.
    pub(crate) fn unused_gpus(self) -> u8 {
        u8::try_from(self.gpu_code().saturating_sub(ROOMS)).unwrap_or(0)
    }

    /// Whether there may be room for this on the GPUs. Exact for whole ones.
    pub(crate) fn may_have(self, asked: GpuAmount) -> bool {
        match asked {
            GpuAmount::Whole(count) => count > 0 && self.unused_gpus() >= count,
            GpuAmount::Share(share) => self.has_gpus() && self.gpu_code() > share / ROOM_STEP,
        }
    }
}

#[derive(Debug, Clone)]
#[repr(C, align(64))]
struct Shelves {
    classes: Vec<Shelf>,
    /// A bit for each class whose shelf is not bare.
    filled: [u64; CLASSES / 64],
}

impl Shelves {
    /// The classes from `from` on that are not bare.
    fn from(&self, from: usize) -> impl Iterator<Item = (usize, &Shelf)> {
        let words = self.filled.iter().enumerate().skip(from / 64);
        let numbers = words.flat_map(move |(word, bits)| {
            let below = if word == from / 64 { (1_u64 << (from % 64)) - 1 } else { 0 };
            Bits(bits & !below).map(move |bit| word * 64 + bit)
        });
        numbers.filter_map(|number| Some((number, self.classes.get(number)?)))
    }

    fn mark(&mut self, number: usize) {
        let bit = 1 << (number % 64);
        if self.classes[number].is_bare() {
            self.filled[number / 64] &= !bit;
        } else {
            self.filled[number / 64] |= bit;
        }
    }

    fn is_bare(&self) -> bool {
        self.filled.iter().all(|word| *word == 0)
    }
}

/// The bits that are set, the lowest first.
pub(crate) struct Bits(pub(crate) u64);

impl Iterator for Bits {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let lowest = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        usize::try_from(lowest).ok()
    }
}

/// What is looked for.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    pub(crate) needs: Needs,
    pub(crate) rate: ExchangeRate,
    /// GPUs, if they are asked for.
    pub(crate) gpus: Option<GpuAmount>,
    /// Empty nodes alone.
    pub(crate) empty_only: bool,
    /// When the instance is expected to end.
    pub(crate) departs: Departure,
    /// The kinds that will do, the better ones first: one that is found among the first ends the search.
    pub(crate) passes: &'a [u64],
    /// Look at those first that this holds for.
    pub(crate) own: Option<crate::share::Share>,
}

impl Search<'_> {
    /// What of an aisle decides before the departure does: equal for aisles that stand beside each other.
    fn rank(&self, aisle: Aisle) -> (bool, bool, u8) {
        let unused = if self.gpus.is_some() { aisle.unused_gpus() } else { 0 };
        (aisle.has_gpus(), aisle.empty(), unused)
    }

    /// Whether there may be something on it.
    fn is_of_use(&self, aisle: Aisle) -> bool {
        self.gpus.is_none_or(|asked| aisle.may_have(asked)) && (!self.empty_only || aisle.empty())
    }

    fn gap(&self, aisle: Aisle) -> u8 {
        self.departs.gap(aisle.departs())
    }
}

/// The best node of an index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) entry: Entry,
    pub(crate) aisle: Aisle,
    /// The number among the passes.
    pub(crate) pass: usize,
    /// How many were compared.
    pub(crate) candidates: u32,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    /// In order, none of them bare.
    aisles: Vec<Aisle>,
    /// Theirs.
    shelves: Vec<Shelves>,
}

impl Index {
    /// Puts a node in.
    pub(crate) fn insert(&mut self, aisle: Aisle, entry: Entry) {
        let at = self.aisles.binary_search(&aisle).unwrap_or_else(|at| {
            self.aisles.insert(at, aisle);
            self.shelves.insert(at, Shelves { filled: [0; CLASSES / 64], classes: Vec::new() });
            at
        });
        let shelves = &mut self.shelves[at];
        let number = class_number(entry.cpu);
        if shelves.classes.len() <= number {
            shelves.classes.resize(number + 1, Shelf::default());
        }
        shelves.classes[number].insert(entry);
        shelves.mark(number);
    }

    /// Takes a node out that was put in with these values.
    pub(crate) fn remove(&mut self, aisle: Aisle, cpu: u32, memory: u32, id: NodeId) {
        let Ok(at) = self.aisles.binary_search(&aisle) else { return };
        let shelves = &mut self.shelves[at];
        let number = class_number(cpu);
        let Some(shelf) = shelves.classes.get_mut(number) else { return };
        shelf.remove(memory, id);
        if shelf.is_bare() {
            shelves.mark(number);
            if shelves.is_bare() {
                self.aisles.remove(at);
                self.shelves.remove(at);
            }
        }
    }

    pub(crate) const fn is_bare(&self) -> bool {
        self.aisles.is_empty()
    }

    /// The best node that fits and is admitted.
    pub(crate) fn search(&self, search: &Search<'_>, admits: &impl Fn(&Entry, usize) -> bool) -> Option<Found> {
        let mut from = 0;
        if search.gpus.is_some() {
            from = self.aisles.partition_point(|aisle| !aisle.has_gpus());
        }
        while let Some(first) = self.aisles.get(from) {
            let rank = search.rank(*first);
            let to = from + self.aisles[from..].iter().take_while(|aisle| search.rank(**aisle) == rank).count();
            if let Some(found) = self.search_rank(from..to, search, admits) {
                return Some(found);
            }
            from = to;
        }
        None
    }

    fn search_rank(
        &self,
        range: Range<usize>,
        search: &Search<'_>,
        admits: &impl Fn(&Entry, usize) -> bool,
    ) -> Option<Found> {
        let aisles = || self.aisles[range.clone()].iter().zip(&self.shelves[range.clone()]);
        let of_use = || aisles().filter(|(aisle, _)| search.is_of_use(**aisle));
        let mut done = None;
        loop {
            // At most sixteen, and mostly the first one has what is looked for: cheaper than to sort them.
            let gaps = of_use().map(|(aisle, _)| search.gap(*aisle));
            let gap = gaps.filter(|gap| done.is_none_or(|done| *gap > done)).min()?;
            done = Some(gap);
            for (pass, kinds) in search.passes.iter().enumerate() {
                let admits = |entry: &Entry| admits(entry, pass);
                let needs = Needs { kinds: *kinds, ..search.needs };
                let of_this_gap = || of_use().filter(|(aisle, _)| search.gap(**aisle) == gap);
                if let Some(share) = search.own {
                    let own = |entry: &Entry| share.has(entry.id) && admits(entry);
                    if let Some(found) = walk(of_this_gap(), pass, search.rate, &needs, &own) {
                        return Some(found);
                    }
                }
                if let Some(found) = walk(of_this_gap(), pass, search.rate, &needs, &admits) {
                    return Some(found);
                }
            }
        }
    }

    /// Those that come after this one in its aisle: on its shelf, and then on those with more CPU from `memory` on; whatever else they have.
    pub(crate) fn following<'a>(&'a self, found: &'a Found, memory: u32) -> impl Iterator<Item = &'a Entry> {
        let shelves = self.aisles.binary_search(&found.aisle).ok().map(|at| &self.shelves[at]);
        let number = class_number(found.entry.cpu);
        let shelf = shelves.and_then(|shelves| shelves.classes.get(number));
        let others = shelves.into_iter().flat_map(move |shelves| shelves.from(number + 1));
        let others = others.flat_map(move |(_, shelf)| shelf.after((memory, None)));
        shelf.into_iter().flat_map(|shelf| shelf.after((found.entry.memory, Some(found.entry.id)))).chain(others)
    }

    /// Some of the nodes that fit and are admitted: at most `most` of those with least left, and as many of those with most.
    pub(crate) fn some(&self, needs: &Needs, most: usize, admits: impl Fn(&Entry) -> bool) -> Vec<u32> {
        let shelves = self.shelves.iter().flat_map(|shelves| shelves.from(class_number(needs.cpu)));
        let shelves = shelves.map(|(_, shelf)| shelf).collect::<Vec<_>>();
        let fits = |entry: &&Entry| admits(entry);
        let low = shelves.iter().flat_map(|shelf| shelf.fitting(needs)).filter(fits).take(most);
        let mut some = low.map(Entry::slot).collect::<Vec<_>>();
        let high = shelves.iter().rev().flat_map(|shelf| shelf.fitting_backwards(needs)).filter(fits).take(most);
        let high = high.map(Entry::slot).filter(|slot| !some.contains(slot)).collect::<Vec<_>>();
        some.extend(high);
        some
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        let shelves = self.shelves.iter().map(|shelves| {
            shelves.classes.capacity() * size_of::<Shelf>() + shelves.classes.iter().map(Shelf::bytes).sum::<usize>()
        });
        self.aisles.capacity() * size_of::<Aisle>()
            + self.shelves.capacity() * size_of::<Shelves>()
            + shelves.sum::<usize>()
    }

    /// What stands where: equal for equal fleets.
    #[cfg(test)]
    pub(crate) fn shape(&self) -> Vec<(Aisle, usize, NodeId, u32, u32, u32)> {
        let shelves = self.aisles.iter().zip(&self.shelves).flat_map(|(aisle, shelves)| {
            for (number, shelf) in shelves.classes.iter().enumerate() {
                assert_eq!(shelf.is_bare(), shelves.filled[number / 64] & (1 << (number % 64)) == 0);
            }
            shelves.from(0).map(move |(number, shelf)| (*aisle, number, shelf))
        });
        let entries = shelves.flat_map(|(aisle, number, shelf)| {
            let entries = shelf.entries().into_iter();
            entries.map(move |entry| (aisle, number, entry.id, entry.cpu, entry.memory, entry.disk))
        });
        entries.collect()
    }
}

fn walk<'a>(
    aisles: impl Iterator<Item = (&'a Aisle, &'a Shelves)>,
    pass: usize,
    rate: ExchangeRate,
    needs: &Needs,
    admits: &impl Fn(&Entry) -> bool,
) -> Option<Found> {
    let mut best: Option<(Fit, Found)> = None;
    for (aisle, shelves) in aisles {
        for (number, shelf) in shelves.from(class_number(needs.cpu)) {
            let cpu_left = rate.as_mib(class_floor(number).saturating_sub(u64::from(needs.cpu)));
            let most = best.map_or(u64::MAX, |(fit, _)| fit.residue);
            if cpu_left > most {
                break;
            }
            if let Some(entry) = best_on_shelf(shelf, needs, cpu_left, most, admits) {
                let fit = Fit::of(entry, cpu_left, needs);
                let candidates = best.map_or(1, |(_, found)| found.candidates + 1);
                match &mut best {
                    Some((known, found)) if *known <= fit => found.candidates = candidates,
                    _ => best = Some((fit, Found { entry: *entry, aisle: *aisle, pass, candidates })),
                }
            }
        }
    }
    best.map(|(_, found)| found)
}

/// The last fields of a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    residue: u64,
    imbalance: u64,
    id: NodeId,
}

impl Fit {
    fn of(entry: &Entry, cpu_left: u64, needs: &Needs) -> Self {
        let memory_left = u64::from(entry.memory.saturating_sub(needs.memory));
        Self { residue: cpu_left.max(memory_left), imbalance: cpu_left.abs_diff(memory_left), id: entry.id }
    }
}

/// Where the CPU left is what counts (memory left is at most as much), most memory is nearest to balance. Where there is no
/// such node, the memory left counts, and least memory is best. Equals by id. None if there is none that leaves at most `most`.
fn best_on_shelf<'a>(
    shelf: &'a Shelf,
    needs: &Needs,
    cpu_left: u64,
    most: u64,
    admits: &impl Fn(&Entry) -> bool,
) -> Option<&'a Entry> {
    let and_left = |left: u64| u32::try_from(u64::from(needs.memory).saturating_add(left)).unwrap_or(u32::MAX);
    shelf.nearest(and_left(cpu_left), and_left(most), needs, admits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_round_down_by_less_than_a_16th_and_are_few() {
        let mut classes = std::collections::BTreeSet::new();
        for cpu in (0..2_000_000).step_by(7).chain([u64::MAX]) {
            let class = size_class(cpu);
            assert!(class <= cpu && cpu - class < (cpu / 16 + 1).max(FINEST_MILLIS), "{cpu} {class}");
            assert_eq!(size_class(class), class);
            classes.insert(class);
        }
        assert!(classes.len() < 170, "{}", classes.len());
    }

    #[test]
    fn classes_are_numbered_in_order_without_gaps() {
        let mut before = 0;
        for cpu in (0..2_000_000).chain((2_000_000..u32::MAX).step_by(9_973)).chain([u32::MAX]) {
            let number = class_number(cpu);
            assert_eq!(class_floor(number), size_class(u64::from(cpu)), "{cpu}");
            assert!(number == before || number == before + 1, "{cpu}");
            before = number;
        }
        assert!(before < CLASSES);
    }
}
