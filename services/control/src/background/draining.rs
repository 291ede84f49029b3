//! Empties nodes whose grace is over: instances that are still there are stopped, and moved if that is what was asked for.
//!
//! A move stops an instance only when there is room for it elsewhere: rather a machine that is not empty yet than instances that
//! wait for a place they had. A node that is silent is left alone, because nothing can be stopped on it; what it holds is
//! taken by fencing, or when an operator confirms that it is off.

use std::time::Duration;

use async_trait::async_trait;
use wherry_model::lifecycle;
use wherry_model::{Drain, DrainThen, Instance, Leaving, NodeRecord};

use super::{Reconciler, Work};
use crate::{Control, Error, lock};

/// Instances that leave one node for another at the same time.
const MAX_MOVING: usize = 16;

/// Instances of one node that one activation stops.
const BATCH: usize = 100;

pub(super) struct Draining;

#[async_trait]
impl Reconciler for Draining {
    fn name(&self) -> &'static str {
        "node drain"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn work(&self) -> Work {
        Work::Leased
    }

    async fn activate(&self, control: &Control) -> Result<Option<String>, Error> {
        let mut left = Vec::new();
        for node in control.store().nodes().await? {
            let Some(drain) = node.drain else { continue };
            let silent_for = lock(&control.inner.watch).silent_for(node.id);
            if drain.grace_until > control.now() || silent_for > control.inner.config.detection {
                continue;
            }
            let count = control.empty(&node, &drain).await?;
            if count > 0 {
                left.push(format!("{count} instances leave {}", node.name));
            }
        }
        Ok((!left.is_empty()).then(|| left.join(", ")))
    }
}

impl Control {
    async fn empty(&self, node: &NodeRecord, drain: &Drain) -> Result<u32, Error> {
        let Some((_, instances)) = self.store().instances_on(node.id).await? else { return Ok(0) };
        let (how, room) = match drain.then {
            DrainThen::Move => {
                let moving = instances.iter().filter(|instance| instance.leaving.is_some()).count();
                (Leaving::Move, MAX_MOVING.saturating_sub(moving))
            }
            DrainThen::Stop => (Leaving::Evict, BATCH),
        };
        let stay: Vec<Instance> =
            instances.into_iter().filter(|one| lifecycle::leave(one, how, self.now()).is_some()).collect();
        let mut left = 0;
        // Kept until the end: what leaves in this pass is not promised the same gap twice.
        let mut promised = Vec::new();
        for instance in stay {
            if promised.len() >= room {
                break;
            }
            let place = match how {
                Leaving::Move => match self.propose(&instance.spec.demand()) {
                    Ok(place) => Some(place),
                    Err(Error::CapacityUnavailable(_)) => continue,
                    Err(error) => return Err(error),
                },
                Leaving::Evict => None,
            };
            promised.push(place);
            // A cancel that came meanwhile holds for everything that has not begun to leave.
            let still = self.store().node(node.id).await?.and_then(|record| record.drain);
            if still != Some(*drain) {
                break;
            }
            let after = self
                .change_instance(instance, |instance| {
                    let here = instance.node == Some(node.id);
                    Ok(here.then(|| lifecycle::leave(instance, how, self.now())).flatten())
                })
                .await?;
            left += u32::from(after.leaving.is_some());
        }
        Ok(left)
    }
}
