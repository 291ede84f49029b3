//! Projects, keys and tenants.

use wherry_api_types as wire;
use wherry_control::{ApiKeyRecord, NewKey, ProjectRecord, TenantKeyRequest, TenantRecord};
use wherry_model as model;

use crate::error::ApiError;

/// A project.
pub(crate) fn project(record: ProjectRecord) -> wire::Project {
    let ProjectRecord { id, name, created_at, tenant: _ } = record;
    wire::Project { id: id.to_string(), name: name.to_string(), created_at: created_at.to_string() }
}

/// A tenant.
pub(crate) fn tenant(record: TenantRecord) -> wire::Tenant {
    let TenantRecord { id, name, created_at } = record;
    wire::Tenant { id: id.to_string(), name: name.to_string(), created_at: created_at.to_string() }
}

/// A key, without its hash.
pub(crate) fn key(record: ApiKeyRecord) -> wire::Key {
    let ApiKeyRecord { id, name, scopes, created_at, expires_at, revoked_at, tenant: _, secret_hash: _ } = record;
    wire::Key {
        id: id.to_string(),
        name,
        scopes: wire_scopes(&scopes),
        created_at: created_at.to_string(),
        expires_at: expires_at.map(|at| at.to_string()),
        revoked_at: revoked_at.map(|at| at.to_string()),
    }
}

/// A key with its secret, the only time that it is shown.
pub(crate) fn new_key(made: NewKey) -> wire::KeyCreated {
    wire::KeyCreated { key: key(made.record), secret: made.secret }
}

/// A key that is asked for.
pub(crate) fn key_request(body: wire::KeyCreate) -> Result<TenantKeyRequest, ApiError> {
    let expires_at = body.expires_at.map(|text| super::time("expires_at", &text)).transpose()?;
    Ok(TenantKeyRequest { name: body.name, scopes: scope_set(&body.scopes), expires_at })
}

/// Scopes as the model has them.
pub(crate) fn scope_set(scopes: &[wire::Scope]) -> model::ScopeSet {
    let scope = |scope: &wire::Scope| match scope {
        wire::Scope::InstancesRead => model::Scope::InstancesRead,
        wire::Scope::InstancesWrite => model::Scope::InstancesWrite,
        wire::Scope::InstancesExec => model::Scope::Exec,
        wire::Scope::LogsRead => model::Scope::LogsRead,
        wire::Scope::UsageRead => model::Scope::UsageRead,
        wire::Scope::KeysWrite => model::Scope::KeysWrite,
        wire::Scope::Admin => model::Scope::Admin,
    };
    scopes.iter().map(scope).collect()
}

/// Scopes as the wire has them.
pub(crate) fn wire_scopes(scopes: &model::ScopeSet) -> Vec<wire::Scope> {
    let scope = |scope| match scope {
        model::Scope::InstancesRead => wire::Scope::InstancesRead,
        model::Scope::InstancesWrite => wire::Scope::InstancesWrite,
        model::Scope::Exec => wire::Scope::InstancesExec,
        model::Scope::LogsRead => wire::Scope::LogsRead,
        model::Scope::UsageRead => wire::Scope::UsageRead,
        model::Scope::KeysWrite => wire::Scope::KeysWrite,
        model::Scope::Admin => wire::Scope::Admin,
    };
    scopes.iter().map(scope).collect()
}

pub(super) const fn isolation(class: model::Isolation) -> wire::Isolation {
    match class {
        model::Isolation::Shared => wire::Isolation::Shared,
        model::Isolation::Sandboxed => wire::Isolation::Sandboxed,
        model::Isolation::VirtualMachine => wire::Isolation::VirtualMachine,
    }
}

pub(super) const fn architecture(architecture: model::Architecture) -> wire::Architecture {
    match architecture {
        model::Architecture::Amd64 => wire::Architecture::Amd64,
        model::Architecture::Arm64 => wire::Architecture::Arm64,
    }
}
