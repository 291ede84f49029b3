//! Machines, one by one: looked at, closed and opened for new instances, given up, removed.

use std::time::Duration;

use wherry_model::lifecycle;
use wherry_model::{NodeId, NodeRecord, NodeState, Principal, Scope};
use wherry_store::{OnNode, RemoveOutcome};

use super::DrainProgress;
use crate::loss::Loss;
use crate::{Control, Error, lock};

/// A machine with what this replica knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its row.
    pub record: NodeRecord,
    /// For how long nothing has been heard of it, when that is longer than the detection time: also of one that is cordoned
    /// or being emptied.
    pub silent_for: Option<Duration>,
    /// How far its emptying is, while it is being emptied.
    pub drain: Option<DrainProgress>,
}

impl Control {
    /// A machine by its name or id.
    pub async fn get_node(&self, principal: &Principal, name_or_id: &str) -> Result<NodeStatus, Error> {
        Self::require(principal, Scope::Admin)?;
        let record = self.node_called(name_or_id).await?;
        self.node_status(record).await
    }

    /// All machines, by id.
    pub async fn node_statuses(&self, principal: &Principal) -> Result<Vec<NodeStatus>, Error> {
        Self::require(principal, Scope::Admin)?;
        let mut statuses = Vec::new();
        for record in self.store().nodes().await? {
            statuses.push(self.node_status(record).await?);
        }
        Ok(statuses)
    }

    /// Nothing new is placed on the machine; what it has stays. One that is being emptied stays so.
    pub async fn cordon_node(&self, principal: &Principal, name_or_id: &str) -> Result<NodeStatus, Error> {
        Self::require(principal, Scope::Admin)?;
        let record = self.node_called(name_or_id).await?;
        if record.state != NodeState::Draining {
            self.store().set_node_state(record.id, NodeState::Cordoned).await?;
        }
        self.record_ask(principal, Some(record.id), format!("cordon {}", record.name));
        self.renewed_status(record.id).await
    }

    /// The machine takes new instances again.
    pub async fn uncordon_node(&self, principal: &Principal, name_or_id: &str) -> Result<NodeStatus, Error> {
        Self::require(principal, Scope::Admin)?;
        let record = self.node_called(name_or_id).await?;
        match record.state {
            NodeState::Draining => {
                let message = format!("{} is being emptied: cancel that first", record.name);
                return Err(Error::conflict("node_draining", message));
            }
            NodeState::Cordoned => self.open_node(record.id).await?,
            NodeState::Ready | NodeState::Silent => {}
        }
        self.record_ask(principal, Some(record.id), format!("uncordon {}", record.name));
        self.renewed_status(record.id).await
    }

    /// An operator has made sure that the silent machine is off, or will never be heard again: everything that is placed on it is
    /// taken from it now, without waiting for its lease and whatever the brake says. Instances that may be replaced wait for a
    /// place, the others end as failed with `node_lost`. Should the machine come back after all, it ends what it has
    /// before it does anything else.
    pub async fn confirm_node_off(&self, principal: &Principal, name_or_id: &str) -> Result<NodeStatus, Error> {
        Self::require(principal, Scope::Admin)?;
        let record = self.node_called(name_or_id).await?;
        self.see_node(&record);
        let silent_for = lock(&self.inner.watch).silent_for(record.id);
        let heard = || {
            let message = format!("{} was heard a moment ago, it is not off: stop it, or drain it", record.name);
            Error::conflict("node_heard", message)
        };
        if silent_for <= self.inner.config.detection {
            return Err(heard());
        }
        self.record_ask(principal, Some(record.id), format!("confirm that {} is off", record.name));
        if record.state == NodeState::Ready {
            self.close_silent_node(record.id).await?;
        }
        match self.lose_node(record.id, record.heartbeats, true).await? {
            Loss::Taken(_) | Loss::Nothing => {}
            Loss::Heard => return Err(heard()),
        }
        self.forsake_node(record.id).await?;
        self.renewed_status(record.id).await
    }

