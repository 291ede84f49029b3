//! Projects and keys, as their tenant manages them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use wherry_model::{
    ApiKeyId, Principal, ProjectId, ProjectName, Scope, ScopeSet, SpecError, TenantId, TenantName, Timestamp,
};
use wherry_store::{ApiKeyRecord, NameOutcome, ProjectRecord, TenantRecord};

use crate::auth::hash_secret;
use crate::{Control, Error};

/// Projects and keys that one list shows; a tenant cannot have more.
const MAX_LISTED: u32 = 1_000;

/// The longest name of a key, in bytes.
const MAX_KEY_NAME_BYTES: usize = 100;

/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;

/// A key to be made.
#[derive(Debug, Clone)]
pub struct TenantKeyRequest {
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    pub scopes: ScopeSet,
    /// When it stops working, if ever.
    pub expires_at: Option<Timestamp>,
}

/// A key that was made. This is the only time that its secret is known.
#[derive(Clone)]
pub struct NewKey {
    /// What is stored of it.
    pub record: ApiKeyRecord,
    /// The secret.
    pub secret: String,
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKey").field("id", &self.record.id).finish_non_exhaustive()
    }
}

impl Control {
    /// Makes a project.
    pub async fn create_project(&self, principal: &Principal, name: ProjectName) -> Result<ProjectRecord, Error> {
        Self::require(principal, Scope::InstancesWrite)?;
        refuse_full(self.store().projects(principal.tenant, MAX_LISTED).await?.len(), "projects")?;
        let project = self.new_project(principal.tenant, name);
        match self.store().create_project(&project).await? {
            NameOutcome::Created => Ok(project),
            NameOutcome::NameTaken => Err(Error::NameTaken(project.name.to_string())),
        }
    }

    /// The caller's projects, by name.
    pub async fn projects(&self, principal: &Principal) -> Result<Vec<ProjectRecord>, Error> {
        Self::require(principal, Scope::InstancesRead)?;
        Ok(self.store().projects(principal.tenant, MAX_LISTED).await?)
    }

    /// Makes a key for the caller's tenant; it can do no more than the caller.
    pub async fn create_key(&self, principal: &Principal, request: TenantKeyRequest) -> Result<NewKey, Error> {
        Self::require(principal, Scope::KeysWrite)?;
        if let Some(missing) = request.scopes.iter().find(|scope| !principal.scopes.contains(*scope)) {
            return Err(Error::InsufficientScope(missing));
        }
        self.issue_key(principal.tenant, request).await
    }

    /// The keys of the caller's tenant, newest first.
    pub async fn keys(&self, principal: &Principal) -> Result<Vec<ApiKeyRecord>, Error> {
        Self::require(principal, Scope::KeysWrite)?;
        Ok(self.store().keys(principal.tenant, MAX_LISTED).await?)
    }

    /// Ends a key of the caller's tenant.
    pub async fn revoke_key(&self, principal: &Principal, id: ApiKeyId) -> Result<(), Error> {
        Self::require(principal, Scope::KeysWrite)?;
        let known = self.store().revoke_key(principal.tenant, id, self.now()).await?;
        self.forget_key(id);
        if known { Ok(()) } else { Err(Error::NotFound(format!("the key {id}"))) }
    }

    /// The tenant that a new installation starts with, made unless it is there.
    pub async fn ensure_tenant(&self, name: TenantName) -> Result<TenantRecord, Error> {
        if let Some(tenant) = self.store().tenant_by_name(&name).await? {
            return Ok(tenant);
        }
        self.store_tenant(name).await
    }

    /// Makes a key without asking who wants it: for the operator on the machine itself.
    pub async fn issue_key(&self, tenant: TenantId, request: TenantKeyRequest) -> Result<NewKey, Error> {
        if request.name.is_empty()
            || request.name.len() > MAX_KEY_NAME_BYTES
            || request.name.chars().any(char::is_control)
        {
            return Err(SpecError::new("name", "a key's name has 1 to 100 bytes and no control characters").into());
        }
        if request.scopes.is_empty() {
            return Err(SpecError::new("scopes", "a key needs at least one scope").into());
        }
        let now = self.now();
        if request.expires_at.is_some_and(|at| at <= now) {
            return Err(SpecError::new("expires_at", "it is in the past").into());
        }
        let works = |key: &&ApiKeyRecord| key.revoked_at.is_none() && key.expires_at.is_none_or(|at| at > now);
        refuse_full(self.store().keys(tenant, MAX_LISTED).await?.iter().filter(works).count(), "keys")?;
        let mut random = [0_u8; SECRET_BYTES];
        self.inner.entropy.fill(&mut random);
        let secret = format!("wsk_{}", URL_SAFE_NO_PAD.encode(random));
        let record = ApiKeyRecord {
            id: ApiKeyId::generate(self.inner.clock.as_ref(), self.inner.entropy.as_ref()),
            tenant,
            name: request.name,
            secret_hash: hash_secret(&secret),
            scopes: request.scopes,
            created_at: now,
            expires_at: request.expires_at,
            revoked_at: None,
        };
        self.store().create_key(&record).await?;
        Ok(NewKey { record, secret })
    }

    pub(crate) async fn store_tenant(&self, name: TenantName) -> Result<TenantRecord, Error> {
        let tenant = TenantRecord {
            id: TenantId::generate(self.inner.clock.as_ref(), self.inner.entropy.as_ref()),
            name,
            created_at: self.now(),
        };
        let first = self.new_project(tenant.id, ProjectName::default_project());
        match self.store().create_tenant(&tenant, &first).await? {
            NameOutcome::Created => Ok(tenant),
            NameOutcome::NameTaken => Err(Error::NameTaken(tenant.name.to_string())),
        }
    }

    fn new_project(&self, tenant: TenantId, name: ProjectName) -> ProjectRecord {
        ProjectRecord {
            id: ProjectId::generate(self.inner.clock.as_ref(), self.inner.entropy.as_ref()),
            tenant,
            name,
            created_at: self.now(),
        }
    }
}

/// Refuses one more of what has a bound.
fn refuse_full(count: usize, what: &str) -> Result<(), Error> {
    if u32::try_from(count).is_ok_and(|count| count < MAX_LISTED) {
        return Ok(());
    }
    Err(SpecError::new("name", format!("there are {MAX_LISTED} {what} already, which is the most")).into())
}
