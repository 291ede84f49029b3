//! Ends what the node's lease does not cover when there is no agent to do it: one that was killed and not started again,
//! that is stopped (SIGSTOP), or that hangs.
//!
//! A process of its own beside the agent's, as small as it can be: every two seconds it reads `lease.json`, and when that
//! is too old also `desired.json`, and stops containers through the container engine, or past it when that does not do it
//! within [`fence::ENGINE_WITHIN`]. It writes nothing but a note of each (`fenced_notes.rs`), talks to nobody else and decides
//! nothing that the agent would not: it acts [`MARGIN`] after the agent should have, which is well within the time that the
//! control plane waits before it runs such an instance elsewhere. Files that it cannot read or write make it end more, never less.
//!
//! The process that has the agent starts it, when anything here may run elsewhere, and tells it by the end of a pipe that the
//! agent is gone. Then it stays until the engine itself shows that nothing is left to end, or the next agent's guard takes over.
//!
//! What it does not cover: a machine on which the guard is killed too (systemd starts both again), a machine that sleeps
//! (there nothing runs), a process that the kernel cannot end (it waits in a driver or a dead network file system), and an
//! unreadable `desired.json` beside an engine that does not answer: nobody knows then which containers may run elsewhere.
//!
//! Rejected: a unit with `Restart=always` alone (an agent that is stopped or hangs is not restarted, and not every machine
//! has systemd), a hardware watchdog (it ends instances that must be kept), a timer inside each container.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use wherry_agent_api::DesiredInstance;
use wherry_model::{BootId, InstanceId, NodeId};
use wherry_runtime::{ContainerId, ContainerRuntime, ContainerState, RuntimeError};

use crate::blocking::blocking;
use crate::lease::{BootClock, Lease};
use crate::{desired, durable_file, fence, fenced_notes, labels};

/// How often the lease is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How much later than the agent it acts.
const MARGIN: Duration = Duration::from_secs(3);
/// What the disk does not take soon is not waited for.
const NOTED_WITHIN: Duration = Duration::from_secs(1);

/// What a look showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// How many containers were ended.
    pub ended: usize,
    /// The engine shows that nothing that may run elsewhere runs here, or will without an agent.
    pub is_over: bool,
}

/// Why a look was in vain.
#[derive(Debug, Error)]
pub enum GuardError {
    /// The container engine does not do what it is asked, and neither does the kernel.
    #[error("what may run elsewhere is not ended")]
    Engine(#[from] RuntimeError),
}

/// What the files say.
#[derive(Debug, Default)]
struct Orders {
    /// The agent should have ended these.
    forbidden: BTreeSet<InstanceId>,
    /// These may run elsewhere, and not yet.
    covered: BTreeSet<InstanceId>,
    /// They do not say it; the labels of the containers do.
    unreadable: bool,
}

/// Whether the control plane may run it elsewhere when this node is lost.
pub(crate) fn is_replaceable(desired: &DesiredInstance) -> bool {
    desired.fence_after_seconds.is_some()
}

/// See the module.
pub struct Guard {
    folder: PathBuf,
    node: NodeId,
    boot: BootId,
    clock: Arc<dyn BootClock>,
    runtime: Arc<dyn ContainerRuntime>,
}

impl Guard {
    /// Guards the node whose agent works in `folder`; `boot` is the present one.
    pub fn new(
        folder: PathBuf,
        node: NodeId,
        boot: BootId,
        clock: Arc<dyn BootClock>,
        runtime: Arc<dyn ContainerRuntime>,
    ) -> Self {
        Self { folder, node, boot, clock, runtime }
    }

    /// Looks until another guard takes over, or until the agent is gone and nothing is left to do for a guard: nothing runs
    /// that it would have to end, by the engine's word or, when there is no engine any more (`has_engine`), by the kernel's.
    pub async fn keep(&self, agent_is_gone: CancellationToken, has_engine: impl Fn() -> bool) {
        let me = std::process::id().to_string().into_bytes();
        let (path, content) = (self.folder.join("guard.pid"), me.clone());
        let is_noted = blocking(move || durable_file::replace(&path, &content)).await;
        if let Err(error) = &is_noted {
            tracing::error!(%error, "the guard cannot tell others that it is the one; it guards all the same");
        }
        let mut trouble: Option<String> = None;
        loop {
            let is_gone = agent_is_gone.is_cancelled();
            let look = self.look().await;
            if is_gone {
                let is_over = look.as_ref().is_ok_and(|sight| sight.is_over);
                if is_over || (!has_engine() && self.nothing_is_left().await) {
                    return;
                }
            }
            let found = look.err().map(|error| format!("{error}: {:?}", std::error::Error::source(&error)));
            if let Some(found) = found.as_ref().filter(|found| trouble.as_ref() != Some(*found)) {
                tracing::error!(trouble = found, "the guard looked in vain; it looks again");
            }
            trouble = found;
            tokio::time::sleep(LOOK_EVERY).await;
            let path = self.folder.join("guard.pid");
            let is_another = |found: io::Result<Option<Vec<u8>>>| found.is_ok_and(|found| found.as_ref() != Some(&me));
            if is_noted.is_ok() && is_another(blocking(move || durable_file::read(&path)).await) {
                return;
            }
        }
    }

