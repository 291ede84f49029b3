//! Where a node stands: all of it that a decision looks at, in one line of the processor's cache. The facts themselves lie
//! elsewhere ([`Slot`](crate::fleet::Slot)), are several times as large, and are read when they change.

use wherry_model::{ImageKey, NodeState};

use crate::evict::SpotSum;
use crate::fleet::Slot;
use crate::index::Aisle;
use crate::kind::Kinds;
use crate::shelf::Entry;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(align(64))]
pub(crate) struct Stand {
    pub(crate) entry: Entry,
    /// Other bits of the images that lie there.
    images: u64,
    pub(crate) aisle: Aisle,
    pub(crate) kind: u16,
    /// It takes new instances and has a place left: it stands in an index.
    pub(crate) open: bool,
    /// A tenant has it alone.
    pub(crate) owned: bool,
}

impl Stand {
    pub(crate) fn of(at: u32, slot: &Slot) -> Self {
        let node = &slot.node;
        let open =
            !slot.vacant && node.state == NodeState::Ready && node.free().instances > 0 && node.free_addresses() > 0;
        Self {
            entry: entry(at, slot, &SpotSum::default()),
            images: Signature::of(&slot.images).1,
            aisle: Aisle::new(&node.offer.gpus, node.is_empty(), slot.departs),
            kind: slot.kind,
            open,
            owned: node.offer.sole_tenant.is_some(),
        }
    }
}

/// With at least what it would have without its spot instances, if it has any: rounded up to a power of two, so that it seldom
/// changes. Who has to go is asked seldom, and asks the node itself.
pub(crate) fn evictable(at: u32, slot: &Slot) -> Option<Entry> {
    let there = !slot.vacant && slot.node.state == NodeState::Ready && slot.spot.instances > 0;
    let exact = there.then(|| entry(at, slot, &slot.spot))?;
    let rounded = |amount: u32| amount.checked_next_power_of_two().unwrap_or(u32::MAX);
    let (cpu, memory, disk) = (rounded(exact.cpu), rounded(exact.memory), rounded(exact.disk));
    Some(Entry::new(at, exact.kind_bit(), exact.id, cpu, memory, disk))
}

fn entry(at: u32, slot: &Slot, more: &SpotSum) -> Entry {
    let free = slot.node.free();
    let disk = slot.node.free_disk_mib().map_or(u32::MAX, |left| clamped(left.saturating_add(more.disk_mib)));
    let cpu = clamped(free.cpu_millis.saturating_add(more.cpu_millis));
    let memory = clamped(free.memory_mib.saturating_add(more.memory_mib));
    let mut entry = Entry::new(at, Kinds::bit(slot.kind), slot.node.id, cpu, memory, disk);
    entry.images = Signature::of(&slot.images).0;
    entry
}

/// Bits of images, in the entry and in the stand: what lacks one of an image's bits lacks the image, and of a hundred that lack it
/// one in fourteen has all its bits in the entry and one in two hundred in both, with ten images on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Signature(u64, u64);

impl Signature {
    pub(crate) fn of(images: &[ImageKey]) -> Self {
        images.iter().fold(Self::default(), |all, image| {
            let mixed = image.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let bit = |from: u32| 1 << ((mixed >> from) & 63);
            Self(all.0 | bit(58) | bit(52), all.1 | bit(46) | bit(40))
        })
    }

    pub(crate) const fn is_in_entry(self, entry: &Entry) -> bool {
        self.0 & !entry.images == 0
    }

    pub(crate) const fn is_in(self, stand: &Stand) -> bool {
        self.is_in_entry(&stand.entry) && self.1 & !stand.images == 0
    }
}

fn clamped(amount: u64) -> u32 {
    u32::try_from(amount).unwrap_or(u32::MAX)
}
