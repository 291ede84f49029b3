//! Who may do what, and whose things are whose. Every tenant-facing use case begins here.

use wherry_model::{InstanceId, InstanceName, Principal, ProjectName, Scope};
use wherry_store::ProjectRecord;

use crate::{Control, Error};

impl Control {
    /// Refuses a caller without `scope`.
    pub(crate) fn require(principal: &Principal, scope: Scope) -> Result<(), Error> {
        if principal.scopes.contains(scope) { Ok(()) } else { Err(Error::InsufficientScope(scope)) }
    }

    /// The caller's project of that name.
    pub(crate) async fn project_of(&self, principal: &Principal, name: &ProjectName) -> Result<ProjectRecord, Error> {
        let found = self.store().project(principal.tenant, name).await?;
        found.ok_or_else(|| Error::NotFound(format!("the project {name}")))
    }

    /// The caller's instance of that name, or of that id: an id finds deleted instances too, until they are forgotten.
    pub(crate) async fn instance_of(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
    ) -> Result<wherry_model::Instance, Error> {
        let not_found = || Error::NotFound(format!("the instance {name_or_id}"));
        let project = self.project_of(principal, project).await?;
        if let Ok(name) = InstanceName::new(name_or_id)
            && let Some(found) = self.store().instance_by_name(principal.tenant, project.id, &name).await?
        {
            return Ok(found);
        }
        let id: InstanceId = name_or_id.parse().map_err(|_| not_found())?;
        let found = self.store().instance(principal.tenant, id).await?;
        found.filter(|instance| instance.project == project.id).ok_or_else(not_found)
    }
}