    /// Looks once and ends what must end.
    pub async fn look(&self) -> Result<Sight, GuardError> {
        let Some(orders) = self.orders().await else { return Ok(Sight { ended: 0, is_over: false }) };
        if orders.forbidden.is_empty() && !orders.unreadable {
            return Ok(Sight { ended: 0, is_over: orders.covered.is_empty() });
        }
        let by_engine = tokio::time::timeout(fence::ENGINE_WITHIN, self.end_by_engine(&orders)).await;
        let error = match by_engine {
            Ok(Ok(sight)) => return Ok(sight),
            Ok(Err(error)) => error,
            Err(_) => RuntimeError::Unavailable { message: "the container engine does not answer".to_owned() },
        };
        if orders.forbidden.is_empty() {
            return Err(error.into());
        }
        // What the engine was at may begin later, so this is not the end of it.
        Ok(Sight { ended: self.end_by_force(&orders.forbidden).await?, is_over: false })
    }

    async fn end_by_engine(&self, orders: &Orders) -> Result<Sight, RuntimeError> {
        let listed = self.runtime.list_containers(&labels::selector(self.node)).await?;
        let there = listed.iter().map(|container| container.id.clone()).collect();
        let lease = self.lease().await;
        let (mut running, mut covers_some) = (BTreeSet::new(), !orders.covered.is_empty());
        for container in listed.into_iter().filter(|container| container.state == ContainerState::Running) {
            let Some((instance, _)) = labels::owner(&container.labels) else { continue };
            let labelled = labels::fence_after_seconds(&container.labels).filter(|_| orders.unreadable);
            let is_over = labelled.is_some_and(|seconds| lease.is_over_for(seconds, MARGIN));
            if is_over || orders.forbidden.contains(&instance) {
                running.insert(container.id);
            } else {
                covers_some |= labelled.is_some();
            }
        }
        let folder = self.folder.clone();
        blocking(move || fenced_notes::keep_only(&folder, &there)).await;
        self.leave_notes(&running).await;
        let stops = running.into_iter().map(|id| async move {
            tracing::error!(container = %id, "the lease is over and no agent has ended this; it may run elsewhere soon");
            self.runtime.stop_container(&id, Duration::from_secs(u64::from(fence::GRACE_SECONDS))).await
        });
        let stopped = join_all(stops).await;
        let ended = stopped.len();
        stopped.into_iter().collect::<Result<Vec<()>, _>>()?;
        Ok(Sight { ended, is_over: !covers_some })
    }

    /// Returns how many it ended.
    async fn end_by_force(&self, forbidden: &BTreeSet<InstanceId>) -> Result<usize, RuntimeError> {
        let ends = forbidden.iter().map(|instance| async move {
            let cgroup = instance.to_string();
            // Why they end matters less than that they do.
            let alive = self.runtime.alive_in_cgroup(&cgroup).await.unwrap_or_default();
            if !alive.is_empty() {
                tracing::error!(%instance, "the lease is over and the container engine does not end this; it is killed");
                self.leave_notes(&alive).await;
            }
            self.runtime.end_by_force(&cgroup).await.map(|()| alive.len())
        });
        let ended = join_all(ends).await;
        ended.into_iter().sum()
    }

    /// Whether no process of anything is left that may run elsewhere. An engine that is not there begins nothing either.
    async fn nothing_is_left(&self) -> bool {
        let orders = self.orders_at(Duration::ZERO).await;
        for instance in orders.forbidden.iter().chain(&orders.covered) {
            if self.runtime.alive_in_cgroup(&instance.to_string()).await.map_or(true, |alive| !alive.is_empty()) {
                return false;
            }
        }
        true
    }

    async fn leave_notes(&self, ids: &BTreeSet<ContainerId>) {
        let (folder, ids) = (self.folder.clone(), ids.clone());
        let left = tokio::time::timeout(NOTED_WITHIN, blocking(move || fenced_notes::leave(&folder, &ids))).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::warn!("why something is ended now cannot be noted on disk");
        }
    }

    async fn lease(&self) -> Lease {
        let (folder, boot, clock) = (self.folder.clone(), self.boot, self.clock.clone());
        blocking(move || Lease::read(&folder, boot, clock).0).await
    }

    /// None as long as the lease is younger than anything that there could be to do.
    async fn orders(&self) -> Option<Orders> {
        if self.lease().await.age().is_some_and(|age| age < MARGIN) {
            return None;
        }
        Some(self.orders_at(MARGIN).await)
    }

    async fn orders_at(&self, longer: Duration) -> Orders {
        let (folder, lease) = (self.folder.clone(), self.lease().await);
        blocking(move || {
            let (known, _) = desired::read(&folder);
            let mut orders = Orders { unreadable: known.unreadable, ..Orders::default() };
            for listed in known.instances.into_values().filter(|listed| is_replaceable(listed)) {
                let is_over = lease.forbids_for(&listed, longer);
                (if is_over { &mut orders.forbidden } else { &mut orders.covered }).insert(listed.id);
            }
            orders
        })
        .await
    }
}
