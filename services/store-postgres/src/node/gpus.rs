//! The GPUs on a node's row. What is in use of each is kept as a JSON array, and checked by the model while the row is locked. What
//! an old binary has left behind of it means nothing once the node is empty.

use std::collections::BTreeMap;

use sqlx::postgres::PgConnection;
use uuid::Uuid;
use wherry_model::{GpuDemand, GpuOffer, Gpus, NodeId};
use wherry_store::StoreError;

use crate::columns::{Fields, json};
use crate::error::{Context, violation};

const CONTEXT: &str = "settling the GPUs of nodes";

/// What happens to the GPUs of one node, and how many instances leave it.
pub(super) struct Difference<'d> {
    pub(super) given: &'d [GpuDemand],
    pub(super) taken: &'d [GpuDemand],
    pub(super) leaving: i64,
}

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

/// Gives back, then takes. All rows of the settlement are locked here, in the order of their ids as everywhere: with those of some first
/// two settlements could wait for each other. The nodes that refuse; the transaction is to be undone then.
pub(super) async fn settle(
    connection: &mut PgConnection,
    differences: &BTreeMap<NodeId, Difference<'_>>,
) -> Result<Vec<NodeId>, StoreError> {
    if differences.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT id, gpu_model, gpu_count, gpu_used, used_instances FROM nodes WHERE id = ANY ($1) ORDER BY id
         FOR NO KEY UPDATE",
    )
    .bind(differences.keys().map(NodeId::as_uuid).collect::<Vec<_>>())
    .fetch_all(&mut *connection)
    .await
    .context(CONTEXT)?;
    let (mut ids, mut used, mut refused): (Vec<Uuid>, Vec<String>, Vec<NodeId>) = Default::default();
    for row in &rows {
        let fields = Fields { table: "nodes", row };
        let node: NodeId = fields.id("id")?;
        let Some(Difference { given, taken, leaving }) = differences.get(&node) else { continue };
        if given.is_empty() && taken.is_empty() {
            continue;
        }
        let mut gpus = of(&fields)?;
        if !given.iter().all(|given| gpus.give_back(given)) {
            return Err(violation(format!("more of a GPU was given back to node {node} than was taken from it")));
        }
        if fields.count::<i64>("used_instances")? == *leaving {
            gpus.used_permille = [0; Gpus::MOST];
        }
        for asked in *taken {
            if !gpus.has_room(asked) {
                refused.push(node);
                break;
            }
            gpus.take(asked, asked.devices);
        }
        ids.push(node.as_uuid());
        used.push(json(&gpus.used_permille)?);
    }
    if !refused.is_empty() || ids.is_empty() {
        return Ok(refused);
    }
    sqlx::query(
        "UPDATE nodes AS node SET gpu_used = settled.used FROM unnest($1::uuid[], $2::text[]) AS settled (id, used)
         WHERE node.id = settled.id",
    )
    .bind(ids)
    .bind(used)
    .execute(connection)
    .await
    .context(CONTEXT)?;
    Ok(refused)
}
