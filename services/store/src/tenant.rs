//! Tenants, their projects and their keys.

use async_trait::async_trait;
use wherry_model::{ApiKeyId, ProjectId, ProjectName, ScopeSet, TenantId, TenantName, Timestamp};

use crate::error::StoreError;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRecord {
    /// Its id.
    pub id: TenantId,
    /// Its name, unique in the service.
    pub name: TenantName,
    /// Since when it exists.
    pub created_at: Timestamp,
}

/// A project of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectRecord {
    /// Its id.
    pub id: ProjectId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name, unique in the tenant.
    pub name: ProjectName,
    /// Since when it exists.
    pub created_at: Timestamp,
}

/// An API key. The secret itself is never stored: it has 256 random bits, so a plain SHA-256 of it is enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRecord {
    /// Its public part.
    pub id: ApiKeyId,
    /// For whom it acts.
    pub tenant: TenantId,
    /// What its owner calls it.
    pub name: String,
    /// SHA-256 of the secret.
    pub secret_hash: [u8; 32],
    /// What it may do.
    pub scopes: ScopeSet,
    /// Since when it exists.
    pub created_at: Timestamp,
    /// When it stops working, if ever.
    pub expires_at: Option<Timestamp>,
    /// Since when it does not work any more.
    pub revoked_at: Option<Timestamp>,
}

/// What became of an insert whose name must be unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameOutcome {
    /// It is stored.
    Created,
    /// The name is in use.
    NameTaken,
}

/// Tenants, projects, keys.
#[async_trait]
pub trait TenantStore: Send + Sync {
    /// Stores a tenant with its first project, both or neither.
    async fn create_tenant(&self, tenant: &TenantRecord, first: &ProjectRecord) -> Result<NameOutcome, StoreError>;

    /// One tenant.
    async fn tenant(&self, id: TenantId) -> Result<Option<TenantRecord>, StoreError>;

    /// The tenant of that name.
    async fn tenant_by_name(&self, name: &TenantName) -> Result<Option<TenantRecord>, StoreError>;

    /// Tenants in the order of their names, beginning after `after`, at most `limit`.
    async fn tenants(&self, after: Option<&TenantName>, limit: u32) -> Result<Vec<TenantRecord>, StoreError>;

    /// Stores a project.
    async fn create_project(&self, project: &ProjectRecord) -> Result<NameOutcome, StoreError>;

    /// One project of the tenant.
    async fn project(&self, tenant: TenantId, name: &ProjectName) -> Result<Option<ProjectRecord>, StoreError>;

    /// The tenant's projects in the order of their names, at most `limit`.
    async fn projects(&self, tenant: TenantId, limit: u32) -> Result<Vec<ProjectRecord>, StoreError>;

    /// Stores a key.
    async fn create_key(&self, key: &ApiKeyRecord) -> Result<(), StoreError>;

    /// The key of that id, of whichever tenant: this is how a caller is recognised.
    async fn key(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>, StoreError>;

    /// The tenant's keys, newest first, at most `limit`.
    async fn keys(&self, tenant: TenantId, limit: u32) -> Result<Vec<ApiKeyRecord>, StoreError>;

    /// Ends a key of the tenant. False when the tenant has no such key; true again when it was ended before.
    async fn revoke_key(&self, tenant: TenantId, id: ApiKeyId, now: Timestamp) -> Result<bool, StoreError>;
}
