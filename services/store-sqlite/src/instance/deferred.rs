//! Facts that wait until the record that they are about can be read.

use std::collections::BTreeSet;

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use wherry_model::lifecycle::Change;
use wherry_model::{InstanceId, NodeId, Observation};
use wherry_store::{Applied, DeferredFact, StoreError};

use super::change;
use crate::columns::{Blob, Fields, integer, json};
use crate::error::Context;
use crate::writer::Verdict;

pub(super) struct Settling {
    pub(super) instance: InstanceId,
    pub(super) numbers: Vec<u64>,
    pub(super) changes: Vec<Change>,
}

/// Those of the changed instances of which earlier facts wait.
pub(super) async fn behind(
    connection: &mut SqliteConnection,
    changes: &[Change],
) -> Result<Vec<InstanceId>, StoreError> {
    const CONTEXT: &str = "looking for deferred facts";
    let any: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM deferred_facts)")
        .fetch_one(&mut *connection)
        .await
        .context(CONTEXT)?;
    let mut behind = Vec::new();
    if !any {
        return Ok(behind);
    }
    for id in changes.iter().map(|change| change.after.id).collect::<BTreeSet<InstanceId>>() {
        if count(connection, id).await? > 0 {
            behind.push(id);
        }
    }
    Ok(behind)
}

async fn count(connection: &mut SqliteConnection, instance: InstanceId) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT count(*) FROM deferred_facts WHERE instance = ?")
        .bind(instance.blob())
        .fetch_one(connection)
        .await
        .context("counting deferred facts")
}

/// Keeps a fact of an instance that is placed on `node`. False when there are as many as may be.
pub(super) async fn keep(
    connection: &mut SqliteConnection,
    node: NodeId,
    fact: &Observation,
) -> Result<bool, StoreError> {
    const CONTEXT: &str = "deferring a fact";
    let own: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM instances WHERE id = ? AND node = ? AND deleted_at IS NULL)")
            .bind(fact.instance.blob())
            .bind(node.blob())
            .fetch_one(&mut *connection)
            .await
            .context(CONTEXT)?;
    if !own {
        return Ok(true);
    }
    if count(connection, fact.instance).await? >= i64::from(DeferredFact::MAX_PER_INSTANCE) {
        return Ok(false);
    }
    sqlx::query("INSERT INTO deferred_facts (instance, node, observation) VALUES (?, ?, ?)")
        .bind(fact.instance.blob())
        .bind(node.blob())
        .bind(json(fact)?)
        .execute(connection)
        .await
        .context(CONTEXT)?;
    Ok(true)
}

pub(super) async fn instances(
    connection: &mut SqliteConnection,
    after: Option<InstanceId>,
    limit: u32,
) -> Result<Vec<InstanceId>, StoreError> {
    let rows = sqlx::query(
        "SELECT DISTINCT instance FROM deferred_facts WHERE ?1 IS NULL OR instance > ?1 ORDER BY instance LIMIT ?2",
    )
    .bind(after.map(|id| id.blob()))
    .bind(limit)
    .fetch_all(connection)
    .await
    .context("listing instances with deferred facts")?;
    rows.iter().map(|row| Fields { table: "deferred_facts", row }.id("instance")).collect()
}

pub(super) async fn facts(
    connection: &mut SqliteConnection,
    instance: InstanceId,
    limit: u32,
) -> Result<Vec<DeferredFact>, StoreError> {
    let rows =
        sqlx::query("SELECT number, node, observation FROM deferred_facts WHERE instance = ? ORDER BY number LIMIT ?")
            .bind(instance.blob())
            .bind(limit)
            .fetch_all(connection)
            .await
            .context("reading deferred facts")?;
    rows.iter().map(fact).collect()
}

fn fact(row: &SqliteRow) -> Result<DeferredFact, StoreError> {
    let fields = Fields { table: "deferred_facts", row };
    Ok(DeferredFact {
        number: fields.count("number")?,
        node: fields.id("node")?,
        observation: fields.json("observation")?,
    })
}

pub(super) async fn settle(connection: &mut SqliteConnection, work: Settling) -> Result<Verdict<Applied>, StoreError> {
    for number in work.numbers {
        let gone = sqlx::query("DELETE FROM deferred_facts WHERE number = ? AND instance = ?")
            .bind(integer(number)?)
            .bind(work.instance.blob())
            .execute(&mut *connection)
            .await
            .context("forgetting a deferred fact")?;
        if gone.rows_affected() != 1 {
            return Ok(Verdict::Undo(Applied::LostRace));
        }
    }
    for step in &work.changes {
        match change::apply(connection, step).await? {
            Applied::Yes => {}
            refused => return Ok(Verdict::Undo(refused)),
        }
    }
    Ok(Verdict::Keep(Applied::Yes))
}
