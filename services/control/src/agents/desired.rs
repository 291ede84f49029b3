//! Down: what a node must keep.

use tokio::time::Instant;
use wherry_agent_api::{ControlError, Desired, DesiredInstance};
use wherry_model::{Instance, NodeId, NodeRecord};
use wherry_store::OnNode;

use super::NEWS_WAIT;
use crate::{Control, Error};

impl Control {
    pub(super) async fn desired_of(&self, node: NodeId, have: Option<u64>) -> Result<Option<Desired>, ControlError> {
        let deadline = Instant::now() + NEWS_WAIT;
        loop {
            let seen = self.store().position();
            let rows = self.rows(seen).await?;
            let record = rows.get(&node).ok_or(ControlError::UnknownNode)?;
            if have.is_none_or(|have| record.desired_revision > have) {
                // The epoch is read before the instances: together with an older epoch an agent may get fewer of them,
                // never more.
                let epoch = record.epoch;
                let found = self.store().instances_on(node).await.map_err(Error::from)?;
                let OnNode { revision, instances, unreadable } = found.ok_or(ControlError::UnknownNode)?;
                if !unreadable.is_empty() && record.protocol < NodeRecord::PROTOCOL_OF_REVISIONS {
                    // It would end them.
                    return Err(Error::internal("an instance of a node whose agent is old cannot be read").into());
                }
                let instances = instances.iter().map(|instance| self.desired_instance(instance)).collect();
                return Ok(Some(Desired { revision, epoch, instances, kept: unreadable }));
            }
            if tokio::time::timeout_at(deadline, self.store().changed(seen)).await.is_err() {
                return Ok(None);
            }
        }
    }

    fn desired_instance(&self, instance: &Instance) -> DesiredInstance {
        let config = &self.inner.config;
        let search_domain = config.project_domain(instance.tenant, instance.project);
        let mut desired = DesiredInstance::of(instance, search_domain, config.fence_after_seconds);
        desired.more.secrets = self.opened_secrets(instance);
        desired
    }
}
