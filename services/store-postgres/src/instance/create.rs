//! Place and create: everything that makes an instance exist, or nothing of it.
//!
//! [`attempt`] takes any number of creates at once, in three statements. One that cannot be made is told by its position;
//! why, is looked up afterwards and for that one alone ([`Create`]).

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use uuid::Uuid;
use wherry_model::Timestamp;
use wherry_store::{CreateOutcome, Placed, StoreError};

use super::change::address;
use super::labels::Labels;
use super::read;
use crate::columns::{integer, json};
use crate::error::{Context, constraint_behind, unavailable, violation};
use crate::event;
use crate::meter;
use crate::node::{Settled, Settlement};
use crate::transaction::{Unit, Verdict};

const CONTEXT: &str = "creating an instance";

/// What stood in the way of a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Its name, or its DNS name, is in use.
    Name,
    /// Its idempotency key is in use.
    Key,
    /// Its node has refused.
    Node,
}

/// One create, with the reason if it is refused.
pub(super) struct Create<'a> {
    pub(super) placed: &'a Placed,
}

#[async_trait]
impl Unit for Create<'_> {
    type Answer = CreateOutcome;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<CreateOutcome>, StoreError> {
        let trouble = match attempt(connection, &[self.placed]).await {
            Ok(troubles) => troubles.into_iter().next().map(|(_, trouble)| trouble),
            // A node that was never there.
            Err(error) if constraint_behind(&error) == Some("instances_node") => {
                return Ok(Verdict::Undo(CreateOutcome::NodeRefused));
            }
            Err(error) => return Err(error),
        };
        let Some(trouble) = trouble else {
            return Ok(Verdict::Keep(CreateOutcome::Created(Box::new(self.placed.change.after.clone()))));
        };
        if let Some(known) = self.replay(connection).await? {
            return Ok(Verdict::Undo(known));
        }
        match trouble {
            Trouble::Name => {
                let taken =
                    read::by_name(&self.placed.change.after).fetch_optional(connection).await.context(CONTEXT)?;
                Ok(Verdict::Undo(if taken.is_some() { CreateOutcome::NameTaken } else { CreateOutcome::DnsNameTaken }))
            }
            Trouble::Node => Ok(Verdict::Undo(CreateOutcome::NodeRefused)),
            Trouble::Key => Err(unavailable(CONTEXT, "its idempotency key was being forgotten")),
        }
    }

    /// Nobody else makes an instance of this id.
    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<CreateOutcome>, StoreError> {
        let after = &self.placed.change.after;
        let found = read::of_tenant(after.tenant, after.id).fetch_optional(connection).await.context(CONTEXT)?;
        Ok(found.map(|_| CreateOutcome::Created(Box::new(after.clone()))))
    }
}

impl Create<'_> {
    /// What the idempotency key has made before.
    async fn replay(&self, connection: &mut PgConnection) -> Result<Option<CreateOutcome>, StoreError> {
        let Some((key, fingerprint)) = &self.placed.idempotency else { return Ok(None) };
        let after = &self.placed.change.after;
        let row = read::idempotency(after.tenant, key).fetch_optional(&mut *connection).await.context(CONTEXT)?;
        let known = row.as_ref().map(read::idempotency_record).transpose()?;
        // What this transaction has written itself, before its node refused, is no replay.
        let Some(known) = known.filter(|known| known.instance != after.id) else { return Ok(None) };
        if known.fingerprint != *fingerprint {
            return Ok(Some(CreateOutcome::KeyReused));
        }
        let row = read::of_tenant(after.tenant, known.instance).fetch_optional(connection).await.context(CONTEXT)?;
        let made = row.as_ref().map(read::record).transpose()?;
        let made = made.ok_or_else(|| violation(format!("idempotency key {key:?} made an instance that is gone")))?;
        Ok(Some(CreateOutcome::Replayed(Box::new(made))))
    }
}

/// Writes all of them. Names those that cannot be made: then the transaction must be undone.
pub(super) async fn attempt(
    connection: &mut PgConnection,
    creates: &[&Placed],
) -> Result<Vec<(usize, Trouble)>, StoreError> {
    let troubles = insert(connection, creates).await?;
    if !troubles.is_empty() {
        return Ok(troubles);
    }
    let mut settlement = Settlement::default();
    let mut events = event::Batch::default();
    for placed in creates {
        let change = &placed.change;
        meter::apply_edges(connection, &change.after, &change.meter).await?;
        if let Some(place) = change.takes {
            settlement.take(place, change.after.demand());
            settlement.tell(place);
        }
        events.add(&change.after, &change.events)?;
    }
    if let Settled::Refused(nodes) = settlement.settle(connection).await? {
        let refused = |placed: &Placed| placed.change.takes.is_some_and(|node| nodes.contains(&node));
        let at = creates.iter().enumerate().filter(|(_, placed)| refused(placed));
        return Ok(at.map(|(position, _)| (position, Trouble::Node)).collect());
    }
    events.store(connection).await?;
    Ok(Vec::new())
}

