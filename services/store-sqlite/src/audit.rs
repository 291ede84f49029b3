//! Who entered an instance.

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Sqlite};
use wherry_model::{AuditId, Timestamp};
use wherry_store::{AuditEnd, AuditQuery, AuditRecord, AuditStore, StoreError};

use crate::SqliteStore;
use crate::columns::{Blob, Fields, json};
use crate::error::Context;
use crate::writer::Verdict;

#[async_trait]
impl AuditStore for SqliteStore {
    async fn begin_audit(&self, record: &AuditRecord) -> Result<(), StoreError> {
        let record = record.clone();
        self.writer.run_quietly("storing an audit entry", move |connection| Box::pin(begin(connection, record))).await
    }

    async fn end_audit(&self, id: AuditId, end: &AuditEnd) -> Result<bool, StoreError> {
        let end = json(end)?;
        self.writer.run_quietly("ending an audit entry", move |connection| Box::pin(finish(connection, id, end))).await
    }

    async fn audits(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, StoreError> {
        let mut statement: QueryBuilder<Sqlite> = QueryBuilder::new("SELECT id, record, ended FROM audits WHERE true");
        if let Some((tenant, project)) = query.of {
            statement.push(" AND tenant = ").push_bind(tenant.blob());
            statement.push(" AND project = ").push_bind(project.blob());
        }
        if let Some(instance) = query.instance {
            statement.push(" AND instance = ").push_bind(instance.blob());
        }
        if let Some(before) = query.before {
            statement.push(" AND id < ").push_bind(before.blob());
        }
        statement.push(" ORDER BY id DESC LIMIT ").push_bind(query.limit);
        let rows = statement.build().fetch_all(&self.readers).await.context("reading audit entries")?;
        rows.iter().map(stored).collect()
    }

    async fn purge_audits(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.writer
            .run_quietly("forgetting audit entries", move |connection| Box::pin(purge(connection, before, limit)))
            .await
    }
}

async fn begin(connection: &mut SqliteConnection, record: AuditRecord) -> Result<Verdict<()>, StoreError> {
    sqlx::query("INSERT INTO audits (id, tenant, project, instance, begun_at, record) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(record.id.blob())
        .bind(record.tenant.blob())
        .bind(record.project.blob())
        .bind(record.instance.blob())
        .bind(record.begun_at.as_micros())
        .bind(json(&record)?)
        .execute(connection)
        .await
        .context("storing an audit entry")?;
    Ok(Verdict::Keep(()))
}

async fn finish(connection: &mut SqliteConnection, id: AuditId, end: String) -> Result<Verdict<bool>, StoreError> {
    let done = sqlx::query("UPDATE audits SET ended = ? WHERE id = ? AND ended IS NULL")
        .bind(end)
        .bind(id.blob())
        .execute(connection)
        .await
        .context("ending an audit entry")?;
    Ok(if done.rows_affected() > 0 { Verdict::Keep(true) } else { Verdict::Undo(false) })
}

async fn purge(connection: &mut SqliteConnection, before: Timestamp, limit: u32) -> Result<Verdict<u64>, StoreError> {
    let gone = sqlx::query(
        "DELETE FROM audits WHERE id IN (SELECT id FROM audits WHERE begun_at < ? ORDER BY begun_at, id LIMIT ?)",
    )
    .bind(before.as_micros())
    .bind(limit)
    .execute(connection)
    .await
    .context("forgetting audit entries")?
    .rows_affected();
    Ok(if gone > 0 { Verdict::Keep(gone) } else { Verdict::Undo(0) })
}

fn stored(row: &SqliteRow) -> Result<AuditRecord, StoreError> {
    let fields = Fields { table: "audits", row };
    let end = match fields.get::<Option<&str>>("ended")? {
        Some(_) => Some(fields.json("ended")?),
        None => None,
    };
    Ok(AuditRecord { end, ..fields.json("record")? })
}
