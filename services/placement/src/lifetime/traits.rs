//! What is known of an instance when it begins.

use serde::{Deserialize, Serialize};
use wherry_model::{Demand, Terms};

/// What instances are told apart by. 0 stands for what is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traits {
    /// Whose.
    pub tenant: u64,
    /// Of which image.
    pub image: u64,
    /// Of which size.
    pub shape: u64,
    /// What was started with it.
    pub batch: u64,
}

/// Seconds in which what one tenant starts is one batch.
const BATCH_SECONDS: u64 = 300;

impl Traits {
    /// Those of an instance that begins now. What a tenant starts within five minutes with the same labels is one batch.
    pub fn of(demand: &Demand, terms: &Terms, now_s: u64) -> Self {
        let of_all = |parts: &[u64]| if parts.is_empty() { 0 } else { mix(parts) };
        let tenant = demand.tenant.map_or(0, |tenant| {
            let (high, low) = tenant.as_uuid().as_u64_pair();
            mix(&[high, low])
        });
        let images: Vec<u64> = terms.images.iter().map(|image| image.0).collect();
        let labels: Vec<u64> = terms.groups.iter().map(|group| group.label).collect();
        let batch = if tenant == 0 { 0 } else { mix(&[tenant, of_all(&labels), now_s / BATCH_SECONDS]) };
        Self { tenant, image: of_all(&images), shape: Self::shape_of(demand), batch }
    }

    /// Two sizes for each doubling of CPU and memory.
    pub fn shape_of(demand: &Demand) -> u64 {
        let half_doublings = |amount: u32| {
            let amount = u64::from(amount.max(1)) << 1;
            u64::from(amount.ilog2()) * 2 + (amount >> (amount.ilog2() - 1) & 1)
        };
        1 + (half_doublings(demand.cpu.get()) << 8 | half_doublings(demand.memory.get()))
    }
}

/// The traits as they are learnt by: where it stands in its batch, and what most of the batch are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) tenant: u64,
    /// The image of most of its batch so far, and how sure that is (0 to 3).
    pub(super) image: (u64, u64),
    pub(super) shape: u64,
    /// Doublings of its place in the batch; 0 without one.
    pub(super) place: u64,
}

impl Kind {
    /// The keys under which something is learnt of it, the most general first; `None` where a trait is not known.
    pub(super) fn keys(&self) -> [Option<u64>; 5] {
        let Self { tenant, image, shape, place } = *self;
        let known = |part: u64, key: &[u64]| (part != 0).then(|| mix(key));
        [
            Some(0),
            known(tenant, &[1, tenant]),
            known(image.0, &[2, tenant, image.0, image.1]),
            known(shape, &[3, tenant, image.0, image.1, shape]),
            known(place, &[4, tenant, image.0, image.1, shape, place]),
        ]
    }
}

/// SplitMix64's finaliser over all parts; never 0.
pub(super) fn mix(parts: &[u64]) -> u64 {
    parts
        .iter()
        .fold(0_u64, |hash, part| {
            let mut mixed = hash.wrapping_add(*part).wrapping_add(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        })
        .max(1)
}
