//! Look-ups of single instances and of the sets that agents and the zone are made of.

use sqlx::sqlite::{Sqlite, SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Row, SqlitePool};
use wherry_model::{Instance, InstanceId, InstanceName, NodeId, ProjectId, TenantId, Timestamp};
use wherry_store::{IdempotencyRecord, OnNode, StoreError};

use crate::columns::{Blob, Fields};
use crate::error::Context;
use crate::readable::Filling;

pub(crate) fn record(row: &SqliteRow) -> Result<Instance, StoreError> {
    Fields { table: "instances", row }.json("record")
}

fn one(row: Option<SqliteRow>) -> Result<Option<Instance>, StoreError> {
    row.as_ref().map(record).transpose()
}

pub(super) async fn by_name(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    project: ProjectId,
    name: &InstanceName,
) -> Result<Option<Instance>, StoreError> {
    let row = sqlx::query(
        "SELECT id, record FROM instances WHERE tenant = ? AND project = ? AND name = ? AND deleted_at IS NULL",
    )
    .bind(tenant.blob())
    .bind(project.blob())
    .bind(name.as_str())
    .fetch_optional(connection)
    .await
    .context("reading an instance")?;
    one(row)
}

/// Whether a live instance has the DNS name that `instance` asks for.
pub(super) async fn has_dns_name(connection: &mut SqliteConnection, instance: &Instance) -> Result<bool, StoreError> {
    sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT 1 FROM instances
             WHERE tenant = ? AND coalesce(dns_scope, project) = ? AND coalesce(dns_label, name) = ? AND deleted_at IS NULL
         )",
    )
    .bind(instance.tenant.blob())
    .bind(instance.dns_scope().as_bytes().to_vec())
    .bind(instance.dns_label())
    .fetch_one(connection)
    .await
    .context("looking for a DNS name")
}

pub(super) async fn of_tenant(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    id: InstanceId,
) -> Result<Option<Instance>, StoreError> {
    let row = sqlx::query("SELECT id, record FROM instances WHERE tenant = ? AND id = ?")
        .bind(tenant.blob())
        .bind(id.blob())
        .fetch_optional(connection)
        .await
        .context("reading an instance")?;
    one(row)
}

pub(super) async fn of_any_tenant(
    connection: &mut SqliteConnection,
    id: InstanceId,
) -> Result<Option<Instance>, StoreError> {
    let row = sqlx::query("SELECT id, record FROM instances WHERE id = ?")
        .bind(id.blob())
        .fetch_optional(connection)
        .await
        .context("reading an instance")?;
    one(row)
}

/// Revision and instances from one snapshot.
pub(super) async fn on_node(readers: &SqlitePool, node: NodeId) -> Result<Option<OnNode>, StoreError> {
    const CONTEXT: &str = "reading a node's instances";
    let mut snapshot = readers.begin().await.context(CONTEXT)?;
    let row = sqlx::query("SELECT id, desired_revision FROM nodes WHERE id = ? AND removed_at IS NULL")
        .bind(node.blob())
        .fetch_optional(&mut *snapshot)
        .await
        .context(CONTEXT)?;
    let Some(row) = row else { return Ok(None) };
    let revision = Fields { table: "nodes", row: &row }.count("desired_revision")?;
    let mut found = OnNode { revision, instances: Vec::new(), unreadable: Vec::new() };
    let rows = sqlx::query("SELECT id, record FROM instances WHERE node = ? AND deleted_at IS NULL ORDER BY id")
        .bind(node.blob())
        .fetch_all(&mut *snapshot)
        .await
        .context(CONTEXT)?;
    snapshot.rollback().await.context(CONTEXT)?;
    for row in &rows {
        match record(row) {
            Ok(instance) => found.instances.push(instance),
            Err(error) => {
                tracing::error!(%error, %node, "an instance of a node cannot be read");
                found.unreadable.push(Fields { table: "instances", row }.id("id")?);
            }
        }
    }
    Ok(Some(found))
}

/// The number of the last write tells who has waited longest.
pub(super) async fn pending(connection: &mut SqliteConnection, limit: u32) -> Result<Vec<Instance>, StoreError> {
    let mut page = Filling::of(limit);
    while !page.is_done() {
        let (limit, passed) = page.next();
        let sql = "SELECT id, record FROM instances WHERE state = 'pending' ORDER BY changed LIMIT ? OFFSET ?";
        let rows = sqlx::query(sql).bind(limit).bind(passed).fetch_all(&mut *connection).await;
        page.take(&rows.context("reading waiting instances")?, record);
    }
    Ok(page.found())
}

