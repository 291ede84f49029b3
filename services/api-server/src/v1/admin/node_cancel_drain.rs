//! `POST /v1/admin/nodes/{node}:cancel-drain`

use axum::Json;
use axum::extract::State;
use wherry_api_types::{Node, Problem, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{NoQuery, NodePath, Query};
use crate::state::ApiState;

/// Stop emptying a machine
///
/// It takes new instances again, and what still runs on it stays. What is already being stopped is stopped, and runs
/// elsewhere if it was to be moved.
#[utoipa::path(
    post,
    path = "/v1/admin/nodes/{node}:cancel-drain",
    operation_id = "node_cancel_drain",
    tag = "admin",
    security(("token" = ["admin"])),
    params(("node" = text::NodeNameOrId, Path, description = "Name or id of the machine.")),
    responses((status = 200, description = "The machine as it is now.", body = Node),
        (status = 409, description = "It is not being emptied.", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    NodePath(node): NodePath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Json<Node>, ApiError> {
    let status = state.control.cancel_drain(&principal, &node).await?;
    Ok(Json(convert::node(status)))
}
