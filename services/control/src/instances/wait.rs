//! Waiting until an instance is in a state.

use std::time::Duration;

use wherry_model::{InstanceState, Principal, ProjectName, Scope};

use crate::{Control, Error, InstanceView};

/// How a wait ended.
#[derive(Debug, Clone)]
pub struct Waited {
    /// The instance at the end of the wait.
    pub view: InstanceView,
    /// Whether it is in one of the wanted states.
    pub reached: bool,
}

impl Control {
    /// Returns when the instance is in one of `states`, when it can no longer get there by itself, or at the timeout.
    pub async fn wait_instance(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
        states: &[InstanceState],
        timeout: Duration,
    ) -> Result<Waited, Error> {
        Self::require(principal, Scope::InstancesRead)?;
        let mut instance = self.instance_of(principal, project, name_or_id).await?;
        let deadline = tokio::time::Instant::now() + timeout;
        loop {
            let seen = self.store().position();
            instance = self.reread(instance.id).await?;
            let reached = states.contains(&instance.state);
            // What is deleted by itself after its time gets there without being asked to.
            let gone = [InstanceState::Deleting, InstanceState::Deleted];
            let leaves = instance.expires_at.is_some() && states.iter().any(|state| gone.contains(state));
            let over = instance.state.is_settled() && !instance.holds_resources && !leaves;
            if reached || over || tokio::time::timeout_at(deadline, self.store().changed(seen)).await.is_err() {
                return Ok(Waited { view: self.view(instance).await?, reached });
            }
        }
    }
}