/// Records, keys and labels in one statement.
async fn insert(connection: &mut PgConnection, creates: &[&Placed]) -> Result<Vec<(usize, Trouble)>, StoreError> {
    let after = || creates.iter().map(|placed| &placed.change.after);
    let (mut generations, mut revisions, mut records) = (Vec::new(), Vec::new(), Vec::new());
    let mut labels = Labels::default();
    for instance in after() {
        generations.push(integer(instance.generation.0)?);
        revisions.push(integer(instance.revision.0)?);
        records.push(json(instance)?);
        labels.add(instance);
    }
    let keys = creates.iter().map(|placed| placed.idempotency.as_ref().map(|(key, _)| key.clone()));
    let fingerprints = creates.iter().map(|placed| placed.idempotency.as_ref().map(|(_, print)| print.to_vec()));
    let rows = sqlx::query(
        "WITH asked AS MATERIALIZED (
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::uuid[], $7::int8[],
                     $8::int8[], $9::bool[], $10::int8[], $11::int8[], $12::int8[], $13::text[], $14::text[], $15::bytea[],
                     $19::uuid[], $20::text[])
                 WITH ORDINALITY
                 AS asked (id, tenant, project, name, state, node, generation, revision, holds_resources, address,
                     created_at, deleted_at, record, key, fingerprint, dns_scope, dns_label, place)
         ),
         made AS (
             INSERT INTO instances (id, tenant, project, name, state, node, generation, revision, holds_resources, address,
                 created_at, deleted_at, changed, record, dns_scope, dns_label)
             SELECT id, tenant, project, name, state, node, generation, revision, holds_resources, address,
                 created_at, deleted_at, pg_current_xact_id()::text::bigint, record::json, dns_scope, dns_label
             FROM asked ORDER BY tenant, project, name
             ON CONFLICT DO NOTHING
             RETURNING id
         ),
         keyed AS (
             INSERT INTO idempotency (tenant, key, fingerprint, instance, created_at)
             SELECT tenant, key, fingerprint, id, created_at FROM asked JOIN made USING (id)
             WHERE key IS NOT NULL ORDER BY tenant, key
             ON CONFLICT (tenant, key) DO NOTHING
             RETURNING instance
         ),
         labelled AS (
             INSERT INTO instance_labels (tenant, project, key, value, live, created_at, instance)
             SELECT asked.tenant, asked.project, label.key, label.value, asked.deleted_at IS NULL, asked.created_at, asked.id
             FROM unnest($16::uuid[], $17::text[], $18::text[]) AS label (instance, key, value)
                 JOIN asked ON asked.id = label.instance JOIN made ON made.id = asked.id
         )
         SELECT asked.place - 1 AS place, made.id IS NULL AS name_taken
         FROM asked LEFT JOIN made USING (id) LEFT JOIN keyed ON keyed.instance = asked.id
         WHERE made.id IS NULL OR (asked.key IS NOT NULL AND keyed.instance IS NULL)
         ORDER BY place",
    )
    .bind(after().map(|one| one.id.as_uuid()).collect::<Vec<Uuid>>())
    .bind(after().map(|one| one.tenant.as_uuid()).collect::<Vec<_>>())
    .bind(after().map(|one| one.project.as_uuid()).collect::<Vec<_>>())
    .bind(after().map(|one| one.name.as_str()).collect::<Vec<_>>())
    .bind(after().map(|one| one.state.as_str()).collect::<Vec<_>>())
    .bind(after().map(|one| one.node.map(|node| node.as_uuid())).collect::<Vec<_>>())
    .bind(generations)
    .bind(revisions)
    .bind(after().map(|one| one.holds_resources).collect::<Vec<_>>())
    .bind(after().map(|one| one.address.map(address)).collect::<Vec<_>>())
    .bind(after().map(|one| one.created_at.as_micros()).collect::<Vec<_>>())
    .bind(after().map(|one| one.deleted_at.map(Timestamp::as_micros)).collect::<Vec<_>>())
    .bind(records)
    .bind(keys.collect::<Vec<_>>())
    .bind(fingerprints.collect::<Vec<_>>())
    .bind(labels.instances)
    .bind(labels.keys)
    .bind(labels.values)
    .bind(after().map(|one| (!one.spec.dns_reuse_scope.is_project()).then(|| one.dns_scope())).collect::<Vec<_>>())
    .bind(after().map(|one| one.spec.dns_label.as_ref().map(ToString::to_string)).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
    .context(CONTEXT)?;
    let trouble = |row: &sqlx::postgres::PgRow| -> Result<(usize, Trouble), sqlx::Error> {
        let place: i64 = row.try_get("place")?;
        let trouble = if row.try_get("name_taken")? { Trouble::Name } else { Trouble::Key };
        Ok((usize::try_from(place).unwrap_or(0), trouble))
    };
    rows.iter().map(trouble).collect::<Result<_, _>>().context(CONTEXT)
}
