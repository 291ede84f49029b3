//! Facts that wait until the record that they are about can be read.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use uuid::Uuid;
use wherry_model::lifecycle::Change;
use wherry_model::{InstanceId, NodeId, Observation};
use wherry_store::{Applied, DeferredFact, StoreError};

use super::change::{apply_all, stand};
use crate::columns::{Fields, integer, json};
use crate::error::Context;
use crate::transaction::{Unit, Verdict};

pub(super) fn instances<'q>(after: Option<InstanceId>, limit: u32) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(
        "SELECT DISTINCT instance FROM deferred_facts WHERE $1 IS NULL OR instance > $1 ORDER BY instance LIMIT $2",
    )
    .bind(after.map(|id| id.as_uuid()))
    .bind(i64::from(limit))
}

pub(super) fn instance(row: &PgRow) -> Result<InstanceId, StoreError> {
    Fields { table: "deferred_facts", row }.id("instance")
}

pub(super) fn facts<'q>(instance: InstanceId, limit: u32) -> Query<'q, Postgres, PgArguments> {
    sqlx::query("SELECT number, node, observation FROM deferred_facts WHERE instance = $1 ORDER BY number LIMIT $2")
        .bind(instance.as_uuid())
        .bind(i64::from(limit))
}

pub(super) fn fact(row: &PgRow) -> Result<DeferredFact, StoreError> {
    let fields = Fields { table: "deferred_facts", row };
    Ok(DeferredFact {
        number: fields.count("number")?,
        node: fields.id("node")?,
        observation: fields.json("observation")?,
    })
}

/// Those of the changed instances of which earlier facts wait.
pub(super) async fn behind(connection: &mut PgConnection, changes: &[Change]) -> Result<Vec<InstanceId>, StoreError> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = changes.iter().map(|change| change.after.id.as_uuid()).collect();
    let rows = sqlx::query("SELECT DISTINCT instance FROM deferred_facts WHERE instance = ANY ($1) ORDER BY instance")
        .bind(ids)
        .fetch_all(connection)
        .await
        .context("looking for deferred facts")?;
    rows.iter().map(instance).collect()
}

/// Keeps those facts whose instance is placed on `node`. The instance of which there would be more than may be, if there is one.
pub(super) async fn keep(
    connection: &mut PgConnection,
    node: NodeId,
    facts: &[Observation],
) -> Result<Option<InstanceId>, StoreError> {
    if facts.is_empty() {
        return Ok(None);
    }
    let ids: Vec<Uuid> = facts.iter().map(|fact| fact.instance.as_uuid()).collect();
    let rows = sqlx::query(
        "SELECT id AS instance, (SELECT count(*) FROM deferred_facts WHERE instance = instances.id) AS present
         FROM instances WHERE id = ANY ($1) AND node = $2 AND deleted_at IS NULL",
    )
    .bind(ids)
    .bind(node.as_uuid())
    .fetch_all(&mut *connection)
    .await
    .context("counting deferred facts")?;
    let mut present: BTreeMap<InstanceId, u32> = BTreeMap::new();
    for row in &rows {
        present.insert(instance(row)?, Fields { table: "deferred_facts", row }.count("present")?);
    }
    let (mut instances, mut records) = (Vec::new(), Vec::new());
    for fact in facts {
        let Some(count) = present.get_mut(&fact.instance) else { continue };
        if *count >= DeferredFact::MAX_PER_INSTANCE {
            return Ok(Some(fact.instance));
        }
        *count += 1;
        instances.push(fact.instance.as_uuid());
        records.push(json(fact)?);
    }
    sqlx::query(
        "INSERT INTO deferred_facts (instance, node, observation)
         SELECT instance, $1, observation
         FROM unnest($2::uuid[], $3::text[]) WITH ORDINALITY AS facts (instance, observation, place) ORDER BY place",
    )
    .bind(node.as_uuid())
    .bind(instances)
    .bind(records)
    .execute(connection)
    .await
    .context("deferring facts")?;
    Ok(None)
}

pub(super) struct Settling<'a> {
    pub(super) instance: InstanceId,
    pub(super) numbers: &'a [u64],
    pub(super) changes: &'a [Change],
}

#[async_trait]
impl Unit for Settling<'_> {
    type Answer = Applied;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<Applied>, StoreError> {
        let gone = sqlx::query("DELETE FROM deferred_facts WHERE instance = $1 AND number = ANY ($2)")
            .bind(self.instance.as_uuid())
            .bind(self.columns()?)
            .execute(&mut *connection)
            .await
            .context("forgetting deferred facts")?;
        if usize::try_from(gone.rows_affected()) != Ok(self.numbers.len()) {
            return Ok(Verdict::Undo(Applied::LostRace));
        }
        Ok(match apply_all(connection, self.changes).await? {
            Applied::Yes => Verdict::Keep(Applied::Yes),
            refused => Verdict::Undo(refused),
        })
    }

    /// They go with what they change, or not at all. When another has taken them meanwhile, the caller looks at what is there.
    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<Applied>, StoreError> {
        let left: i64 =
            sqlx::query_scalar("SELECT count(*) FROM deferred_facts WHERE instance = $1 AND number = ANY ($2)")
                .bind(self.instance.as_uuid())
                .bind(self.columns()?)
                .fetch_one(&mut *connection)
                .await
                .context("looking for deferred facts")?;
        if left > 0 {
            return Ok(None);
        }
        let is_as_left = stand(connection, self.changes).await?;
        Ok(Some(if is_as_left { Applied::Yes } else { Applied::LostRace }))
    }
}

impl Settling<'_> {
    fn columns(&self) -> Result<Vec<i64>, StoreError> {
        self.numbers.iter().map(|number| integer(*number)).collect()
    }
}
