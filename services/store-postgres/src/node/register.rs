//! What a node says of itself. The protocol of leases is 2 ([`NodeRecord::PROTOCOL_OF_LEASES`]).

use std::net::Ipv4Addr;

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use wherry_model::{Gpus, NodeRecord, Timestamp};
use wherry_store::{NodeRegistration, StoreError};

use super::record;
use crate::columns::integer;
use crate::error::Context;
use crate::rows::columns;
use crate::transaction::{Unit, Verdict};

/// Said twice it is as said once.
pub(super) struct Register<'a> {
    pub(super) node: &'a NodeRegistration,
    pub(super) now: Timestamp,
}

#[async_trait]
impl Unit for Register<'_> {
    type Answer = Option<NodeRecord>;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<Option<NodeRecord>>, StoreError> {
        let node = self.node;
        let row = sqlx::query(
            concat!(
                "INSERT INTO nodes AS known (id, name, architecture, state, capacity_cpu_millis, capacity_memory_mib,
                 capacity_instances, boot, range_first, range_prefix, proof_at, desired_revision, underlay, protocol,
                 isolation, zone, disk_total_mib, overcommit_cpu_percent, overcommit_memory_percent,
                 overcommit_disk_percent, gpu_model, gpu_count)
             SELECT $1, $2, $3, 'ready', $4, $5, $6, $7, $8, $9, $10, CASE WHEN $11 > 0 THEN $11 + 1 ELSE 0 END, $12, $13,
                 $14, $15, $16, $17, $18, $19, $20, $21
             WHERE NOT EXISTS (SELECT 1 FROM enrolments WHERE node = $1 AND removed_at IS NOT NULL)
             ON CONFLICT (id) DO UPDATE SET
                 name = excluded.name,
                 architecture = excluded.architecture,
                 state = CASE known.state WHEN 'silent' THEN 'ready' ELSE known.state END,
                 capacity_cpu_millis = excluded.capacity_cpu_millis,
                 capacity_memory_mib = excluded.capacity_memory_mib,
                 capacity_instances = excluded.capacity_instances,
                 boot = excluded.boot,
                 range_first = excluded.range_first,
                 range_prefix = excluded.range_prefix,
                 desired_revision = CASE WHEN known.desired_revision < $11 THEN $11 + 1 ELSE known.desired_revision END
                     + CASE WHEN $13 >= 2 AND known.protocol < 2 THEN 1 ELSE 0 END,
                 epoch = known.epoch + CASE WHEN $13 >= 2 AND known.protocol < 2 THEN 1 ELSE 0 END,
                 unfenced_heartbeats = CASE WHEN $13 >= 2 AND known.protocol < 2 THEN known.heartbeats
                     ELSE known.unfenced_heartbeats END,
                 heartbeats = known.heartbeats + CASE WHEN known.protocol >= 2 AND $13 < 2 THEN 1 ELSE 0 END,
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
             WHERE known.removed_at IS NULL
             RETURNING ",
                columns!(nodes)
            ),
        )
        .bind(node.id.as_uuid())
        .bind(&node.name)
        .bind(node.architecture.as_str())
        .bind(integer(node.capacity.cpu_millis)?)
        .bind(integer(node.capacity.memory_mib)?)
        .bind(i64::from(node.capacity.instances))
        .bind(node.boot.as_uuid())
        .bind(i64::from(node.range.0.to_bits()))
        .bind(i64::from(node.range.1))
        .bind(self.now.as_micros())
        .bind(integer(node.held_revision)?)
        .bind(node.underlay.map(|address| i64::from(Ipv4Addr::to_bits(address))))
        .bind(i64::from(node.protocol))
        .bind(i64::from(node.isolation.bits()))
        .bind(node.zone.map(|zone| zone.to_string()))
        .bind(node.disk_mib.map(integer).transpose()?)
        .bind(i64::from(node.overcommit.cpu_percent))
        .bind(i64::from(node.overcommit.memory_percent))
        .bind(i64::from(node.overcommit.disk_percent))
        .bind(node.gpus.model.map(|model| model.to_string()))
        .bind(i64::from(node.gpus.count.min(Gpus::MOST_COUNT)))
        .fetch_optional(connection)
        .await
        .context("registering a node")?;
        match row {
            Some(row) => record(&row).map(|record| Verdict::Keep(Some(record))),
            None => Ok(Verdict::Undo(None)),
        }
    }
}
