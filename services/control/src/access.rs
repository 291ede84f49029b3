//! Who may do what, and whose things are whose. Every tenant-facing use case begins here.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use wherry_model::{InstanceId, InstanceName, Principal, ProjectName, Scope, TenantId};
use wherry_store::ProjectRecord;

use crate::{Control, Error, lock};

/// Projects that are remembered.
const MAX_KNOWN: usize = 10_000;

/// How long a project that was found is believed to be there: the delay of a removal that this replica is not told of.
const PROJECT_TTL: Duration = Duration::from_secs(3);

/// Projects that were found. That there is none is not remembered.
#[derive(Default)]
pub(crate) struct KnownProjects(BTreeMap<(TenantId, ProjectName), (Instant, ProjectRecord)>);

impl Control {
    /// Refuses a caller without `scope`.
    pub(crate) fn require(principal: &Principal, scope: Scope) -> Result<(), Error> {
        if principal.scopes.contains(scope) { Ok(()) } else { Err(Error::InsufficientScope(scope)) }
    }

    /// The caller's project of that name.
    pub(crate) async fn project_of(&self, principal: &Principal, name: &ProjectName) -> Result<ProjectRecord, Error> {
        let key = (principal.tenant, name.clone());
        if let Some((at, known)) = lock(&self.inner.projects).0.get(&key)
            && at.elapsed() < PROJECT_TTL
        {
            return Ok(known.clone());
        }
        let asked = Instant::now();
        let found = self.store().project(principal.tenant, name).await?;
        let found = found.ok_or_else(|| Error::NotFound(format!("the project {name}")))?;
        let mut known = lock(&self.inner.projects);
        if known.0.len() >= MAX_KNOWN {
            known.0.clear();
        }
        known.0.insert(key, (asked, found.clone()));
        Ok(found)
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
