//! `GET /v1/admin/nodes`

use axum::Json;
use axum::extract::State;
use wherry_api_types::NodeList;

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{NoQuery, Query};
use crate::state::ApiState;

/// List the machines of the fleet
///
/// With what each can hand out and has handed out, and how far those are that are being emptied.
#[utoipa::path(
    get,
    path = "/v1/admin/nodes",
    operation_id = "node_list",
    tag = "admin",
    security(("token" = ["admin"])),
    responses((status = 200, description = "All machines.", body = NodeList))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Json<NodeList>, ApiError> {
    let nodes = state.control.node_statuses(&principal).await?;
    Ok(Json(NodeList { items: nodes.into_iter().map(convert::node).collect() }))
}
