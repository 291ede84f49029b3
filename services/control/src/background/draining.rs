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
use crate::fleet::Reservation;
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
            match control.empty(&node, &drain, &mut promises).await {
                Ok(0) => {}
                Ok(count) => left.push(format!("{count} instances leave {}", node.name)),
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

/// Room elsewhere that is spoken for: by instances that are on their way, and by those that are sent on it in this pass.
struct Promises(Vec<Reservation>);

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
        let rooms = on_the_way.iter().filter_map(|one| control.propose(&one.spec.demand()).ok()).collect();
        Ok(Some((Self(rooms), unread)))
    }

    /// Promises room to one more; false when there is none.
    fn make(&mut self, control: &Control, instance: &Instance) -> Result<bool, Error> {
        match control.propose(&instance.spec.demand()) {
            Ok(room) => self.0.push(room),
            Err(Error::CapacityUnavailable(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }
}

impl Control {
    async fn empty(&self, node: &NodeRecord, drain: &Drain, promises: &mut Promises) -> Result<u32, Error> {
        let Some(OnNode { instances, .. }) = self.store().instances_on(node.id).await? else { return Ok(0) };
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
            if how == Leaving::Move && !promises.make(self, &instance)? {
                continue;
            }
            more -= 1;
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
