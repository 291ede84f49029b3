//! What a transaction does to the rows of nodes: resources given back and taken, and their count of what they must do.
//!
//! Collected while the transaction does everything else and done in one statement at its end: these rows are wanted by
//! everybody, and are locked until the commit. Several are locked in the order of their ids.

use std::collections::BTreeMap;

use sqlx::postgres::PgConnection;
use uuid::Uuid;
use wherry_model::{Architecture, Demand, GpuDemand, IsolationSet, NodeId, TenantId, ZoneName};
use wherry_store::StoreError;

use super::gpus;
use crate::error::{Context, violation};

/// What happens to one node's row.
#[derive(Debug, Default)]
struct Difference {
    given: Amounts,
    taken: Amounts,
    architecture: Option<Architecture>,
    /// One that is taken must be fenced.
    fenced: bool,
    /// What the agent of one that is taken must speak at least.
    protocol: u32,
    /// The isolation classes that one that is taken must offer.
    isolation: IsolationSet,
    /// The zone in which one that is taken must stand.
    zone: Option<ZoneName>,
    /// The tenant of all that is taken; none when there are several.
    tenant: Option<TenantId>,
    /// One that is taken must be alone with its tenant.
    dedicated: bool,
    /// What is taken is of several tenants.
    is_mixed: bool,
    /// Two instances want two kinds of machine of one node.
    impossible: bool,
    /// GPUs that are given back, and those that are taken.
    gpus_given: Vec<GpuDemand>,
    gpus_taken: Vec<GpuDemand>,
    news: i64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Amounts {
    cpu_millis: i64,
    memory_mib: i64,
    instances: i64,
    disk_mib: i64,
}

impl Amounts {
    fn add(&mut self, demand: Demand) {
        self.cpu_millis += i64::from(demand.cpu.get());
        self.memory_mib += i64::from(demand.memory.get());
        self.instances += 1;
        self.disk_mib += i64::from(demand.disk.get());
    }
}

/// What a transaction does to the rows of nodes.
#[derive(Debug, Default)]
pub(crate) struct Settlement(BTreeMap<NodeId, Difference>);

/// What became of a settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settled {
    /// All of it was done.
    Yes,
    /// These nodes are not ready, or have not enough left; the transaction is to be undone.
    Refused(Vec<NodeId>),
}

impl Settlement {
    pub(crate) fn give_back(&mut self, node: NodeId, demand: Demand) {
        let difference = self.0.entry(node).or_default();
        difference.given.add(demand);
        difference.gpus_given.extend(demand.gpu);
    }

    pub(crate) fn take(&mut self, node: NodeId, demand: Demand) {
        let difference = self.0.entry(node).or_default();
        difference.taken.add(demand);
        difference.gpus_taken.extend(demand.gpu);
        difference.fenced |= demand.fenced;
        difference.protocol = difference.protocol.max(demand.protocol);
        difference.isolation = difference.isolation.or([demand.isolation].into_iter().collect());
        let is_first = difference.taken.instances == 1;
        difference.is_mixed |= demand.tenant.is_none() || (!is_first && difference.tenant != demand.tenant);
        difference.tenant = demand.tenant.filter(|_| !difference.is_mixed);
        difference.dedicated |= demand.dedicated;
        difference.impossible |= difference.dedicated && difference.is_mixed;
        match (difference.zone, demand.zone) {
            (Some(one), Some(other)) => difference.impossible |= one != other,
            (None, asked) => difference.zone = asked,
            (Some(_), None) => {}
        }
        match (difference.architecture, demand.architecture) {
            (Some(one), Some(other)) => difference.impossible |= one != other,
            (None, asked) => difference.architecture = asked,
            (Some(_), None) => {}
        }
    }

    /// Counts a change of what the node must do.
    pub(crate) fn tell(&mut self, node: NodeId) {
        self.0.entry(node).or_default().news += 1;
    }

    /// What happens to the GPUs of each of these nodes; none where nothing happens to any.
    fn gpus(&self) -> BTreeMap<NodeId, gpus::Difference<'_>> {
        if self.0.values().all(|one| one.gpus_given.is_empty() && one.gpus_taken.is_empty()) {
            return BTreeMap::new();
        }
        let of = |one: &'_ Difference| one.given.instances;
        let all = self.0.iter().map(|(node, one)| {
            (*node, gpus::Difference { given: &one.gpus_given, taken: &one.gpus_taken, leaving: of(one) })
        });
        all.collect()
    }

    /// Does it all. The rows are the referees.
    pub(crate) async fn settle(self, connection: &mut PgConnection) -> Result<Settled, StoreError> {
        const CONTEXT: &str = "settling resources of nodes";
        if self.0.is_empty() {
            return Ok(Settled::Yes);
        }
        let impossible: Vec<NodeId> = self.0.iter().filter(|(_, one)| one.impossible).map(|(node, _)| *node).collect();
        if !impossible.is_empty() {
            return Ok(Settled::Refused(impossible));
        }
        let refused = gpus::settle(connection, &self.gpus()).await?;
        if !refused.is_empty() {
            return Ok(Settled::Refused(refused));
        }
        let statement = if self.0.len() == 1 { ONE } else { SEVERAL };
        let all = || self.0.values();
        let column = |of: fn(&Difference) -> i64| all().map(of).collect::<Vec<i64>>();
        let done: Vec<Uuid> = sqlx::query_scalar(statement)
            .bind(self.0.keys().map(NodeId::as_uuid).collect::<Vec<_>>())
            .bind(column(|one| one.given.cpu_millis))
            .bind(column(|one| one.given.memory_mib))
            .bind(column(|one| one.given.instances))
            .bind(column(|one| one.taken.cpu_millis))
            .bind(column(|one| one.taken.memory_mib))
            .bind(column(|one| one.taken.instances))
            .bind(column(|one| one.news))
            .bind(all().map(|one| one.architecture.map(Architecture::as_str)).collect::<Vec<_>>())
            .bind(all().map(|one| one.fenced).collect::<Vec<_>>())
            .bind(column(|one| i64::from(one.protocol)))
            .bind(column(|one| i64::from(one.isolation.bits())))
            .bind(column(|one| one.given.disk_mib))
            .bind(column(|one| one.taken.disk_mib))
            .bind(all().map(|one| one.zone.map(|zone| zone.to_string())).collect::<Vec<_>>())
            .bind(all().map(|one| one.tenant.map(|tenant| tenant.as_uuid())).collect::<Vec<_>>())
            .bind(all().map(|one| one.dedicated).collect::<Vec<_>>())
            .fetch_all(&mut *connection)
            .await
            .context(CONTEXT)?;
        let missed: Vec<NodeId> = self.0.keys().copied().filter(|node| !done.contains(&node.as_uuid())).collect();
        for node in &missed {
            let Some(Difference { given, .. }) = self.0.get(node) else { continue };
            let held: bool = sqlx::query_scalar(
                "SELECT EXISTS (
                     SELECT 1 FROM nodes
                     WHERE id = $1 AND used_cpu_millis >= $2 AND used_memory_mib >= $3 AND used_instances >= $4
                 )",
            )
            .bind(node.as_uuid())
            .bind(given.cpu_millis)
            .bind(given.memory_mib)
            .bind(given.instances)
            .fetch_one(&mut *connection)
            .await
            .context(CONTEXT)?;
            if !held && given.instances > 0 {
                return Err(violation(format!("more was given back to node {node} than was taken from it")));
            }
        }
        Ok(if missed.is_empty() { Settled::Yes } else { Settled::Refused(missed) })
    }
}

