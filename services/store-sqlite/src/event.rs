//! Events. Their numbers are in commit order because there is one writer.

use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use wherry_model::{Event, Generation, Instance, InstanceId, ProjectId, TenantId};
use wherry_store::{EventQuery, EventStore, StoreError, StoredEvent, Trimmed};

use crate::SqliteStore;
use crate::columns::{Blob, Fields, integer};
use crate::error::Context;
use crate::gather::{pieces, places};
use crate::readable::Filling;
use crate::writer::Verdict;

#[async_trait]
impl EventStore for SqliteStore {
    async fn events(&self, query: &EventQuery) -> Result<Vec<StoredEvent>, StoreError> {
        let after = i64::try_from(query.after).unwrap_or(i64::MAX);
        let mut page = Filling::of(query.limit);
        while !page.is_done() {
            let (limit, passed) = page.next();
            let rows = match query.instance {
                None => sqlx::query(
                    "SELECT * FROM events WHERE tenant = ? AND project = ? AND seq > ? ORDER BY seq LIMIT ? OFFSET ?",
                )
                .bind(query.tenant.blob())
                .bind(query.project.blob()),
                Some(instance) => sqlx::query(
                    "SELECT * FROM events WHERE instance = ? AND tenant = ? AND project = ? AND seq > ?
                     ORDER BY seq LIMIT ? OFFSET ?",
                )
                .bind(instance.blob())
                .bind(query.tenant.blob())
                .bind(query.project.blob()),
            }
            .bind(after)
            .bind(limit)
            .bind(passed)
            .fetch_all(&self.readers)
            .await
            .context("reading events")?;
            page.take(&rows, stored);
        }
        Ok(page.found())
    }

    async fn events_forgotten(&self, query: &EventQuery) -> Result<u64, StoreError> {
        let found: Option<i64> = match query.instance {
            None => sqlx::query_scalar("SELECT seq FROM events_forgotten WHERE tenant = ? AND project = ?")
                .bind(query.tenant.blob())
                .bind(query.project.blob()),
            Some(instance) => {
                sqlx::query_scalar("SELECT seq FROM instance_events_forgotten WHERE instance = ?").bind(instance.blob())
            }
        }
        .fetch_optional(&self.readers)
        .await
        .context("reading which events were forgotten")?;
        Ok(found.and_then(|seq| u64::try_from(seq).ok()).unwrap_or(0))
    }

    async fn trim_events(
        &self,
        after: Option<InstanceId>,
        keep: u32,
        instances: u32,
        limit: u32,
    ) -> Result<Trimmed, StoreError> {
        const CONTEXT: &str = "looking for instances with many events";
        // The newest event that is one too many: what is older goes with it. Later events change nothing about that.
        let rows = sqlx::query(
            "SELECT id, tenant, project, (
                 SELECT seq FROM events WHERE instance = instances.id ORDER BY seq DESC LIMIT 1 OFFSET ?2
             ) AS last
             FROM instances WHERE id > ?1 ORDER BY id LIMIT ?3",
        )
        .bind(after.map(|id| id.blob()).unwrap_or_default())
        .bind(keep)
        .bind(instances)
        .fetch_all(&self.readers)
        .await
        .context(CONTEXT)?;
        let mut next = after;
        let mut trimmed = 0;
        for row in &rows {
            let fields = Fields { table: "instances", row };
            let instance: InstanceId = fields.id("id")?;
            if let Some(last) = fields.get::<Option<i64>>("last")? {
                let (tenant, project) = (fields.id("tenant")?, fields.id("project")?);
                let left = limit.saturating_sub(u32::try_from(trimmed).unwrap_or(u32::MAX));
                let oldest = Oldest { tenant, project, instance, last, limit: left };
                let gone = self
                    .writer
                    .run_quietly("forgetting old events", move |connection| Box::pin(oldest.forget(connection)))
                    .await?;
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

impl Oldest {
    async fn forget(self, connection: &mut SqliteConnection) -> Result<Verdict<u64>, StoreError> {
        const CONTEXT: &str = "forgetting old events";
        let last: Option<i64> = sqlx::query_scalar(
            "SELECT max(seq) FROM (SELECT seq FROM events WHERE instance = ? AND seq <= ? ORDER BY seq LIMIT ?)",
        )
        .bind(self.instance.blob())
        .bind(self.last)
        .bind(self.limit)
        .fetch_one(&mut *connection)
        .await
        .context(CONTEXT)?;
        let Some(last) = last else { return Ok(Verdict::Undo(0)) };
        sqlx::query(
            "INSERT INTO instance_events_forgotten (instance, seq) VALUES (?, ?)
             ON CONFLICT (instance) DO UPDATE SET seq = max(seq, excluded.seq)",
        )
        .bind(self.instance.blob())
        .bind(last)
        .execute(&mut *connection)
        .await
        .context(CONTEXT)?;
        sqlx::query(
            "INSERT INTO events_forgotten (tenant, project, seq) VALUES (?, ?, ?)
             ON CONFLICT (tenant, project) DO UPDATE SET seq = max(seq, excluded.seq)",
        )
        .bind(self.tenant.blob())
        .bind(self.project.blob())
        .bind(last)
        .execute(&mut *connection)
        .await
        .context(CONTEXT)?;
        let gone = sqlx::query("DELETE FROM events WHERE instance = ? AND seq <= ?")
            .bind(self.instance.blob())
            .bind(last)
            .execute(connection)
            .await
            .context(CONTEXT)?;
        Ok(Verdict::Keep(gone.rows_affected()))
    }
}

/// Numbers and stores the events of a change.
pub(crate) async fn append(
    connection: &mut SqliteConnection,
    instance: &Instance,
    events: &[Event],
) -> Result<(), StoreError> {
    let rows: Vec<(&Instance, &Event)> = events.iter().map(|event| (instance, event)).collect();
    append_all(connection, &rows).await
}

/// The same for the events of several instances, in this order.
pub(crate) async fn append_all(
    connection: &mut SqliteConnection,
    rows: &[(&Instance, &Event)],
) -> Result<(), StoreError> {
    for piece in pieces(rows) {
        let sql = format!(
            "INSERT INTO events (tenant, project, instance, name, at, kind, state, generation, message, actor) VALUES {}",
            places(piece.len(), 10)
        );
        let mut insert = sqlx::query(AssertSqlSafe(sql));
        for (instance, event) in piece {
            insert = insert
                .bind(instance.tenant.blob())
                .bind(instance.project.blob())
                .bind(instance.id.blob())
                .bind(instance.name.as_str())
                .bind(event.at.as_micros())
                .bind(event.kind.as_str())
                .bind(event.state.as_str())
                .bind(integer(event.generation.0)?)
                .bind(&event.message)
                .bind(&event.actor);
        }
        insert.execute(&mut *connection).await.context("storing events")?;
    }
    Ok(())
}

fn stored(row: &SqliteRow) -> Result<StoredEvent, StoreError> {
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
