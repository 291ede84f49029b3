//! Ends, by itself and at once, what the node's lease does not cover any more.
//!
//! A task of its own that waits for nobody: workers may stand in a pull or in a long stop. It looks every second on the boot
//! clock, so an agent that was frozen finds out at its first look after the thaw; what it stops it takes from a picture
//! that it asks for then, and from the latest one when the engine is slow to show another. Workers do not start what the
//! lease forbids (`plan.rs`, `worker/bring.rs`), tell the ends, and start again when the lease is renewed.
//!
//! It also goes first ([`passed`]): an agent that comes up, or thaws, past its lease proves no life, reports nothing, takes
//! no new desired state and starts nothing before what may run elsewhere has ended here. An engine that refuses holds up
//! everybody else's instances for [`PATIENCE`] only.
//!
//! What happens when there is no agent that could look is in `guard.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Notify, watch};
use wherry_model::InstanceId;
use wherry_runtime::ContainerId;

use crate::blocking::blocking;
use crate::fenced_notes;
use crate::lease::Mark;
use crate::node::Node;
use crate::observer::Snapshot;

/// How often the lease is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between SIGTERM and SIGKILL: the fence leaves no time for the instance's own grace.
pub(crate) const GRACE_SECONDS: u32 = 2;
/// One that takes longer is asked for again, and holds up neither the look at newer ones nor what waits for the fence.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(10);
/// How long everything else waits for the end of what the lease does not cover.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far the fence is.
#[derive(Debug)]
pub(crate) struct Progress {
    /// The lease under which everything that it does not cover was found to have ended.
    done: watch::Sender<Option<Mark>>,
    asked: Notify,
}

impl Default for Progress {
    fn default() -> Self {
        Self { done: watch::channel(None).0, asked: Notify::new() }
    }
}

/// Runs for ever.
pub(crate) async fn keep(node: Arc<Node>) {
    loop {
        if anything_is_forbidden(&node) {
            let mark = node.lease.mark();
            if let Some(snapshot) = node.observer.latest() {
                end(&node, &snapshot).await;
            }
            if let Ok(Ok(snapshot)) = tokio::time::timeout(LOOK_EVERY * 5, node.observer.fresh()).await
                && end(&node, &snapshot).await
            {
                node.fence.done.send_replace(Some(mark));
            }
        }
        tokio::select! {
            biased;
            () = node.fence.asked.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Returns when nothing runs that the lease does not cover, which is at once as long as it covers everything.
pub(crate) async fn passed(node: &Node) {
    let all_ended = async {
        let mut done = node.fence.done.subscribe();
        while anything_is_forbidden(node) && *done.borrow_and_update() != Some(node.lease.mark()) {
            node.fence.asked.notify_one();
            tokio::select! {
                biased;
                _ = done.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    };
    if tokio::time::timeout(PATIENCE, all_ended).await.is_err() {
        tracing::error!("what may run elsewhere cannot be ended; it goes on being tried, and the rest goes on too");
        node.fence.done.send_replace(Some(node.lease.mark()));
    }
}

fn anything_is_forbidden(node: &Node) -> bool {
    let known = node.desired.watch();
    let known = known.borrow();
    known.instances.values().any(|desired| node.lease.forbids(desired))
}

/// What the disk does not take soon is not waited for.
async fn leave_notes(node: &Node, ids: &BTreeSet<ContainerId>) {
    let (folder, ids) = (node.config.data_folder.clone(), ids.clone());
    let left = tokio::time::timeout(LOOK_EVERY, blocking(move || fenced_notes::leave(&folder, &ids))).await;
    if !matches!(left, Ok(Ok(()))) {
        tracing::warn!("why something is ended now cannot be noted on disk");
    }
}

/// Whether everything in the picture that had to end did.
async fn end(node: &Node, snapshot: &Snapshot) -> bool {
    let known = node.desired.watch().borrow().clone();
    let is_forbidden = |id: &InstanceId| known.instances.get(id).is_some_and(|desired| node.lease.forbids(desired));
    let running: BTreeSet<ContainerId> =
        snapshot.running().filter(|(id, _)| is_forbidden(id)).map(|(_, container)| container.id.clone()).collect();
    node.fenced().extend(running.iter().cloned());
    leave_notes(node, &running).await;
    let stops = running.iter().map(|id| async move {
        tracing::error!(container = %id, "the node's lease is over; it may run elsewhere soon and is ended here");
        let stop = node.runtime.stop_container(id, Duration::from_secs(u64::from(GRACE_SECONDS)));
        match tokio::time::timeout(STOP_WITHIN, stop).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => tracing::error!(container = %id, %error, "it could not be ended; it is tried again"),
            Err(_) => tracing::error!(container = %id, "it has not ended in time; it is tried again"),
        }
        false
    });
    join_all(stops).await.into_iter().all(|stopped| stopped)
}
