//! Forgetting what is past its retention. Labels, events and idempotency records go with their instance; intervals stay.

use sqlx::sqlite::SqliteConnection;
use wherry_model::Timestamp;
use wherry_store::StoreError;

use crate::error::Context;
use crate::writer::Verdict;

pub(super) async fn purge(
    connection: &mut SqliteConnection,
    before: Timestamp,
    limit: u32,
) -> Result<Verdict<u64>, StoreError> {
    let keys = sqlx::query(
        "DELETE FROM idempotency WHERE (tenant, key) IN
             (SELECT tenant, key FROM idempotency WHERE created_at < ? ORDER BY created_at LIMIT ?)",
    )
    .bind(before.as_micros())
    .bind(limit)
    .execute(&mut *connection)
    .await
    .context("forgetting idempotency records")?;
    sqlx::query(
        "INSERT INTO events_forgotten (tenant, project, seq)
         SELECT tenant, project, max(seq) FROM events WHERE instance IN
             (SELECT id FROM instances WHERE deleted_at IS NOT NULL AND deleted_at < ? ORDER BY deleted_at LIMIT ?)
         GROUP BY tenant, project
         ON CONFLICT (tenant, project) DO UPDATE SET seq = max(seq, excluded.seq)",
    )
    .bind(before.as_micros())
    .bind(limit)
    .execute(&mut *connection)
    .await
    .context("noting which events are forgotten")?;
    let instances = sqlx::query(
        "DELETE FROM instances WHERE id IN
             (SELECT id FROM instances WHERE deleted_at IS NOT NULL AND deleted_at < ? ORDER BY deleted_at LIMIT ?)",
    )
    .bind(before.as_micros())
    .bind(limit)
    .execute(connection)
    .await
    .context("forgetting deleted instances")?;
    let gone = keys.rows_affected() + instances.rows_affected();
    Ok(if gone > 0 { Verdict::Keep(gone) } else { Verdict::Undo(0) })
}
