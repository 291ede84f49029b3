//! Taking instances from a node that is lost: fencing.
//!
//! The node's epoch grows and every instance that may leave it does, in one transaction that is refused when the node was heard
//! meanwhile. From then on no heartbeat of the old epoch renews a lease, and an agent that comes back learns what is not
//! its any more before anything else. Only after that is anything placed anew, by the placer and by nobody else.

use wherry_model::lifecycle::{self, Change};
use wherry_model::{NodeId, NodeRecord};
use wherry_store::FenceOutcome;

use crate::{Control, Error};

/// How often a fencing whose records changed meanwhile is computed again.
const MAX_ATTEMPTS: u32 = 8;

/// What became of a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It was fenced before and not heard since, and there was nothing to take.
    Nothing,
    /// It is fenced; so many instances changed by it.
    Taken(usize),
    /// It was heard meanwhile.
    Heard,
}

impl Control {
    /// Fences the node that was last seen with this count of heartbeats, once in each silence also when nothing leaves it by that:
    /// from then on it is a loss that was dealt with, and no part of the next ([`crate::brake`]). `confirmed_off` takes all of
    /// its instances, also those that wait for their machine otherwise, and fences always.
    pub(crate) async fn lose_node(&self, node: NodeId, heartbeats: u64, confirmed_off: bool) -> Result<Loss, Error> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(record) = self.store().node(node).await? else { return Ok(Loss::Heard) };
            let changes = self.losses(&record, confirmed_off).await?;
            if changes.is_empty() && record.fenced && !confirmed_off {
                return Ok(Loss::Nothing);
            }
            let count = changes.len();
            match self.write_fence(node, heartbeats, changes).await? {
                FenceOutcome::Fenced(epoch) => {
                    tracing::warn!(%node, epoch, instances = count, confirmed_off, "node fenced");
                    self.learn_node(node).await?;
                    return Ok(Loss::Taken(count));
                }
                FenceOutcome::Heard => return Ok(Loss::Heard),
                FenceOutcome::LostRace => {}
            }
        }
        Err(Error::unavailable("the instances of this node are being changed by many at once"))
    }

    async fn losses(&self, record: &NodeRecord, confirmed_off: bool) -> Result<Vec<Change>, Error> {
        let Some((_, instances)) = self.store().instances_on(record.id).await? else { return Ok(Vec::new()) };
        let now = self.now();
        Ok(instances.iter().filter_map(|one| lifecycle::lose(one, record.proof_at, confirmed_off, now)).collect())
    }
}
