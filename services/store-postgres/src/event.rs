//! Events. Numbers are drawn under a lock of the project that is held to the commit, so they appear in their order.
//!
//! Rejected: reading only up to the oldest transaction under way (a tenant would not find the event of what it just did, and
//! one transaction that hangs would hide the events of all).

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgRow};
use uuid::Uuid;
use wherry_model::{Event, Generation, Instance};
use wherry_store::{EventQuery, EventStore, StoreError, StoredEvent};

use crate::PostgresStore;
use crate::columns::{Fields, integer};
use crate::error::Context;
use crate::rows::columns;
use crate::transaction::NUMBERING;

#[async_trait]
impl EventStore for PostgresStore {
    async fn events(&self, query: &EventQuery) -> Result<Vec<StoredEvent>, StoreError> {
        let after = i64::try_from(query.after).unwrap_or(i64::MAX);
        let limit = i64::from(query.limit);
        let (tenant, project) = (query.tenant.as_uuid(), query.project.as_uuid());
        let statement = match query.instance {
            None => sqlx::query(concat!(
                "SELECT ",
                columns!(events),
                " FROM events WHERE seq > $1 AND tenant = $2 AND project = $3 ORDER BY seq LIMIT $4"
            ))
            .bind(after)
            .bind(tenant)
            .bind(project)
            .bind(limit),
            Some(instance) => sqlx::query(concat!(
                "SELECT ",
                columns!(events),
                " FROM events WHERE seq > $1 AND tenant = $2 AND project = $3 AND instance = $5
                 ORDER BY seq LIMIT $4"
            ))
            .bind(after)
            .bind(tenant)
            .bind(project)
            .bind(limit)
            .bind(instance.as_uuid()),
        };
        self.connections.fetch_all("reading events", statement).await?.iter().map(stored).collect()
    }
}

/// Events on their way into the database, column by column.
#[derive(Default)]
pub(crate) struct Batch {
    locks: Vec<i32>,
    tenants: Vec<Uuid>,
    projects: Vec<Uuid>,
    instances: Vec<Uuid>,
    names: Vec<String>,
    moments: Vec<i64>,
    kinds: Vec<&'static str>,
    states: Vec<&'static str>,
    generations: Vec<i64>,
    messages: Vec<String>,
    actors: Vec<Option<String>>,
}

impl Batch {
    /// Adds the events of a change.
    pub(crate) fn add(&mut self, instance: &Instance, events: &[Event]) -> Result<(), StoreError> {
        for event in events {
            self.locks.push(lock(instance.project.as_uuid()));
            self.tenants.push(instance.tenant.as_uuid());
            self.projects.push(instance.project.as_uuid());
            self.instances.push(instance.id.as_uuid());
            self.names.push(instance.name.as_str().to_owned());
            self.moments.push(event.at.as_micros());
            self.kinds.push(event.kind.as_str());
            self.states.push(event.state.as_str());
            self.generations.push(integer(event.generation.0)?);
            self.messages.push(event.message.clone());
            self.actors.push(event.actor.clone());
        }
        Ok(())
    }

    /// Numbers and stores them. The last statement of a transaction: others wait for its end.
    pub(crate) async fn store(mut self, connection: &mut PgConnection) -> Result<(), StoreError> {
        if self.tenants.is_empty() {
            return Ok(());
        }
        self.locks.sort_unstable();
        self.locks.dedup();
        // The count makes every row wait for all the locks; numbers are drawn by the insert, above the sort.
        sqlx::query(
            "WITH turn AS MATERIALIZED (
                 SELECT pg_advisory_xact_lock($1, project) FROM unnest($2::int4[]) AS project
             )
             INSERT INTO events (tenant, project, instance, name, at, kind, state, generation, message, actor)
             SELECT event.tenant, event.project, event.instance, event.name, event.at, event.kind, event.state,
                 event.generation, event.message, event.actor
             FROM (SELECT count(*) AS held FROM turn) AS turns,
                 unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::int8[], $8::text[], $9::text[], $10::int8[],
                     $11::text[], $12::text[]) WITH ORDINALITY
                 AS event (tenant, project, instance, name, at, kind, state, generation, message, actor, place)
             WHERE turns.held > 0
             ORDER BY event.place",
        )
        .bind(NUMBERING)
        .bind(self.locks)
        .bind(self.tenants)
        .bind(self.projects)
        .bind(self.instances)
        .bind(self.names)
        .bind(self.moments)
        .bind(self.kinds)
        .bind(self.states)
        .bind(self.generations)
        .bind(self.messages)
        .bind(self.actors)
        .execute(connection)
        .await
        .context("storing events")
        .map(drop)
    }
}

/// The lock of a project. Two projects that share one wait for each other, nothing worse.
fn lock(project: Uuid) -> i32 {
    let (high, low) = project.as_u64_pair();
    let folded = high ^ low;
    let bytes = (folded ^ (folded >> 32)).to_le_bytes();
    i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn stored(row: &PgRow) -> Result<StoredEvent, StoreError> {
    let fields = Fields { table: "events", row };
    Ok(StoredEvent {
        seq: fields.count("seq")?,
        instance: fields.id("instance")?,
        name: fields.parse("name")?,
        event: Event {
            kind: fields.variant("kind")?,
            at: fields.time("at")?,
            state: fields.variant("state")?,
            generation: Generation(fields.count("generation")?),
            message: fields.get("message")?,
            actor: fields.get("actor")?,
        },
    })
}
