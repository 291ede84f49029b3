//! Labels of instances, as rows that lists are made from.

use sqlx::postgres::PgConnection;
use uuid::Uuid;
use wherry_model::{Instance, InstanceId};
use wherry_store::StoreError;

use crate::error::Context;

/// Labels, column by column.
#[derive(Default)]
pub(super) struct Labels {
    pub(super) instances: Vec<Uuid>,
    pub(super) keys: Vec<String>,
    pub(super) values: Vec<String>,
}

impl Labels {
    pub(super) fn add(&mut self, instance: &Instance) {
        for (key, value) in &instance.spec.labels {
            self.instances.push(instance.id.as_uuid());
            self.keys.push(key.clone());
            self.values.push(value.clone());
        }
    }
}

/// Puts the labels of these instances in the place of those that they had.
pub(super) async fn replace(connection: &mut PgConnection, instances: &[&Instance]) -> Result<(), StoreError> {
    const CONTEXT: &str = "replacing labels";
    if instances.is_empty() {
        return Ok(());
    }
    let mut labels = Labels::default();
    for instance in instances {
        labels.add(instance);
    }
    let ids: Vec<Uuid> = instances.iter().map(|instance| instance.id.as_uuid()).collect();
    sqlx::query("DELETE FROM instance_labels WHERE instance = ANY ($1)")
        .bind(ids)
        .execute(&mut *connection)
        .await
        .context(CONTEXT)?;
    sqlx::query(
        "INSERT INTO instance_labels (tenant, project, key, value, live, created_at, instance)
         SELECT of.tenant, of.project, label.key, label.value, of.deleted_at IS NULL, of.created_at, of.id
         FROM unnest($1::uuid[], $2::text[], $3::text[]) AS label (instance, key, value)
             JOIN instances AS of ON of.id = label.instance",
    )
    .bind(labels.instances)
    .bind(labels.keys)
    .bind(labels.values)
    .execute(connection)
    .await
    .context(CONTEXT)
    .map(drop)
}

/// Moves the labels of deleted instances out of the way.
pub(super) async fn retire(connection: &mut PgConnection, instances: &[InstanceId]) -> Result<(), StoreError> {
    if instances.is_empty() {
        return Ok(());
    }
    sqlx::query("UPDATE instance_labels SET live = false WHERE instance = ANY ($1)")
        .bind(instances.iter().map(InstanceId::as_uuid).collect::<Vec<_>>())
        .execute(connection)
        .await
        .context("retiring labels")
        .map(drop)
}
