//! Create or change by name: asking twice for the same gives the same.

use wherry_model::{
    Generation, InstanceName, InstanceSpec, InstanceState, Principal, ProjectId, ProjectName, Scope, SpecError,
};

use super::create::{check_key, fingerprint};
use super::update::require_version;
use crate::{Control, CreateInstance, Error, InstanceView};

/// What a put gives.
#[derive(Debug, Clone)]
pub struct Put {
    /// The instance.
    pub view: InstanceView,
    /// Whether it is new.
    pub created: bool,
}

impl Control {
    /// Makes sure that the instance `name` exists with this spec. One with another spec is given this one in place.
    pub async fn put_instance(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name: InstanceName,
        spec: InstanceSpec,
        if_match: Option<Generation>,
        idempotency_key: Option<String>,
    ) -> Result<Put, Error> {
        Self::require(principal, Scope::InstancesWrite)?;
        self.check_spec(&spec)?;
        let folder = self.project_of(principal, project).await?;
        if let Some(key) = &idempotency_key {
            check_key(key)?;
            if let Some(record) = self.store().idempotency(principal.tenant, key).await? {
                if record.fingerprint != fingerprint(&folder, Some(&name), &spec)? {
                    return Err(Error::IdempotencyMismatch);
                }
                // It was carried out: what somebody changed since then is not taken back by a repetition.
                let instance = self.store().instance_by_name(principal.tenant, folder.id, &name).await?;
                if let Some(instance) = instance.filter(|instance| instance.id == record.instance) {
                    require_version(&instance, if_match)?;
                    return Ok(Put { view: self.view(instance).await?, created: false });
                }
            }
        }
        if let Some(put) = self.existing(principal, folder.id, &name, &spec, if_match).await? {
            return Ok(put);
        }
        if if_match.is_some() {
            return Err(Error::NotFound(format!("the instance {name}")));
        }
        let request =
            CreateInstance { project: project.clone(), name: Some(name.clone()), spec: spec.clone(), idempotency_key };
        match self.create_instance(principal, request).await {
            Ok(created) if created.view.instance.state == InstanceState::Deleted => {
                let message = "the instance that this key made is deleted: use a new key to make another";
                Err(SpecError::new("Idempotency-Key", message).into())
            }
            Ok(created) => Ok(Put { view: created.view, created: !created.replayed }),
            // Somebody put it a moment ago.
            Err(taken @ Error::NameTaken(_)) => {
                self.existing(principal, folder.id, &name, &spec, None).await?.ok_or(taken)
            }
            Err(error) => Err(error),
        }
    }

    /// What a put finds when the name is in use.
    async fn existing(
        &self,
        principal: &Principal,
        project: ProjectId,
        name: &InstanceName,
        spec: &InstanceSpec,
        if_match: Option<Generation>,
    ) -> Result<Option<Put>, Error> {
        let Some(instance) = self.store().instance_by_name(principal.tenant, project, name).await? else {
            return Ok(None);
        };
        let instance = self.change_spec(principal, instance, if_match, |_| Ok::<_, Error>(spec.clone())).await?;
        Ok(Some(Put { view: self.view(instance).await?, created: false }))
    }
}
