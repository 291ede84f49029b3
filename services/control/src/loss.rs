//! Taking instances from a node that is lost: fencing.
//!
//! The node's epoch grows and instances that may leave it do, in one transaction that is refused when the node was heard
//! meanwhile. From then on no heartbeat of the old epoch renews a lease, and an agent that comes back learns what is not
//! its any more before anything else. Only after that is anything placed anew, by the placer and by nobody else.
//!
//! A node with many instances is fenced in batches, so that no transaction holds more rows than [`BATCH`]. Each batch begins an epoch
//! of its own: an agent that came back after the first may hold the desired state of that epoch, in which the instances of the
//! next still stand, and a heartbeat with it must not give them a lease. One that is counted between two batches refuses the
//! second: what was not taken is still the node's, which is alive. Whoever dies between two batches leaves a fenced node with
//! instances that may leave it, which is what the next pass of any replica finds and goes on with.
//!
//! From a node whose agent does not fence nothing is taken because it is silent: nobody has ended there what may run elsewhere.
//! Its instances wait for it as those of `on_node_loss: keep` do, until it is back or confirmed to be off.

use wherry_model::lifecycle::{self, Change};
use wherry_model::{NodeId, NodeRecord};
use wherry_store::{FenceOutcome, OnNode};

use crate::{Control, Error};

/// How often a fencing whose records changed meanwhile is computed again.
const MAX_ATTEMPTS: u32 = 8;

/// Instances that leave a node in one transaction.
const BATCH: usize = 100;

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
        let (mut taken, mut fenced) = (0, false);
        'computed: for _ in 0..MAX_ATTEMPTS {
            let Some(record) = self.store().node(node).await? else { return Ok(Loss::Heard) };
            let changes = self.losses(&record, confirmed_off).await?;
            if changes.is_empty() && record.fenced && !confirmed_off && !fenced {
                return Ok(Loss::Nothing);
            }
            // Without anything to take it is fenced all the same.
            let batches =
                if changes.is_empty() && !fenced { vec![[].as_slice()] } else { changes.chunks(BATCH).collect() };
            for batch in batches {
                match self.write_fence(node, heartbeats, batch.to_vec()).await? {
                    FenceOutcome::Fenced(epoch) => {
                        tracing::warn!(%node, epoch, instances = batch.len(), confirmed_off, "node fenced");
                        (taken, fenced) = (taken + batch.len(), true);
                    }
                    FenceOutcome::Heard => return Ok(Loss::Heard),
                    FenceOutcome::LostRace => continue 'computed,
                }
            }
            self.learn_node(node).await?;
            return Ok(Loss::Taken(taken));
        }
        Err(Error::unavailable("the instances of this node are being changed by many at once"))
    }

    async fn losses(&self, record: &NodeRecord, confirmed_off: bool) -> Result<Vec<Change>, Error> {
        if !(record.fences || confirmed_off) {
            return Ok(Vec::new());
        }
        let Some(OnNode { instances, .. }) = self.store().instances_on(record.id).await? else { return Ok(Vec::new()) };
        let now = self.now();
        Ok(instances.iter().filter_map(|one| lifecycle::lose(one, record.proof_at, confirmed_off, now)).collect())
    }
}
