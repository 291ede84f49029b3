//! Calls on their way to a node.

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use wherry_model::{NodeId, Timestamp};
use wherry_store::{CallRecord, CallStore, StoreError};

use crate::SqliteStore;
use crate::columns::{Blob, Fields};
use crate::error::Context;
use crate::writer::Verdict;

/// Expired calls that one new call takes out.
const FORGOTTEN_AT_ONCE: u32 = 100;

#[async_trait]
impl CallStore for SqliteStore {
    async fn post_call(&self, call: &CallRecord, now: Timestamp) -> Result<(), StoreError> {
        let call = call.clone();
        self.writer.run("posting a call", move |connection| Box::pin(post(connection, call, now))).await
    }

    async fn called_nodes(&self, now: Timestamp) -> Result<Vec<NodeId>, StoreError> {
        let rows = sqlx::query("SELECT DISTINCT node FROM calls WHERE expires_at > ? ORDER BY node")
            .bind(now.as_micros())
            .fetch_all(&self.readers)
            .await
            .context("looking for calls")?;
        rows.iter().map(|row| Fields { table: "calls", row }.id("node")).collect()
    }

    async fn take_calls(&self, node: NodeId, now: Timestamp) -> Result<Vec<CallRecord>, StoreError> {
        // Most often there is none: seen without the writer.
        let waiting: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM calls WHERE node = ? AND expires_at > ?)")
            .bind(node.blob())
            .bind(now.as_micros())
            .fetch_one(&self.readers)
            .await
            .context("looking for calls")?;
        if !waiting {
            return Ok(Vec::new());
        }
        self.writer.run_quietly("taking calls", move |connection| Box::pin(take(connection, node, now))).await
    }
}

async fn post(connection: &mut SqliteConnection, call: CallRecord, now: Timestamp) -> Result<Verdict<()>, StoreError> {
    sqlx::query(
        "DELETE FROM calls WHERE ticket_hash IN
             (SELECT ticket_hash FROM calls WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
    )
    .bind(now.as_micros())
    .bind(FORGOTTEN_AT_ONCE)
    .execute(&mut *connection)
    .await
    .context("forgetting expired calls")?;
    sqlx::query("INSERT INTO calls (ticket_hash, node, expires_at, call) VALUES (?, ?, ?, ?)")
        .bind(call.ticket_hash.to_vec())
        .bind(call.node.blob())
        .bind(call.expires_at.as_micros())
        .bind(call.call)
        .execute(connection)
        .await
        .context("posting a call")?;
    Ok(Verdict::Keep(()))
}

async fn take(
    connection: &mut SqliteConnection,
    node: NodeId,
    now: Timestamp,
) -> Result<Verdict<Vec<CallRecord>>, StoreError> {
    let rows = sqlx::query(
        "DELETE FROM calls WHERE node = ? AND expires_at > ? RETURNING ticket_hash, node, expires_at, call",
    )
    .bind(node.blob())
    .bind(now.as_micros())
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

fn record(row: &SqliteRow) -> Result<CallRecord, StoreError> {
    let fields = Fields { table: "calls", row };
    Ok(CallRecord {
        ticket_hash: fields.hash("ticket_hash")?,
        node: fields.id("node")?,
        expires_at: fields.time("expires_at")?,
        call: fields.get("call")?,
    })
}
