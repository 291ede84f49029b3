//! Leases of background work, on the clock of the database server: replicas need not agree on the time.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use wherry_model::{ReplicaId, Timestamp};
use wherry_store::{LeaseStore, StoreError};

use crate::PostgresStore;
use crate::error::{Context, violation};
use crate::transaction::{Unit, Verdict};

#[async_trait]
impl LeaseStore for PostgresStore {
    async fn hold_lease(
        &self,
        name: &str,
        holder: ReplicaId,
        _now: Timestamp,
        time: Duration,
    ) -> Result<bool, StoreError> {
        let micros = i64::try_from(time.as_micros()).ok().filter(|micros| *micros < i64::MAX / 2);
        let micros = micros.ok_or_else(|| violation("a lease is taken for longer than time lasts"))?;
        self.connections.write("taking a lease", &Hold { name, holder, micros }).await
    }

    async fn release_leases(&self, holder: ReplicaId) -> Result<(), StoreError> {
        self.connections.write("giving up leases", &Release { holder }).await
    }
}

struct Hold<'a> {
    name: &'a str,
    holder: ReplicaId,
    micros: i64,
}

#[async_trait]
impl Unit for Hold<'_> {
    type Answer = bool;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<bool>, StoreError> {
        let held = sqlx::query(
            "INSERT INTO leases AS lease (name, holder, expires_at)
             VALUES ($1, $2, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $3)
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
             WHERE lease.holder = excluded.holder
                OR lease.expires_at <= (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
        )
        .bind(self.name)
        .bind(self.holder.as_uuid())
        .bind(self.micros)
        .execute(connection)
        .await
        .context("taking a lease")?;
        Ok(if held.rows_affected() == 1 { Verdict::Keep(true) } else { Verdict::Undo(false) })
    }

    fn is_news(&self) -> bool {
        false
    }
}

struct Release {
    holder: ReplicaId,
}

#[async_trait]
impl Unit for Release {
    type Answer = ();

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<()>, StoreError> {
        let released = sqlx::query("DELETE FROM leases WHERE holder = $1")
            .bind(self.holder.as_uuid())
            .execute(connection)
            .await
            .context("giving up leases")?;
        Ok(if released.rows_affected() > 0 { Verdict::Keep(()) } else { Verdict::Undo(()) })
    }
}
