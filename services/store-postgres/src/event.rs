//! Events. Numbers are drawn under a lock of the project that is held to the commit, so they appear in their order.
//!
//! Rejected: reading only up to the oldest transaction under way (a tenant would not find the event of what it just did, and
//! one transaction that hangs would hide the events of all).

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgRow};
use uuid::Uuid;
use wherry_model::{Event, Generation, Instance, InstanceId, ProjectId, TenantId};
use wherry_store::{EventQuery, EventStore, StoreError, StoredEvent, Trimmed};

use crate::PostgresStore;
use crate::columns::{Fields, integer};
use crate::error::Context;
use crate::readable::Filling;
use crate::rows::columns;
use crate::transaction::{NUMBERING, Unit, Verdict};

#[async_trait]
impl EventStore for PostgresStore {
    async fn events(&self, query: &EventQuery) -> Result<Vec<StoredEvent>, StoreError> {
        let after = i64::try_from(query.after).unwrap_or(i64::MAX);
        let (tenant, project) = (query.tenant.as_uuid(), query.project.as_uuid());
        let mut page = Filling::of(query.limit);
        while !page.is_done() {
            let (limit, passed) = page.next();
            let statement = match query.instance {
                None => sqlx::query(concat!(
                    "SELECT ",
                    columns!(events),
                    " FROM events WHERE seq > $1 AND tenant = $2 AND project = $3 ORDER BY seq LIMIT $4 OFFSET $5"
                )),
                Some(_) => sqlx::query(concat!(
                    "SELECT ",
                    columns!(events),
                    " FROM events WHERE seq > $1 AND tenant = $2 AND project = $3 AND instance = $6
                     ORDER BY seq LIMIT $4 OFFSET $5"
                )),
            };
            let statement = statement.bind(after).bind(tenant).bind(project).bind(limit).bind(passed);
            let statement = match query.instance {
                None => statement,
                Some(instance) => statement.bind(instance.as_uuid()),
            };
            page.take(&self.connections.fetch_all("reading events", statement).await?, stored);
        }
        Ok(page.found())
    }

    async fn events_forgotten(&self, query: &EventQuery) -> Result<u64, StoreError> {
        let statement = match query.instance {
            None => sqlx::query("SELECT seq FROM events_forgotten WHERE tenant = $1 AND project = $2")
                .bind(query.tenant.as_uuid())
                .bind(query.project.as_uuid()),
            Some(instance) => {
                sqlx::query("SELECT seq FROM instance_events_forgotten WHERE instance = $1").bind(instance.as_uuid())
            }
        };
        let row = self.connections.fetch_one("reading which events were forgotten", statement).await?;
        row.map_or(Ok(0), |row| Fields { table: "events_forgotten", row: &row }.count("seq"))
    }

    async fn trim_events(
        &self,
        after: Option<InstanceId>,
        keep: u32,
        instances: u32,
        limit: u32,
    ) -> Result<Trimmed, StoreError> {
        // The newest event that is one too many: what is older goes with it. Later events change nothing about that.
        let statement = sqlx::query(
            "SELECT id, tenant, project, (
                 SELECT seq FROM events WHERE events.instance = instances.id ORDER BY seq DESC LIMIT 1 OFFSET $2
             ) AS last
             FROM instances WHERE ($1 IS NULL OR id > $1) ORDER BY id LIMIT $3",
        )
        .bind(after.map(|id| id.as_uuid()))
        .bind(i64::from(keep))
        .bind(i64::from(instances));
        let rows = self.connections.fetch_all("looking for instances with many events", statement).await?;
        let mut next = after;
        let mut trimmed = 0;
        for row in &rows {
            let fields = Fields { table: "instances", row };
            let instance: InstanceId = fields.id("id")?;
            if let Some(last) = fields.get::<Option<i64>>("last")? {
                let (tenant, project) = (fields.id("tenant")?, fields.id("project")?);
                let left = limit.saturating_sub(u32::try_from(trimmed).unwrap_or(u32::MAX));
                let oldest = Oldest { tenant, project, instance, last, limit: left };
                let gone = self.connections.write("forgetting old events", &oldest).await?;
                trimmed += gone;
                if gone >= u64::from(left) {
                    // There may be more of it.
                    return Ok(Trimmed { events: trimmed, next, is_end: false });
                }
            }
            next = Some(instance);
        }
        let is_end = u32::try_from(rows.len()).is_ok_and(|found| found < instances);
        Ok(Trimmed { events: trimmed, next: next.filter(|_| !is_end), is_end })
    }
}

/// The oldest events of an instance, up to one, and no more than so many.
struct Oldest {
    tenant: TenantId,
    project: ProjectId,
    instance: InstanceId,
    last: i64,
    limit: u32,
}

#[async_trait]
impl Unit for Oldest {
    type Answer = u64;

    /// The instance is locked first, as by whoever changes or forgets it.
    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<u64>, StoreError> {
        const CONTEXT: &str = "forgetting old events";
        let last: Option<i64> = sqlx::query_scalar(
            "WITH held AS MATERIALIZED (SELECT id FROM instances WHERE id = $1 FOR KEY SHARE)
             SELECT max(seq) FROM (
                 SELECT seq FROM events WHERE instance = (SELECT id FROM held) AND seq <= $2 ORDER BY seq LIMIT $3
             ) AS oldest",
        )
        .bind(self.instance.as_uuid())
        .bind(self.last)
        .bind(i64::from(self.limit))
        .fetch_one(&mut *connection)
        .await
        .context(CONTEXT)?;
        let Some(last) = last else { return Ok(Verdict::Undo(0)) };
        sqlx::query(
            "INSERT INTO instance_events_forgotten (instance, seq) VALUES ($1, $2)
             ON CONFLICT (instance) DO UPDATE SET seq = greatest(instance_events_forgotten.seq, excluded.seq)",
        )
        .bind(self.instance.as_uuid())
        .bind(last)
        .execute(&mut *connection)
        .await
        .context(CONTEXT)?;
        sqlx::query(
            "INSERT INTO events_forgotten (tenant, project, seq) VALUES ($1, $2, $3)
             ON CONFLICT (tenant, project) DO UPDATE SET seq = greatest(events_forgotten.seq, excluded.seq)",
        )
        .bind(self.tenant.as_uuid())
        .bind(self.project.as_uuid())
        .bind(last)
        .execute(&mut *connection)
        .await
        .context(CONTEXT)?;
        let gone = sqlx::query("DELETE FROM events WHERE instance = $1 AND seq <= $2")
            .bind(self.instance.as_uuid())
            .bind(last)
            .execute(connection)
            .await
            .context(CONTEXT)?;
        Ok(Verdict::Keep(gone.rows_affected()))
    }

    fn is_news(&self) -> bool {
        false
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
