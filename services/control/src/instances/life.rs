//! Stop, start, delete.

use wherry_model::lifecycle::{self, Ask, Refusal};
use wherry_model::{Instance, InstanceState, Leaving, Principal, ProjectName, Scope};

use crate::effects::Written;
use crate::{Control, Error, InstanceView};

/// Proposals and lost races that a start survives before it is given up.
const MAX_STARTS: u32 = 8;

impl Control {
    /// Asks for a stop. Returns at once; the instance is `stopping` until its node has ended it.
    pub async fn stop_instance(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
    ) -> Result<InstanceView, Error> {
        self.ask(principal, project, name_or_id, Ask::Stop).await
    }

    /// Asks for the end of the instance. Asking again for one that is on its way out is right; the name is free once
    /// the instance is gone.
    pub async fn delete_instance(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
    ) -> Result<InstanceView, Error> {
        self.ask(principal, project, name_or_id, Ask::Delete).await
    }

    async fn ask(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
        ask: Ask,
    ) -> Result<InstanceView, Error> {
        Self::require(principal, Scope::InstancesWrite)?;
        let instance = self.instance_of(principal, project, name_or_id).await?;
        let actor = principal.subject.to_string();
        let after = self
            .change_instance(instance, |instance| {
                lifecycle::intend(instance, ask, &actor, self.now()).map_err(|refusal| refused(refusal, instance))
            })
            .await?;
        self.view(after).await
    }

    /// Runs a stopped or ended instance again, wherever there is room now; name, DNS name and logs stay.
    /// A stop that is under way is waited for, by a few callers of a tenant at a time: see `start_waits`.
    pub async fn start_instance(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
    ) -> Result<InstanceView, Error> {
        Self::require(principal, Scope::InstancesWrite)?;
        let mut instance = self.instance_of(principal, project, name_or_id).await?;
        let actor = principal.subject.to_string();
        let deadline = tokio::time::Instant::now() + self.inner.config.settle_wait;
        for _ in 0..MAX_STARTS {
            instance = self.until_startable(instance, deadline).await?;
            let reservation = match instance.state {
                state if state.is_settled() => self.placed(instance.id, &instance.demand(), &instance.terms()).await?,
                _ => return self.view(instance).await,
            };
            let ask = Ask::Start(reservation.node());
            let change =
                lifecycle::intend(&instance, ask, &actor, self.now()).map_err(|refusal| refused(refusal, &instance))?;
            let Some(change) = change else { return self.view(instance).await };
            let node = reservation.node();
            match self.write(change, Some(reservation)).await? {
                Written::Yes(after) => return self.view(*after).await,
                Written::LostRace => instance = self.reread(instance.id).await?,
                Written::NodeRefused => self.row_refused(node).await?,
            }
        }
        Err(Error::CapacityUnavailable("the machines that had room were taken while this was decided".to_owned()))
    }

    /// Waits while an end is still under way on the node.
    async fn until_startable(&self, mut instance: Instance, deadline: tokio::time::Instant) -> Result<Instance, Error> {
        let mut wait = None;
        loop {
            match instance.state {
                InstanceState::Deleting | InstanceState::Deleted => return Err(refused(Refusal::Gone, &instance)),
                // It is on its way to another place by itself.
                InstanceState::Stopping if instance.leaving == Some(Leaving::Move) => return Ok(instance),
                state if state != InstanceState::Stopping && !(state.is_settled() && instance.holds_resources) => {
                    return Ok(instance);
                }
                _ => {}
            }
            let seen = self.store().position();
            instance = self.reread(instance.id).await?;
            let still = instance.state == InstanceState::Stopping || instance.holds_resources;
            if still && wait.is_none() {
                wait = Some(self.start_wait(instance.tenant).ok_or(Error::Busy(instance.state))?);
            }
            if still && tokio::time::timeout_at(deadline, self.store().changed(seen)).await.is_err() {
                return Err(Error::Busy(instance.state));
            }
        }
    }
}

pub(super) fn refused(refusal: Refusal, instance: &Instance) -> Error {
    match refusal {
        Refusal::Gone => Error::NotFound(format!("the instance {}", instance.name)),
        Refusal::StillStopping => Error::Busy(instance.state),
        Refusal::Ended => {
            let message = format!("the instance is {}: start it, which starts all of its containers", instance.state);
            Error::conflict("instance_ended", message)
        }
        Refusal::Beginning => Error::conflict(
            "container_of_the_beginning",
            "this container runs at the beginning of the instance only: restart the instance",
        ),
        Refusal::Silent => Error::conflict(
            "machine_silent",
            "the machine of the instance is silent, nobody knows what runs of it: try again when it is heard of",
        ),
    }
}
