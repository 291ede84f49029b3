//! Tenants, projects, keys.

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgRow};
use wherry_model::{ApiKeyId, ProjectName, TenantId, TenantName, Timestamp};
use wherry_store::{ApiKeyRecord, NameOutcome, ProjectRecord, StoreError, TenantRecord, TenantStore};

use crate::PostgresStore;
use crate::columns::Fields;
use crate::error::Context;
use crate::rows::columns;
use crate::transaction::{Unit, Verdict};

#[async_trait]
impl TenantStore for PostgresStore {
    async fn create_tenant(&self, tenant: &TenantRecord, first: &ProjectRecord) -> Result<NameOutcome, StoreError> {
        self.connections.write("creating a tenant", &CreateTenant { tenant, first }).await
    }

    async fn tenant(&self, id: TenantId) -> Result<Option<TenantRecord>, StoreError> {
        let query = sqlx::query("SELECT id, name, created_at FROM tenants WHERE id = $1").bind(id.as_uuid());
        self.connections.fetch_one("reading a tenant", query).await?.as_ref().map(tenant).transpose()
    }

    async fn tenant_by_name(&self, name: &TenantName) -> Result<Option<TenantRecord>, StoreError> {
        let query = sqlx::query("SELECT id, name, created_at FROM tenants WHERE name = $1").bind(name.as_str());
        self.connections.fetch_one("reading a tenant", query).await?.as_ref().map(tenant).transpose()
    }

    async fn tenants(&self, after: Option<&TenantName>, limit: u32) -> Result<Vec<TenantRecord>, StoreError> {
        // No name is empty, so "after the empty one" is all of them.
        let query = sqlx::query("SELECT id, name, created_at FROM tenants WHERE name > $1 ORDER BY name LIMIT $2")
            .bind(after.map_or("", TenantName::as_str))
            .bind(i64::from(limit));
        self.connections.fetch_all("listing tenants", query).await?.iter().map(tenant).collect()
    }

    async fn create_project(&self, project: &ProjectRecord) -> Result<NameOutcome, StoreError> {
        self.connections.write("creating a project", &CreateProject { project }).await
    }

    async fn project(&self, tenant: TenantId, name: &ProjectName) -> Result<Option<ProjectRecord>, StoreError> {
        let query = sqlx::query("SELECT id, tenant, name, created_at FROM projects WHERE tenant = $1 AND name = $2")
            .bind(tenant.as_uuid())
            .bind(name.as_str());
        self.connections.fetch_one("reading a project", query).await?.as_ref().map(project).transpose()
    }

    async fn projects(&self, tenant: TenantId, limit: u32) -> Result<Vec<ProjectRecord>, StoreError> {
        let query =
            sqlx::query("SELECT id, tenant, name, created_at FROM projects WHERE tenant = $1 ORDER BY name LIMIT $2")
                .bind(tenant.as_uuid())
                .bind(i64::from(limit));
        self.connections.fetch_all("listing projects", query).await?.iter().map(project).collect()
    }

    async fn create_key(&self, key: &ApiKeyRecord) -> Result<(), StoreError> {
        self.connections.write("creating a key", &CreateKey { key }).await
    }

    async fn key(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>, StoreError> {
        let query =
            sqlx::query(concat!("SELECT ", columns!(api_keys), " FROM api_keys WHERE id = $1")).bind(id.as_uuid());
        self.connections.fetch_one("reading a key", query).await?.as_ref().map(key).transpose()
    }

    async fn keys(&self, tenant: TenantId, limit: u32) -> Result<Vec<ApiKeyRecord>, StoreError> {
        let query = sqlx::query(concat!(
            "SELECT ",
            columns!(api_keys),
            " FROM api_keys WHERE tenant = $1 ORDER BY created_at DESC, id DESC LIMIT $2"
        ))
        .bind(tenant.as_uuid())
        .bind(i64::from(limit));
        self.connections.fetch_all("listing keys", query).await?.iter().map(key).collect()
    }

    async fn revoke_key(&self, tenant: TenantId, id: ApiKeyId, now: Timestamp) -> Result<bool, StoreError> {
        self.connections.write("revoking a key", &RevokeKey { tenant, id, now }).await
    }
}

struct CreateTenant<'a> {
    tenant: &'a TenantRecord,
    first: &'a ProjectRecord,
}

