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
                "DELETE FROM instances WHERE id IN (
                     SELECT id FROM instances WHERE deleted_at IS NOT NULL AND deleted_at < $1 ORDER BY deleted_at LIMIT $2
                     FOR UPDATE SKIP LOCKED
                 )",
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
