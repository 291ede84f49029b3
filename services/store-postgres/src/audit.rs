//! Who entered an instance.

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgRow};
use wherry_model::{AuditId, Timestamp};
use wherry_store::{AuditEnd, AuditQuery, AuditRecord, AuditStore, StoreError};

use crate::PostgresStore;
use crate::columns::{Fields, json};
use crate::error::Context;
use crate::transaction::{Unit, Verdict};

#[async_trait]
impl AuditStore for PostgresStore {
    async fn begin_audit(&self, record: &AuditRecord) -> Result<(), StoreError> {
        self.connections.write("storing an audit entry", &Begin { record }).await
    }

    async fn end_audit(&self, id: AuditId, end: &AuditEnd) -> Result<bool, StoreError> {
        self.connections.write("ending an audit entry", &Finish { id, end }).await
    }

    async fn audits(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, StoreError> {
        let (tenant, project) = query.of.unzip();
        let statement = match (tenant, project) {
            (Some(tenant), Some(project)) => sqlx::query(
                "SELECT id, record, ended FROM audits
                 WHERE ($1 IS NULL OR id < $1) AND ($2 IS NULL OR instance = $2) AND tenant = $4 AND project = $5
                 ORDER BY id DESC LIMIT $3",
            )
            .bind(query.before.map(|id| id.as_uuid()))
            .bind(query.instance.map(|id| id.as_uuid()))
            .bind(i64::from(query.limit))
            .bind(tenant.as_uuid())
            .bind(project.as_uuid()),
            _ => sqlx::query(
                "SELECT id, record, ended FROM audits WHERE ($1 IS NULL OR id < $1) AND ($2 IS NULL OR instance = $2)
                 ORDER BY id DESC LIMIT $3",
            )
            .bind(query.before.map(|id| id.as_uuid()))
            .bind(query.instance.map(|id| id.as_uuid()))
            .bind(i64::from(query.limit)),
        };
        self.connections.fetch_all("reading audit entries", statement).await?.iter().map(stored).collect()
    }

    async fn purge_audits(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.connections.write("forgetting audit entries", &Purge { before, limit }).await
    }
}

struct Begin<'a> {
    record: &'a AuditRecord,
}

#[async_trait]
impl Unit for Begin<'_> {
    type Answer = ();

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<()>, StoreError> {
        sqlx::query(
            "INSERT INTO audits (id, tenant, project, instance, begun_at, record) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(self.record.id.as_uuid())
        .bind(self.record.tenant.as_uuid())
        .bind(self.record.project.as_uuid())
        .bind(self.record.instance.as_uuid())
        .bind(self.record.begun_at.as_micros())
        .bind(json(self.record)?)
        .execute(connection)
        .await
        .context("storing an audit entry")?;
        Ok(Verdict::Keep(()))
    }

    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<()>, StoreError> {
        let found = sqlx::query("SELECT 1 FROM audits WHERE id = $1")
            .bind(self.record.id.as_uuid())
            .fetch_optional(connection)
            .await
            .context("storing an audit entry")?;
        Ok(found.map(drop))
    }

    fn is_news(&self) -> bool {
        false
    }
}

struct Finish<'a> {
    id: AuditId,
    end: &'a AuditEnd,
}

#[async_trait]
impl Unit for Finish<'_> {
    type Answer = bool;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<bool>, StoreError> {
        let done = sqlx::query("UPDATE audits SET ended = $2 WHERE id = $1 AND ended IS NULL")
            .bind(self.id.as_uuid())
            .bind(json(self.end)?)
            .execute(connection)
            .await
            .context("ending an audit entry")?;
        Ok(if done.rows_affected() > 0 { Verdict::Keep(true) } else { Verdict::Undo(false) })
    }

    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<bool>, StoreError> {
        let found = sqlx::query("SELECT 1 FROM audits WHERE id = $1 AND ended = $2")
            .bind(self.id.as_uuid())
            .bind(json(self.end)?)
            .fetch_optional(connection)
            .await
            .context("ending an audit entry")?;
        Ok(found.map(|_| true))
    }

    fn is_news(&self) -> bool {
        false
    }
}

/// Two that forget at once each take what the other one has not.
struct Purge {
    before: Timestamp,
    limit: u32,
}

#[async_trait]
impl Unit for Purge {
    type Answer = u64;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<u64>, StoreError> {
        let gone = sqlx::query(
            "DELETE FROM audits WHERE id IN (
                 SELECT id FROM audits WHERE begun_at < $1 ORDER BY begun_at, id LIMIT $2 FOR UPDATE SKIP LOCKED
             )",
        )
        .bind(self.before.as_micros())
        .bind(i64::from(self.limit))
        .execute(connection)
        .await
        .context("forgetting audit entries")?
        .rows_affected();
        Ok(if gone > 0 { Verdict::Keep(gone) } else { Verdict::Undo(0) })
    }

    fn is_news(&self) -> bool {
        false
    }
}

fn stored(row: &PgRow) -> Result<AuditRecord, StoreError> {
    let fields = Fields { table: "audits", row };
    let end = match fields.get::<Option<&str>>("ended")? {
        Some(_) => Some(fields.json("ended")?),
        None => None,
    };
    Ok(AuditRecord { end, ..fields.json("record")? })
}