#[async_trait]
impl Unit for CreateTenant<'_> {
    type Answer = NameOutcome;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<NameOutcome>, StoreError> {
        let stored =
            sqlx::query("INSERT INTO tenants (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING")
                .bind(self.tenant.id.as_uuid())
                .bind(self.tenant.name.as_str())
                .bind(self.tenant.created_at.as_micros())
                .execute(&mut *connection)
                .await
                .context("creating a tenant")?;
        if stored.rows_affected() == 0 {
            return Ok(Verdict::Undo(NameOutcome::NameTaken));
        }
        insert_project(connection, self.first).await?;
        Ok(Verdict::Keep(NameOutcome::Created))
    }

    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<NameOutcome>, StoreError> {
        let found = sqlx::query("SELECT 1 FROM tenants WHERE id = $1")
            .bind(self.tenant.id.as_uuid())
            .fetch_optional(connection)
            .await
            .context("creating a tenant")?;
        Ok(found.map(|_| NameOutcome::Created))
    }
}

struct CreateProject<'a> {
    project: &'a ProjectRecord,
}

#[async_trait]
impl Unit for CreateProject<'_> {
    type Answer = NameOutcome;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<NameOutcome>, StoreError> {
        Ok(match insert_project(connection, self.project).await? {
            NameOutcome::Created => Verdict::Keep(NameOutcome::Created),
            NameOutcome::NameTaken => Verdict::Undo(NameOutcome::NameTaken),
        })
    }

    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<NameOutcome>, StoreError> {
        let found = sqlx::query("SELECT 1 FROM projects WHERE tenant = $1 AND id = $2")
            .bind(self.project.tenant.as_uuid())
            .bind(self.project.id.as_uuid())
            .fetch_optional(connection)
            .await
            .context("creating a project")?;
        Ok(found.map(|_| NameOutcome::Created))
    }
}

async fn insert_project(connection: &mut PgConnection, project: &ProjectRecord) -> Result<NameOutcome, StoreError> {
    let stored = sqlx::query(
        "INSERT INTO projects (tenant, id, name, created_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant, name) DO NOTHING",
    )
    .bind(project.tenant.as_uuid())
    .bind(project.id.as_uuid())
    .bind(project.name.as_str())
    .bind(project.created_at.as_micros())
    .execute(connection)
    .await
    .context("creating a project")?;
    Ok(if stored.rows_affected() == 1 { NameOutcome::Created } else { NameOutcome::NameTaken })
}

struct CreateKey<'a> {
    key: &'a ApiKeyRecord,
}

#[async_trait]
impl Unit for CreateKey<'_> {
    type Answer = ();

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<()>, StoreError> {
        let key = self.key;
        sqlx::query(
            "INSERT INTO api_keys (id, tenant, name, secret_hash, scopes, created_at, expires_at, revoked_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(key.id.as_uuid())
        .bind(key.tenant.as_uuid())
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
    }

    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<()>, StoreError> {
        let found = sqlx::query("SELECT 1 FROM api_keys WHERE id = $1")
            .bind(self.key.id.as_uuid())
            .fetch_optional(connection)
            .await
            .context("creating a key")?;
        Ok(found.map(drop))
    }
}

struct RevokeKey {
    tenant: TenantId,
    id: ApiKeyId,
    now: Timestamp,
}

#[async_trait]
impl Unit for RevokeKey {
    type Answer = bool;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<bool>, StoreError> {
        let found =
            sqlx::query("UPDATE api_keys SET revoked_at = coalesce(revoked_at, $1) WHERE tenant = $2 AND id = $3")
                .bind(self.now.as_micros())
                .bind(self.tenant.as_uuid())
                .bind(self.id.as_uuid())
                .execute(connection)
                .await
                .context("revoking a key")?;
        Ok(if found.rows_affected() == 1 { Verdict::Keep(true) } else { Verdict::Undo(false) })
    }
}

fn tenant(row: &PgRow) -> Result<TenantRecord, StoreError> {
    let fields = Fields { table: "tenants", row };
    Ok(TenantRecord { id: fields.id("id")?, name: fields.parse("name")?, created_at: fields.time("created_at")? })
}

fn project(row: &PgRow) -> Result<ProjectRecord, StoreError> {
    let fields = Fields { table: "projects", row };
    Ok(ProjectRecord {
        id: fields.id("id")?,
        tenant: fields.id("tenant")?,
        name: fields.parse("name")?,
        created_at: fields.time("created_at")?,
    })
}

fn key(row: &PgRow) -> Result<ApiKeyRecord, StoreError> {
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
