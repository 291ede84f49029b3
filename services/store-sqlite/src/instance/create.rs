//! Place and create: everything that makes an instance exist, or nothing of it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;
use wherry_model::lifecycle::Change;
use wherry_model::{Demand, DnsLabel, Instance, NodeId, Timestamp};
use wherry_store::{CreateOutcome, Placed, StoreError};

use super::{change, read};
use crate::columns::{Blob, integer, json};
use crate::error::{Context, violation};
use crate::event;
use crate::feed;
use crate::gather::{Outcomes, pieces, places};
use crate::meter;
use crate::node;
use crate::writer::Verdict;

/// Several creates in one unit. Most often nothing stands against any of them, and they share their statements; otherwise each is done
/// by itself, in a savepoint of its own.
pub(super) async fn all(
    connection: &mut SqliteConnection,
    work: Vec<Placed>,
) -> Result<Verdict<Outcomes<CreateOutcome>>, StoreError> {
    if work.len() > 1 {
        execute(connection, "SAVEPOINT together").await?;
        let done = together(connection, &work).await;
        if matches!(done, Ok(true)) {
            execute(connection, "RELEASE together").await?;
            let created = work.into_iter().map(|placed| Ok(CreateOutcome::Created(Box::new(placed.change.after))));
            return Ok(Verdict::Keep(created.collect()));
        }
        if let Err(gone) = execute(connection, "ROLLBACK TO together").await {
            // SQLite gave up the whole transaction, on a full disk for example: what it failed with is the cause.
            return Err(done.err().unwrap_or(gone));
        }
        execute(connection, "RELEASE together").await?;
    }
    let (mut outcomes, mut kept) = (Vec::new(), false);
    for placed in work {
        execute(connection, "SAVEPOINT alone").await?;
        let outcome = match place_and_create(connection, placed).await {
            Ok(Verdict::Keep(outcome)) => {
                kept = true;
                Ok(outcome)
            }
            Ok(Verdict::Undo(outcome)) => {
                execute(connection, "ROLLBACK TO alone").await?;
                Ok(outcome)
            }
            Err(error) => {
                if execute(connection, "ROLLBACK TO alone").await.is_err() {
                    // SQLite gave up the whole transaction: this is the cause.
                    return Err(error);
                }
                Err(error)
            }
        };
        execute(connection, "RELEASE alone").await?;
        outcomes.push(outcome);
    }
    Ok(if kept { Verdict::Keep(outcomes) } else { Verdict::Undo(outcomes) })
}

/// True when all of them are stored; otherwise the caller rolls back whatever was.
async fn together(connection: &mut SqliteConnection, work: &[Placed]) -> Result<bool, StoreError> {
    let takes = work.iter().filter_map(|Placed { change, .. }| Some((change.takes?, change.after.demand())));
    let takes: Vec<(NodeId, Demand)> = takes.collect();
    if work.iter().any(|placed| !placed.change.meter.is_empty()) || !node::take_each(connection, &takes).await? {
        return Ok(false);
    }
    let instances: Vec<&Instance> = work.iter().map(|placed| &placed.change.after).collect();
    if !insert_all(connection, &instances).await? {
        return Ok(false);
    }
    for instance in &instances {
        change::insert_labels(connection, instance).await?;
    }
    let keyed = work.iter().filter_map(|placed| Some((&placed.change.after, placed.idempotency.as_ref()?)));
    let keyed: Vec<Keyed<'_>> = keyed.map(|(instance, (key, fingerprint))| (instance, key, fingerprint)).collect();
    if !insert_idempotency(connection, &keyed).await? {
        return Ok(false);
    }
    let events = work.iter().flat_map(|Placed { change, .. }| change.events.iter().map(|event| (&change.after, event)));
    event::append_all(connection, &events.collect::<Vec<_>>()).await?;
    let told: BTreeSet<NodeId> = work.iter().filter_map(|placed| placed.change.takes).collect();
    for node in told {
        node::bump_desired(connection, node).await?;
    }
    Ok(true)
}

/// Takes what the change takes, if it takes anything.
async fn take(connection: &mut SqliteConnection, change: &Change) -> Result<bool, StoreError> {
    match change.takes {
        Some(place) => node::take(connection, place, change.after.demand()).await,
        None => Ok(true),
    }
}

