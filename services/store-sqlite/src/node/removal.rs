//! Taking a node out of the fleet. Its row stays for the intervals that name it.

use sqlx::sqlite::SqliteConnection;
use wherry_model::{NodeId, Timestamp};
use wherry_store::{RemoveOutcome, StoreError};

use crate::columns::Blob;
use crate::error::{Context, violation};
use crate::writer::Verdict;

pub(super) async fn remove(
    connection: &mut SqliteConnection,
    id: NodeId,
    now: Timestamp,
) -> Result<Verdict<RemoveOutcome>, StoreError> {
    const CONTEXT: &str = "removing a node";
    let placed: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM instances
         WHERE node = ? AND deleted_at IS NULL
           AND (holds_resources = 1 OR state NOT IN ('stopped', 'succeeded', 'failed'))",
    )
    .bind(id.blob())
    .fetch_one(&mut *connection)
    .await
    .context(CONTEXT)?;
    if placed > 0 {
        let instances = u64::try_from(placed).map_err(|_| violation("a count is negative"))?;
        return Ok(Verdict::Undo(RemoveOutcome::NotEmpty { instances }));
    }
    let mut ended = 0;
    for statement in [
        "UPDATE nodes SET removed_at = ?2 WHERE id = ?1 AND removed_at IS NULL",
        "UPDATE enrolments SET removed_at = ?2 WHERE node = ?1 AND removed_at IS NULL",
    ] {
        let rows = sqlx::query(statement)
            .bind(id.blob())
            .bind(now.as_micros())
            .execute(&mut *connection)
            .await
            .context(CONTEXT)?;
        ended += rows.rows_affected();
    }
    Ok(if ended > 0 { Verdict::Keep(RemoveOutcome::Removed) } else { Verdict::Undo(RemoveOutcome::Unknown) })
}
