//! Reports: what a batch of observations changes, exactly once.

use sqlx::sqlite::SqliteConnection;
use wherry_model::lifecycle::Change;
use wherry_model::{JournalId, NodeId, Observation};
use wherry_store::{Applied, ReportOutcome, StoreError};

use super::{change, deferred};
use crate::columns::{Blob, Fields, integer};
use crate::error::{Context, violation};
use crate::writer::Verdict;

pub(super) struct Batch {
    pub(super) node: NodeId,
    pub(super) journal: JournalId,
    pub(super) after: u64,
    pub(super) through: u64,
    pub(super) changes: Vec<Change>,
    pub(super) deferred: Vec<Observation>,
}

pub(super) async fn apply(
    connection: &mut SqliteConnection,
    batch: Batch,
) -> Result<Verdict<ReportOutcome>, StoreError> {
    let known = acknowledged(connection, batch.node, batch.journal).await?;
    if known != batch.after {
        return Ok(Verdict::Undo(ReportOutcome::Superseded(known)));
    }
    if batch.through < batch.after {
        return Err(violation(format!("a report takes journal {} back to {}", batch.journal, batch.through)));
    }
    let behind = deferred::behind(connection, &batch.changes).await?;
    if !behind.is_empty() {
        return Ok(Verdict::Undo(ReportOutcome::Behind(behind)));
    }
    match change::apply_all(connection, &batch.changes).await? {
        Applied::Yes => {}
        Applied::LostRace => return Ok(Verdict::Undo(ReportOutcome::LostRace)),
        Applied::NodeRefused => return Err(violation("a report takes resources that its node does not have")),
    }
    for fact in &batch.deferred {
        if !deferred::keep(connection, batch.node, fact).await? {
            return Ok(Verdict::Undo(ReportOutcome::Full(fact.instance)));
        }
    }
    sqlx::query(
        "INSERT INTO journal_acknowledgements (node, journal, through) VALUES (?1, ?2, ?3)
         ON CONFLICT (node, journal) DO UPDATE SET through = ?3",
    )
    .bind(batch.node.blob())
    .bind(batch.journal.blob())
    .bind(integer(batch.through)?)
    .execute(connection)
    .await
    .context("acknowledging a journal")?;
    Ok(Verdict::Keep(ReportOutcome::Applied(batch.through)))
}

pub(super) async fn acknowledged(
    connection: &mut SqliteConnection,
    node: NodeId,
    journal: JournalId,
) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT journal, through FROM journal_acknowledgements WHERE node = ? AND journal = ?")
        .bind(node.blob())
        .bind(journal.blob())
        .fetch_optional(connection)
        .await
        .context("reading how far a journal is stored")?;
    match &row {
        Some(row) => Fields { table: "journal_acknowledgements", row }.count("through"),
        None => Ok(0),
    }
}
