//! Create by name: asking twice for the same gives the same.

use wherry_model::{Generation, InstanceName, InstanceSpec, Principal, ProjectName, Scope};

use super::create::{check_key, fingerprint};
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
    /// Makes sure that the instance `name` exists with this spec. One with another spec is left as it is.
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
        spec.check()?;
        let folder = self.project_of(principal, project).await?;
        if let Some(key) = &idempotency_key {
            check_key(key)?;
            if let Some(record) = self.store().idempotency(principal.tenant, key).await?
                && record.fingerprint != fingerprint(&folder, Some(&name), &spec)?
            {
                return Err(Error::IdempotencyMismatch);
            }
        }
        let existing = self.store().instance_by_name(principal.tenant, folder.id, &name).await?;
        match (existing, if_match) {
            (Some(instance), Some(wanted)) if instance.generation != wanted => {
                Err(Error::GenerationMismatch(instance.generation.0))
            }
            (Some(instance), _) if instance.spec == spec => {
                Ok(Put { view: self.view(instance).await?, created: false })
            }
            (Some(_), _) => Err(Error::SpecDiffers(name.to_string())),
            (None, Some(_)) => Err(Error::NotFound(format!("the instance {name}"))),
            (None, None) => {
                let request = CreateInstance { project: project.clone(), name: Some(name), spec, idempotency_key };
                let created = self.create_instance(principal, request).await?;
                Ok(Put { view: created.view, created: !created.replayed })
            }
        }
    }
}
