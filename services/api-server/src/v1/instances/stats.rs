//! `GET /v1/projects/{project}/instances/{instance}/stats`

use axum::Json;
use axum::extract::State;
use wherry_api_types::{InstanceStats, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{InstancePath, NoQuery, Query};
use crate::state::ApiState;

/// Read what an instance uses now: cores, memory, network
///
/// Read from the machine that runs it, at most once a second however many ask. The first answer after a while takes half a second,
/// over which its rates are. Of an instance that does not run there is nothing but its name.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/instances/{instance}/stats",
    operation_id = "instance_stats",
    tag = "instances",
    security(("token" = ["instances:read"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceNameOrId, Path, description = "Name or id of the instance."),
    ),
    responses((status = 200, description = "What it uses.", body = InstanceStats))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    InstancePath { project, instance }: InstancePath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Json<InstanceStats>, ApiError> {
    let used = state.control.instance_stats(&principal, &project, &instance).await?;
    Ok(Json(convert::instance_stats(used)))
}
