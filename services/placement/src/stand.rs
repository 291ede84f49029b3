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
            aisle: Aisle::new(&node.offer.gpus, node.is_empty(), slot.departs),
            kind: slot.kind,
            open,
            owned: node.offer.sole_tenant.is_some(),
        }
    }
}

/// With what it would have without its spot instances, if it has any.
pub(crate) fn evictable(at: u32, slot: &Slot) -> Option<Entry> {
    let there = !slot.vacant && slot.node.state == NodeState::Ready && slot.spot.instances > 0;
    there.then(|| entry(at, slot, &slot.spot))
}

fn entry(at: u32, slot: &Slot, more: &SpotSum) -> Entry {
    let free = slot.node.free();
    let disk = slot.node.free_disk_mib().map_or(u32::MAX, |left| clamped(left.saturating_add(more.disk_mib)));
    let cpu = clamped(free.cpu_millis.saturating_add(more.cpu_millis));
    let memory = clamped(free.memory_mib.saturating_add(more.memory_mib));
    let mut entry = Entry::new(at, Kinds::bit(slot.kind), slot.node.id, cpu, memory, disk);
    entry.images = signature(&slot.images);
    entry
}

/// Two bits for each of these images, others share them: what lacks one of an image's bits lacks the image.
pub(crate) fn signature(images: &[ImageKey]) -> u64 {
    images.iter().fold(0, |bits, image| {
        let mixed = image.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits | 1 << (mixed >> 58) | 1 << ((mixed >> 52) & 63)
    })
}

fn clamped(amount: u64) -> u32 {
    u32::try_from(amount).unwrap_or(u32::MAX)
}
