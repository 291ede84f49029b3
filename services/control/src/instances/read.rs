//! Reading instances.

use std::collections::BTreeMap;

use wherry_model::{InstanceState, Principal, ProjectName, Scope, SpecError};
use wherry_store::ListQuery;

use crate::{Control, Error, InstanceView, cursor};

/// The most instances of one page.
const MAX_PAGE: u32 = 200;

/// Which instances are wanted.
#[derive(Debug, Clone)]
pub struct ListInstances {
    /// Of which project.
    pub project: ProjectName,
    /// In one of these states; any live one when empty.
    pub states: Vec<InstanceState>,
    /// With all of these labels.
    pub labels: BTreeMap<String, String>,
    /// After the page that gave this cursor.
    pub cursor: Option<String>,
    /// At most this many, 1 to 200.
    pub limit: u32,
}

/// A page of instances.
#[derive(Debug, Clone)]
pub struct InstancePage {
    /// Newest first.
    pub views: Vec<InstanceView>,
    /// Where the next page begins, when there is one.
    pub next: Option<String>,
}

impl Control {
    /// One instance by name or id.
    pub async fn get_instance(
        &self,
        principal: &Principal,
        project: &ProjectName,
        name_or_id: &str,
    ) -> Result<InstanceView, Error> {
        Self::require(principal, Scope::InstancesRead)?;
        let instance = self.instance_of(principal, project, name_or_id).await?;
        self.view(instance).await
    }

    /// A page of instances.
    pub async fn list_instances(&self, principal: &Principal, request: ListInstances) -> Result<InstancePage, Error> {
        Self::require(principal, Scope::InstancesRead)?;
        if !(1..=MAX_PAGE).contains(&request.limit) {
            return Err(SpecError::new("limit", format!("give 1 to {MAX_PAGE}")).into());
        }
        let project = self.project_of(principal, &request.project).await?;
        let after = request.cursor.as_deref().map(cursor::decode).transpose()?;
        let query = ListQuery {
            tenant: principal.tenant,
            project: project.id,
            states: request.states,
            labels: request.labels,
            after,
            limit: request.limit,
        };
        let page = self.store().instances(&query).await?;
        let views = self.views(page.instances).await?;
        Ok(InstancePage { views, next: page.next.map(cursor::encode) })
    }
}
