//! Emptying a machine, seen and steered. The work itself is `background::draining`'s.

use std::time::Duration;

use wherry_model::{Drain, DrainThen, Leaving, NodeRecord, Principal, Scope, SpecError};
use wherry_store::OnNode;

use super::NodeStatus;
use crate::{Control, Error, lock};

/// The longest grace.
const MAX_GRACE: Duration = Duration::from_hours(7 * 24);

/// How a machine is to be emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainRequest {
    /// For so long instances may end by themselves.
    pub grace: Duration,
    /// What happens to those that have not.
    pub then: DrainThen,
}

/// How far the emptying of a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DrainProgress {
    /// Instances that still hold a part of the machine. It is empty at 0.
    pub left: u32,
    /// Of those: being stopped to be placed elsewhere.
    pub moving: u32,
    /// Of those: being stopped for good.
    pub stopping: u32,
    /// Of those: running on, because their grace is not over, because no other machine has room for them now, or because
    /// the machine is silent.
    pub staying: u32,
    /// Instances that have left since this replica saw the drain first: moved, stopped, or ended by themselves.
    pub gone: u32,
    /// Whether the machine is silent: then nothing can be stopped on it, and it waits for its return or for an operator to
    /// confirm that it is off.
    pub waits_for_node: bool,
}

impl Control {
    /// Begins to empty the machine, or changes how that is done. Nothing new is placed on it from now on.
    pub async fn drain_node(
        &self,
        principal: &Principal,
        name_or_id: &str,
        request: DrainRequest,
    ) -> Result<NodeStatus, Error> {
        Self::require(principal, Scope::Admin)?;
        if request.grace > MAX_GRACE {
            return Err(SpecError::new("grace_seconds", "the longest grace is 7 days").into());
        }
        let record = self.node_called(name_or_id).await?;
        let now = self.now();
        let drain = Drain {
            asked_at: record.drain.map_or(now, |drain| drain.asked_at),
            grace_until: now.plus(request.grace),
            then: request.then,
        };
        self.store().set_drain(record.id, Some(&drain)).await?;
        let (name, then) = (&record.name, request.then.as_str());
        self.record_ask(principal, Some(record.id), format!("drain {name} until {}, then {then}", drain.grace_until));
        self.renewed_status(record.id).await
    }

    /// Ends the emptying: the machine takes new instances again, and what still runs on it stays. Instances that are already being
    /// stopped are stopped, and placed again if they were to be moved.
    pub async fn cancel_drain(&self, principal: &Principal, name_or_id: &str) -> Result<NodeStatus, Error> {
        Self::require(principal, Scope::Admin)?;
        let record = self.node_called(name_or_id).await?;
        if record.drain.is_none() {
            return Err(Error::conflict("node_not_draining", format!("{} is not being emptied", record.name)));
        }
        self.store().set_drain(record.id, None).await?;
        self.open_node(record.id).await?;
        self.record_ask(principal, Some(record.id), format!("cancel the drain of {}", record.name));
        self.renewed_status(record.id).await
    }

    pub(super) async fn drain_progress(
        &self,
        record: &NodeRecord,
        silent: bool,
    ) -> Result<Option<DrainProgress>, Error> {
        if record.drain.is_none() {
            return Ok(None);
        }
        let Some(OnNode { instances, .. }) = self.store().instances_on(record.id).await? else { return Ok(None) };
        let mut progress = DrainProgress::default();
        for instance in instances.iter().filter(|instance| instance.holds_resources) {
            progress.left += 1;
            match instance.leaving {
                Some(Leaving::Move) => progress.moving += 1,
                Some(Leaving::Evict) => progress.stopping += 1,
                None => progress.staying += 1,
            }
        }
        progress.gone = lock(&self.inner.watch).most_drained(record.id).saturating_sub(progress.left);
        progress.waits_for_node = silent && progress.left > 0;
        Ok(Some(progress))
    }
}
