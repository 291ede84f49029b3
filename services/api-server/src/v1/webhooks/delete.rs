//! `DELETE /v1/projects/{project}/webhooks/{webhook}`

use axum::extract::State;
use http::StatusCode;
use wherry_api_types::text;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{NoQuery, Query, WebhookPath};
use crate::state::ApiState;

/// Delete a webhook
///
/// With its deliveries, those that wait too.
#[utoipa::path(
    delete,
    path = "/v1/projects/{project}/webhooks/{webhook}",
    operation_id = "webhook_delete",
    tag = "events",
    security(("token" = ["instances:write"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("webhook" = text::LabelName, Path, description = "The name of the webhook."),
    ),
    responses((status = 204, description = "It is gone."))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    WebhookPath { project, webhook }: WebhookPath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<StatusCode, ApiError> {
    state.control.delete_webhook(&principal, &project, &webhook).await?;
    Ok(StatusCode::NO_CONTENT)
}
