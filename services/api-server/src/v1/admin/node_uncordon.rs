//! `POST /v1/admin/nodes/{node}:uncordon`

use axum::Json;
use axum::extract::State;
use wherry_api_types::{Node, Problem, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{NoQuery, NodePath, Query};
use crate::state::ApiState;

/// Open a machine for new instances again
///
/// A machine that is silent takes them once it is heard again.
#[utoipa::path(
    post,
    path = "/v1/admin/nodes/{node}:uncordon",
    operation_id = "node_uncordon",
    tag = "admin",
    security(("token" = ["admin"])),
    params(("node" = text::NodeNameOrId, Path, description = "Name or id of the machine.")),
    responses((status = 200, description = "The machine as it is now.", body = Node),
        (status = 409, description = "It is being emptied: cancel that first.", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    NodePath(node): NodePath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Json<Node>, ApiError> {
    let status = state.control.uncordon_node(&principal, &node).await?;
    Ok(Json(convert::node(status)))
}
