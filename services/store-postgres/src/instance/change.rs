//! Guarded changes of instances, several in one transaction.
//!
//! All records are locked by one statement in the order of their ids, the changes are checked and followed in memory (later
//! ones may build on earlier ones), and what is then true is written by one statement for each table. So the number of
//! round trips hardly depends on the number of changes; only meter edges are taken one by one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use uuid::Uuid;
use wherry_model::lifecycle::Change;
use wherry_model::{Action, Digest, Generation, Instance, InstanceId, NodeId, Timestamp};
use wherry_store::{Applied, StoreError};

use super::{labels, read};
use crate::columns::{integer, json};
use crate::error::{Context, violation};
use crate::event;
use crate::meter;
use crate::node::{Settled, Settlement};
use crate::transaction::{Unit, Verdict};

pub(super) struct Apply<'a> {
    pub(super) change: &'a Change,
}

#[async_trait]
impl Unit for Apply<'_> {
    type Answer = Applied;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<Applied>, StoreError> {
        Ok(match apply_all(connection, std::slice::from_ref(self.change)).await? {
            Applied::Yes => Verdict::Keep(Applied::Yes),
            refused => Verdict::Undo(refused),
        })
    }

    /// The record as this change leaves it is proof. A record that has gone further tells nothing: "lost the race" has the
    /// caller look at what is there, which is right in both cases.
    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<Applied>, StoreError> {
        let after = &self.change.after;
        let row =
            read::of_tenant(after.tenant, after.id).fetch_optional(connection).await.context("changing an instance")?;
        let Some(present) = row.as_ref().map(read::record).transpose()? else { return Ok(None) };
        Ok(if present == *after {
            Some(Applied::Yes)
        } else if present.revision == self.change.from {
            None
        } else {
            Some(Applied::LostRace)
        })
    }
}

/// Writes the changes and all that belongs to them. Anything but [`Applied::Yes`] must be undone by the caller.
pub(crate) async fn apply_all(connection: &mut PgConnection, changes: &[Change]) -> Result<Applied, StoreError> {
    if changes.is_empty() {
        return Ok(Applied::Yes);
    }
    let before = locked(connection, changes).await?;
    let mut present: BTreeMap<InstanceId, &Instance> = before.iter().map(|(id, record)| (*id, record)).collect();
    let mut settlement = Settlement::default();
    let mut events = event::Batch::default();
    for change in changes {
        let after = &change.after;
        let known = present.get(&after.id).filter(|known| known.tenant == after.tenant);
        let Some(known) = known.filter(|known| known.revision == change.from) else {
            return Ok(Applied::LostRace);
        };
        settle_resources(&mut settlement, known, change)?;
        for node in nodes_to_tell(known, after) {
            settlement.tell(node);
        }
        events.add(after, &change.events)?;
        present.insert(after.id, after);
    }
    let changed: Vec<&Instance> = present.into_values().collect();
    update(connection, &changed).await?;
    let (mut relabelled, mut retired) = (Vec::new(), Vec::new());
    for after in &changed {
        let Some(before) = before.get(&after.id) else { continue };
        if before.spec.labels != after.spec.labels {
            relabelled.push(*after);
        } else if before.deleted_at.is_none() && after.deleted_at.is_some() && !after.spec.labels.is_empty() {
            retired.push(after.id);
        }
    }
    labels::replace(connection, &relabelled).await?;
    labels::retire(connection, &retired).await?;
    for change in changes {
        meter::apply_edges(connection, &change.after, &change.meter).await?;
    }
    if settlement.settle(connection).await? != Settled::Yes {
        return Ok(Applied::NodeRefused);
    }
    events.store(connection).await?;
    Ok(Applied::Yes)
}

async fn locked(
    connection: &mut PgConnection,
    changes: &[Change],
) -> Result<BTreeMap<InstanceId, Instance>, StoreError> {
    let mut ids: Vec<Uuid> = changes.iter().map(|change| change.after.id.as_uuid()).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = sqlx::query(
        "SELECT id, record::text AS record FROM instances WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE",
    )
    .bind(ids)
    .fetch_all(connection)
    .await
    .context("locking instances")?;
    rows.iter().map(|row| read::record(row).map(|record| (record.id, record))).collect()
}