/// Gives back, then takes: an instance that is placed anew on its own node may use what it had.
macro_rules! settle {
    ($before:literal, $ordered:literal) => {
        concat!(
            "WITH wanted AS (
                 SELECT * FROM unnest($1::uuid[], $2::int8[], $3::int8[], $4::int8[], $5::int8[], $6::int8[], $7::int8[],
                     $8::int8[], $9::text[], $10::bool[], $11::int8[], $12::int8[], $13::int8[], $14::int8[], $15::text[],
                     $16::uuid[], $17::bool[])
                     AS wanted (id, given_cpu, given_memory, given, taken_cpu, taken_memory, taken, news, architecture,
                         fenced, protocol, isolation, given_disk, taken_disk, zone, tenant, dedicated)
             )",
            $before,
            "UPDATE nodes AS node SET
                 used_cpu_millis = node.used_cpu_millis - wanted.given_cpu + wanted.taken_cpu,
                 used_memory_mib = node.used_memory_mib - wanted.given_memory + wanted.taken_memory,
                 used_instances = node.used_instances - wanted.given + wanted.taken,
                 desired_revision = node.desired_revision + wanted.news,
                 disk_used_mib = CASE WHEN node.used_instances = wanted.given THEN 0
                     ELSE greatest(node.disk_used_mib - wanted.given_disk, 0) END + wanted.taken_disk,
                 sole_tenant = CASE WHEN wanted.dedicated THEN wanted.tenant
                     WHEN node.used_instances = wanted.given THEN NULL ELSE node.sole_tenant END
             FROM wanted
             WHERE node.id = wanted.id",
            $ordered,
            "
               AND node.used_cpu_millis >= wanted.given_cpu
               AND node.used_memory_mib >= wanted.given_memory
               AND node.used_instances >= wanted.given
               AND (wanted.taken = 0 OR (
                   node.state = 'ready' AND node.removed_at IS NULL
                   AND CASE node.overcommit_cpu_percent WHEN 100 THEN node.capacity_cpu_millis
                       ELSE node.capacity_cpu_millis * node.overcommit_cpu_percent / 100 END
                       - node.used_cpu_millis + wanted.given_cpu >= wanted.taken_cpu
                   AND CASE node.overcommit_memory_percent WHEN 100 THEN node.capacity_memory_mib
                       ELSE node.capacity_memory_mib * node.overcommit_memory_percent / 100 END
                       - node.used_memory_mib + wanted.given_memory >= wanted.taken_memory
                   AND node.capacity_instances - node.used_instances + wanted.given >= wanted.taken
                   AND (wanted.architecture IS NULL OR node.architecture = wanted.architecture)
                   AND (NOT wanted.fenced
                       OR (node.protocol >= 2 AND node.heartbeats > coalesce(node.unfenced_heartbeats, -1)))
                   AND node.protocol >= wanted.protocol
                   AND node.isolation & wanted.isolation = wanted.isolation
                   AND (wanted.taken_disk = 0 OR node.disk_total_mib IS NULL
                       OR CASE node.overcommit_disk_percent WHEN 100 THEN node.disk_total_mib
                           ELSE node.disk_total_mib * node.overcommit_disk_percent / 100 END
                           - CASE WHEN node.used_instances = wanted.given THEN 0
                             ELSE greatest(node.disk_used_mib - wanted.given_disk, 0) END >= wanted.taken_disk)
                   AND (wanted.zone IS NULL OR node.zone = wanted.zone)
                   AND (node.used_instances = wanted.given OR (node.sole_tenant IS NULL AND NOT wanted.dedicated)
                       OR node.sole_tenant = wanted.tenant)
               ))
             RETURNING node.id"
        )
    };
}

const ONE: &str = settle!(" ", "");
const SEVERAL: &str = settle!(
    ", locked AS MATERIALIZED (SELECT id FROM nodes WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE) ",
    " AND (SELECT count(*) FROM locked) > 0"
);