async fn place_and_create(
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
    if !take(connection, &change).await? {
        // A name in use will stay so, a full node may not: the lasting reason is the one to tell.
        let taken = taken(connection, instance).await?;
        return Ok(Verdict::Undo(taken.unwrap_or(CreateOutcome::NodeRefused)));
    }
    if !insert_all(connection, &[instance]).await? {
        let taken = taken(connection, instance).await?;
        return Ok(Verdict::Undo(taken.unwrap_or(CreateOutcome::NameTaken)));
    }
    change::insert_labels(connection, instance).await?;
    if let Some((key, fingerprint)) = &idempotency
        && !insert_idempotency(connection, &[(instance, key, fingerprint)]).await?
    {
        return Err(violation(format!("idempotency key {key:?} was not there and is")));
    }
    meter::apply_edges(connection, instance, &change.meter).await?;
    event::append(connection, instance, &change.events).await?;
    if let Some(place) = change.takes {
        node::bump_desired(connection, place).await?;
    }
    Ok(Verdict::Keep(CreateOutcome::Created(Box::new(change.after))))
}

/// Which of its names is another's.
pub(super) async fn taken(
    connection: &mut SqliteConnection,
    instance: &Instance,
) -> Result<Option<CreateOutcome>, StoreError> {
    if read::by_name(connection, instance.tenant, instance.project, &instance.name).await?.is_some() {
        return Ok(Some(CreateOutcome::NameTaken));
    }
    Ok(read::has_dns_name(connection, instance).await?.then_some(CreateOutcome::DnsNameTaken))
}

/// Inserts the records; false when a name of one is in use.
async fn insert_all(connection: &mut SqliteConnection, instances: &[&Instance]) -> Result<bool, StoreError> {
    let mut number = feed::next_changes(connection, instances.len()).await?;
    for piece in pieces(instances) {
        let sql = format!(
            "INSERT INTO instances (id, tenant, project, name, state, node, generation, revision, holds_resources, address,
                 created_at, deleted_at, changed, record, dns_scope, dns_label)
             VALUES {}
             ON CONFLICT (tenant, project, name) WHERE deleted_at IS NULL DO NOTHING
             ON CONFLICT (tenant, coalesce(dns_scope, project), coalesce(dns_label, name)) WHERE deleted_at IS NULL DO NOTHING",
            places(piece.len(), 16)
        );
        let mut insert = sqlx::query(AssertSqlSafe(sql));
        for instance in piece {
            insert = insert
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
                .bind(instance.spec.dns_label.as_ref().map(DnsLabel::as_str));
            number += 1;
        }
        let inserted = insert.execute(&mut *connection).await.context("creating instances")?;
        if inserted.rows_affected() != count(piece) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a key has made.
type Keyed<'a> = (&'a Instance, &'a String, &'a [u8; 32]);

/// False when one of the keys was used before.
async fn insert_idempotency(connection: &mut SqliteConnection, keyed: &[Keyed<'_>]) -> Result<bool, StoreError> {
    for piece in pieces(keyed) {
        let sql = format!(
            "INSERT INTO idempotency (tenant, key, fingerprint, instance, created_at) VALUES {}
             ON CONFLICT DO NOTHING",
            places(piece.len(), 5)
        );
        let mut insert = sqlx::query(AssertSqlSafe(sql));
        for (instance, key, fingerprint) in piece {
            insert = insert
                .bind(instance.tenant.blob())
                .bind(key.as_str())
                .bind(fingerprint.to_vec())
                .bind(instance.id.blob())
                .bind(instance.created_at.as_micros());
        }
        let inserted = insert.execute(&mut *connection).await.context("storing idempotency records")?;
        if inserted.rows_affected() != count(piece) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn count<T>(rows: &[T]) -> u64 {
    u64::try_from(rows.len()).unwrap_or(u64::MAX)
}

async fn execute(connection: &mut SqliteConnection, statement: &'static str) -> Result<(), StoreError> {
    sqlx::query(statement).execute(connection).await.context("creating instances").map(drop)
}
