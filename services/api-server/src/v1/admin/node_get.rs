//! `GET /v1/admin/nodes/{node}`

use axum::Json;
use axum::extract::State;
use wherry_api_types::{Node, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{NoQuery, NodePath, Query};
use crate::state::ApiState;

/// Read a machine
///
/// With what it has handed out, and how far its emptying is.
#[utoipa::path(
    get,
    path = "/v1/admin/nodes/{node}",
    operation_id = "node_get",
    tag = "admin",
    security(("token" = ["admin"])),
    params(("node" = text::NodeNameOrId, Path, description = "Name or id of the machine.")),
    responses((status = 200, description = "The machine as it is now.", body = Node))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    NodePath(node): NodePath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Json<Node>, ApiError> {
    let status = state.control.get_node(&principal, &node).await?;
    Ok(Json(convert::node(status)))
}
