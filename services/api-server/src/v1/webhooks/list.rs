//! `GET /v1/projects/{project}/webhooks`

use axum::Json;
use axum::extract::State;
use wherry_api_types::{WebhookList, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{NoQuery, ProjectPath, Query};
use crate::state::ApiState;

/// List webhooks
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/webhooks",
    operation_id = "webhook_list",
    tag = "events",
    security(("token" = ["instances:read"])),
    params(("project" = text::LabelName, Path, description = "The project.")),
    responses((status = 200, description = "All of the project, by name.", body = WebhookList))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    ProjectPath(project): ProjectPath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Json<WebhookList>, ApiError> {
    let found = state.control.webhooks(&principal, &project).await?;
    Ok(Json(WebhookList { items: found.into_iter().map(convert::webhook).collect() }))
}
