//! Calls on their way to a node.

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgRow};
use wherry_model::{NodeId, Timestamp};
use wherry_store::{CallRecord, CallStore, StoreError};

use crate::PostgresStore;
use crate::columns::Fields;
use crate::error::Context;
use crate::transaction::{Unit, Verdict};

/// Expired calls that one new call takes out.
const FORGOTTEN_AT_ONCE: i64 = 100;

#[async_trait]
impl CallStore for PostgresStore {
    async fn post_call(&self, call: &CallRecord, now: Timestamp) -> Result<(), StoreError> {
        self.connections.write("posting a call", &Post { call, now }).await
    }

    async fn called_nodes(&self, now: Timestamp) -> Result<Vec<NodeId>, StoreError> {
        let query = sqlx::query("SELECT DISTINCT node FROM calls WHERE expires_at > $1").bind(now.as_micros());
        let rows = self.connections.fetch_all("looking for calls", query).await?;
        rows.iter().map(|row| Fields { table: "calls", row }.id("node")).collect()
    }

    async fn take_calls(&self, node: NodeId, now: Timestamp) -> Result<Vec<CallRecord>, StoreError> {
        // Most often there is none: seen without a write.
        let waiting = sqlx::query("SELECT 1 FROM calls WHERE node = $1 AND expires_at > $2 LIMIT 1")
            .bind(node.as_uuid())
            .bind(now.as_micros());
        if self.connections.fetch_one("looking for calls", waiting).await?.is_none() {
            return Ok(Vec::new());
        }
        self.connections.write("taking calls", &Take { node, now }).await
    }
}

struct Post<'a> {
    call: &'a CallRecord,
    now: Timestamp,
}

#[async_trait]
impl Unit for Post<'_> {
    type Answer = ();

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<()>, StoreError> {
        // What another one is forgetting already is left to it.
        sqlx::query(
            "DELETE FROM calls WHERE ticket_hash IN (
                 SELECT ticket_hash FROM calls WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2
                 FOR UPDATE SKIP LOCKED
             )",
        )
        .bind(self.now.as_micros())
        .bind(FORGOTTEN_AT_ONCE)
        .execute(&mut *connection)
        .await
        .context("forgetting expired calls")?;
        sqlx::query("INSERT INTO calls (ticket_hash, node, expires_at, call) VALUES ($1, $2, $3, $4)")
            .bind(self.call.ticket_hash.to_vec())
            .bind(self.call.node.as_uuid())
            .bind(self.call.expires_at.as_micros())
            .bind(&self.call.call)
            .execute(connection)
            .await
            .context("posting a call")?;
        Ok(Verdict::Keep(()))
    }

    /// It may be taken already; then it is posted again, to nobody who waits for it, and expires.
    async fn stored(&self, connection: &mut PgConnection) -> Result<Option<()>, StoreError> {
        let found = sqlx::query("SELECT 1 FROM calls WHERE ticket_hash = $1")
            .bind(self.call.ticket_hash.to_vec())
            .fetch_optional(connection)
            .await
            .context("posting a call")?;
        Ok(found.map(drop))
    }
}

/// What a lost COMMIT has taken is not found again: its askers time out and ask again.
struct Take {
    node: NodeId,
    now: Timestamp,
}

#[async_trait]
impl Unit for Take {
    type Answer = Vec<CallRecord>;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<Vec<CallRecord>>, StoreError> {
        let rows = sqlx::query(
            "DELETE FROM calls WHERE ticket_hash IN (
                 SELECT ticket_hash FROM calls WHERE node = $1 AND expires_at > $2 FOR UPDATE SKIP LOCKED
             ) RETURNING ticket_hash, node, expires_at, call",
        )
        .bind(self.node.as_uuid())
        .bind(self.now.as_micros())
        .fetch_all(connection)
        .await
        .context("taking calls")?;
        let mut calls = rows.iter().map(record).collect::<Result<Vec<_>, _>>()?;
        if calls.is_empty() {
            return Ok(Verdict::Undo(calls));
        }
        // `RETURNING` has no order.
        calls.sort_by_key(|call| (call.expires_at, call.ticket_hash));
        Ok(Verdict::Keep(calls))
    }

    fn is_news(&self) -> bool {
        false
    }
}

fn record(row: &PgRow) -> Result<CallRecord, StoreError> {
    let fields = Fields { table: "calls", row };
    Ok(CallRecord {
        ticket_hash: fields.hash("ticket_hash")?,
        node: fields.id("node")?,
        expires_at: fields.time("expires_at")?,
        call: fields.get("call")?,
    })
}
