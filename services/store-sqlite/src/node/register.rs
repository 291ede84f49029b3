//! What a node says of itself. The protocol of leases is 2 ([`NodeRecord::PROTOCOL_OF_LEASES`]).

use std::net::Ipv4Addr;

use sqlx::sqlite::SqliteConnection;
use wherry_model::{Gpus, NodeRecord, Timestamp};
use wherry_store::{NodeRegistration, StoreError};

use super::record;
use crate::columns::{Blob, integer};
use crate::error::Context;
use crate::writer::Verdict;

pub(super) async fn register(
    connection: &mut SqliteConnection,
    node: NodeRegistration,
    now: Timestamp,
) -> Result<Verdict<Option<NodeRecord>>, StoreError> {
    const CONTEXT: &str = "registering a node";
    let row = sqlx::query(
        "INSERT INTO nodes (id, name, architecture, state, capacity_cpu_millis, capacity_memory_mib,
             capacity_instances, boot, range_first, range_prefix, proof_at, desired_revision, underlay, protocol,
             isolation, zone, disk_total_mib, overcommit_cpu_percent, overcommit_memory_percent, overcommit_disk_percent,
             gpu_model, gpu_count)
         SELECT ?1, ?2, ?3, 'ready', ?4, ?5, ?6, ?7, ?8, ?9, ?10, CASE WHEN ?11 > 0 THEN ?11 + 1 ELSE 0 END, ?12, ?13,
             ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21
         WHERE NOT EXISTS (SELECT 1 FROM enrolments WHERE node = ?1 AND removed_at IS NOT NULL)
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
                 + (?13 >= 2 AND protocol < 2),
             epoch = epoch + (?13 >= 2 AND protocol < 2),
             unfenced_heartbeats = CASE WHEN ?13 >= 2 AND protocol < 2 THEN heartbeats ELSE unfenced_heartbeats END,
             heartbeats = heartbeats + (protocol >= 2 AND ?13 < 2),
             protocol = excluded.protocol,
             underlay = excluded.underlay,
             isolation = excluded.isolation,
             zone = excluded.zone,
             disk_total_mib = excluded.disk_total_mib,
             overcommit_cpu_percent = excluded.overcommit_cpu_percent,
             overcommit_memory_percent = excluded.overcommit_memory_percent,
             overcommit_disk_percent = excluded.overcommit_disk_percent,
             gpu_model = excluded.gpu_model,
             gpu_count = excluded.gpu_count
         WHERE removed_at IS NULL
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
    .bind(node.underlay.map(Ipv4Addr::to_bits))
    .bind(node.protocol)
    .bind(node.isolation.bits())
    .bind(node.zone.map(|zone| zone.to_string()))
    .bind(node.disk_mib.map(integer).transpose()?)
    .bind(node.overcommit.cpu_percent)
    .bind(node.overcommit.memory_percent)
    .bind(node.overcommit.disk_percent)
    .bind(node.gpus.model.map(|model| model.to_string()))
    .bind(node.gpus.count.min(Gpus::MOST_COUNT))
    .fetch_optional(connection)
    .await
    .context(CONTEXT)?;
    match row {
        Some(row) => record(&row).map(|record| Verdict::Keep(Some(record))),
        None => Ok(Verdict::Undo(None)),
    }
}
