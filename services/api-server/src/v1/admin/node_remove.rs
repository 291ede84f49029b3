//! `DELETE /v1/admin/nodes/{node}`

use axum::extract::State;
use http::StatusCode;
use wherry_api_types::{Problem, text};

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{NoQuery, NodePath, Query};
use crate::state::ApiState;

/// Take a machine out of the fleet
///
/// For good: its certificate works no more within seconds. To come back it has to join anew. It must be empty: drain it, or
/// confirm that it is off. What has ended on it keeps its name and story, its output is gone.
#[utoipa::path(
    delete,
    path = "/v1/admin/nodes/{node}",
    operation_id = "node_remove",
    tag = "admin",
    security(("token" = ["admin"])),
    params(("node" = text::NodeNameOrId, Path, description = "Name or id of the machine.")),
    responses(
        (status = 204, description = "It is not part of the fleet any more."),
        (status = 409, description = "There are still instances on it.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    NodePath(node): NodePath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<StatusCode, ApiError> {
    state.control.remove_node(&principal, &node).await?;
    Ok(StatusCode::NO_CONTENT)
}
