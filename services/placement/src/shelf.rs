//! An ordered set of nodes that answers "the least memory from here on, among those with enough CPU and disk, of these kinds".
//!
//! Sorted pieces of at most [`MOST`] entries in one row, each piece with what its best entry has of everything. What a piece cannot
//! have is skipped without a look into it, so a look-up touches one or two pieces and the row of summaries. A treap carried
//! this before: as many steps on paper, each of them to another cache line. A `BTreeSet` cannot carry the summaries.

use wherry_model::NodeId;

/// Entries of a piece. Small enough that shifting half of them costs less than a miss in memory.
const MOST: usize = 64;

/// A node as the shelf knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Free memory, in MiB.
    pub(crate) memory: u32,
    /// Free CPU, in thousandths of a core.
    pub(crate) cpu: u32,
    /// Free disk, in MiB; the most where it is not counted.
    pub(crate) disk: u32,
    /// Slot in the low 26 bits, bit of the kind above.
    tag: u32,
    /// The bits of the images that lie there.
    pub(crate) images: u64,
    /// Which node.
    pub(crate) id: NodeId,
}

const SLOT_BITS: u32 = 26;

impl Entry {
    pub(crate) const fn new(slot: u32, kind_bit: u32, id: NodeId, cpu: u32, memory: u32, disk: u32) -> Self {
        Self { memory, cpu, disk, tag: slot | (kind_bit << SLOT_BITS), images: 0, id }
    }

    /// Its slot in the fleet.
    pub(crate) const fn slot(&self) -> u32 {
        self.tag & ((1 << SLOT_BITS) - 1)
    }

    /// The bit of its kind.
    pub(crate) const fn kind_bit(&self) -> u32 {
        self.tag >> SLOT_BITS
    }

    const fn kinds(&self) -> u64 {
        1 << self.kind_bit()
    }

    const fn key(&self) -> (u32, NodeId) {
        (self.memory, self.id)
    }
}

/// What an entry must have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    pub(crate) cpu: u32,
    pub(crate) memory: u32,
    pub(crate) disk: u32,
    /// One bit for each kind that will do.
    pub(crate) kinds: u64,
}

#[derive(Debug, Clone)]
struct Piece {
    most_cpu: u32,
    most_disk: u32,
    kinds: u64,
    entries: Vec<Entry>,
    /// The memory of each entry, close together: the entries themselves are too far apart to search among.
    memories: [u32; MOST],
}

impl Piece {
    fn of(entries: Vec<Entry>) -> Self {
        let mut piece = Self { most_cpu: 0, most_disk: 0, kinds: 0, entries, memories: [0; MOST] };
        piece.list();
        piece.count();
        piece
    }

    fn count(&mut self) {
        let (mut most_cpu, mut most_disk, mut kinds) = (0, 0, 0);
        for entry in &self.entries {
            most_cpu = most_cpu.max(entry.cpu);
            most_disk = most_disk.max(entry.disk);
            kinds |= entry.kinds();
        }
        (self.most_cpu, self.most_disk, self.kinds) = (most_cpu, most_disk, kinds);
    }

    fn may_have(&self, needs: &Needs) -> bool {
        visit();
        self.most_cpu >= needs.cpu && self.most_disk >= needs.disk && self.kinds & needs.kinds != 0
    }

    /// Writes the memories anew.
    fn list(&mut self) {
        for (memory, entry) in self.memories.iter_mut().zip(&self.entries) {
            *memory = entry.memory;
        }
    }

    /// The memory of the last entry.
    fn last(&self) -> u32 {
        self.memories().last().copied().unwrap_or(0)
    }

    fn memories(&self) -> &[u32] {
        &self.memories[..self.entries.len().min(MOST)]
    }

    fn ends_before(&self, key: (u32, NodeId)) -> bool {
        self.entries.last().is_none_or(|entry| entry.key() < key)
    }

    /// How many entries have less memory than that.
    fn below(&self, memory: u32) -> usize {
        self.memories().partition_point(|other| *other < memory)
    }

    /// How many entries have at most that memory.
    fn up_to(&self, memory: u32) -> usize {
        self.memories().partition_point(|other| *other <= memory)
    }

    /// How many entries come before this one.
    fn before(&self, key: (u32, NodeId)) -> usize {
        let (from, to) = (self.below(key.0), self.up_to(key.0));
        from + self.entries[from..to].partition_point(|entry| entry.id < key.1)
    }

    fn insert(&mut self, entry: Entry) {
        let place = self.before(entry.key());
        let count = self.entries.len();
        self.memories.copy_within(place..count, place + 1);
        self.memories[place] = entry.memory;
        self.entries.insert(place, entry);
        self.most_cpu = self.most_cpu.max(entry.cpu);
        self.most_disk = self.most_disk.max(entry.disk);
        self.kinds |= entry.kinds();
    }

