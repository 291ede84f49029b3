//! Tenants, projects, keys.

use std::cmp::Reverse;
use std::ops::Bound;

use async_trait::async_trait;
use wherry_model::{ApiKeyId, ProjectId, ProjectName, TenantId, TenantName, Timestamp};
use wherry_store::{ApiKeyRecord, NameOutcome, ProjectRecord, StoreError, TenantRecord, TenantStore};

use crate::MemoryStore;
use crate::database::Verdict;
use crate::state::{State, violation};

#[async_trait]
impl TenantStore for MemoryStore {
    async fn create_tenant(&self, tenant: &TenantRecord, first: &ProjectRecord) -> Result<NameOutcome, StoreError> {
        self.write("creating a tenant", |state| {
            if state.tenants.values().any(|known| known.name == tenant.name) {
                return Ok(Verdict::Undo(NameOutcome::NameTaken));
            }
            if state.tenants.has(&tenant.id) {
                return Err(violation(format!("tenant {} is there", tenant.id)));
            }
            state.tenants.put(tenant.id, tenant.clone());
            insert_project(state, first)?;
            Ok(Verdict::Keep(NameOutcome::Created))
        })
        .await
    }

    async fn tenant(&self, id: TenantId) -> Result<Option<TenantRecord>, StoreError> {
        self.read("reading a tenant", |state| state.tenants.get(&id).cloned()).await
    }

    async fn tenant_by_name(&self, name: &TenantName) -> Result<Option<TenantRecord>, StoreError> {
        self.read("reading a tenant", |state| state.tenants.values().find(|tenant| tenant.name == *name).cloned()).await
    }

    async fn tenants(&self, after: Option<&TenantName>, limit: u32) -> Result<Vec<TenantRecord>, StoreError> {
        self.read("listing tenants", |state| {
            let after = after.map_or("", TenantName::as_str);
            let mut all: Vec<_> =
                state.tenants.values().filter(|tenant| tenant.name.as_str() > after).cloned().collect();
            all.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
            all.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            all
        })
        .await
    }

    async fn create_project(&self, project: &ProjectRecord) -> Result<NameOutcome, StoreError> {
        self.write("creating a project", |state| {
            Ok(match insert_project(state, project)? {
                NameOutcome::Created => Verdict::Keep(NameOutcome::Created),
                NameOutcome::NameTaken => Verdict::Undo(NameOutcome::NameTaken),
            })
        })
        .await
    }

    async fn project(&self, tenant: TenantId, name: &ProjectName) -> Result<Option<ProjectRecord>, StoreError> {
        self.read("reading a project", |state| of_tenant(state, tenant).find(|project| project.name == *name).cloned())
            .await
    }

    async fn projects(&self, tenant: TenantId, limit: u32) -> Result<Vec<ProjectRecord>, StoreError> {
        self.read("listing projects", |state| {
            let mut all: Vec<_> = of_tenant(state, tenant).cloned().collect();
            all.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
            all.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            all
        })
        .await
    }

    async fn create_key(&self, key: &ApiKeyRecord) -> Result<(), StoreError> {
        self.write("creating a key", |state| {
            if state.keys.has(&key.id) || !state.tenants.has(&key.tenant) {
                return Err(violation(format!("key {} is there, or its tenant is not", key.id)));
            }
            state.keys.put(key.id, key.clone());
            Ok(Verdict::Keep(()))
        })
        .await
    }

    async fn key(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>, StoreError> {
        self.read("reading a key", |state| state.keys.get(&id).cloned()).await
    }

    async fn keys(&self, tenant: TenantId, limit: u32) -> Result<Vec<ApiKeyRecord>, StoreError> {
        self.read("listing keys", |state| {
            let mut all: Vec<_> = state.keys.values().filter(|key| key.tenant == tenant).cloned().collect();
            all.sort_by_key(|key| Reverse((key.created_at, key.id)));
            all.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            all
        })
        .await
    }

    async fn revoke_key(&self, tenant: TenantId, id: ApiKeyId, now: Timestamp) -> Result<bool, StoreError> {
        self.write("revoking a key", |state| {
            if state.keys.get(&id).is_none_or(|key| key.tenant != tenant) {
                return Ok(Verdict::Undo(false));
            }
            state.keys.change(&id, |key| {
                key.revoked_at.get_or_insert(now);
            });
            Ok(Verdict::Keep(true))
        })
        .await
    }
}

fn of_tenant(state: &State, tenant: TenantId) -> impl Iterator<Item = &ProjectRecord> {
    let first = (tenant, ProjectId::from_uuid(uuid::Uuid::nil()));
    let own = state.projects.range((Bound::Included(first), Bound::Unbounded));
    own.take_while(move |((owner, _), _)| *owner == tenant).map(|(_, project)| project)
}

fn insert_project(state: &mut State, project: &ProjectRecord) -> Result<NameOutcome, StoreError> {
    if of_tenant(state, project.tenant).any(|known| known.name == project.name) {
        return Ok(NameOutcome::NameTaken);
    }
    let key = (project.tenant, project.id);
    if state.projects.has(&key) || !state.tenants.has(&project.tenant) {
        return Err(violation(format!("project {} is there, or its tenant is not", project.id)));
    }
    state.projects.put(key, project.clone());
    Ok(NameOutcome::Created)
}
