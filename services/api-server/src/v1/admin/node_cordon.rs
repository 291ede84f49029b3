//! `POST /v1/admin/nodes/{node}:cordon`

use axum::Json;
use axum::extract::State;
use wherry_api_types::{Node, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{NoQuery, NodePath, Query};
use crate::state::ApiState;

/// Close a machine for new instances
///
/// What it has stays. A machine that is being emptied stays so.
#[utoipa::path(
    post,
    path = "/v1/admin/nodes/{node}:cordon",
    operation_id = "node_cordon",
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
    let status = state.control.cordon_node(&principal, &node).await?;
    Ok(Json(convert::node(status)))
}