    fn remove(&mut self, key: (u32, NodeId)) -> Option<Entry> {
        let place = self.before(key);
        self.entries.get(place).filter(|entry| entry.key() == key)?;
        self.memories.copy_within(place + 1..self.entries.len(), place);
        Some(self.entries.remove(place))
    }
}

fn has(entry: &Entry, needs: &Needs) -> bool {
    visit();
    entry.cpu >= needs.cpu && entry.disk >= needs.disk && entry.kinds() & needs.kinds != 0
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf {
    /// The memory of the last entry of each piece, close together: what look-ups go through.
    lasts: Vec<u32>,
    pieces: Vec<Piece>,
}

impl Shelf {
    pub(crate) fn is_bare(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The first piece that does not end before `key`.
    fn piece_of(&self, key: (u32, NodeId)) -> usize {
        let at = self.lasts.partition_point(|last| *last < key.0);
        // Of those that end with as much memory, by id.
        let equal = self.lasts[at..].partition_point(|last| *last == key.0);
        at + self.pieces[at..at + equal].partition_point(|piece| piece.ends_before(key))
    }

    pub(crate) fn insert(&mut self, entry: Entry) {
        let key = entry.key();
        // Beyond the last key of all it goes into the last piece.
        let at = self.piece_of(key).min(self.pieces.len().saturating_sub(1));
        let Some(piece) = self.pieces.get_mut(at) else {
            self.pieces.push(Piece::of(vec![entry]));
            self.lasts.push(entry.memory);
            return;
        };
        piece.insert(entry);
        if piece.entries.len() >= MOST {
            let upper = Piece::of(piece.entries.split_off(MOST / 2));
            piece.count();
            self.lasts.insert(at + 1, upper.last());
            self.pieces.insert(at + 1, upper);
        }
        self.lasts[at] = self.pieces[at].last();
    }

    /// Takes out the entry with this key. False if there is none.
    pub(crate) fn remove(&mut self, memory: u32, id: NodeId) -> bool {
        let key = (memory, id);
        let at = self.piece_of(key);
        let Some(piece) = self.pieces.get_mut(at) else { return false };
        let Some(gone) = piece.remove(key) else { return false };
        if piece.entries.is_empty() {
            self.pieces.remove(at);
            self.lasts.remove(at);
            return true;
        }
        self.lasts[at] = piece.last();
        if piece.entries.len() < MOST / 4 && self.join(at) {
            return true;
        }
        let piece = &mut self.pieces[at];
        if gone.cpu == piece.most_cpu || gone.disk == piece.most_disk || gone.kinds() != piece.kinds {
            piece.count();
        }
        true
    }

    /// One piece of `at` and the next one, if that is not too large.
    fn join(&mut self, at: usize) -> bool {
        let room = self.pieces.get(at + 1).is_some_and(|next| next.entries.len() < MOST / 2);
        if room {
            let next = self.pieces.remove(at + 1);
            self.lasts.remove(at);
            let piece = &mut self.pieces[at];
            piece.entries.extend(next.entries);
            piece.list();
            piece.count();
        }
        room
    }

    /// Of those that have what is needed and are admitted: one with the most memory up to `balanced`, else one with the least above, up to
    /// `most`. Of several with as much memory the first by id.
    pub(crate) fn nearest(
        &self,
        balanced: u32,
        most: u32,
        needs: &Needs,
        admits: &impl Fn(&Entry) -> bool,
    ) -> Option<&Entry> {
        let fits = |entry: &&Entry| has(entry, needs) && admits(entry);
        // This piece, if there is one, has entries on either side; those before it lie below, those after it above.
        let middle = self.lasts.partition_point(|last| *last <= balanced);
        for at in (0..self.pieces.len().min(middle + 1)).rev() {
            if self.lasts[at] < needs.memory {
                break;
            }
            let piece = &self.pieces[at];
            if !piece.may_have(needs) {
                continue;
            }
            let entries = &piece.entries[..if at == middle { piece.up_to(balanced) } else { piece.entries.len() }];
            let mut enough = entries.iter().rev().take_while(|entry| entry.memory >= needs.memory);
            if let Some(found) = enough.find(fits) {
                return self.first_with(found.memory, at, fits);
            }
        }
        for at in middle..self.pieces.len() {
            let piece = &self.pieces[at];
            if piece.may_have(needs) {
                let above = &piece.entries[if at == middle { piece.up_to(balanced) } else { 0 }..];
                if let Some(found) = above.iter().take_while(|entry| entry.memory <= most).find(fits) {
                    return Some(found);
                }
            }
            if self.lasts[at] > most {
                break;
            }
        }
        None
    }

    /// Those that come after this place, whatever they have.
    pub(crate) fn after(&self, key: (u32, Option<NodeId>)) -> impl Iterator<Item = &Entry> {
        let is_before = |entry: &Entry| (entry.memory, Some(entry.id)) <= key;
        let at = self.lasts.partition_point(|last| *last < key.0);
        let at = at + self.pieces[at..].partition_point(|piece| piece.entries.last().is_some_and(is_before));
        let from = self.pieces.get(at).map_or(0, |piece| piece.entries.partition_point(is_before));
        self.pieces[at..].iter().flat_map(|piece| &piece.entries).skip(from)
    }

    /// The first by id with just this memory that fits. One does, in the piece `within`.
    fn first_with(&self, memory: u32, within: usize, fits: impl Fn(&&Entry) -> bool) -> Option<&Entry> {
        let mut at = within;
        if at > 0 && self.lasts[at - 1] == memory {
            at = self.lasts.partition_point(|last| *last < memory);
        }
        let from = self.pieces[at].below(memory);
        let rest = self.pieces[at..=within].iter().flat_map(|piece| &piece.entries);
        rest.skip(from).find(fits)
    }

    /// All that have what is needed, in order of memory.
    pub(crate) fn fitting(&self, needs: &Needs) -> impl Iterator<Item = &Entry> {
        let pieces = self.pieces.iter().filter(|piece| piece.may_have(needs));
        let entries = pieces.flat_map(|piece| &piece.entries);
        entries.filter(|entry| entry.memory >= needs.memory && has(entry, needs))
    }

    /// The same from the end.
    pub(crate) fn fitting_backwards(&self, needs: &Needs) -> impl Iterator<Item = &Entry> {
        let pieces = self.pieces.iter().rev().filter(|piece| piece.may_have(needs));
        let entries = pieces.flat_map(|piece| piece.entries.iter().rev());
        entries.filter(|entry| entry.memory >= needs.memory && has(entry, needs))
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        let entries = self.pieces.iter().map(|piece| piece.entries.capacity() * size_of::<Entry>()).sum::<usize>();
        self.lasts.capacity() * size_of::<u32>() + self.pieces.capacity() * size_of::<Piece>() + entries
    }

    /// Every entry in order, after a look at every summary.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> Vec<Entry> {
        assert_eq!(self.lasts, self.pieces.iter().map(Piece::last).collect::<Vec<_>>());
        for piece in &self.pieces {
            let mut counted = piece.clone();
            counted.count();
            assert_eq!(piece.memories(), piece.entries.iter().map(|entry| entry.memory).collect::<Vec<_>>());
            assert_eq!(
                (piece.most_cpu, piece.most_disk, piece.kinds),
                (counted.most_cpu, counted.most_disk, counted.kinds),
                "a summary says what is there"
            );
            assert!(piece.entries.len() < MOST);
        }
        let all = self.pieces.iter().flat_map(|piece| piece.entries.iter().copied()).collect::<Vec<_>>();
        assert!(all.is_sorted_by_key(Entry::key));
        all
    }
}

#[cfg(test)]
thread_local! {
    /// How many summaries and entries look-ups have touched: what must not grow with the fleet.
    pub(crate) static VISITS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
fn visit() {
    VISITS.with(|visits| visits.set(visits.get() + 1));
}

#[cfg(not(test))]
const fn visit() {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn id(number: u128) -> NodeId {
        format!("{number:032x}").parse().unwrap()
    }

    proptest! {
        #[test]
        fn answers_as_a_sorted_list_does(
            steps in vec((0_u128..300, any::<bool>(), 0_u32..40, 0_u32..10, 0_u32..4, 0_u32..3), 1..600),
            asked in vec((0_u32..45, 0_u32..45, 0_u32..11, 0_u32..5, 0_u64..8, 0_u32..60), 1..20),
        ) {
            let (mut shelf, mut model) = (Shelf::default(), BTreeMap::new());
            for (number, add, memory, cpu, disk, kind) in steps {
                if let Some(before) = model.remove(&number) {
                    let Entry { memory, id, .. } = before;
                    prop_assert!(shelf.remove(memory, id));
                    prop_assert!(!shelf.remove(memory, id));
                }
                if add {
                    let entry = Entry::new(u32::try_from(number).unwrap(), kind, id(number), cpu, memory, disk);
                    shelf.insert(entry);
                    model.insert(number, entry);
                }
            }
            let mut sorted = model.into_values().collect::<Vec<_>>();
            sorted.sort_by_key(Entry::key);
            prop_assert_eq!(&shelf.entries(), &sorted);
            for (from, memory, cpu, disk, kinds, most) in asked {
                let needs = Needs { cpu, memory, disk, kinds };
                let odd = |entry: &Entry| entry.slot() % 2 == 1;
                let fits = |entry: &&Entry| {
                    entry.cpu >= cpu && entry.disk >= disk && kinds & entry.kinds() != 0 && odd(entry)
                };
                let below = sorted.iter().filter(fits).rfind(|entry| (memory..=from).contains(&entry.memory));
                let nearest = match below {
                    Some(below) => sorted.iter().filter(fits).find(|entry| entry.memory == below.memory),
                    None => sorted.iter().filter(fits).find(|entry| (from + 1..=most).contains(&entry.memory)),
                };
                prop_assert_eq!(shelf.nearest(from, most, &needs, &odd), nearest);
            }
        }
    }
}
