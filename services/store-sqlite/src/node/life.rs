//! Hearing of a node, doubting what it runs, and fencing it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;
use wherry_model::lifecycle::Change;
use wherry_model::{NodeId, NodeRecord, Timestamp};
use wherry_store::{Applied, FenceOutcome, LifeOutcome, StoreError};

use super::found_one;
use crate::columns::{Blob, Fields, integer};
use crate::error::{Context, violation};
use crate::gather::{Outcomes, pieces, places};
use crate::instance;
use crate::writer::Verdict;

/// A proof of life of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) id: NodeId,
    pub(crate) at: Timestamp,
    pub(crate) epoch: u64,
}

/// Proofs of life that came together. Of two of one node each counts.
pub(super) async fn prove(
    connection: &mut SqliteConnection,
    mut left: Vec<Life>,
) -> Result<Verdict<Outcomes<LifeOutcome>>, StoreError> {
    let order: Vec<NodeId> = left.iter().map(|life| life.id).collect();
    let mut outcomes: BTreeMap<NodeId, VecDeque<LifeOutcome>> = BTreeMap::new();
    while !left.is_empty() {
        let (mut present, mut turn, mut later) = (BTreeSet::new(), Vec::new(), Vec::new());
        for life in left {
            if present.insert(life.id) { &mut turn } else { &mut later }.push(life);
        }
        left = later;
        for piece in pieces(&turn) {
            for (life, outcome) in piece.iter().zip(prove_each(connection, piece).await?) {
                outcomes.entry(life.id).or_default().push_back(outcome);
            }
        }
    }
    let of = |node| outcomes.get_mut(node).and_then(VecDeque::pop_front).unwrap_or(LifeOutcome::Unknown);
    Ok(Verdict::Keep(order.iter().map(of).map(Ok).collect()))
}

/// The outcomes of one proof of each of several nodes, in order. What is not taken changes nothing.
async fn prove_each(connection: &mut SqliteConnection, lives: &[Life]) -> Result<Vec<LifeOutcome>, StoreError> {
    const CONTEXT: &str = "storing a proof of life";
    let sql = format!(
        "WITH lives (life, proof, asked) AS (VALUES {})
         UPDATE nodes SET
             proof_at = CASE WHEN epoch = asked OR protocol < 2 THEN max(proof_at, proof) ELSE proof_at END,
             heartbeats = CASE WHEN epoch = asked OR protocol < 2 THEN heartbeats + 1 ELSE heartbeats END
         FROM lives WHERE id = life AND removed_at IS NULL
         RETURNING id, epoch, doubt, resolved_doubt, protocol",
        places(lives.len(), 3)
    );
    let mut update = sqlx::query(AssertSqlSafe(sql));
    for life in lives {
        // An epoch that no column can hold is not the node's.
        let asked = i64::try_from(life.epoch).unwrap_or(i64::MAX);
        update = update.bind(life.id.blob()).bind(life.at.as_micros()).bind(asked);
    }
    let mut known = BTreeMap::new();
    for row in update.fetch_all(connection).await.context(CONTEXT)? {
        let fields = Fields { table: "nodes", row: &row };
        let (doubt, resolved): (u64, u64) = (fields.count("doubt")?, fields.count("resolved_doubt")?);
        let leases = fields.count::<u32>("protocol")? >= NodeRecord::PROTOCOL_OF_LEASES;
        let present: u64 = fields.count("epoch")?;
        known.insert(fields.id::<NodeId>("id")?, (present, leases, (doubt > resolved).then_some(doubt)));
    }
    let outcome = |life: &Life| match known.get(&life.id) {
        None => LifeOutcome::Unknown,
        Some((present, true, _)) if *present != life.epoch => LifeOutcome::Fenced { epoch: *present },
        Some((_, _, doubt)) => LifeOutcome::Taken { doubt: *doubt },
    };
    Ok(lives.iter().map(outcome).collect())
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
