//! Down: what a node must keep.

use tokio::time::{Duration, Instant};
use wherry_agent_api::{ControlError, Desired, DesiredInstance};
use wherry_model::{Instance, NodeId, NodeRecord};
use wherry_store::OnNode;

use super::NEWS_WAIT;
use crate::{Control, Error};

/// An agent that finds news the moment it asks is one whose instances come or go quickly: what comes within this is told together,
/// because it is told all of its instances each time.
const GATHER: Duration = Duration::from_millis(25);

impl Control {
    pub(super) async fn desired_of(&self, node: NodeId, have: Option<u64>) -> Result<Option<Desired>, ControlError> {
        let deadline = Instant::now() + NEWS_WAIT;
        let mut bell = self.inner.bells.listen(node);
        let mut gathers = have.is_some() && !self.inner.bells.few();
        loop {
            let seen = self.store().position();
            bell.borrow_and_update();
            let record = self.row(node, seen).await?.ok_or(ControlError::UnknownNode)?;
            let news = have.is_none_or(|have| record.desired_revision > have);
            if news && std::mem::take(&mut gathers) {
                tokio::time::sleep(GATHER).await;
                continue;
            }
            gathers = false;
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
            if tokio::time::timeout_at(deadline, self.news_of(&mut bell, seen)).await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Returns when there may be news of the node of that bell.
    pub(super) async fn news_of(&self, bell: &mut tokio::sync::watch::Receiver<u64>, seen: u64) {
        if self.inner.bells.few() {
            tokio::select! {
                biased;
                rung = bell.changed() => drop(rung),
                _ = self.store().changed(seen) => {}
            }
        } else if bell.changed().await.is_err() {
            // The node is gone: whoever looks for it finds that out.
            tokio::time::sleep(GATHER).await;
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
