//! `POST /v1/projects/{project}/webhooks/{webhook}/deliveries/{delivery}:redeliver`

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use wherry_api_types::{Delivery, Problem, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{DeliveryPath, NoQuery, Query};
use crate::state::ApiState;

/// Make a delivery again
///
/// With the id that it has. It does not wait for others of its instance; one that waits is left as it is.
#[utoipa::path(
    post,
    path = "/v1/projects/{project}/webhooks/{webhook}/deliveries/{delivery}:redeliver",
    operation_id = "webhook_redeliver",
    tag = "events",
    security(("token" = ["instances:write"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("webhook" = text::LabelName, Path, description = "The name of the webhook."),
        ("delivery" = text::Id, Path, description = "The id of the delivery."),
    ),
    responses(
        (status = 202, description = "The delivery, which is made now.", body = Delivery),
        (status = 409, description = "The webhook is disabled.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    DeliveryPath { project, webhook, delivery }: DeliveryPath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<(StatusCode, Json<Delivery>), ApiError> {
    let again = state.control.redeliver(&principal, &project, &webhook, delivery).await?;
    Ok((StatusCode::ACCEPTED, Json(convert::delivery(again))))
}
