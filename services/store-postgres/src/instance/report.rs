//! Reports: what a batch of observations changes, exactly once.

use async_trait::async_trait;
use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use wherry_model::lifecycle::Change;
use wherry_model::{JournalId, NodeId, Observation};
use wherry_store::{Applied, ReportOutcome, StoreError};

use super::change::apply_all;
use super::deferred;
use crate::columns::{Fields, integer};
use crate::error::{Context, violation};
use crate::transaction::{Unit, Verdict};

pub(super) struct Report<'a> {
    pub(super) node: NodeId,
    pub(super) journal: JournalId,
    pub(super) after: u64,
    pub(super) through: u64,
    pub(super) changes: &'a [Change],
    pub(super) deferred: &'a [Observation],
}

#[async_trait]
impl Unit for Report<'_> {
    type Answer = ReportOutcome;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<ReportOutcome>, StoreError> {
        let acknowledged = self.acknowledged(connection).await?;
        if acknowledged != self.after {
            return Ok(Verdict::Undo(ReportOutcome::Superseded(acknowledged)));
        }
        if self.through < self.after {
            return Err(violation(format!("a report takes journal {} back to {}", self.journal, self.through)));
        }
        // Before the changes: of two that report the same, the second waits here and then sees the first one's number.
        if !self.acknowledge(connection).await? {
            let now = self.acknowledged(connection).await?;
            return Ok(Verdict::Undo(ReportOutcome::Superseded(now)));
        }
        let behind = deferred::behind(connection, self.changes).await?;
        if !behind.is_empty() {
            return Ok(Verdict::Undo(ReportOutcome::Behind(behind)));
        }
        match apply_all(connection, self.changes).await? {
            Applied::Yes => {}
            Applied::LostRace => return Ok(Verdict::Undo(ReportOutcome::LostRace)),
            Applied::NodeRefused => return Err(violation("a report takes resources that its node does not have")),
        }
        Ok(match deferred::keep(connection, self.node, self.deferred).await? {
            None => Verdict::Keep(ReportOutcome::Applied(self.through)),
            Some(instance) => Verdict::Undo(ReportOutcome::Full(instance)),
        })
    }

    /// The number is written with the changes. A report that moves no number can be stored twice: its changes are guarded,
    /// and it has no facts to defer.
    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<ReportOutcome>, StoreError> {
        let acknowledged = self.acknowledged(connection).await?;
        Ok((acknowledged == self.through && self.through > self.after).then_some(ReportOutcome::Applied(self.through)))
    }
}

impl Report<'_> {
    async fn acknowledged(&self, connection: &mut PgConnection) -> Result<u64, StoreError> {
        let row = known(self.node, self.journal)
            .fetch_optional(connection)
            .await
            .context("reading how far a journal is stored")?;
        row.as_ref().map_or(Ok(0), through)
    }

    /// Moves the number from `after` to `through`; false when it is not at `after` any more.
    async fn acknowledge(&self, connection: &mut PgConnection) -> Result<bool, StoreError> {
        let moved = sqlx::query(
            "INSERT INTO journal_acknowledgements AS known (node, journal, through) VALUES ($1, $2, $3)
             ON CONFLICT (node, journal) DO UPDATE SET through = $3 WHERE known.through = $4",
        )
        .bind(self.node.as_uuid())
        .bind(self.journal.as_uuid())
        .bind(integer(self.through)?)
        .bind(integer(self.after)?)
        .execute(connection)
        .await
        .context("acknowledging a journal")?;
        Ok(moved.rows_affected() == 1)
    }
}

pub(super) fn known<'q>(node: NodeId, journal: JournalId) -> Query<'q, Postgres, PgArguments> {
    sqlx::query("SELECT journal, through FROM journal_acknowledgements WHERE node = $1 AND journal = $2")
        .bind(node.as_uuid())
        .bind(journal.as_uuid())
}

pub(super) fn through(row: &PgRow) -> Result<u64, StoreError> {
    Fields { table: "journal_acknowledgements", row }.count("through")
}
