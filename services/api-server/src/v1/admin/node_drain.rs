//! `POST /v1/admin/nodes/{node}:drain`

use axum::Json;
use axum::extract::State;
use wherry_api_types::{Node, NodeDrainRequest, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{JsonBody, NoQuery, NodePath, Query};
use crate::state::ApiState;

/// Empty a machine
///
/// Nothing new is placed on it. Instances that have not ended by themselves when the grace is over are stopped, with their
/// own stop grace, and then run elsewhere (`move`) or stay stopped with the reason `evicted` (`stop`). One that no other
/// machine has room for stays where it is until there is room. Read the machine to see how far it is. Asking again
/// changes grace and policy.
#[utoipa::path(
    post,
    path = "/v1/admin/nodes/{node}:drain",
    operation_id = "node_drain",
    tag = "admin",
    security(("token" = ["admin"])),
    params(("node" = text::NodeNameOrId, Path, description = "Name or id of the machine.")),
    request_body = NodeDrainRequest,
    responses((status = 200, description = "The machine as it is now.", body = Node))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    NodePath(node): NodePath,
    Query(NoQuery): Query<NoQuery>,
    JsonBody(body): JsonBody<NodeDrainRequest>,
) -> Result<Json<Node>, ApiError> {
    let status = state.control.drain_node(&principal, &node, convert::drain_request(body)).await?;
    Ok(Json(convert::node(status)))
}
