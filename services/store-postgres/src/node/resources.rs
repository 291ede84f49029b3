//! What a transaction does to the rows of nodes: resources given back and taken, and their count of what they must do.
//!
//! Collected while the transaction does everything else and done in one statement at its end: these rows are wanted by
//! everybody, and are locked until the commit. Several are locked in the order of their ids.

use std::collections::BTreeMap;

use sqlx::postgres::PgConnection;
use uuid::Uuid;
use wherry_model::{Architecture, Demand, IsolationSet, NodeId};
use wherry_store::StoreError;

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
    /// Two instances want two kinds of machine of one node.
    impossible: bool,
    news: i64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Amounts {
    cpu_millis: i64,
    memory_mib: i64,
    instances: i64,
}

impl Amounts {
    fn add(&mut self, demand: Demand) {
        self.cpu_millis += i64::from(demand.cpu.get());
        self.memory_mib += i64::from(demand.memory.get());
        self.instances += 1;
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
        self.0.entry(node).or_default().given.add(demand);
    }

    pub(crate) fn take(&mut self, node: NodeId, demand: Demand) {
        let difference = self.0.entry(node).or_default();
        difference.taken.add(demand);
        difference.fenced |= demand.fenced;
        difference.protocol = difference.protocol.max(demand.protocol);
        difference.isolation = difference.isolation.or([demand.isolation].into_iter().collect());
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
                     $8::int8[], $9::text[], $10::bool[], $11::int8[], $12::int8[])
                     AS wanted (id, given_cpu, given_memory, given, taken_cpu, taken_memory, taken, news, architecture,
                         fenced, protocol, isolation)
             )",
            $before,
            "UPDATE nodes AS node SET
                 used_cpu_millis = node.used_cpu_millis - wanted.given_cpu + wanted.taken_cpu,
                 used_memory_mib = node.used_memory_mib - wanted.given_memory + wanted.taken_memory,
                 used_instances = node.used_instances - wanted.given + wanted.taken,
                 desired_revision = node.desired_revision + wanted.news
             FROM wanted
             WHERE node.id = wanted.id",
            $ordered,
            "
               AND node.used_cpu_millis >= wanted.given_cpu
               AND node.used_memory_mib >= wanted.given_memory
               AND node.used_instances >= wanted.given
               AND (wanted.taken = 0 OR (
                   node.state = 'ready' AND node.removed_at IS NULL
                   AND node.capacity_cpu_millis - node.used_cpu_millis + wanted.given_cpu >= wanted.taken_cpu
                   AND node.capacity_memory_mib - node.used_memory_mib + wanted.given_memory >= wanted.taken_memory
                   AND node.capacity_instances - node.used_instances + wanted.given >= wanted.taken
                   AND (wanted.architecture IS NULL OR node.architecture = wanted.architecture)
                   AND (NOT wanted.fenced
                       OR (node.protocol >= 2 AND node.heartbeats > coalesce(node.unfenced_heartbeats, -1)))
                   AND node.protocol >= wanted.protocol
                   AND node.isolation & wanted.isolation = wanted.isolation
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
