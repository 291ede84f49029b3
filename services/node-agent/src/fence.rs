//! Ends, by itself and at once, what the node's lease does not cover any more.
//!
//! A task of its own that waits for nobody: workers may stand in a pull or in a long stop. It looks every second on the boot
//! clock, so an agent that was frozen finds out at its first look after the thaw; what it stops it takes from a picture
//! that it asks for then, and from the latest one when the engine is slow to show another. Workers do not start what the
//! lease forbids (`plan.rs`, `worker/bring.rs`), tell the ends, and start again when the lease is renewed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use wherry_model::InstanceId;
use wherry_runtime::ContainerId;

use crate::node::Node;
use crate::observer::Snapshot;

/// How often the lease is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between SIGTERM and SIGKILL: the fence leaves no time for the instance's own grace.
pub(crate) const GRACE_SECONDS: u32 = 2;

/// Runs for ever.
pub(crate) async fn keep(node: Arc<Node>) {
    loop {
        if anything_is_forbidden(&node) {
            if let Some(snapshot) = node.observer.latest() {
                end(&node, &snapshot).await;
            }
            if let Ok(Ok(snapshot)) = tokio::time::timeout(LOOK_EVERY * 5, node.observer.fresh()).await {
                end(&node, &snapshot).await;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn anything_is_forbidden(node: &Node) -> bool {
    let known = node.desired.watch();
    let known = known.borrow();
    known.instances.values().any(|desired| node.lease.forbids(desired))
}

async fn end(node: &Node, snapshot: &Snapshot) {
    let known = node.desired.watch().borrow().clone();
    let is_forbidden = |id: &InstanceId| known.instances.get(id).is_some_and(|desired| node.lease.forbids(desired));
    let running: BTreeSet<ContainerId> =
        snapshot.running().filter(|(id, _)| is_forbidden(id)).map(|(_, container)| container.id.clone()).collect();
    node.fenced().extend(running.iter().cloned());
    let stops = running.iter().map(|id| async move {
        tracing::error!(container = %id, "the node's lease is over; it may run elsewhere soon and is ended here");
        if let Err(error) = node.runtime.stop_container(id, Duration::from_secs(u64::from(GRACE_SECONDS))).await {
            tracing::error!(container = %id, %error, "it could not be ended; it is tried again");
        }
    });
    join_all(stops).await;
}
