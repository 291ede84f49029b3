//! Ends what the node's lease does not cover when there is no agent to do it: one that was killed and not started again,
//! that is stopped (SIGSTOP), or that hangs.
//!
//! A process of its own beside the agent's, as small as it can be: every two seconds it reads `lease.json`, and when that
//! is too old also `desired.json`, and stops containers through the container engine. It writes nothing but a note of each
//! (`fenced_notes.rs`), talks to nobody else and decides nothing that the agent would not: it acts [`MARGIN`] after the agent should have, which is well within the
//! time that the control plane waits before it runs such an instance elsewhere.
//!
//! The process that has the agent starts it, when anything here may run elsewhere, and tells it by the end of a pipe that the
//! agent is gone. Then it stays until nothing is left to end, or the next agent's guard takes over.
//!
//! What it does not cover: a machine on which the guard is killed too (systemd starts both again), a machine that sleeps
//! (there nothing runs), and an engine that does not answer until the time is over: nothing can be stopped then, the control
//! plane cannot tell that from a machine that is off, and a second copy is started while the first runs on.
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
use crate::desired::DesiredStore;
use crate::lease::{BootClock, Lease};
use crate::{durable_file, fence, fenced_notes, labels};

/// How often the lease is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How much later than the agent it acts.
const MARGIN: Duration = Duration::from_secs(3);

/// What a look showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// How many containers were ended.
    pub ended: usize,
    /// Nothing that may run elsewhere runs here, or will without an agent.
    pub is_over: bool,
}

/// Why a look was in vain.
#[derive(Debug, Error)]
pub enum GuardError {
    /// The agent's files cannot be read.
    #[error("the agent's data folder cannot be read")]
    Files(#[from] io::Error),
    /// The container engine does not do what it is asked.
    #[error("the container engine does not end what may run elsewhere")]
    Engine(#[from] RuntimeError),
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
    /// that it would have to end, or there is no engine any more (`has_engine`) in which anything could.
    pub async fn keep(
        &self,
        agent_is_gone: CancellationToken,
        has_engine: impl Fn() -> bool,
    ) -> Result<(), GuardError> {
        let me = std::process::id().to_string().into_bytes();
        let (path, content) = (self.folder.join("guard.pid"), me.clone());
        blocking(move || durable_file::replace(&path, &content)).await?;
        let mut trouble: Option<String> = None;
        loop {
            let is_gone = agent_is_gone.is_cancelled();
            let look = self.look().await;
            if is_gone && (look.as_ref().is_ok_and(|sight| sight.is_over) || !has_engine()) {
                return Ok(());
            }
            let found = look.err().map(|error| format!("{error}: {:?}", std::error::Error::source(&error)));
            if let Some(found) = found.as_ref().filter(|found| trouble.as_ref() != Some(*found)) {
                tracing::error!(trouble = found, "the guard looked in vain; it looks again");
            }
            trouble = found;
            tokio::time::sleep(LOOK_EVERY).await;
            let path = self.folder.join("guard.pid");
            if blocking(move || durable_file::read(&path)).await? != Some(me.clone()) {
                return Ok(());
            }
        }
    }

    /// Looks once and ends what must end.
    pub async fn look(&self) -> Result<Sight, GuardError> {
        let (forbidden, covers_some) = self.forbidden().await?;
        if forbidden.is_empty() {
            return Ok(Sight { ended: 0, is_over: !covers_some });
        }
        let listed = self.runtime.list_containers(&labels::selector(self.node)).await?;
        let there = listed.iter().map(|container| container.id.clone()).collect();
        let is_forbidden = |id: &InstanceId| forbidden.iter().any(|desired| desired.id == *id);
        let running = listed.into_iter().filter(|container| {
            container.state == ContainerState::Running
                && labels::owner(&container.labels).is_some_and(|(instance, _)| is_forbidden(&instance))
        });
        let running: BTreeSet<ContainerId> = running.map(|container| container.id).collect();
        let (folder, ids) = (self.folder.clone(), running.clone());
        blocking(move || {
            fenced_notes::keep_only(&folder, &there);
            fenced_notes::leave(&folder, &ids)
        })
        .await?;
        let stops = running.into_iter().map(|id| async move {
            tracing::error!(container = %id, "the lease is over and no agent has ended this; it may run elsewhere soon");
            let grace = Duration::from_secs(u64::from(fence::GRACE_SECONDS));
            let stop = self.runtime.stop_container(&id, grace);
            tokio::time::timeout(fence::STOP_WITHIN, stop).await.unwrap_or_else(|_| {
                Err(RuntimeError::Unavailable { message: format!("{id} has not ended in time") })
            })
        });
        let stopped = join_all(stops).await;
        let ended = stopped.len();
        stopped.into_iter().collect::<Result<Vec<()>, _>>()?;
        Ok(Sight { ended, is_over: !covers_some })
    }

    /// What may run elsewhere and should have been ended by the agent, and whether there is anything that the lease covers.
    async fn forbidden(&self) -> io::Result<(Vec<Arc<DesiredInstance>>, bool)> {
        let (folder, boot, clock) = (self.folder.clone(), self.boot, self.clock.clone());
        blocking(move || {
            let lease = Lease::open(&folder, boot, clock)?;
            if lease.age().is_some_and(|age| age < MARGIN) {
                return Ok((Vec::new(), true));
            }
            let known = DesiredStore::open(&folder)?.watch().borrow().clone();
            let (forbidden, covered): (Vec<_>, Vec<_>) = known
                .instances
                .into_values()
                .filter(|desired| is_replaceable(desired))
                .partition(|desired| lease.forbids_for(desired, MARGIN));
            Ok((forbidden, !covered.is_empty()))
        })
        .await
    }
}
