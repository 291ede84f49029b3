//! Processes that answer for the control plane.

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use wherry_model::{ReplicaId, Timestamp};
use wherry_store::{ReplicaRecord, ReplicaStore, StoreError};

use crate::SqliteStore;
use crate::columns::{Blob, Fields};
use crate::error::Context;
use crate::writer::Verdict;

#[async_trait]
impl ReplicaStore for SqliteStore {
    async fn note_replica(&self, replica: &ReplicaRecord, forget_before: Timestamp) -> Result<(), StoreError> {
        let replica = replica.clone();
        self.writer
            .run_quietly("noting a replica", move |connection| Box::pin(note(connection, replica, forget_before)))
            .await
    }

    async fn forget_replica(&self, id: ReplicaId) -> Result<(), StoreError> {
        self.writer.run("forgetting a replica", move |connection| Box::pin(forget(connection, id))).await
    }

    async fn replicas(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        let rows = sqlx::query("SELECT id, agents_url, seen_at, coalesce(form, 0) AS form FROM replicas LEFT JOIN replica_forms ON replica = id ORDER BY id")
            .fetch_all(&self.readers)
            .await
            .context("listing replicas")?;
        rows.iter().map(record).collect()
    }
}

async fn note(
    connection: &mut SqliteConnection,
    replica: ReplicaRecord,
    forget_before: Timestamp,
) -> Result<Verdict<()>, StoreError> {
    const CONTEXT: &str = "noting a replica";
    sqlx::query("DELETE FROM replicas WHERE seen_at < ?")
        .bind(forget_before.as_micros())
        .execute(&mut *connection)
        .await
        .context(CONTEXT)?;
    sqlx::query(
        "INSERT INTO replicas (id, agents_url, seen_at) VALUES (?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET agents_url = excluded.agents_url, seen_at = excluded.seen_at",
    )
    .bind(replica.id.blob())
    .bind(replica.agents_url)
    .bind(replica.seen_at.as_micros())
    .execute(&mut *connection)
    .await
    .context(CONTEXT)?;
    sqlx::query("INSERT INTO replica_forms (replica, form) VALUES (?, ?) ON CONFLICT (replica) DO UPDATE SET form = excluded.form")
        .bind(replica.id.blob())
        .bind(i64::from(replica.form))
        .execute(connection)
        .await
        .context(CONTEXT)?;
    Ok(Verdict::Keep(()))
}

async fn forget(connection: &mut SqliteConnection, id: ReplicaId) -> Result<Verdict<()>, StoreError> {
    let gone = sqlx::query("DELETE FROM replicas WHERE id = ?")
        .bind(id.blob())
        .execute(connection)
        .await
        .context("forgetting a replica")?;
    Ok(if gone.rows_affected() > 0 { Verdict::Keep(()) } else { Verdict::Undo(()) })
}

fn record(row: &SqliteRow) -> Result<ReplicaRecord, StoreError> {
    let fields = Fields { table: "replicas", row };
    Ok(ReplicaRecord {
        id: fields.id("id")?,
        agents_url: fields.get("agents_url")?,
        seen_at: fields.time("seen_at")?,
        form: fields.count("form")?,
    })
}
