//! Ends, by itself and at once, what the node's lease does not cover any more.
//!
//! A task of its own that waits for nobody: workers may stand in a pull or in a long stop. It looks every second on the boot
//! clock, so an agent that was frozen finds out at its first look after the thaw; what it stops it takes from a picture
//! that it asks for then, and from the latest one when the engine is slow to show another. Workers do not start what the
//! lease forbids (`plan.rs`, `worker/bring.rs`), tell the ends, and start again when the lease is renewed.
//!
//! An engine that does not do it within [`ENGINE_WITHIN`] is not waited for: the processes are ended past it, by the name of the
//! instance's cgroup, and that counts only when the kernel shows none any more. It goes on looking as long as the lease is
//! over, because the engine may have been at a start. When it answers again it tells the ends, as of any container, and the
//! note that was left says why (`fenced_notes.rs`).
//!
//! A desired state that cannot be read switches nothing off: what the containers' labels say is obeyed instead.
//!
//! It also goes first ([`passed`]): an agent that comes up, or thaws, past its lease proves no life, reports nothing, takes
//! no new desired state and starts nothing before what may run elsewhere has ended here. What cannot be ended at all holds up
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
use crate::labels::SHORTEST_FENCE_SECONDS;
use crate::lease::Mark;
use crate::node::Node;
use crate::observer::Snapshot;

/// How often the lease is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between SIGTERM and SIGKILL: the fence leaves no time for the instance's own grace.
pub(crate) const GRACE_SECONDS: u32 = 2;
/// How long the engine has for it. With the guard's delay and what ending by force takes, this is within the least margin
/// that the control plane leaves, of 20 s.
pub(crate) const ENGINE_WITHIN: Duration = Duration::from_secs(6);
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
    let mut engine_fails = false;
    loop {
        if anything_is_forbidden(&node) {
            let mark = node.lease.mark();
            let done = || {
                node.fence.done.send_replace(Some(mark));
            };
            // An engine that failed the last time is tried again, but nobody waits for that.
            if engine_fails && end_by_force(&node).await {
                done();
            }
            let by_engine = tokio::time::timeout(ENGINE_WITHIN, end_by_engine(&node)).await;
            engine_fails = by_engine != Ok(true);
            if !engine_fails || end_by_force(&node).await {
                done();
            }
        } else {
            engine_fails = false;
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
    let shown = node.observer.shown();
    let nobody_knows = node.desired.watch().borrow().unreadable && shown.is_none();
    (nobody_knows && node.lease.is_over_for(SHORTEST_FENCE_SECONDS, Duration::ZERO))
        || !forbidden(node, shown.as_deref()).is_empty()
}

/// What must not run now, by what is desired, or by the labels in the picture when that cannot be read.
fn forbidden(node: &Node, picture: Option<&Snapshot>) -> BTreeSet<InstanceId> {
    let watch = node.desired.watch();
    let known = watch.borrow();
    let listed = known.instances.iter().filter(|(_, desired)| node.lease.forbids(desired)).map(|(id, _)| *id);
    let labelled = picture.filter(|_| known.unreadable).into_iter().flat_map(|picture| &picture.fence_after_seconds);
    let labelled = labelled.filter(|(_, seconds)| node.lease.is_over_for(**seconds, Duration::ZERO));
    listed.chain(labelled.map(|(id, _)| *id)).collect()
}

/// What the disk does not take soon is not waited for.
async fn leave_notes(node: &Node, ids: &BTreeSet<ContainerId>) {
    node.fenced().extend(ids.iter().cloned());
    let (folder, ids) = (node.config.data_folder.clone(), ids.clone());
    let left = tokio::time::timeout(LOOK_EVERY, blocking(move || fenced_notes::leave(&folder, &ids))).await;
    if !matches!(left, Ok(Ok(()))) {
        tracing::warn!("why something is ended now cannot be noted on disk");
    }
}

/// Whether the engine shows that everything that had to end did.
async fn end_by_engine(node: &Node) -> bool {
    if let Some(snapshot) = node.observer.latest() {
        stop(node, &snapshot).await;
    }
    match node.observer.fresh().await {
        Ok(snapshot) => stop(node, &snapshot).await,
        Err(_) => false,
    }
}

/// Whether everything in the picture that had to end did.
async fn stop(node: &Node, snapshot: &Snapshot) -> bool {
    let forbidden = forbidden(node, Some(snapshot));
    let running = snapshot.running().filter(|(id, _)| forbidden.contains(id));
    let running: BTreeSet<ContainerId> = running.map(|(_, container)| container.id.clone()).collect();
    leave_notes(node, &running).await;
    let stops = running.iter().map(|id| async move {
        tracing::error!(container = %id, "the node's lease is over; it may run elsewhere soon and is ended here");
        let stopped = node.runtime.stop_container(id, Duration::from_secs(u64::from(GRACE_SECONDS))).await;
        if let Err(error) = &stopped {
            tracing::error!(container = %id, %error, "the container engine does not end it");
        }
        stopped.is_ok()
    });
    join_all(stops).await.into_iter().all(|stopped| stopped)
}

/// Whether the kernel shows that everything that had to end did.
async fn end_by_force(node: &Node) -> bool {
    let shown = node.observer.shown();
    if shown.is_none() && node.desired.watch().borrow().unreadable {
        tracing::error!(
            "neither the stored desired state nor the container engine can be read: nobody knows what may run elsewhere"
        );
        return false;
    }
    let forbidden = forbidden(node, shown.as_deref());
    let ends = forbidden.iter().map(|instance| async move {
        let cgroup = instance.to_string();
        match node.runtime.alive_in_cgroup(&cgroup).await {
            Ok(alive) if alive.is_empty() => {}
            Ok(alive) => {
                tracing::error!(%instance, "the container engine does not end it; its processes are killed");
                leave_notes(node, &alive).await;
            }
            Err(error) => tracing::error!(%instance, %error, "which of its containers are ended is not known"),
        }
        let ended = node.runtime.end_by_force(&cgroup).await;
        if let Err(error) = &ended {
            tracing::error!(%instance, %error, "it could not be ended by force; it is tried again");
        }
        ended.is_ok()
    });
    join_all(ends).await.into_iter().all(|ended| ended)
}