    /// Takes the machine out of the fleet for good: its certificate works no more within seconds. Refused while anything is
    /// placed on it. What has ended on it keeps its name and story; its output is gone with the machine.
    pub async fn remove_node(&self, principal: &Principal, name_or_id: &str) -> Result<(), Error> {
        Self::require(principal, Scope::Admin)?;
        let record = match self.node_called(name_or_id).await {
            Err(Error::NotFound(_)) => {
                // It has used its token and was never heard: there is nothing on it, but it has a name and a range.
                let enrolments = self.store().enrolments().await?;
                let unheard =
                    enrolments.iter().find(|one| one.name == name_or_id || one.node.to_string() == name_or_id);
                let unheard = unheard.ok_or_else(|| unknown(name_or_id))?;
                return self.take_out(principal, unheard.node, &unheard.name).await;
            }
            found => found?,
        };
        if record.used.instances > 0 {
            return Err(not_empty(&record.name, u64::from(record.used.instances)));
        }
        if record.state == NodeState::Ready {
            // Nothing may come while what has ended is taken from it.
            self.store().set_node_state(record.id, NodeState::Cordoned).await?;
        }
        self.forsake_node(record.id).await?;
        self.take_out(principal, record.id, &record.name).await
    }

    async fn take_out(&self, principal: &Principal, node: NodeId, name: &str) -> Result<(), Error> {
        match self.store().remove_node(node, self.now()).await? {
            RemoveOutcome::Removed => {}
            RemoveOutcome::NotEmpty { instances } => return Err(not_empty(name, instances)),
            RemoveOutcome::Unknown => return Err(unknown(name)),
        }
        lock(&self.inner.enrolled).forget(node);
        self.record_ask(principal, Some(node), format!("remove {name}"));
        self.learn_node(node).await
    }

    /// What has ended on the machine has no place any more.
    async fn forsake_node(&self, node: NodeId) -> Result<(), Error> {
        let Some(OnNode { instances, .. }) = self.store().instances_on(node).await? else { return Ok(()) };
        for instance in instances {
            self.change_instance(instance, |instance| {
                let here = instance.node == Some(node);
                Ok(here.then(|| lifecycle::forsake(instance, self.now())).flatten())
            })
            .await?;
        }
        Ok(())
    }

    /// The machine of that name or id.
    pub(super) async fn node_called(&self, name_or_id: &str) -> Result<NodeRecord, Error> {
        let found = match name_or_id.parse::<NodeId>() {
            Ok(id) => self.store().node(id).await?,
            Err(_) => self.store().nodes().await?.into_iter().find(|node| node.name == name_or_id),
        };
        found.ok_or_else(|| unknown(name_or_id))
    }

    pub(super) async fn renewed_status(&self, node: NodeId) -> Result<NodeStatus, Error> {
        self.learn_node(node).await?;
        let record = self.store().node(node).await?.ok_or_else(|| unknown(&node.to_string()))?;
        self.node_status(record).await
    }

    async fn node_status(&self, record: NodeRecord) -> Result<NodeStatus, Error> {
        let silent_for = lock(&self.inner.watch).silent_for(record.id);
        let silent_for = (silent_for > self.inner.config.detection).then_some(silent_for);
        let drain = self.drain_progress(&record, silent_for.is_some()).await?;
        Ok(NodeStatus { record, silent_for, drain })
    }

    /// The machine is not closed any more: it takes new instances, or will when it is heard again.
    pub(super) async fn open_node(&self, node: NodeId) -> Result<(), Error> {
        self.store().set_node_state(node, NodeState::Ready).await?;
        if lock(&self.inner.watch).silent_for(node) > self.inner.config.detection {
            self.close_silent_node(node).await?;
        }
        Ok(())
    }

    /// Nothing is placed on the silent machine, until whoever hears it resolves the doubt and makes it ready by that.
    async fn close_silent_node(&self, node: NodeId) -> Result<(), Error> {
        self.store().set_node_state(node, NodeState::Silent).await?;
        self.store().raise_doubt(node).await?;
        Ok(())
    }
}

fn not_empty(name: &str, count: u64) -> Error {
    let message = format!("{name} still has {count} instances: drain it, or confirm that it is off");
    Error::conflict("node_not_empty", message)
}

fn unknown(name_or_id: &str) -> Error {
    Error::NotFound(format!("the node {name_or_id}"))
}
