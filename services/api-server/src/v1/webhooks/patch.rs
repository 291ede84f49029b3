//! `PATCH /v1/projects/{project}/webhooks/{webhook}`

use axum::Json;
use axum::extract::State;
use wherry_api_types::{Webhook, WebhookPatch, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{MergePatch, NoQuery, Query, WebhookPath};
use crate::state::ApiState;

/// Change a webhook
///
/// A JSON merge patch (RFC 7396) of its spec. While it is disabled nothing is sent; enabled again, it is sent what happens
/// from then on, and what waited before goes on.
#[utoipa::path(
    patch,
    path = "/v1/projects/{project}/webhooks/{webhook}",
    operation_id = "webhook_patch",
    tag = "events",
    security(("token" = ["instances:write", "instances:read"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("webhook" = text::LabelName, Path, description = "The name of the webhook."),
    ),
    request_body(content = WebhookPatch, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The webhook as it is now.", body = Webhook))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    WebhookPath { project, webhook }: WebhookPath,
    Query(NoQuery): Query<NoQuery>,
    MergePatch(patch): MergePatch,
) -> Result<Json<Webhook>, ApiError> {
    let edit = |found: &wherry_control::WebhookRecord| convert::merged_webhook(found, &patch);
    Ok(Json(convert::webhook(state.control.update_webhook(&principal, &project, &webhook, edit).await?)))
}
