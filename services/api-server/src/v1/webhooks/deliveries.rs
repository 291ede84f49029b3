//! `GET /v1/projects/{project}/webhooks/{webhook}/deliveries`

use axum::Json;
use axum::extract::State;
use utoipa::IntoParams;
use wherry_api_types::{DeliveryList, text};
use wherry_control::DeliveryPageRequest;

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{FromQuery, Query, QueryReader, WebhookPath};
use crate::state::ApiState;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeliveriesQuery {
    /// `next` of the page before.
    #[param(required = false, value_type = text::PageCursor)]
    cursor: Option<String>,
    /// Deliveries on one page; 50 when absent.
    #[param(required = false, minimum = 1, maximum = 200, value_type = u32)]
    limit: u32,
}

impl FromQuery for DeliveriesQuery {
    fn from_query(query: &mut QueryReader) -> Result<Self, ApiError> {
        let limit = query.number("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
        Ok(Self { cursor: query.text("cursor")?, limit })
    }
}

/// List deliveries
///
/// What waits, and what was taken or given up in the last seven days unless the operator keeps it for another time.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/webhooks/{webhook}/deliveries",
    operation_id = "webhook_deliveries",
    tag = "events",
    security(("token" = ["instances:read"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("webhook" = text::LabelName, Path, description = "The name of the webhook."),
        DeliveriesQuery,
    ),
    responses((status = 200, description = "A page of deliveries, newest first.", body = DeliveryList))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    WebhookPath { project, webhook }: WebhookPath,
    Query(DeliveriesQuery { cursor, limit }): Query<DeliveriesQuery>,
) -> Result<Json<DeliveryList>, ApiError> {
    let request = DeliveryPageRequest { cursor, limit };
    let page = state.control.deliveries(&principal, &project, &webhook, &request).await?;
    Ok(Json(DeliveryList { items: page.deliveries.into_iter().map(convert::delivery).collect(), next: page.next }))
}
