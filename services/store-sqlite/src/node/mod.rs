//! Nodes: `register` and this file keep what they say of themselves, `life` hears, doubts and fences them, `removal`
//! takes them out, `resources` is what placements do to their rows.

mod gpus;
mod life;
mod register;
mod removal;
mod resources;

use std::net::Ipv4Addr;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use wherry_model::lifecycle::Change;
use wherry_model::{
    Capacity, Drain, DrainThen, IsolationSet, NodeId, NodeOffer, NodeRecord, NodeState, Overcommit, Stock, Timestamp,
};
use wherry_store::{FenceOutcome, LifeOutcome, NodeRegistration, NodeStore, RemoveOutcome, StoreError};

use crate::SqliteStore;
use crate::columns::{Blob, Fields};
use crate::error::{Context, violation};
use crate::writer::{News, Verdict};

pub(crate) use life::Life;
pub(crate) use resources::{bump_desired, give_back, take, take_each};

#[async_trait]
impl NodeStore for SqliteStore {
    async fn register_node(&self, node: &NodeRegistration, now: Timestamp) -> Result<Option<NodeRecord>, StoreError> {
        let node = node.clone();
        self.writer
            .run("registering a node", move |connection| Box::pin(register::register(connection, node, now)))
            .await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        let rows = sqlx::query("SELECT * FROM nodes WHERE removed_at IS NULL ORDER BY id")
            .fetch_all(&self.readers)
            .await
            .context("listing nodes")?;
        rows.iter().map(record).collect()
    }

    async fn node(&self, id: NodeId) -> Result<Option<NodeRecord>, StoreError> {
        let row = sqlx::query("SELECT * FROM nodes WHERE id = ? AND removed_at IS NULL")
            .bind(id.blob())
            .fetch_optional(&self.readers)
            .await
            .context("reading a node")?;
        row.as_ref().map(record).transpose()
    }

    async fn prove_life(&self, id: NodeId, at: Timestamp, epoch: u64) -> Result<LifeOutcome, StoreError> {
        let asked = ("storing a proof of life", News::No);
        self.lives.run(&self.writer, asked, Life { id, at, epoch }, |c, work| Box::pin(life::prove(c, work))).await
    }

    async fn raise_doubt(&self, id: NodeId) -> Result<bool, StoreError> {
        self.writer.run("raising a doubt", move |connection| Box::pin(life::raise_doubt(connection, id))).await
    }

    async fn resolve_doubt(&self, id: NodeId, doubt: u64) -> Result<bool, StoreError> {
        self.writer
            .run("resolving a doubt", move |connection| Box::pin(life::resolve_doubt(connection, id, doubt)))
            .await
    }

    async fn fence(&self, id: NodeId, heartbeats: u64, changes: &[Change]) -> Result<FenceOutcome, StoreError> {
        let changes = changes.to_vec();
        self.writer
            .run("fencing a node", move |connection| Box::pin(life::fence(connection, id, heartbeats, changes)))
            .await
    }

    async fn set_node_state(&self, id: NodeId, state: NodeState) -> Result<bool, StoreError> {
        if state == NodeState::Draining {
            return Err(violation("a node is emptied by a drain, not by its state alone"));
        }
        self.writer
            .run("setting a node's state", move |connection| Box::pin(set_state(connection, id, state, None)))
            .await
    }

    async fn set_drain(&self, id: NodeId, drain: Option<&Drain>) -> Result<bool, StoreError> {
        let drain = drain.copied();
        let state = if drain.is_some() { NodeState::Draining } else { NodeState::Cordoned };
        self.writer
            .run("setting a node's drain", move |connection| Box::pin(set_state(connection, id, state, drain)))
            .await
    }

    async fn remove_node(&self, id: NodeId, now: Timestamp) -> Result<RemoveOutcome, StoreError> {
        self.writer.run("removing a node", move |connection| Box::pin(removal::remove(connection, id, now))).await
    }
}

/// Sets state and drain together. A node that is not ready does not become silent: that would lose an operator's word.
async fn set_state(
    connection: &mut SqliteConnection,
    id: NodeId,
    state: NodeState,
    drain: Option<Drain>,
) -> Result<Verdict<bool>, StoreError> {
    let found = sqlx::query(
        "UPDATE nodes SET
             state = CASE WHEN ?2 = 'silent' AND state <> 'ready' THEN state ELSE ?2 END,
             drain_asked_at = CASE WHEN ?2 = 'silent' THEN drain_asked_at ELSE ?3 END,
             drain_grace_until = CASE WHEN ?2 = 'silent' THEN drain_grace_until ELSE ?4 END,
             drain_then = CASE WHEN ?2 = 'silent' THEN drain_then ELSE ?5 END
         WHERE id = ?1 AND removed_at IS NULL",
    )
    .bind(id.blob())
    .bind(state_name(state))
    .bind(drain.map(|drain| drain.asked_at.as_micros()))
    .bind(drain.map(|drain| drain.grace_until.as_micros()))
    .bind(drain.map(|drain| drain.then.as_str()))
    .execute(connection)
    .await
    .context("setting a node's state")?;
    Ok(found_one(found.rows_affected()))
}

const fn found_one(rows: u64) -> Verdict<bool> {
    if rows == 1 { Verdict::Keep(true) } else { Verdict::Undo(false) }
}

const fn state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Ready => "ready",
        NodeState::Cordoned => "cordoned",
        NodeState::Draining => "draining",
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
        epoch: fields.count("epoch")?,
        heartbeats: fields.count("heartbeats")?,
        fenced: fields.count_if_any::<u64>("fenced_heartbeats")? == Some(fields.count("heartbeats")?),
        protocol: fields.count("protocol")?,
        isolation: IsolationSet::from_bits(fields.count("isolation")?),
        offer: offer(&fields)?,
        fences: fields.count::<u32>("protocol")? >= NodeRecord::PROTOCOL_OF_LEASES
            && fields.count_if_any::<u64>("unfenced_heartbeats")? < Some(fields.count("heartbeats")?),
        underlay: fields.count_if_any("underlay")?.map(Ipv4Addr::from_bits),
        drain: drain(&fields)?,
    })
}

fn offer(fields: &Fields<'_>) -> Result<NodeOffer, StoreError> {
    let is_empty = fields.count::<u32>("used_instances")? == 0;
    let used_mib = if is_empty { 0 } else { fields.count("disk_used_mib")? };
    let zone: Option<String> = fields.get("zone")?;
    let wrong = |error| fields.corrupt(format!("zone: {error}"));
    Ok(NodeOffer {
        zone: zone.map(|zone| zone.parse().map_err(wrong)).transpose()?,
        disk: fields.count_if_any("disk_total_mib")?.map(|total_mib| Stock { total_mib, used_mib }),
        sole_tenant: if is_empty { None } else { fields.id_if_any("sole_tenant")? },
        overcommit: Overcommit {
            cpu_percent: fields.count("overcommit_cpu_percent")?,
            memory_percent: fields.count("overcommit_memory_percent")?,
            disk_percent: fields.count("overcommit_disk_percent")?,
        },
        gpus: gpus::of(fields)?,
        ..NodeOffer::default()
    })
}

fn drain(fields: &Fields<'_>) -> Result<Option<Drain>, StoreError> {
    let Some(asked_at) = fields.time_if_any("drain_asked_at")? else { return Ok(None) };
    let then: DrainThen = fields.variant("drain_then")?;
    Ok(Some(Drain { asked_at, grace_until: fields.time("drain_grace_until")?, then }))
}
