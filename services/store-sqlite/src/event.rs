//! Events. Their numbers are in commit order because there is one writer.

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use wherry_model::{Event, Generation, Instance};
use wherry_store::{EventQuery, EventStore, StoreError, StoredEvent};

use crate::SqliteStore;
use crate::columns::{Blob, Fields, integer};
use crate::error::Context;

#[async_trait]
impl EventStore for SqliteStore {
    async fn events(&self, query: &EventQuery) -> Result<Vec<StoredEvent>, StoreError> {
        let after = i64::try_from(query.after).unwrap_or(i64::MAX);
        let rows = match query.instance {
            None => {
                sqlx::query("SELECT * FROM events WHERE tenant = ? AND project = ? AND seq > ? ORDER BY seq LIMIT ?")
                    .bind(query.tenant.blob())
                    .bind(query.project.blob())
            }
            Some(instance) => sqlx::query(
                "SELECT * FROM events WHERE instance = ? AND tenant = ? AND project = ? AND seq > ?
                 ORDER BY seq LIMIT ?",
            )
            .bind(instance.blob())
            .bind(query.tenant.blob())
            .bind(query.project.blob()),
        }
        .bind(after)
        .bind(query.limit)
        .fetch_all(&self.readers)
        .await
        .context("reading events")?;
        rows.iter().map(stored).collect()
    }
}

/// Numbers and stores the events of a change.
pub(crate) async fn append(
    connection: &mut SqliteConnection,
    instance: &Instance,
    events: &[Event],
) -> Result<(), StoreError> {
    for event in events {
        sqlx::query(
            "INSERT INTO events (tenant, project, instance, name, at, kind, state, generation, message, actor)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(instance.tenant.blob())
        .bind(instance.project.blob())
        .bind(instance.id.blob())
        .bind(instance.name.as_str())
        .bind(event.at.as_micros())
        .bind(event.kind.as_str())
        .bind(event.state.as_str())
        .bind(integer(event.generation.0)?)
        .bind(&event.message)
        .bind(&event.actor)
        .execute(&mut *connection)
        .await
        .context("storing an event")?;
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
