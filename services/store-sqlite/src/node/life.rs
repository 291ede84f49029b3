//! Hearing of a node, doubting what it runs, and fencing it.

use sqlx::sqlite::SqliteConnection;
use wherry_model::lifecycle::Change;
use wherry_model::{NodeId, NodeRecord, Timestamp};
use wherry_store::{Applied, FenceOutcome, LifeOutcome, StoreError};

use super::found_one;
use crate::columns::{Blob, Fields, integer};
use crate::error::{Context, violation};
use crate::instance;
use crate::writer::Verdict;

pub(super) async fn prove(
    connection: &mut SqliteConnection,
    id: NodeId,
    at: Timestamp,
    epoch: u64,
) -> Result<Verdict<LifeOutcome>, StoreError> {
    const CONTEXT: &str = "storing a proof of life";
    let row = sqlx::query(
        "UPDATE nodes SET
             proof_at = CASE WHEN epoch = ?3 OR protocol < 2 THEN max(proof_at, ?2) ELSE proof_at END,
             heartbeats = CASE WHEN epoch = ?3 OR protocol < 2 THEN heartbeats + 1 ELSE heartbeats END
         WHERE id = ?1 AND removed_at IS NULL
         RETURNING id, epoch, doubt, resolved_doubt, protocol",
    )
    .bind(id.blob())
    .bind(at.as_micros())
    // An epoch that no column can hold is not the node's.
    .bind(i64::try_from(epoch).unwrap_or(i64::MAX))
    .fetch_optional(connection)
    .await
    .context(CONTEXT)?;
    let Some(row) = row else { return Ok(Verdict::Undo(LifeOutcome::Unknown)) };
    let fields = Fields { table: "nodes", row: &row };
    let present: u64 = fields.count("epoch")?;
    if present != epoch && fields.count::<u32>("protocol")? >= NodeRecord::PROTOCOL_OF_LEASES {
        return Ok(Verdict::Undo(LifeOutcome::Fenced { epoch: present }));
    }
    let (doubt, resolved): (u64, u64) = (fields.count("doubt")?, fields.count("resolved_doubt")?);
    Ok(Verdict::Keep(LifeOutcome::Taken { doubt: (doubt > resolved).then_some(doubt) }))
}

pub(super) async fn raise_doubt(connection: &mut SqliteConnection, id: NodeId) -> Result<Verdict<bool>, StoreError> {
    let found = sqlx::query("UPDATE nodes SET doubt = doubt + 1 WHERE id = ? AND removed_at IS NULL")
        .bind(id.blob())
        .execute(connection)
        .await
        .context("raising a doubt")?;
    Ok(found_one(found.rows_affected()))
}

pub(super) async fn resolve_doubt(
    connection: &mut SqliteConnection,
    id: NodeId,
    doubt: u64,
) -> Result<Verdict<bool>, StoreError> {
    let found = sqlx::query(
        "UPDATE nodes SET
             resolved_doubt = max(resolved_doubt, min(?2, doubt)),
             state = CASE WHEN state = 'silent' AND doubt <= ?2 THEN 'ready' ELSE state END
         WHERE id = ?1 AND removed_at IS NULL",
    )
    .bind(id.blob())
    .bind(i64::try_from(doubt).unwrap_or(i64::MAX))
    .execute(connection)
    .await
    .context("resolving a doubt")?;
    Ok(found_one(found.rows_affected()))
}

pub(super) async fn fence(
    connection: &mut SqliteConnection,
    id: NodeId,
    heartbeats: u64,
    changes: Vec<Change>,
) -> Result<Verdict<FenceOutcome>, StoreError> {
    let row = sqlx::query(
        "UPDATE nodes SET
             epoch = epoch + 1, desired_revision = desired_revision + 1, fenced_heartbeats = heartbeats
         WHERE id = ? AND heartbeats = ? AND removed_at IS NULL
         RETURNING id, epoch",
    )
    .bind(id.blob())
    .bind(integer(heartbeats)?)
    .fetch_optional(&mut *connection)
    .await
    .context("fencing a node")?;
    let Some(row) = row else { return Ok(Verdict::Undo(FenceOutcome::Heard)) };
    let epoch = Fields { table: "nodes", row: &row }.count("epoch")?;
    for change in &changes {
        match instance::apply(connection, change).await? {
            Applied::Yes => {}
            Applied::LostRace => return Ok(Verdict::Undo(FenceOutcome::LostRace)),
            Applied::NodeRefused => return Err(violation(format!("the fencing of node {id} takes resources"))),
        }
    }
    Ok(Verdict::Keep(FenceOutcome::Fenced(epoch)))
}
