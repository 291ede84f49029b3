//! Hearing of a node, doubting what it runs, and fencing it.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use wherry_model::lifecycle::Change;
use wherry_model::{NodeId, NodeRecord, Timestamp};
use wherry_store::{Applied, FenceOutcome, LifeOutcome, StoreError};

use super::found_one;
use crate::columns::{Fields, integer};
use crate::error::{Context, violation};
use crate::instance;
use crate::transaction::{Unit, Verdict};

/// Counted twice it is one more heartbeat, which harms nobody.
pub(super) struct Prove {
    pub(super) id: NodeId,
    pub(super) at: Timestamp,
    pub(super) epoch: u64,
}

#[async_trait]
impl Unit for Prove {
    type Answer = LifeOutcome;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<LifeOutcome>, StoreError> {
        const CONTEXT: &str = "storing a proof of life";
        // An epoch that no column can hold is not the node's.
        let epoch = i64::try_from(self.epoch).unwrap_or(i64::MAX);
        let row = sqlx::query(
            "UPDATE nodes SET
                 proof_at = CASE WHEN epoch = $3 OR protocol < 2 THEN greatest(proof_at, $2) ELSE proof_at END,
                 heartbeats = CASE WHEN epoch = $3 OR protocol < 2 THEN heartbeats + 1 ELSE heartbeats END
             WHERE id = $1 AND removed_at IS NULL
             RETURNING id, epoch, doubt, resolved_doubt, protocol",
        )
        .bind(self.id.as_uuid())
        .bind(self.at.as_micros())
        .bind(epoch)
        .fetch_optional(connection)
        .await
        .context(CONTEXT)?;
        let Some(row) = row else { return Ok(Verdict::Undo(LifeOutcome::Unknown)) };
        let fields = Fields { table: "nodes", row: &row };
        let present: u64 = fields.count("epoch")?;
        if present != self.epoch && fields.count::<u32>("protocol")? >= NodeRecord::PROTOCOL_OF_LEASES {
            return Ok(Verdict::Undo(LifeOutcome::Fenced { epoch: present }));
        }
        let (doubt, resolved): (u64, u64) = (fields.count("doubt")?, fields.count("resolved_doubt")?);
        Ok(Verdict::Keep(LifeOutcome::Taken { doubt: (doubt > resolved).then_some(doubt) }))
    }

    /// Whoever watches heartbeats looks every second.
    fn is_news(&self) -> bool {
        false
    }
}

/// Raised twice it is a doubt with a higher number, which is resolved as well.
pub(super) struct RaiseDoubt {
    pub(super) id: NodeId,
}

#[async_trait]
impl Unit for RaiseDoubt {
    type Answer = bool;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<bool>, StoreError> {
        let found = sqlx::query("UPDATE nodes SET doubt = doubt + 1 WHERE id = $1 AND removed_at IS NULL")
            .bind(self.id.as_uuid())
            .execute(connection)
            .await
            .context("raising a doubt")?;
        Ok(found_one(found.rows_affected()))
    }
}

/// Resolved twice it is as resolved once.
pub(super) struct ResolveDoubt {
    pub(super) id: NodeId,
    pub(super) doubt: u64,
}

#[async_trait]
impl Unit for ResolveDoubt {
    type Answer = bool;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<bool>, StoreError> {
        let found = sqlx::query(
            "UPDATE nodes SET
                 resolved_doubt = greatest(resolved_doubt, least($2, doubt)),
                 state = CASE WHEN state = 'silent' AND doubt <= $2 THEN 'ready' ELSE state END
             WHERE id = $1 AND removed_at IS NULL",
        )
        .bind(self.id.as_uuid())
        .bind(i64::try_from(self.doubt).unwrap_or(i64::MAX))
        .execute(connection)
        .await
        .context("resolving a doubt")?;
        Ok(found_one(found.rows_affected()))
    }
}

/// Instances first, as everywhere; the guard on the node's row comes last and undoes all of it.
pub(super) struct Fence<'a> {
    id: NodeId,
    heartbeats: u64,
    changes: &'a [Change],
    /// The epoch that the latest run has written.
    epoch: AtomicU64,
}

impl<'a> Fence<'a> {
    pub(super) const fn new(id: NodeId, heartbeats: u64, changes: &'a [Change]) -> Self {
        Self { id, heartbeats, changes, epoch: AtomicU64::new(0) }
    }
}

#[async_trait]
impl Unit for Fence<'_> {
    type Answer = FenceOutcome;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<FenceOutcome>, StoreError> {
        const CONTEXT: &str = "fencing a node";
        let heartbeats = integer(self.heartbeats)?;
        let silent: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM nodes WHERE id = $1 AND heartbeats = $2 AND removed_at IS NULL)",
        )
        .bind(self.id.as_uuid())
        .bind(heartbeats)
        .fetch_one(&mut *connection)
        .await
        .context(CONTEXT)?;
        if !silent {
            return Ok(Verdict::Undo(FenceOutcome::Heard));
        }
        match instance::apply_all(connection, self.changes).await? {
            Applied::Yes => {}
            Applied::LostRace => return Ok(Verdict::Undo(FenceOutcome::LostRace)),
            Applied::NodeRefused => return Err(violation(format!("the fencing of node {} takes resources", self.id))),
        }
        let row = sqlx::query(
            "UPDATE nodes SET
                 epoch = epoch + 1, desired_revision = desired_revision + 1, fenced_heartbeats = heartbeats
             WHERE id = $1 AND heartbeats = $2 AND removed_at IS NULL
             RETURNING id, epoch",
        )
        .bind(self.id.as_uuid())
        .bind(heartbeats)
        .fetch_optional(connection)
        .await
        .context(CONTEXT)?;
        let Some(row) = row else { return Ok(Verdict::Undo(FenceOutcome::Heard)) };
        let epoch = Fields { table: "nodes", row: &row }.count("epoch")?;
        self.epoch.store(epoch, Ordering::Relaxed);
        Ok(Verdict::Keep(FenceOutcome::Fenced(epoch)))
    }

    /// The epoch alone is no proof: another replica's fencing may have begun it, and taken less than ours takes when the machine
    /// is confirmed to be off. The records as this one leaves them are; when they have gone further it is run again and
    /// told that it lost the race, which has the caller look at what is left to take.
    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<FenceOutcome>, StoreError> {
        let epoch = self.epoch.load(Ordering::Relaxed);
        let reached: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM nodes WHERE id = $1 AND epoch >= $2)")
            .bind(self.id.as_uuid())
            .bind(integer(epoch)?)
            .fetch_one(&mut *connection)
            .await
            .context("fencing a node")?;
        let stored = reached && instance::stand(connection, self.changes).await?;
        Ok(stored.then_some(FenceOutcome::Fenced(epoch)))
    }
}
