//! Forgetting what is past its retention. Labels, events and idempotency records go with their instance; intervals stay.

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use wherry_model::Timestamp;
use wherry_store::StoreError;

use crate::error::Context;
use crate::transaction::{Unit, Verdict};

/// Two that forget at once each take what the other one has not.
pub(super) struct Purge {
    pub(super) before: Timestamp,
    pub(super) limit: u32,
}

#[async_trait]
impl Unit for Purge {
    type Answer = u64;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<u64>, StoreError> {
        let mut gone = 0;
        for (statement, context) in [
            (
                "DELETE FROM idempotency WHERE (tenant, key) IN (
                     SELECT tenant, key FROM idempotency WHERE created_at < $1 ORDER BY created_at LIMIT $2
                     FOR UPDATE SKIP LOCKED
                 )",
                "forgetting idempotency records",
            ),
            (
                // In order of their projects: two that forget at once wait for each other in turn.
                "WITH gone AS MATERIALIZED (
                     SELECT id FROM instances WHERE deleted_at IS NOT NULL AND deleted_at < $1 ORDER BY deleted_at LIMIT $2
                     FOR UPDATE SKIP LOCKED
                 ), noted AS (
                     INSERT INTO events_forgotten (tenant, project, seq)
                     SELECT tenant, project, max(seq) FROM events WHERE instance IN (SELECT id FROM gone)
                     GROUP BY tenant, project ORDER BY tenant, project
                     ON CONFLICT (tenant, project) DO UPDATE SET seq = greatest(events_forgotten.seq, excluded.seq)
                 )
                 DELETE FROM instances WHERE id IN (SELECT id FROM gone)",
                "forgetting deleted instances",
            ),
        ] {
            let rows = sqlx::query(statement)
                .bind(self.before.as_micros())
                .bind(i64::from(self.limit))
                .execute(&mut *connection)
                .await
                .context(context)?;
            gone += rows.rows_affected();
        }
        Ok(if gone > 0 { Verdict::Keep(gone) } else { Verdict::Undo(0) })
    }
}
