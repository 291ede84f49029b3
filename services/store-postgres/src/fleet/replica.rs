//! Processes that answer for the control plane.

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgRow};
use wherry_model::{ReplicaId, Timestamp};
use wherry_store::{ReplicaRecord, ReplicaStore, StoreError};

use crate::PostgresStore;
use crate::columns::Fields;
use crate::error::Context;
use crate::rows::columns;
use crate::transaction::{Unit, Verdict};

#[async_trait]
impl ReplicaStore for PostgresStore {
    async fn note_replica(&self, replica: &ReplicaRecord, forget_before: Timestamp) -> Result<(), StoreError> {
        self.connections.write("noting a replica", &Note { replica, forget_before }).await
    }

    async fn forget_replica(&self, id: ReplicaId) -> Result<(), StoreError> {
        self.connections.write("forgetting a replica", &Forget { id }).await
    }

    async fn replicas(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        let query = sqlx::query(concat!(
            "SELECT ",
            columns!(replicas),
            ", coalesce(form, 0) AS form FROM replicas LEFT JOIN replica_forms ON replica = id ORDER BY id"
        ));
        self.connections.fetch_all("listing replicas", query).await?.iter().map(record).collect()
    }
}

struct Note<'a> {
    replica: &'a ReplicaRecord,
    forget_before: Timestamp,
}

#[async_trait]
impl Unit for Note<'_> {
    type Answer = ();

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<()>, StoreError> {
        const CONTEXT: &str = "noting a replica";
        // Two that forget at once each take what the other one has not.
        sqlx::query(
            "DELETE FROM replicas WHERE id IN (
                 SELECT id FROM replicas WHERE seen_at < $1 AND id <> $2 FOR UPDATE SKIP LOCKED
             )",
        )
        .bind(self.forget_before.as_micros())
        .bind(self.replica.id.as_uuid())
        .execute(&mut *connection)
        .await
        .context(CONTEXT)?;
        sqlx::query(
            "INSERT INTO replicas (id, agents_url, seen_at) VALUES ($1, $2, $3)
             ON CONFLICT (id) DO UPDATE SET agents_url = excluded.agents_url, seen_at = excluded.seen_at",
        )
        .bind(self.replica.id.as_uuid())
        .bind(&self.replica.agents_url)
        .bind(self.replica.seen_at.as_micros())
        .execute(&mut *connection)
        .await
        .context(CONTEXT)?;
        sqlx::query(
            "INSERT INTO replica_forms AS known (replica, form) VALUES ($1, $2)
             ON CONFLICT (replica) DO UPDATE SET form = excluded.form WHERE known.form <> excluded.form",
        )
        .bind(self.replica.id.as_uuid())
        .bind(i64::from(self.replica.form))
        .execute(connection)
        .await
        .context(CONTEXT)?;
        Ok(Verdict::Keep(()))
    }

    fn is_news(&self) -> bool {
        false
    }
}

struct Forget {
    id: ReplicaId,
}

#[async_trait]
impl Unit for Forget {
    type Answer = ();

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<()>, StoreError> {
        let gone = sqlx::query("DELETE FROM replicas WHERE id = $1")
            .bind(self.id.as_uuid())
            .execute(connection)
            .await
            .context("forgetting a replica")?;
        Ok(if gone.rows_affected() > 0 { Verdict::Keep(()) } else { Verdict::Undo(()) })
    }
}

fn record(row: &PgRow) -> Result<ReplicaRecord, StoreError> {
    let fields = Fields { table: "replicas", row };
    Ok(ReplicaRecord {
        id: fields.id("id")?,
        agents_url: fields.get("agents_url")?,
        seen_at: fields.time("seen_at")?,
        form: fields.count("form")?,
    })
}
