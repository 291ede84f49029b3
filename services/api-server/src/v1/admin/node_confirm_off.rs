//! `POST /v1/admin/nodes/{node}:confirm-off`

use axum::Json;
use axum::extract::State;
use wherry_api_types::{Node, Problem, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{NoQuery, NodePath, Query};
use crate::state::ApiState;

/// Confirm that a silent machine is off
///
/// Say this only of a machine that is switched off or will never be heard again: what was placed on it is given up now. An
/// instance of `on_node_loss: replace` is run elsewhere at once, another one ends as `failed` with the reason `node_lost`.
#[utoipa::path(
    post,
    path = "/v1/admin/nodes/{node}:confirm-off",
    operation_id = "node_confirm_off",
    tag = "admin",
    security(("token" = ["admin"])),
    params(("node" = text::NodeNameOrId, Path, description = "Name or id of the machine.")),
    responses((status = 200, description = "The machine as it is now.", body = Node),
        (status = 409, description = "It was heard a moment ago.", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    NodePath(node): NodePath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Json<Node>, ApiError> {
    let status = state.control.confirm_node_off(&principal, &node).await?;
    Ok(Json(convert::node(status)))
}