/// Whether the records are as the changes leave them.
pub(crate) async fn stand(connection: &mut PgConnection, changes: &[Change]) -> Result<bool, StoreError> {
    // Later changes may build on earlier ones.
    let left: BTreeMap<InstanceId, &Instance> = changes.iter().map(|change| (change.after.id, &change.after)).collect();
    let ids: Vec<Uuid> = left.keys().map(InstanceId::as_uuid).collect();
    let rows = sqlx::query("SELECT id, record::text AS record FROM instances WHERE id = ANY ($1)")
        .bind(ids)
        .fetch_all(connection)
        .await
        .context("reading what was changed of instances")?;
    let mut found = 0;
    for row in &rows {
        let present = read::record(row)?;
        found += usize::from(left.get(&present.id).is_some_and(|after| **after == present));
    }
    Ok(found == left.len())
}

fn settle_resources(settlement: &mut Settlement, before: &Instance, change: &Change) -> Result<(), StoreError> {
    let id = before.id;
    let held = before.holds_resources.then_some(before.node).flatten();
    if let Some(node) = change.releases {
        if held != Some(node) {
            return Err(violation(format!("instance {id} gives back to node {node} what it does not hold there")));
        }
        settlement.give_back(node, before.demand());
    }
    if let Some(node) = change.takes {
        if held.is_some() && change.releases.is_none() {
            return Err(violation(format!("instance {id} takes from node {node} while it holds resources already")));
        }
        settlement.take(node, change.after.demand());
    }
    Ok(())
}

async fn update(connection: &mut PgConnection, changed: &[&Instance]) -> Result<(), StoreError> {
    let mut generations = Vec::with_capacity(changed.len());
    let mut revisions = Vec::with_capacity(changed.len());
    let mut records = Vec::with_capacity(changed.len());
    for after in changed {
        generations.push(integer(after.generation.0)?);
        revisions.push(integer(after.revision.0)?);
        records.push(json(after)?);
    }
    let updated = sqlx::query(
        "UPDATE instances AS instance SET
             state = after.state, node = after.node, generation = after.generation, revision = after.revision,
             holds_resources = after.holds_resources, address = after.address, deleted_at = after.deleted_at,
             changed = pg_current_xact_id()::text::bigint, record = after.record::json
         FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::int8[], $5::int8[], $6::bool[], $7::int8[], $8::int8[],
                 $9::text[])
             AS after (id, state, node, generation, revision, holds_resources, address, deleted_at, record)
         WHERE instance.id = after.id",
    )
    .bind(changed.iter().map(|after| after.id.as_uuid()).collect::<Vec<_>>())
    .bind(changed.iter().map(|after| after.state.as_str()).collect::<Vec<_>>())
    .bind(changed.iter().map(|after| after.node.map(|node| node.as_uuid())).collect::<Vec<_>>())
    .bind(generations)
    .bind(revisions)
    .bind(changed.iter().map(|after| after.holds_resources).collect::<Vec<_>>())
    .bind(changed.iter().map(|after| after.address.map(address)).collect::<Vec<_>>())
    .bind(changed.iter().map(|after| after.deleted_at.map(Timestamp::as_micros)).collect::<Vec<_>>())
    .bind(records)
    .execute(connection)
    .await
    .context("changing instances")?;
    if usize::try_from(updated.rows_affected()) == Ok(changed.len()) {
        Ok(())
    } else {
        Err(violation("a record that was locked is gone"))
    }
}

/// An address as a column.
pub(super) fn address(address: Ipv4Addr) -> i64 {
    i64::from(address.to_bits())
}

/// What of an instance its node is told (`DesiredInstance` of the agent API), as far as it can change.
#[derive(PartialEq)]
struct Task<'i> {
    node: NodeId,
    generation: Generation,
    action: Action,
    digests: Vec<Option<&'i Digest>>,
    revisions: Vec<u32>,
    updates: u64,
}

fn task(instance: &Instance) -> Option<Task<'_>> {
    if instance.deleted_at.is_some() {
        return None;
    }
    Some(Task {
        node: instance.node?,
        generation: instance.generation,
        action: instance.action(),
        digests: instance.containers.iter().map(|container| container.image_digest.as_ref()).collect(),
        revisions: instance.containers.iter().map(|container| container.revision).collect(),
        updates: instance.updates,
    })
}

/// The nodes for which the change makes a difference. A change that only records what a node saw wakes nobody.
fn nodes_to_tell(before: &Instance, after: &Instance) -> Vec<NodeId> {
    let (before, after) = (task(before), task(after));
    if before == after {
        return Vec::new();
    }
    let mut nodes: Vec<NodeId> = before.iter().chain(&after).map(|task| task.node).collect();
    nodes.dedup();
    nodes
}
