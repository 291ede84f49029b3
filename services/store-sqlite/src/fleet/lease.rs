//! Leases of background work.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnection;
use wherry_model::{ReplicaId, Timestamp};
use wherry_store::{LeaseStore, StoreError};

use crate::SqliteStore;
use crate::columns::Blob;
use crate::error::{Context, violation};
use crate::writer::Verdict;

#[async_trait]
impl LeaseStore for SqliteStore {
    async fn hold_lease(
        &self,
        name: &str,
        holder: ReplicaId,
        now: Timestamp,
        time: Duration,
    ) -> Result<bool, StoreError> {
        let name = name.to_owned();
        let until = i64::try_from(time.as_micros()).ok().and_then(|time| now.as_micros().checked_add(time));
        let until = until.ok_or_else(|| violation("a lease is taken for longer than time lasts"))?;
        self.writer
            .run_quietly("taking a lease", move |connection| Box::pin(hold(connection, name, holder, now, until)))
            .await
    }

    async fn release_leases(&self, holder: ReplicaId) -> Result<(), StoreError> {
        self.writer.run("giving up leases", move |connection| Box::pin(release(connection, holder))).await
    }
}

async fn hold(
    connection: &mut SqliteConnection,
    name: String,
    holder: ReplicaId,
    now: Timestamp,
    until: i64,
) -> Result<Verdict<bool>, StoreError> {
    let held = sqlx::query(
        "INSERT INTO leases (name, holder, expires_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
         WHERE holder = excluded.holder OR expires_at <= ?4",
    )
    .bind(name)
    .bind(holder.blob())
    .bind(until)
    .bind(now.as_micros())
    .execute(connection)
    .await
    .context("taking a lease")?;
    Ok(if held.rows_affected() == 1 { Verdict::Keep(true) } else { Verdict::Undo(false) })
}

async fn release(connection: &mut SqliteConnection, holder: ReplicaId) -> Result<Verdict<()>, StoreError> {
    let released = sqlx::query("DELETE FROM leases WHERE holder = ?")
        .bind(holder.blob())
        .execute(connection)
        .await
        .context("giving up leases")?;
    Ok(if released.rows_affected() > 0 { Verdict::Keep(()) } else { Verdict::Undo(()) })
}
