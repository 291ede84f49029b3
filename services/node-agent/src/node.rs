//! What all parts of one agent share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use wherry_agent_api::{ControlPlane, LogQuery, NodeHello};
use wherry_model::{Action, Clock, ContainerName, Entropy, InstanceId};
use wherry_runtime::{ContainerId, ContainerRuntime};

use crate::config::AgentConfig;
use crate::desired::DesiredStore;
use crate::fence;
use crate::findings::Findings;
use crate::firewall::Gate;
use crate::images::ImagesUsed;
use crate::journal::{Journal, RunMemory};
use crate::lease::Lease;
use crate::logs::{Closings, LogProgress, LogProgressSource};
use crate::observer::Observer;
use crate::permits::Permits;
use crate::proof::Proofs;
use crate::status::Board;

/// One agent's parts.
pub(crate) struct Node {
    pub(crate) config: Arc<AgentConfig>,
    pub(crate) runtime: Arc<dyn ContainerRuntime>,
    pub(crate) control: Arc<dyn ControlPlane>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) desired: Arc<DesiredStore>,
    pub(crate) observer: Arc<Observer>,
    pub(crate) proofs: Arc<Proofs>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) lease: Arc<Lease>,
    /// How far ending what the lease does not cover is.
    pub(crate) fence: fence::Progress,
    /// The control plane has said that it lives in another epoch.
    pub(crate) fenced_out: Notify,
    /// Containers that were ended because the lease was over, until their end is told.
    pub(crate) fenced: Mutex<BTreeSet<ContainerId>>,
    pub(crate) board: Arc<Board>,
    /// Which log files the engine has closed.
    pub(crate) closings: Closings,
    /// Images that were used lately.
    pub(crate) images_used: ImagesUsed,
    /// What instances use, as it was read last.
    pub(crate) readings: crate::stats::Readings,
    /// Bounds pulls.
    pub(crate) pulls: Permits,
    /// Bounds questions to registries about images that are here.
    pub(crate) look_ups: Permits,
    /// Bounds programs that are run inside containers.
    pub(crate) execs: Permits,
    /// Bounds conversations with programs and ports inside.
    pub(crate) conversations: Permits,
    /// Bounds sandboxes that are being made.
    pub(crate) starts: Semaphore,
    /// Nothing new is begun once this is cancelled.
    pub(crate) stopping: CancellationToken,
    /// What is being pulled for each container.
    pub(crate) pulling: Mutex<BTreeMap<(InstanceId, ContainerName), String>>,
    /// Who wrote more than it may.
    pub(crate) overfull: crate::disk::Overfull,
    /// What probes have found out, until the worker has seen to it.
    pub(crate) findings: Findings,
}

impl Node {
    /// What it says of itself now.
    pub(crate) async fn hello(&self) -> NodeHello {
        let images = crate::images::keys(self).await;
        self.config.hello(self.journal.id(), self.desired.revision(), images)
    }

    /// Containers that were ended because the lease was over.
    pub(crate) fn fenced(&self) -> MutexGuard<'_, BTreeSet<ContainerId>> {
        self.fenced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is being pulled for each container now.
    pub(crate) fn pulling(&self) -> MutexGuard<'_, BTreeMap<(InstanceId, ContainerName), String>> {
        self.pulling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogProgressSource for Node {
    fn progress(&self, query: &LogQuery) -> Option<LogProgress> {
        let memory = self.journal.memory(query.instance);
        let desired = self.desired.watch().borrow().instances.get(&query.instance).cloned();
        let is_desired = desired.as_ref().is_some_and(|d| d.containers.iter().any(|c| c.spec.name == query.container));
        let was_there = memory.as_ref().is_some_and(|memory| memory.containers.contains_key(&query.container));
        if !is_desired && !was_there {
            return None;
        }
        // What was said of an older generation does not settle the present one.
        let current = memory.filter(|memory| desired.as_ref().is_none_or(|d| d.generation <= memory.generation));
        let said = current.as_ref().map(|memory| memory.container(&query.container)).unwrap_or_default();
        let failed = current.is_some_and(|memory| memory.failed);
        let wanted = desired.is_some_and(|desired| desired.action == Action::Run);
        let settled = match said.state {
            RunMemory::Running { .. } => false,
            RunMemory::Over => true,
            RunMemory::Waiting { .. } | RunMemory::NotStarted => !wanted || failed,
        };
        Some(LogProgress { run: said.run, runs: matches!(said.state, RunMemory::Running { .. }), settled })
    }
}
