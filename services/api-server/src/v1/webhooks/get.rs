//! `GET /v1/projects/{project}/webhooks/{webhook}`

use axum::Json;
use axum::extract::State;
use wherry_api_types::{Webhook, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{NoQuery, Query, WebhookPath};
use crate::state::ApiState;

/// Read a webhook
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/webhooks/{webhook}",
    operation_id = "webhook_get",
    tag = "events",
    security(("token" = ["instances:read"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("webhook" = text::LabelName, Path, description = "The name of the webhook."),
    ),
    responses((status = 200, description = "The webhook, without its secret.", body = Webhook))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    WebhookPath { project, webhook }: WebhookPath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Json<Webhook>, ApiError> {
    Ok(Json(convert::webhook(state.control.get_webhook(&principal, &project, &webhook).await?)))
}
