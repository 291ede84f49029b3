//! Tenants, projects, keys.

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use wherry_model::{ApiKeyId, ProjectId, ProjectName, TenantId, TenantName, Timestamp};
use wherry_store::{ApiKeyRecord, NameOutcome, ProjectRecord, StoreError, TenantRecord, TenantStore};

use crate::SqliteStore;
use crate::columns::{Blob, Fields};
use crate::error::Context;
use crate::writer::Verdict;

#[async_trait]
impl TenantStore for SqliteStore {
    async fn create_tenant(&self, tenant: &TenantRecord, first: &ProjectRecord) -> Result<NameOutcome, StoreError> {
        let (tenant, first) = (tenant.clone(), first.clone());
        self.writer
            .run("creating a tenant", move |connection| {
                Box::pin(async move {
                    let stored = sqlx::query(
                        "INSERT INTO tenants (id, name, created_at) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING",
                    )
                    .bind(tenant.id.blob())
                    .bind(tenant.name.as_str())
                    .bind(tenant.created_at.as_micros())
                    .execute(&mut *connection)
                    .await
                    .context("creating a tenant")?;
                    if stored.rows_affected() == 0 {
                        return Ok(Verdict::Undo(NameOutcome::NameTaken));
                    }
                    insert_project(connection, &first).await?;
                    Ok(Verdict::Keep(NameOutcome::Created))
                })
            })
            .await
    }

    async fn tenant(&self, id: TenantId) -> Result<Option<TenantRecord>, StoreError> {
        let row = sqlx::query("SELECT id, name, created_at FROM tenants WHERE id = ?")
            .bind(id.blob())
            .fetch_optional(&self.readers)
            .await
            .context("reading a tenant")?;
        row.as_ref().map(tenant).transpose()
    }

    async fn tenant_by_name(&self, name: &TenantName) -> Result<Option<TenantRecord>, StoreError> {
        let row = sqlx::query("SELECT id, name, created_at FROM tenants WHERE name = ?")
            .bind(name.as_str())
            .fetch_optional(&self.readers)
            .await
            .context("reading a tenant")?;
        row.as_ref().map(tenant).transpose()
    }

    async fn tenants(&self, after: Option<&TenantName>, limit: u32) -> Result<Vec<TenantRecord>, StoreError> {
        // No name is empty, so "after the empty one" is all of them.
        let rows = sqlx::query("SELECT id, name, created_at FROM tenants WHERE name > ? ORDER BY name LIMIT ?")
            .bind(after.map_or("", TenantName::as_str))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .context("listing tenants")?;
        rows.iter().map(tenant).collect()
    }

    async fn create_project(&self, project: &ProjectRecord) -> Result<NameOutcome, StoreError> {
        let project = project.clone();
        self.writer
            .run("creating a project", move |connection| {
                Box::pin(async move {
                    Ok(match insert_project(connection, &project).await? {
                        NameOutcome::Created => Verdict::Keep(NameOutcome::Created),
                        NameOutcome::NameTaken => Verdict::Undo(NameOutcome::NameTaken),
                    })
                })
            })
            .await
    }

    async fn project(&self, tenant: TenantId, name: &ProjectName) -> Result<Option<ProjectRecord>, StoreError> {
        let row = sqlx::query("SELECT id, tenant, name, created_at FROM projects WHERE tenant = ? AND name = ?")
            .bind(tenant.blob())
            .bind(name.as_str())
            .fetch_optional(&self.readers)
            .await
            .context("reading a project")?;
        row.as_ref().map(project).transpose()
    }

    async fn projects(&self, tenant: TenantId, limit: u32) -> Result<Vec<ProjectRecord>, StoreError> {
        let rows =
            sqlx::query("SELECT id, tenant, name, created_at FROM projects WHERE tenant = ? ORDER BY name LIMIT ?")
                .bind(tenant.blob())
                .bind(limit)
                .fetch_all(&self.readers)
                .await
                .context("listing projects")?;
        rows.iter().map(project).collect()
    }