pub(super) async fn expired(
    connection: &mut SqliteConnection,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<Instance>, StoreError> {
    let mut page = Filling::of(limit);
    while !page.is_done() {
        let rows = over(now, page.next()).build().fetch_all(&mut *connection).await;
        page.take(&rows.context("reading instances whose time is over")?, record);
    }
    Ok(page.found())
}

fn over(now: Timestamp, (limit, passed): (u32, u32)) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new(
        "SELECT id, record FROM instances
         WHERE json_extract(record, '$.expires_at') IS NOT NULL AND json_extract(record, '$.expires_at') <= ",
    );
    sql.push_bind(now.as_micros()).push(" ORDER BY json_extract(record, '$.expires_at') LIMIT ").push_bind(limit);
    sql.push(" OFFSET ").push_bind(passed);
    sql
}

pub(super) async fn due(
    connection: &mut SqliteConnection,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<Instance>, StoreError> {
    const CONTEXT: &str = "reading instances whose schedule asks for something";
    let mut page = Filling::of(limit);
    while !page.is_done() {
        let rows = come(now, page.next()).build().fetch_all(&mut *connection).await.context(CONTEXT)?;
        page.take(&rows, record);
    }
    Ok(page.found())
}

fn come(now: Timestamp, (limit, passed): (u32, u32)) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new(
        "SELECT id, record FROM instances
         WHERE json_extract(record, '$.timetable.due_at') IS NOT NULL AND json_extract(record, '$.timetable.due_at') <= ",
    );
    sql.push_bind(now.as_micros()).push(" ORDER BY json_extract(record, '$.timetable.due_at') LIMIT ").push_bind(limit);
    sql.push(" OFFSET ").push_bind(passed);
    sql
}

/// By id, of those with an address or of all.
pub(super) async fn by_id(
    connection: &mut SqliteConnection,
    is_addressed: bool,
    after: Option<InstanceId>,
    limit: u32,
) -> Result<Vec<Instance>, StoreError> {
    let sql = if is_addressed {
        "SELECT id, record FROM instances WHERE address IS NOT NULL AND id > ? ORDER BY id LIMIT ? OFFSET ?"
    } else {
        "SELECT id, record FROM instances WHERE id > ? ORDER BY id LIMIT ? OFFSET ?"
    };
    // The empty blob sorts before every id.
    let after = after.map_or_else(Vec::new, |id| id.blob());
    let mut page = Filling::of(limit);
    while !page.is_done() {
        let (limit, passed) = page.next();
        let rows = sqlx::query(sql).bind(after.clone()).bind(limit).bind(passed).fetch_all(&mut *connection).await;
        page.take(&rows.context("reading instances by their ids")?, record);
    }
    Ok(page.found())
}

pub(super) async fn idempotency(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    key: &str,
) -> Result<Option<IdempotencyRecord>, StoreError> {
    let row =
        sqlx::query("SELECT key, fingerprint, instance, created_at FROM idempotency WHERE tenant = ? AND key = ?")
            .bind(tenant.blob())
            .bind(key)
            .fetch_optional(connection)
            .await
            .context("reading an idempotency record")?;
    let Some(row) = row else { return Ok(None) };
    let fields = Fields { table: "idempotency", row: &row };
    Ok(Some(IdempotencyRecord {
        key: row.try_get("key").context("reading an idempotency record")?,
        fingerprint: fields.hash("fingerprint")?,
        instance: fields.id("instance")?,
        created_at: fields.time("created_at")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::assert_plan;

    /// Asked every second, however many instances there are.
    #[tokio::test]
    async fn whose_time_is_over_is_found_by_index() {
        let plan = "SEARCH instances USING INDEX instances_expiring";
        assert_plan(over(Timestamp::from_seconds(1), (10, 0)), &[plan]).await;
    }

    /// Likewise.
    #[tokio::test]
    async fn what_is_due_is_found_by_index() {
        let plan = "SEARCH instances USING INDEX instances_due";
        assert_plan(come(Timestamp::from_seconds(1), (10, 0)), &[plan]).await;
    }
}
