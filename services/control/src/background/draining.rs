//! Empties nodes whose grace is over: instances that are still there are stopped, and moved if that is what was asked for.
//!
//! A move stops an instance only when there is room for it elsewhere: rather a machine that is not empty yet than instances that
//! wait for a place they had. A node that is silent is left alone, because nothing can be stopped on it; what it holds is
//! taken by fencing, or when an operator confirms that it is off.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use wherry_model::lifecycle;
use wherry_model::{Drain, DrainThen, Instance, Leaving, NodeId, NodeRecord};
use wherry_store::OnNode;

use super::failures::Failures;
use super::{Reconciler, Work};
use crate::fleet::FleetIndex;
use crate::{Control, Error, lock};

/// Instances that leave one node for another at the same time.
const MAX_MOVING: usize = 16;

/// Waiting instances that room is kept for.
const MAX_PENDING: u32 = 1_000;

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
        let nodes = control.store().nodes().await?;
        let due = |drain: &Drain| drain.grace_until <= control.now();
        if !nodes.iter().any(|node| node.drain.as_ref().is_some_and(due)) {
            return Ok(None);
        }
        let mut failures = Failures::default();
        let Some((mut promises, unread)) = Promises::of(control, &nodes, &mut failures).await? else {
            return failures.or(None);
        };
        let mut left = Vec::new();
        for node in nodes.into_iter().filter(|node| !unread.contains(&node.id)) {
            let Some(drain) = node.drain.filter(due) else { continue };
            if lock(&control.inner.watch).silent_for(node.id) > control.inner.config.detection {
                continue;
            }
            match control.empty(&node, &drain, &mut promises, &mut failures).await {
                Ok((count, go_on)) => {
                    if count > 0 {
                        left.push(format!("{count} instances leave {}", node.name));
                    }
                    if !go_on {
                        break;
                    }
                }
                Err(error) => {
                    if !failures.note(control, node.id, error).await {
                        break;
                    }
                }
            }
        }
        failures.or((!left.is_empty()).then(|| left.join(", ")))
    }
}

/// Room elsewhere that is spoken for: by instances that are on their way, and by those that are sent on it in this pass. Taken
/// from a picture of its own: nothing is kept from creates and from placing meanwhile, who would find the fleet full while this
/// pass goes on, and an instance that waits would be kept from the very place that is kept for it.
struct Promises(FleetIndex);

impl Promises {
    /// Also the nodes that could not be read: what leaves them is not counted, and they are left alone in this pass. None when
    /// it is no use to go on.
    async fn of(
        control: &Control,
        nodes: &[NodeRecord],
        failures: &mut Failures,
    ) -> Result<Option<(Self, BTreeSet<NodeId>)>, Error> {
        let mut on_the_way = control.store().pending(MAX_PENDING).await?;
        let mut unread = BTreeSet::new();
        for node in nodes.iter().filter(|node| node.drain.is_some()) {
            match control.store().instances_on(node.id).await {
                Ok(None) => {}
                Ok(Some(OnNode { instances, .. })) => {
                    on_the_way.extend(instances.into_iter().filter(|one| one.leaving == Some(Leaving::Move)));
                }
                Err(error) => {
                    unread.insert(node.id);
                    if !failures.note(control, node.id, error.into()).await {
                        return Ok(None);
                    }
                }
            }
        }
        // The rows after what waits: what is placed in between counts twice, and the next pass finds the room that it left. The
        // other way round it would not count at all.
        let mut promises = Self(control.fleet_apart(&control.store().nodes().await?));
        for one in &on_the_way {
            promises.make(one);
        }
        Ok(Some((promises, unread)))
    }

    /// Promises room to one more; false when there is none.
    fn make(&mut self, instance: &Instance) -> bool {
        self.0.propose(None, &instance.demand(), &instance.terms()).is_ok()
    }
}

impl Control {
    /// How many begin to leave, and whether to go on with other nodes. An instance that cannot be dealt with stays, the others of
    /// its node leave.
    async fn empty(
        &self,
        node: &NodeRecord,
        drain: &Drain,
        promises: &mut Promises,
        failures: &mut Failures,
    ) -> Result<(u32, bool), Error> {
        let Some(OnNode { instances, .. }) = self.store().instances_on(node.id).await? else { return Ok((0, true)) };
        let (how, mut more) = match drain.then {
            DrainThen::Move => {
                let moving = instances.iter().filter(|instance| instance.leaving.is_some()).count();
                (Leaving::Move, MAX_MOVING.saturating_sub(moving))
            }
            DrainThen::Stop => (Leaving::Evict, BATCH),
        };
        let stay: Vec<Instance> =
            instances.into_iter().filter(|one| lifecycle::leave(one, how, self.now()).is_some()).collect();
        let mut left = 0;
        for instance in stay {
            if more == 0 {
                break;
            }
            if how == Leaving::Move && !promises.make(&instance) {
                continue;
            }
            more -= 1;
            // A cancel that came meanwhile holds for everything that has not begun to leave.
            let still = self.store().node(node.id).await?.and_then(|record| record.drain);
            if still != Some(*drain) {
                break;
            }
            let id = instance.id;
            let after = self.change_instance(instance, |instance| {
                let here = instance.node == Some(node.id);
                Ok(here.then(|| lifecycle::leave(instance, how, self.now())).flatten())
            });
            match after.await {
                Ok(after) => left += u32::from(after.leaving.is_some()),
                Err(error) => {
                    if !failures.note_instance(self, id, error).await {
                        return Ok((left, false));
                    }
                }
            }
        }
        Ok((left, true))
    }
}
