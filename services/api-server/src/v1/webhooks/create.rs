//! `POST /v1/projects/{project}/webhooks`

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use wherry_api_types::{Problem, WebhookCreate, WebhookWithSecret, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{JsonBody, NoQuery, ProjectPath, Query};
use crate::state::ApiState;

/// Create a webhook
///
/// It is sent what happens from now on, as CloudEvents (see CloudEvent) by POST, signed as Standard Webhooks has it: headers
/// `webhook-id`, `webhook-timestamp` and `webhook-signature`. The answer is the only time that the secret is shown. A
/// delivery is made at least once; 2xx says that it was taken, anything else has it made again, later and later, for a day.
/// Of one instance events come in their order: the next one is sent when the one before was taken or given up. A receiver that
/// answers 410, or takes nothing for three days, disables its webhook.
#[utoipa::path(
    post,
    path = "/v1/projects/{project}/webhooks",
    operation_id = "webhook_create",
    tag = "events",
    security(("token" = ["instances:write", "instances:read"])),
    params(("project" = text::LabelName, Path, description = "The project.")),
    request_body = WebhookCreate,
    responses(
        (status = 201, description = "The webhook with its secret.", body = WebhookWithSecret),
        (status = 409, description = "The name is in use, or nothing can be sealed here.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    ProjectPath(project): ProjectPath,
    Query(NoQuery): Query<NoQuery>,
    JsonBody(body): JsonBody<WebhookCreate>,
) -> Result<Response, ApiError> {
    let (name, request) = convert::webhook_create(body)?;
    let made = state.control.create_webhook(&principal, &project, name, request).await?;
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(convert::new_webhook(made))).into_response())
}
