//! Proof of life: what runs, asked of the engine just now. An engine that does not answer proves nothing, so nothing is sent.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wherry_agent_api::{Heartbeat, PullProgress, Report, RunningContainer};
use wherry_model::{Fact, InstanceId, Observation, Timestamp};

use crate::blocking::blocking;
use crate::node::Node;
use crate::observer::Snapshot;

/// Proofs are kept on disk at least so often.
const STORE_EVERY: Duration = Duration::from_secs(4);

/// Proves life for ever.
pub(crate) async fn keep(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(node.config.heartbeat_every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stored: Option<Instant> = None;
    loop {
        ticks.tick().await;
        let Ok(snapshot) = node.observer.fresh().await else { continue };
        if stored.is_none_or(|at| at.elapsed() >= STORE_EVERY) {
            stored = Some(Instant::now());
            store_proofs(&node).await;
        }
        node.board.set(|status| &mut status.journal_trouble, node.journal.check().err());
        let heartbeat = heartbeat(&node, &snapshot).await;
        // The next one is due soon and is as good; a slow control plane must not hold up the proofs on disk.
        match tokio::time::timeout(node.config.heartbeat_every, node.control.heartbeat(heartbeat)).await {
            Ok(Ok(())) => node.board.set(|status| &mut status.last_heartbeat, Some(snapshot.at)),
            Ok(Err(error)) => tracing::debug!(%error, "a heartbeat was not taken"),
            Err(_) => tracing::debug!("a heartbeat was not taken in time"),
        }
    }
}

async fn store_proofs(node: &Arc<Node>) {
    let proofs = node.proofs.clone();
    if let Err(error) = blocking(move || proofs.store()).await {
        tracing::warn!(%error, "the last proof of life cannot be kept on disk");
    }
}

async fn heartbeat(node: &Node, snapshot: &Snapshot) -> Heartbeat {
    let at = proved_until(snapshot.at, &node.journal.unacknowledged(Report::MAX_OBSERVATIONS));
    let running = snapshot.running().map(|(instance, container)| RunningContainer {
        instance,
        generation: container.generation,
        container: container.name.clone(),
        run: container.run,
    });
    let machine = &node.config.machine;
    Heartbeat {
        node: machine.node,
        boot: machine.boot,
        epoch: node.desired.epoch(),
        at,
        running: running.collect(),
        pulls: pulls(node).await,
    }
}

/// Life is not proved past an end that the control plane does not know yet: it would bill up to the proof, beyond that end,
/// if this node fell silent before the report arrives.
fn proved_until(asked_at: Timestamp, unacknowledged: &[Observation]) -> Timestamp {
    let ends = unacknowledged.iter().filter_map(|observation| match &observation.fact {
        Fact::ContainerExited { exit, .. } => Some(exit.finished_at),
        _ => None,
    });
    ends.min().map_or(asked_at, |end| end.min(asked_at))
}

/// The engine names layers, not images: its downloads can be told apart only while one image is being pulled.
async fn pulls(node: &Node) -> Vec<PullProgress> {
    let pulling = node.pulling().clone();
    let mut images: Vec<&String> = pulling.values().collect();
    images.sort_unstable();
    images.dedup();
    if images.len() != 1 {
        return Vec::new();
    }
    let Ok(downloads) = node.runtime.pull_progress().await else { return Vec::new() };
    let done_bytes = downloads.iter().fold(0_u64, |sum, download| sum.saturating_add(download.done_bytes));
    let total_bytes = downloads.iter().fold(0_u64, |sum, download| sum.saturating_add(download.total_bytes));
    let progress = |instance: &InstanceId| PullProgress { instance: *instance, done_bytes, total_bytes };
    pulling.keys().map(progress).collect()
}
