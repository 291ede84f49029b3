//! One guarded change of one instance.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use sqlx::sqlite::SqliteConnection;
use wherry_model::lifecycle::Change;
use wherry_model::{Action, Digest, Generation, Instance, NodeId, Revision, Timestamp};
use wherry_store::{Applied, StoreError};

use super::read;
use crate::columns::{Blob, integer, json};
use crate::error::{Context, violation};
use crate::event;
use crate::feed;
use crate::meter;
use crate::node;

/// Writes the change and all that belongs to it. Anything but [`Applied::Yes`] must be rolled back by the caller.
pub(crate) async fn apply(connection: &mut SqliteConnection, change: &Change) -> Result<Applied, StoreError> {
    apply_all(connection, std::slice::from_ref(change)).await
}

/// Writes several changes, of which later ones build on earlier ones of the same instance: all of their resources, edges and events, and
/// of each instance the record that is true in the end. A start is told in several facts, and its record is written once.
pub(crate) async fn apply_all(connection: &mut SqliteConnection, changes: &[Change]) -> Result<Applied, StoreError> {
    let mut steps: Vec<Vec<&Change>> = Vec::new();
    for change in changes {
        match steps.iter_mut().find(|known| known[0].after.id == change.after.id) {
            Some(known) => known.push(change),
            None => steps.push(vec![change]),
        }
    }
    let mut number = feed::next_changes(connection, steps.len()).await?;
    let mut told = BTreeSet::new();
    for steps in steps {
        match apply_steps(connection, &steps, number).await? {
            Ok(nodes) => told.extend(nodes),
            Err(refused) => return Ok(refused),
        }
        number += 1;
    }
    let events = changes.iter().flat_map(|change| change.events.iter().map(|event| (&change.after, event)));
    event::append_all(connection, &events.collect::<Vec<_>>()).await?;
    for node in told {
        node::bump_desired(connection, node).await?;
    }
    Ok(Applied::Yes)
}

/// The changes of one instance, without their events. Gives the nodes for which they make a difference.
async fn apply_steps(
    connection: &mut SqliteConnection,
    steps: &[&Change],
    number: i64,
) -> Result<Result<BTreeSet<NodeId>, Applied>, StoreError> {
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return Ok(Ok(BTreeSet::new())) };
    let stored = read::of_tenant(connection, first.after.tenant, first.after.id).await?;
    let Some(stored) = stored.filter(|stored| stored.revision == first.from) else {
        return Ok(Err(Applied::LostRace));
    };
    let (mut before, mut nodes) = (&stored, BTreeSet::new());
    for step in steps {
        if step.from != before.revision {
            return Ok(Err(Applied::LostRace));
        }
        if !settle_resources(connection, before, step).await? {
            return Ok(Err(Applied::NodeRefused));
        }
        nodes.extend(nodes_to_tell(before, &step.after));
        before = &step.after;
    }
    let after = &last.after;
    if !update(connection, first.from, after, number).await? {
        return Ok(Err(Applied::LostRace));
    }
    if stored.spec.labels != after.spec.labels {
        delete_labels(connection, after).await?;
        insert_labels(connection, after).await?;
    } else if stored.deleted_at.is_none() && after.deleted_at.is_some() {
        retire_labels(connection, after).await?;
    }
    for step in steps {
        meter::apply_edges(connection, &step.after, &step.meter).await?;
    }
    Ok(Ok(nodes))
}

/// Gives back, then takes: an instance that is placed anew on its own node may use what it had.
async fn settle_resources(
    connection: &mut SqliteConnection,
    before: &Instance,
    change: &Change,
) -> Result<bool, StoreError> {
    let id = before.id;
    let held = before.holds_resources.then_some(before.node).flatten();
    if let Some(node) = change.releases {
        if held != Some(node) {
            return Err(violation(format!("instance {id} gives back to node {node} what it does not hold there")));
        }
        node::give_back(connection, node, before.demand()).await?;
    }
    if let Some(node) = change.takes {
        if held.is_some() && change.releases.is_none() {
            return Err(violation(format!("instance {id} takes from node {node} while it holds resources already")));
        }
        return node::take(connection, node, change.after.demand()).await;
    }
    Ok(true)
}

async fn update(
    connection: &mut SqliteConnection,
    from: Revision,
    after: &Instance,
    number: i64,
) -> Result<bool, StoreError> {
    let updated = sqlx::query(
        "UPDATE instances SET state = ?, node = ?, generation = ?, revision = ?, holds_resources = ?, address = ?,
             deleted_at = ?, changed = ?, record = ?
         WHERE tenant = ? AND id = ? AND revision = ?",
    )
    .bind(after.state.as_str())
    .bind(after.node.map(|node| node.blob()))
    .bind(integer(after.generation.0)?)
    .bind(integer(after.revision.0)?)
    .bind(after.holds_resources)
    .bind(after.address.map(Ipv4Addr::to_bits))
    .bind(after.deleted_at.map(Timestamp::as_micros))
    .bind(number)
    .bind(json(after)?)
    .bind(after.tenant.blob())
    .bind(after.id.blob())
    .bind(integer(from.0)?)
    .execute(connection)
    .await
    .context("changing an instance")?;
    Ok(updated.rows_affected() == 1)
}

pub(super) async fn insert_labels(connection: &mut SqliteConnection, instance: &Instance) -> Result<(), StoreError> {
    for (key, value) in &instance.spec.labels {
        sqlx::query(
            "INSERT INTO instance_labels (tenant, project, key, value, live, created_at, instance)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(instance.tenant.blob())
        .bind(instance.project.blob())
        .bind(key)
        .bind(value)
        .bind(instance.deleted_at.is_none())
        .bind(instance.created_at.as_micros())
        .bind(instance.id.blob())
        .execute(&mut *connection)
        .await
        .context("storing a label")?;
    }
    Ok(())
}

async fn delete_labels(connection: &mut SqliteConnection, instance: &Instance) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM instance_labels WHERE instance = ?")
        .bind(instance.id.blob())
        .execute(connection)
        .await
        .context("replacing labels")
        .map(drop)
}

async fn retire_labels(connection: &mut SqliteConnection, instance: &Instance) -> Result<(), StoreError> {
    sqlx::query("UPDATE instance_labels SET live = 0 WHERE instance = ?")
        .bind(instance.id.blob())
        .execute(connection)
        .await
        .context("retiring labels")
        .map(drop)
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
