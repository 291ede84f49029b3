//! Nodes, and the resources on their rows.

use std::net::Ipv4Addr;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use wherry_model::{Architecture, Capacity, Demand, NodeId, NodeRecord, NodeState, Timestamp};
use wherry_store::{NodeRegistration, NodeStore, StoreError};

use crate::SqliteStore;
use crate::columns::{Blob, Fields, integer};
use crate::error::{Context, violation};
use crate::writer::Verdict;

#[async_trait]
impl NodeStore for SqliteStore {
    async fn register_node(&self, node: &NodeRegistration, now: Timestamp) -> Result<NodeRecord, StoreError> {
        let node = node.clone();
        self.writer
            .run("registering a node", move |connection| {
                Box::pin(async move {
                    let row = sqlx::query(
                        "INSERT INTO nodes (id, name, architecture, state, capacity_cpu_millis, capacity_memory_mib,
                             capacity_instances, boot, range_first, range_prefix, proof_at, desired_revision)
                         VALUES (?1, ?2, ?3, 'ready', ?4, ?5, ?6, ?7, ?8, ?9, ?10,
                             CASE WHEN ?11 > 0 THEN ?11 + 1 ELSE 0 END)
                         ON CONFLICT (id) DO UPDATE SET
                             name = excluded.name,
                             architecture = excluded.architecture,
                             state = CASE state WHEN 'silent' THEN 'ready' ELSE state END,
                             capacity_cpu_millis = excluded.capacity_cpu_millis,
                             capacity_memory_mib = excluded.capacity_memory_mib,
                             capacity_instances = excluded.capacity_instances,
                             boot = excluded.boot,
                             range_first = excluded.range_first,
                             range_prefix = excluded.range_prefix,
                             desired_revision = CASE WHEN desired_revision < ?11 THEN ?11 + 1 ELSE desired_revision END
                         RETURNING *",
                    )
                    .bind(node.id.blob())
                    .bind(&node.name)
                    .bind(node.architecture.as_str())
                    .bind(integer(node.capacity.cpu_millis)?)
                    .bind(integer(node.capacity.memory_mib)?)
                    .bind(node.capacity.instances)
                    .bind(node.boot.blob())
                    .bind(node.range.0.to_bits())
                    .bind(node.range.1)
                    .bind(now.as_micros())
                    .bind(integer(node.held_revision)?)
                    .fetch_one(connection)
                    .await
                    .context("registering a node")?;
                    record(&row).map(Verdict::Keep)
                })
            })
            .await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM nodes ORDER BY id").fetch_all(&self.readers).await.context("listing nodes")?;
        rows.iter().map(record).collect()
    }

    async fn node(&self, id: NodeId) -> Result<Option<NodeRecord>, StoreError> {
        let row = sqlx::query("SELECT * FROM nodes WHERE id = ?")
            .bind(id.blob())
            .fetch_optional(&self.readers)
            .await
            .context("reading a node")?;
        row.as_ref().map(record).transpose()
    }

    async fn prove_life(&self, id: NodeId, at: Timestamp) -> Result<bool, StoreError> {
        self.writer
            .run("storing a proof of life", move |connection| {
                Box::pin(async move {
                    let found = sqlx::query("UPDATE nodes SET proof_at = max(proof_at, ?) WHERE id = ?")
                        .bind(at.as_micros())
                        .bind(id.blob())
                        .execute(connection)
                        .await
                        .context("storing a proof of life")?;
                    Ok(if found.rows_affected() == 1 { Verdict::Keep(true) } else { Verdict::Undo(false) })
                })
            })
            .await
    }

    async fn set_node_state(&self, id: NodeId, state: NodeState) -> Result<bool, StoreError> {
        self.writer
            .run("setting a node's state", move |connection| {
                Box::pin(async move {
                    let found = sqlx::query("UPDATE nodes SET state = ? WHERE id = ?")
                        .bind(state_name(state))
                        .bind(id.blob())
                        .execute(connection)
                        .await
                        .context("setting a node's state")?;
                    Ok(if found.rows_affected() == 1 { Verdict::Keep(true) } else { Verdict::Undo(false) })
                })
            })
            .await
    }
}

/// Takes `demand` from the node's row if the node is ready, of the right kind and has it left. The row is the referee.
pub(crate) async fn take(connection: &mut SqliteConnection, node: NodeId, demand: Demand) -> Result<bool, StoreError> {
    let taken = sqlx::query(
        "UPDATE nodes SET
             used_cpu_millis = used_cpu_millis + ?2,
             used_memory_mib = used_memory_mib + ?3,
             used_instances = used_instances + 1
         WHERE id = ?1 AND state = 'ready'
           AND capacity_cpu_millis - used_cpu_millis >= ?2
           AND capacity_memory_mib - used_memory_mib >= ?3
           AND capacity_instances - used_instances >= 1
           AND (?4 IS NULL OR architecture = ?4)",
    )
    .bind(node.blob())
    .bind(demand.cpu.get())
    .bind(demand.memory.get())
    .bind(demand.architecture.map(Architecture::as_str))
    .execute(connection)
    .await
    .context("taking resources of a node")?;
    Ok(taken.rows_affected() == 1)
}

/// Gives back what [`take`] took. More than is taken is a bug of the caller.
pub(crate) async fn give_back(
    connection: &mut SqliteConnection,
    node: NodeId,
    demand: Demand,
) -> Result<(), StoreError> {
    let given = sqlx::query(
        "UPDATE nodes SET
             used_cpu_millis = used_cpu_millis - ?2,
             used_memory_mib = used_memory_mib - ?3,
             used_instances = used_instances - 1
         WHERE id = ?1 AND used_cpu_millis >= ?2 AND used_memory_mib >= ?3 AND used_instances >= 1",
    )
    .bind(node.blob())
    .bind(demand.cpu.get())
    .bind(demand.memory.get())
    .execute(connection)
    .await
    .context("giving resources back to a node")?;
    if given.rows_affected() == 1 {
        Ok(())
    } else {
        Err(violation(format!("more was given back to node {node} than was taken from it")))
    }
}

/// Counts a change of what the node must do.
pub(crate) async fn bump_desired(connection: &mut SqliteConnection, node: NodeId) -> Result<(), StoreError> {
    sqlx::query("UPDATE nodes SET desired_revision = desired_revision + 1 WHERE id = ?")
        .bind(node.blob())
        .execute(connection)
        .await
        .context("counting a node's desired revision")
        .map(drop)
}

const fn state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Ready => "ready",
        NodeState::Cordoned => "cordoned",
        NodeState::Silent => "silent",
    }
}

fn record(row: &SqliteRow) -> Result<NodeRecord, StoreError> {
    let fields = Fields { table: "nodes", row };
    Ok(NodeRecord {
        id: fields.id("id")?,
        name: fields.get("name")?,
        architecture: fields.variant("architecture")?,
        state: fields.variant("state")?,
        capacity: Capacity {
            cpu_millis: fields.count("capacity_cpu_millis")?,
            memory_mib: fields.count("capacity_memory_mib")?,
            instances: fields.count("capacity_instances")?,
        },
        used: Capacity {
            cpu_millis: fields.count("used_cpu_millis")?,
            memory_mib: fields.count("used_memory_mib")?,
            instances: fields.count("used_instances")?,
        },
        boot: fields.id("boot")?,
        range: (Ipv4Addr::from_bits(fields.count("range_first")?), fields.count("range_prefix")?),
        proof_at: fields.time("proof_at")?,
        desired_revision: fields.count("desired_revision")?,
    })
}
