//! The GPUs on a node's row. What is in use of each is kept as a JSON array, and checked by the model: one transaction writes at a
//! time here. What an old binary has left behind of it means nothing once the node is empty.

use sqlx::sqlite::SqliteConnection;
use wherry_model::{GpuDemand, GpuOffer, Gpus, NodeId};
use wherry_store::StoreError;

use crate::columns::{Blob, Fields, json};
use crate::error::{Context, violation};

const COLUMNS: &str =
    "SELECT id, gpu_model, gpu_count, gpu_used, used_instances FROM nodes WHERE id = ? AND removed_at IS NULL";

pub(super) fn of(fields: &Fields<'_>) -> Result<Gpus, StoreError> {
    let model: Option<String> = fields.get("gpu_model")?;
    let model = model.map(|model| model.parse().map_err(|error| fields.corrupt(format!("gpu_model: {error}"))));
    let used: String = fields.get("gpu_used")?;
    let used: Vec<u16> = serde_json::from_str(&used).map_err(|error| fields.corrupt(format!("gpu_used: {error}")))?;
    let is_empty = fields.count::<u32>("used_instances")? == 0;
    let mut each = [0; Gpus::MOST];
    for (device, used) in each.iter_mut().zip(used).filter(|_| !is_empty) {
        *device = used;
    }
    Ok(GpuOffer { model: model.transpose()?, count: fields.count("gpu_count")? }.used(each))
}

/// Takes the devices that are named if the node has them and enough of each is left.
pub(super) async fn take(
    connection: &mut SqliteConnection,
    node: NodeId,
    asked: &GpuDemand,
) -> Result<bool, StoreError> {
    let Some(mut gpus) = read(connection, node).await?.filter(|gpus| gpus.has_room(asked)) else { return Ok(false) };
    gpus.take(asked, asked.devices);
    write(connection, node, &gpus).await.map(|()| true)
}

/// Gives back what [`take`] took.
pub(super) async fn give_back(
    connection: &mut SqliteConnection,
    node: NodeId,
    given: &GpuDemand,
) -> Result<(), StoreError> {
    let Some(mut gpus) = read(connection, node).await? else { return Ok(()) };
    if !gpus.give_back(given) {
        return Err(violation(format!("more of a GPU was given back to node {node} than was taken from it")));
    }
    write(connection, node, &gpus).await
}

async fn read(connection: &mut SqliteConnection, node: NodeId) -> Result<Option<Gpus>, StoreError> {
    let row = sqlx::query(COLUMNS)
        .bind(node.blob())
        .fetch_optional(connection)
        .await
        .context("reading the GPUs of a node")?;
    row.map(|row| of(&Fields { table: "nodes", row: &row })).transpose()
}

async fn write(connection: &mut SqliteConnection, node: NodeId, gpus: &Gpus) -> Result<(), StoreError> {
    sqlx::query("UPDATE nodes SET gpu_used = ? WHERE id = ?")
        .bind(json(&gpus.used_permille)?)
        .bind(node.blob())
        .execute(connection)
        .await
        .context("settling the GPUs of a node")
        .map(drop)
}