    async fn create_key(&self, key: &ApiKeyRecord) -> Result<(), StoreError> {
        let key = key.clone();
        self.writer
            .run("creating a key", move |connection| {
                Box::pin(async move {
                    sqlx::query(
                        "INSERT INTO api_keys (id, tenant, name, secret_hash, scopes, created_at, expires_at, revoked_at)
                         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    )
                    .bind(key.id.blob())
                    .bind(key.tenant.blob())
                    .bind(&key.name)
                    .bind(key.secret_hash.to_vec())
                    .bind(key.scopes.to_string())
                    .bind(key.created_at.as_micros())
                    .bind(key.expires_at.map(Timestamp::as_micros))
                    .bind(key.revoked_at.map(Timestamp::as_micros))
                    .execute(connection)
                    .await
                    .context("creating a key")?;
                    Ok(Verdict::Keep(()))
                })
            })
            .await
    }

    async fn key(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>, StoreError> {
        let row = sqlx::query("SELECT * FROM api_keys WHERE id = ?")
            .bind(id.blob())
            .fetch_optional(&self.readers)
            .await
            .context("reading a key")?;
        row.as_ref().map(key).transpose()
    }

    async fn keys(&self, tenant: TenantId, limit: u32) -> Result<Vec<ApiKeyRecord>, StoreError> {
        let rows = sqlx::query("SELECT * FROM api_keys WHERE tenant = ? ORDER BY created_at DESC, id DESC LIMIT ?")
            .bind(tenant.blob())
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .context("listing keys")?;
        rows.iter().map(key).collect()
    }

    async fn revoke_key(&self, tenant: TenantId, id: ApiKeyId, now: Timestamp) -> Result<bool, StoreError> {
        self.writer
            .run("revoking a key", move |connection| {
                Box::pin(async move {
                    let found = sqlx::query(
                        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, ?) WHERE tenant = ? AND id = ?",
                    )
                    .bind(now.as_micros())
                    .bind(tenant.blob())
                    .bind(id.blob())
                    .execute(connection)
                    .await
                    .context("revoking a key")?;
                    Ok(if found.rows_affected() == 1 { Verdict::Keep(true) } else { Verdict::Undo(false) })
                })
            })
            .await
    }
}

async fn insert_project(connection: &mut SqliteConnection, project: &ProjectRecord) -> Result<NameOutcome, StoreError> {
    let stored = sqlx::query(
        "INSERT INTO projects (tenant, id, name, created_at) VALUES (?, ?, ?, ?)
         ON CONFLICT (tenant, name) DO NOTHING",
    )
    .bind(project.tenant.blob())
    .bind(project.id.blob())
    .bind(project.name.as_str())
    .bind(project.created_at.as_micros())
    .execute(connection)
    .await
    .context("creating a project")?;
    Ok(if stored.rows_affected() == 1 { NameOutcome::Created } else { NameOutcome::NameTaken })
}

fn tenant(row: &SqliteRow) -> Result<TenantRecord, StoreError> {
    let fields = Fields { table: "tenants", row };
    Ok(TenantRecord {
        id: fields.id::<TenantId>("id")?,
        name: fields.parse("name")?,
        created_at: fields.time("created_at")?,
    })
}

fn project(row: &SqliteRow) -> Result<ProjectRecord, StoreError> {
    let fields = Fields { table: "projects", row };
    Ok(ProjectRecord {
        id: fields.id::<ProjectId>("id")?,
        tenant: fields.id("tenant")?,
        name: fields.parse("name")?,
        created_at: fields.time("created_at")?,
    })
}

fn key(row: &SqliteRow) -> Result<ApiKeyRecord, StoreError> {
    let fields = Fields { table: "api_keys", row };
    Ok(ApiKeyRecord {
        id: fields.id("id")?,
        tenant: fields.id("tenant")?,
        name: fields.get("name")?,
        secret_hash: fields.hash("secret_hash")?,
        scopes: fields.parse("scopes")?,
        created_at: fields.time("created_at")?,
        expires_at: fields.time_if_any("expires_at")?,
        revoked_at: fields.time_if_any("revoked_at")?,
    })
}
