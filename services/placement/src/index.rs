//! The nodes that can take something, arranged so that the best one is found without looking at the others.
//!
//! Nodes stand in aisles, by what decides before the fit does: GPUs, empty or not, expected departure. An aisle has a shelf for
//! each size class of the free CPU, ordered by free memory. A decision takes the aisles from the best on, and walks the shelves
//! of one upward from the demand's own class. On each shelf one or two look-ups find the best of it, and the walk ends where
//! the CPU left over is by itself worse than the best so far. There are at most [`STEPS`] classes for each doubling of the
//! CPU, so the number of shelves does not grow with the fleet. What kind of machine a node is (architecture, zone, agent, …)
//! is a bit in its entry: a piece of a shelf without a bit that will do is passed over.

use wherry_model::{Departure, NodeId};

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

/// Which shelves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Aisle {
    /// 0 without GPUs, else one more than those that nobody uses.
    pub(crate) gpus: u8,
    pub(crate) empty: bool,
    /// The class of the expected departure.
    pub(crate) departs: u8,
}

#[derive(Debug, Clone)]
struct Shelves {
    /// A bit for each class whose shelf is not bare.
    filled: [u64; CLASSES / 64],
    classes: Vec<Shelf>,
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
    /// Whether GPUs are asked for.
    pub(crate) gpus: bool,
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
    /// How good an aisle is before anything on it is looked at, the least first; none for one that is of no use.
    fn rank(&self, aisle: Aisle) -> Option<(bool, bool, u8, u8)> {
        if (self.gpus && aisle.gpus == 0) || (self.empty_only && !aisle.empty) {
            return None;
        }
        let unused = if self.gpus { aisle.gpus - 1 } else { 0 };
        let gap = self.departs.gap(aisle.departs);
        Some((!self.gpus && aisle.gpus > 0, aisle.empty, unused, gap))
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    aisles: Vec<(Aisle, Shelves)>,
}

impl Index {
    /// Puts a node in.
    pub(crate) fn insert(&mut self, aisle: Aisle, entry: Entry) {
        let at = self.aisles.binary_search_by_key(&aisle, |(known, _)| *known).unwrap_or_else(|at| {
            let bare = Shelves { filled: [0; CLASSES / 64], classes: Vec::new() };
            self.aisles.insert(at, (aisle, bare));
            at
        });
        let shelves = &mut self.aisles[at].1;
        let number = class_number(entry.cpu);
        if shelves.classes.len() <= number {
            shelves.classes.resize(number + 1, Shelf::default());
        }
        shelves.classes[number].insert(entry);
        shelves.mark(number);
    }

    /// Takes a node out that was put in with these values.
    pub(crate) fn remove(&mut self, aisle: Aisle, cpu: u32, memory: u32, id: NodeId) {
        let Ok(at) = self.aisles.binary_search_by_key(&aisle, |(known, _)| *known) else { return };
        let shelves = &mut self.aisles[at].1;
        let number = class_number(cpu);
        let Some(shelf) = shelves.classes.get_mut(number) else { return };
        shelf.remove(memory, id);
        if shelf.is_bare() {
            shelves.mark(number);
            if shelves.is_bare() {
                self.aisles.remove(at);
            }
        }
    }

    pub(crate) const fn is_bare(&self) -> bool {
        self.aisles.is_empty()
    }

    /// Calls `look` with nodes that fit and are admitted, the best one surely among them. `look` returns the residue (MiB) of
    /// the best one so far. True if there was one.
    pub(crate) fn search(
        &self,
        search: &Search<'_>,
        admits: &impl Fn(&Entry, usize) -> bool,
        look: &mut impl FnMut(u32) -> u64,
    ) -> bool {
        let mut done = None;
        loop {
            // Few aisles, and mostly the first one has what is looked for: cheaper than to sort them.
            let ranked = self.aisles.iter().filter_map(|(aisle, _)| search.rank(*aisle));
            let Some(rank) = ranked.filter(|rank| Some(*rank) > done).min() else { return false };
            done = Some(rank);
            for (pass, kinds) in search.passes.iter().enumerate() {
                let admits = |entry: &Entry| admits(entry, pass);
                let needs = Needs { kinds: *kinds, ..search.needs };
                let of_this_rank = || self.aisles.iter().filter(|(aisle, _)| search.rank(*aisle) == Some(rank));
                if let Some(share) = search.own {
                    let own = |entry: &Entry| share.has(entry.id) && admits(entry);
                    if walk(of_this_rank(), search, &needs, &own, look) {
                        return true;
                    }
                }
                if walk(of_this_rank(), search, &needs, &admits, look) {
                    return true;
                }
            }
        }
    }

    /// Some of the nodes that fit and are admitted: at most `most` of those with least left, and as many of those with most.
    pub(crate) fn some(&self, needs: &Needs, most: usize, admits: impl Fn(&Entry) -> bool) -> Vec<u32> {
        let shelves = self.aisles.iter().flat_map(|(_, shelves)| shelves.from(class_number(needs.cpu)));
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
        let shelves = self.aisles.iter().map(|(_, shelves)| {
            shelves.classes.capacity() * size_of::<Shelf>() + shelves.classes.iter().map(Shelf::bytes).sum::<usize>()
        });
        self.aisles.capacity() * size_of::<(Aisle, Shelves)>() + shelves.sum::<usize>()
    }

    /// What stands where: equal for equal fleets.
    #[cfg(test)]
    pub(crate) fn shape(&self) -> Vec<(Aisle, usize, NodeId, u32, u32, u32)> {
        let shelves = self.aisles.iter().flat_map(|(aisle, shelves)| {
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
    aisles: impl Iterator<Item = &'a (Aisle, Shelves)>,
    search: &Search<'_>,
    needs: &Needs,
    admits: &impl Fn(&Entry) -> bool,
    look: &mut impl FnMut(u32) -> u64,
) -> bool {
    let mut found = false;
    let mut least_residue = u64::MAX;
    for (_, shelves) in aisles {
        for (number, shelf) in shelves.from(class_number(needs.cpu)) {
            let cpu_left = search.rate.as_mib(class_floor(number).saturating_sub(u64::from(needs.cpu)));
            if cpu_left > least_residue {
                break;
            }
            if let Some(entry) = best_on_shelf(shelf, needs, cpu_left, admits) {
                least_residue = look(entry.slot());
                found = true;
            }
        }
    }
    found
}

/// Where the CPU left is what counts (memory left is at most as much), most memory is nearest to balance. Where there is no
/// such node, the memory left counts, and least memory is best. Equals by id.
fn best_on_shelf<'a>(
    shelf: &'a Shelf,
    needs: &Needs,
    cpu_left: u64,
    admits: &impl Fn(&Entry) -> bool,
) -> Option<&'a Entry> {
    let balanced = u32::try_from(u64::from(needs.memory).saturating_add(cpu_left)).unwrap_or(u32::MAX);
    let from = shelf.last(balanced, needs, admits).unwrap_or(balanced);
    shelf.first(from, needs, admits)
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
