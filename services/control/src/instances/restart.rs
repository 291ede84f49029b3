//! Restarts of one container or of all, where they are.

use wherry_model::lifecycle::{self, Refusal};
use wherry_model::{ContainerName, Instance, Principal, ProjectName, Scope};

use super::life::refused;
use crate::effects::Written;
use crate::{Control, Error, InstanceView};

/// Lost races that a restart survives before it is given up.
const MAX_ATTEMPTS: u32 = 16;

impl Control {
    /// Ends the containers of an instance and starts them again, those of the beginning first; address, name and place stay.
    /// One that has ended is started. With `pull` the registry is asked what the image references mean now.
    pub async fn restart_instance(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
        pull: bool,
    ) -> Result<InstanceView, Error> {
        Self::require(principal, Scope::InstancesWrite)?;
        let instance = self.instance_of(principal, project, name_or_id).await?;
        match self.restarted(principal, instance, None, pull).await? {
            Ok(after) => self.view(after).await,
            // A start waits for a stop that is under way, and finds a place.
            Err((Refusal::Ended | Refusal::StillStopping, instance)) => {
                if pull {
                    self.change_instance(instance, |instance| Ok(lifecycle::forget_images(instance, self.now())))
                        .await?;
                }
                self.start_instance(principal, project, name_or_id).await
            }
            Err((refusal, instance)) => Err(refused(refusal, &instance)),
        }
    }

    /// The same for one container; the others run on.
    pub async fn restart_container(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
        container: &ContainerName,
        pull: bool,
    ) -> Result<InstanceView, Error> {
        Self::require(principal, Scope::InstancesWrite)?;
        let instance = self.instance_of(principal, project, name_or_id).await?;
        if instance.container(container).is_none() {
            return Err(Error::NotFound(format!("the container {container}")));
        }
        match self.restarted(principal, instance, Some(container), pull).await? {
            Ok(after) => self.view(after).await,
            Err((refusal, instance)) => Err(refused(refusal, &instance)),
        }
    }

    async fn restarted(
        &self,
        principal: &Principal,
        mut instance: Instance,
        container: Option<&ContainerName>,
        pull: bool,
    ) -> Result<Result<Instance, (Refusal, Instance)>, Error> {
        let actor = principal.subject.to_string();
        for _ in 0..MAX_ATTEMPTS {
            let change = match lifecycle::restart(&instance, container, pull, &actor, self.now()) {
                Ok(Some(change)) => change,
                Ok(None) => return Ok(Ok(instance)),
                Err(refusal) => return Ok(Err((refusal, instance))),
            };
            self.refuse_while_mixed("restarts")?;
            self.require_able_node(&instance, &change.after).await?;
            match self.write(change, None).await? {
                Written::Yes(after) => return Ok(Ok(*after)),
                Written::LostRace => instance = self.reread(instance.id).await?,
                Written::NodeRefused => return Err(Error::internal("a node refused a restart, which takes nothing")),
            }
        }
        Err(Error::unavailable("the instance is being changed by many at once"))
    }
}
