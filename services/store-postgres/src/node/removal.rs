//! Taking a node out of the fleet. Its row stays for the intervals that name it.

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use wherry_model::{NodeId, Timestamp};
use wherry_store::{RemoveOutcome, StoreError};

use crate::error::{Context, violation};
use crate::transaction::{Unit, Verdict};

pub(super) struct Remove {
    pub(super) id: NodeId,
    pub(super) now: Timestamp,
}

#[async_trait]
impl Unit for Remove {
    type Answer = RemoveOutcome;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<RemoveOutcome>, StoreError> {
        const CONTEXT: &str = "removing a node";
        // Locked first: a create that has its place already is seen by the count, and no other gets one meanwhile.
        sqlx::query("SELECT id FROM nodes WHERE id = $1 FOR NO KEY UPDATE")
            .bind(self.id.as_uuid())
            .execute(&mut *connection)
            .await
            .context(CONTEXT)?;
        let placed: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM instances
             WHERE node = $1 AND deleted_at IS NULL
               AND (holds_resources OR state NOT IN ('stopped', 'succeeded', 'failed'))",
        )
        .bind(self.id.as_uuid())
        .fetch_one(&mut *connection)
        .await
        .context(CONTEXT)?;
        if placed > 0 {
            let instances = u64::try_from(placed).map_err(|_| violation("a count is negative"))?;
            return Ok(Verdict::Undo(RemoveOutcome::NotEmpty { instances }));
        }
        let mut ended = 0;
        for statement in [
            "UPDATE nodes SET removed_at = $2 WHERE id = $1 AND removed_at IS NULL",
            "UPDATE enrolments SET removed_at = $2 WHERE node = $1 AND removed_at IS NULL",
        ] {
            let rows = sqlx::query(statement)
                .bind(self.id.as_uuid())
                .bind(self.now.as_micros())
                .execute(&mut *connection)
                .await
                .context(CONTEXT)?;
            ended += rows.rows_affected();
        }
        Ok(if ended > 0 { Verdict::Keep(RemoveOutcome::Removed) } else { Verdict::Undo(RemoveOutcome::Unknown) })
    }

    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<RemoveOutcome>, StoreError> {
        let removed: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM nodes WHERE id = $1 AND removed_at = $2)
                 OR EXISTS (SELECT 1 FROM enrolments WHERE node = $1 AND removed_at = $2)",
        )
        .bind(self.id.as_uuid())
        .bind(self.now.as_micros())
        .fetch_one(connection)
        .await
        .context("removing a node")?;
        Ok(removed.then_some(RemoveOutcome::Removed))
    }
}
