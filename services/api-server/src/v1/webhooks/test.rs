//! `POST /v1/projects/{project}/webhooks/{webhook}:test`

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use wherry_api_types::{Delivery, Problem, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{NoQuery, Query, WebhookPath};
use crate::state::ApiState;

/// Send a ping
///
/// A delivery of the type `wherry.webhook.ping`, tried once and at once. The log says what became of it.
#[utoipa::path(
    post,
    path = "/v1/projects/{project}/webhooks/{webhook}:test",
    operation_id = "webhook_test",
    tag = "events",
    security(("token" = ["instances:write"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("webhook" = text::LabelName, Path, description = "The name of the webhook."),
    ),
    responses(
        (status = 202, description = "The delivery, which is made now.", body = Delivery),
        (status = 409, description = "The webhook is disabled, or too much waits already.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    WebhookPath { project, webhook }: WebhookPath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<(StatusCode, Json<Delivery>), ApiError> {
    let made = state.control.test_webhook(&principal, &project, &webhook).await?;
    Ok((StatusCode::ACCEPTED, Json(convert::delivery(made))))
}
