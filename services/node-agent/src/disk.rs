//! Holds instances to what they may write to the machine's disk.
//!
//! Measured from time to time: what the engine says of the containers' own file systems, and volumes on disk by walking
//! through them, one instance after the other; one that took long is looked at less often, so that walking takes a tenth of
//! one core at most. Between two looks an instance can write more than it may. One that is over its limit is ended as a whole, as
//! Kubernetes evicts; what it wrote to volumes stays for its next start, which takes a larger limit.
//!
//! Rejected: project quotas of the file system, which refuse the write itself, but which neither every file system has nor
//! an ext4 that was made without.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use wherry_agent_api::DesiredInstance;
use wherry_model::{Action, EndReason, Generation, InstanceId, MemoryMib};
use wherry_runtime::SandboxId;

use crate::blocking::blocking;
use crate::node::Node;
use crate::verdict::Verdict;
use crate::volumes::{self, MOST_FILES, Written};

/// Bounds on what instances write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskLimits {
    /// What an instance may write that does not say how much.
    pub ephemeral: MemoryMib,
    /// How often it is measured.
    pub check_every: Duration,
}

impl Default for DiskLimits {
    fn default() -> Self {
        Self { ephemeral: MemoryMib::new(20 * 1024), check_every: Duration::from_secs(2) }
    }
}

/// A walk is followed by a pause that is so many times longer.
pub(crate) const PAUSE_FOR_WALK: u32 = 10;

/// Who is over its limit, and in which generation, with the limit that it was held to.
#[derive(Debug, Default)]
pub(crate) struct Overfull(Mutex<BTreeMap<InstanceId, (Generation, MemoryMib, Verdict)>>);

impl Overfull {
    /// Why the instance is to be ended, if it is. A higher limit is a new chance.
    pub(crate) fn verdict(&self, desired: &DesiredInstance, limit: MemoryMib) -> Option<Verdict> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (generation, held_to, verdict) = known.get(&desired.id)?;
        (*generation == desired.generation && *held_to >= limit).then(|| verdict.clone())
    }

    fn set(&self, desired: &DesiredInstance, limit: MemoryMib, verdict: Verdict) {
        let entry = (desired.generation, limit, verdict);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(desired.id, entry);
    }

    fn keep_only(&self, there: impl Fn(&InstanceId) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| there(id));
    }
}

/// What the instance may write.
pub(crate) fn limit(node: &Node, desired: &DesiredInstance) -> MemoryMib {
    desired.more.ephemeral_disk.unwrap_or(node.config.disk.ephemeral)
}

/// Looks until the agent stops.
pub(crate) async fn keep(node: Arc<Node>) {
    let mut looks: BTreeMap<InstanceId, Look> = BTreeMap::new();
    loop {
        tokio::select! {
            biased;
            () = node.stopping.cancelled() => return,
            () = tokio::time::sleep(node.config.disk.check_every) => {}
        }
        let Some(snapshot) = node.observer.latest() else { continue };
        let known: Vec<Arc<DesiredInstance>> = node.desired.watch().borrow().instances.values().cloned().collect();
        looks.retain(|id, _| known.iter().any(|desired| desired.id == *id));
        node.overfull.keep_only(|id| known.iter().any(|desired| desired.id == *id));
        for desired in known.iter().filter(|desired| desired.action == Action::Run) {
            let seen = snapshot.instances.get(&desired.id);
            let sandbox = seen.and_then(|seen| seen.sandbox_of(desired.generation)).filter(|sandbox| sandbox.ready);
            let is_due = looks.get(&desired.id).is_none_or(|last| last.next <= Instant::now());
            if let (Some(sandbox), true) = (sandbox, is_due) {
                let begun = Instant::now();
                let before = looks.remove(&desired.id).map(|last| last.in_volumes).unwrap_or_default();
                let in_volumes = look(&node, desired, &sandbox.id, before).await;
                let next = Instant::now() + begun.elapsed() * PAUSE_FOR_WALK;
                looks.insert(desired.id, Look { next, in_volumes });
            }
            if node.stopping.is_cancelled() {
                return;
            }
        }
    }
}

/// When an instance was looked at, and with which result.
struct Look {
    /// Not before.
    next: Instant,
    in_volumes: Written,
}

/// Says what volumes hold; what they held `before` where that cannot be measured.
async fn look(node: &Node, desired: &Arc<DesiredInstance>, sandbox: &SandboxId, before: Written) -> Written {
    let limit = limit(node, desired);
    if node.overfull.verdict(desired, limit).is_some() {
        return before;
    }
    let (folder, of) = (node.config.volumes_of(desired.id), desired.clone());
    let in_volumes = latest(desired.id, blocking(move || volumes::written(&folder, &of)).await, before);
    // An engine that does not answer is no reason to end anything; others notice that it does not.
    let in_layers = node.runtime.written(sandbox).await.unwrap_or_default();
    let in_layers = in_layers.values().copied().fold(0, u64::saturating_add);
    if let Some(message) = why(&in_volumes, in_layers, limit) {
        tracing::warn!(instance = %desired.id, message, "an instance wrote too much");
        node.overfull.set(desired, limit, Verdict::new(EndReason::DiskExceeded, message));
        node.findings.look(desired.id);
    }
    in_volumes
}

/// A walk that failed says nothing: least of all that there is nothing.
fn latest(instance: InstanceId, measured: std::io::Result<Written>, before: Written) -> Written {
    measured.unwrap_or_else(|error| {
        tracing::warn!(%instance, %error, "volumes cannot be measured");
        before
    })
}

/// What is wrong, if anything is.
fn why(in_volumes: &Written, in_layers: u64, limit: MemoryMib) -> Option<String> {
    if let Some((name, bytes, size)) = &in_volumes.over {
        return Some(format!(
            "volume {name} holds {bytes} bytes, more than its size of {size} ({} bytes); write less, or give it a larger size",
            size.bytes()
        ));
    }
    if in_volumes.too_many {
        return Some(format!(
            "its volumes hold more than {MOST_FILES} files and folders, or move folders about below 256 others; write fewer"
        ));
    }
    let total = in_layers.saturating_add(in_volumes.bytes);
    (total > limit.bytes()).then(|| {
        format!(
            "it wrote {total} bytes to the disk ({in_layers} in the containers' own file systems, {} in volumes), more than \
             the {limit} ({} bytes) of its ephemeral_disk; write less, or ask for more",
            in_volumes.bytes,
            limit.bytes()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_written_counts_together_and_a_volume_by_itself() {
        let mib = |count: u64| count << 20;
        let written = |bytes| Written { bytes, ..Written::default() };
        let limit = MemoryMib::new(10);
        assert_eq!(why(&written(mib(6)), mib(4), limit), None);
        let message = why(&written(mib(6)), mib(4) + 1, limit).unwrap();
        assert!(message.contains("10485761 bytes") && message.contains("10Mi"), "{message}");
        let too_many = Written { too_many: true, ..Written::default() };
        assert!(why(&too_many, 0, limit).unwrap().contains("1000000 files"));
        let failed = || Err(std::io::Error::other("a bad disk"));
        let id: InstanceId = "01".repeat(16).parse().unwrap();
        assert_eq!(
            latest(id, failed(), written(mib(11))),
            written(mib(11)),
            "it is not empty because it cannot be read"
        );
        assert_eq!(latest(id, Ok(written(1)), written(mib(11))), written(1));
        let over = Some(("data".parse().unwrap(), 9, MemoryMib::new(4)));
        assert!(why(&Written { over, ..Written::default() }, 0, limit).unwrap().contains("volume data holds 9 bytes"));
    }
}
