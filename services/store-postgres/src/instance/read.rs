//! Look-ups of single instances and of the sets that agents and the zone are made of.

use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use wherry_model::{Instance, InstanceId, NodeId, TenantId};
use wherry_store::{IdempotencyRecord, OnNode, StoreError};

use crate::columns::Fields;

type Asked<'q> = Query<'q, Postgres, PgArguments>;

pub(crate) fn record(row: &PgRow) -> Result<Instance, StoreError> {
    Fields { table: "instances", row }.json("record")
}

pub(super) fn of_tenant<'q>(tenant: TenantId, id: InstanceId) -> Asked<'q> {
    sqlx::query("SELECT id, record::text AS record FROM instances WHERE tenant = $1 AND id = $2")
        .bind(tenant.as_uuid())
        .bind(id.as_uuid())
}

/// The live instance that has the name of `instance`.
pub(super) fn by_name(instance: &Instance) -> Asked<'_> {
    sqlx::query("SELECT id FROM instances WHERE tenant = $1 AND project = $2 AND name = $3 AND deleted_at IS NULL")
        .bind(instance.tenant.as_uuid())
        .bind(instance.project.as_uuid())
        .bind(instance.name.as_str())
}

/// The live instance that has the DNS name of `instance`.
pub(super) fn by_dns_name(instance: &Instance) -> Asked<'_> {
    sqlx::query(
        "SELECT id FROM instances
         WHERE tenant = $1 AND coalesce(dns_scope, project) = $2 AND coalesce(dns_label, name) = $3 AND deleted_at IS NULL",
    )
    .bind(instance.tenant.as_uuid())
    .bind(instance.dns_scope())
    .bind(instance.dns_label())
}

/// Revision and instances by one statement, so from one snapshot. A node without instances is one row without a record.
pub(super) fn of_node<'q>(node: NodeId) -> Asked<'q> {
    sqlx::query(
        "SELECT coalesce(instances.id, nodes.id) AS id, nodes.desired_revision, instances.record::text AS record
         FROM nodes LEFT JOIN instances ON instances.node = nodes.id AND instances.deleted_at IS NULL
         WHERE nodes.id = $1 AND nodes.removed_at IS NULL
         ORDER BY instances.id",
    )
    .bind(node.as_uuid())
}

pub(super) fn on_node(rows: &[PgRow]) -> Result<Option<OnNode>, StoreError> {
    let Some(first) = rows.first() else { return Ok(None) };
    let revision = Fields { table: "nodes", row: first }.count("desired_revision")?;
    let mut found = OnNode { revision, instances: Vec::with_capacity(rows.len()), unreadable: Vec::new() };
    for row in rows {
        let fields = Fields { table: "instances", row };
        if fields.get::<Option<&str>>("record")?.is_none() {
            continue;
        }
        match record(row) {
            Ok(instance) => found.instances.push(instance),
            Err(error) => {
                tracing::error!(%error, "an instance of a node cannot be read");
                found.unreadable.push(fields.id("id")?);
            }
        }
    }
    Ok(Some(found))
}

pub(super) fn idempotency(tenant: TenantId, key: &str) -> Asked<'_> {
    sqlx::query("SELECT key, fingerprint, instance, created_at FROM idempotency WHERE tenant = $1 AND key = $2")
        .bind(tenant.as_uuid())
        .bind(key)
}

pub(super) fn idempotency_record(row: &PgRow) -> Result<IdempotencyRecord, StoreError> {
    let fields = Fields { table: "idempotency", row };
    Ok(IdempotencyRecord {
        key: fields.get("key")?,
        fingerprint: fields.hash("fingerprint")?,
        instance: fields.id("instance")?,
        created_at: fields.time("created_at")?,
    })
}
