//! Place and create: everything that makes an instance exist, or nothing of it.

use std::net::Ipv4Addr;

use sqlx::sqlite::SqliteConnection;
use wherry_model::{DnsLabel, Instance, Timestamp};
use wherry_store::{CreateOutcome, Placed, StoreError};

use super::{change, read};
use crate::columns::{Blob, integer, json};
use crate::error::{Context, violation};
use crate::event;
use crate::feed;
use crate::meter;
use crate::node;
use crate::writer::Verdict;

pub(super) async fn place_and_create(
    connection: &mut SqliteConnection,
    placed: Placed,
) -> Result<Verdict<CreateOutcome>, StoreError> {
    let Placed { change, idempotency } = placed;
    let instance = &change.after;
    if let Some((key, fingerprint)) = &idempotency
        && let Some(known) = read::idempotency(connection, instance.tenant, key).await?
    {
        if known.fingerprint != *fingerprint {
            return Ok(Verdict::Undo(CreateOutcome::KeyReused));
        }
        let made = read::of_tenant(connection, instance.tenant, known.instance).await?;
        let made = made.ok_or_else(|| violation(format!("idempotency key {key:?} made an instance that is gone")))?;
        return Ok(Verdict::Undo(CreateOutcome::Replayed(Box::new(made))));
    }
    if let Some(place) = change.takes
        && !node::take(connection, place, instance.demand()).await?
    {
        // A name in use will stay so, a full node may not: the lasting reason is the one to tell.
        let taken = taken(connection, instance).await?;
        return Ok(Verdict::Undo(taken.unwrap_or(CreateOutcome::NodeRefused)));
    }
    if !insert(connection, instance).await? {
        let taken = taken(connection, instance).await?;
        return Ok(Verdict::Undo(taken.unwrap_or(CreateOutcome::NameTaken)));
    }
    change::insert_labels(connection, instance).await?;
    if let Some((key, fingerprint)) = idempotency {
        insert_idempotency(connection, instance, key, fingerprint).await?;
    }
    meter::apply_edges(connection, instance, &change.meter).await?;
    event::append(connection, instance, &change.events).await?;
    if let Some(place) = change.takes {
        node::bump_desired(connection, place).await?;
    }
    Ok(Verdict::Keep(CreateOutcome::Created(Box::new(change.after))))
}

/// Which of its names is another's.
async fn taken(connection: &mut SqliteConnection, instance: &Instance) -> Result<Option<CreateOutcome>, StoreError> {
    if read::by_name(connection, instance.tenant, instance.project, &instance.name).await?.is_some() {
        return Ok(Some(CreateOutcome::NameTaken));
    }
    Ok(read::has_dns_name(connection, instance).await?.then_some(CreateOutcome::DnsNameTaken))
}

/// Inserts the record; false when one of its names is in use.
async fn insert(connection: &mut SqliteConnection, instance: &Instance) -> Result<bool, StoreError> {
    let number = feed::next_change(connection).await?;
    let inserted = sqlx::query(
        "INSERT INTO instances (id, tenant, project, name, state, node, generation, revision, holds_resources, address,
             created_at, deleted_at, changed, record, dns_scope, dns_label)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (tenant, project, name) WHERE deleted_at IS NULL DO NOTHING
         ON CONFLICT (tenant, coalesce(dns_scope, project), coalesce(dns_label, name)) WHERE deleted_at IS NULL DO NOTHING",
    )
    .bind(instance.id.blob())
    .bind(instance.tenant.blob())
    .bind(instance.project.blob())
    .bind(instance.name.as_str())
    .bind(instance.state.as_str())
    .bind(instance.node.map(|node| node.blob()))
    .bind(integer(instance.generation.0)?)
    .bind(integer(instance.revision.0)?)
    .bind(instance.holds_resources)
    .bind(instance.address.map(Ipv4Addr::to_bits))
    .bind(instance.created_at.as_micros())
    .bind(instance.deleted_at.map(Timestamp::as_micros))
    .bind(number)
    .bind(json(instance)?)
    .bind((!instance.spec.dns_reuse_scope.is_project()).then(|| instance.dns_scope().as_bytes().to_vec()))
    .bind(instance.spec.dns_label.as_ref().map(DnsLabel::as_str))
    .execute(connection)
    .await
    .context("creating an instance")?;
    Ok(inserted.rows_affected() == 1)
}

async fn insert_idempotency(
    connection: &mut SqliteConnection,
    instance: &Instance,
    key: String,
    fingerprint: [u8; 32],
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO idempotency (tenant, key, fingerprint, instance, created_at) VALUES (?, ?, ?, ?, ?)")
        .bind(instance.tenant.blob())
        .bind(key)
        .bind(fingerprint.to_vec())
        .bind(instance.id.blob())
        .bind(instance.created_at.as_micros())
        .execute(connection)
        .await
        .context("storing an idempotency record")
        .map(drop)
}
