//! `POST /v1/projects/{project}/webhooks/{webhook}:rotate-secret`

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use wherry_api_types::{Problem, WebhookWithSecret, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{NoQuery, Query, WebhookPath};
use crate::state::ApiState;

/// Give a webhook another secret
///
/// The answer is the only time that it is shown. For a day deliveries carry two signatures, one with the secret before.
#[utoipa::path(
    post,
    path = "/v1/projects/{project}/webhooks/{webhook}:rotate-secret",
    operation_id = "webhook_rotate_secret",
    tag = "events",
    security(("token" = ["instances:write"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("webhook" = text::LabelName, Path, description = "The name of the webhook."),
    ),
    responses(
        (status = 200, description = "The webhook with its new secret.", body = WebhookWithSecret),
        (status = 409, description = "Nothing can be sealed here.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    WebhookPath { project, webhook }: WebhookPath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Response, ApiError> {
    let made = state.control.rotate_webhook_secret(&principal, &project, &webhook).await?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(convert::new_webhook(made))).into_response())
}
