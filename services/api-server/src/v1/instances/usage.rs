//! `GET /v1/projects/{project}/instances/{instance}/usage`

use axum::Json;
use axum::extract::State;
use wherry_api_types::{Usage, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{InstancePath, NoQuery, Query};
use crate::state::ApiState;

/// Read what an instance has used and cost, line by line
///
/// Since it was created. Also for an instance that is deleted, by its id.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/instances/{instance}/usage",
    operation_id = "instance_usage",
    tag = "usage",
    security(("token" = ["usage:read"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceNameOrId, Path, description = "Name or id of the instance."),
    ),
    responses((status = 200, description = "The bill.", body = Usage))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    InstancePath { project, instance }: InstancePath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Json<Usage>, ApiError> {
    let usage = state.control.instance_usage(&principal, &project, &instance).await?;
    Ok(Json(convert::usage(usage, &state.control.config().price_book.currency)))
}
