//! What probes have found out and workers have to see to. Kept in memory: an agent that dies probes again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use wherry_model::InstanceId;
use wherry_runtime::ContainerId;

use crate::verdict::Verdict;

/// At most one verdict a container and one entry an instance, so it is bounded by what runs.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    state: Mutex<State>,
    some: Notify,
}

#[derive(Debug, Default)]
struct State {
    verdicts: BTreeMap<ContainerId, Verdict>,
    /// Instances whose workers are to look.
    look: BTreeSet<InstanceId>,
}

impl Findings {
    /// The worker of the instance has a reason to look again.
    pub(crate) fn look(&self, instance: InstanceId) {
        self.state().look.insert(instance);
        self.some.notify_one();
    }

    /// A container of the instance must be ended.
    pub(crate) fn condemn(&self, instance: InstanceId, container: &ContainerId, verdict: Verdict) {
        self.state().verdicts.insert(container.clone(), verdict);
        self.look(instance);
    }

    /// Why a container must be ended, if it must.
    pub(crate) fn verdict(&self, container: &ContainerId) -> Option<Verdict> {
        self.state().verdicts.get(container).cloned()
    }

    /// Forgets what was found of other containers than these.
    pub(crate) fn keep_only(&self, there: &BTreeSet<ContainerId>) {
        self.state().verdicts.retain(|container, _| there.contains(container));
    }

    /// Waits until a worker is to look.
    pub(crate) async fn some(&self) {
        self.some.notified().await;
    }

    /// The instances whose workers are to look.
    pub(crate) fn take(&self) -> BTreeSet<InstanceId> {
        std::mem::take(&mut self.state().look)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
