//! `GET /v1/projects/{project}/webhooks/{webhook}/deliveries/{delivery}`

use axum::Json;
use axum::extract::State;
use wherry_api_types::{Delivery, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{DeliveryPath, NoQuery, Query};
use crate::state::ApiState;

/// Read a delivery
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/webhooks/{webhook}/deliveries/{delivery}",
    operation_id = "webhook_delivery_get",
    tag = "events",
    security(("token" = ["instances:read"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("webhook" = text::LabelName, Path, description = "The name of the webhook."),
        ("delivery" = text::Id, Path, description = "The id of the delivery."),
    ),
    responses((status = 200, description = "The delivery.", body = Delivery))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    DeliveryPath { project, webhook, delivery }: DeliveryPath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Json<Delivery>, ApiError> {
    let found = state.control.get_delivery(&principal, &project, &webhook, delivery).await?;
    Ok(Json(convert::delivery(found)))
}
