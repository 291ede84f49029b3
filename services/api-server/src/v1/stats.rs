//! `GET /v1/projects/{project}/stats` and `GET /v1/projects/{project}/metrics`: the same numbers for programs and for Prometheus.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use wherry_api_types::{InstanceStatsList, text};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{NoQuery, ProjectPath, Query};
use crate::state::ApiState;

/// Read what the instances of a project use now
///
/// Those that run, at most 500. One whose machine does not answer is marked `stale` and holds up no other.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/stats",
    operation_id = "project_stats",
    tag = "instances",
    security(("token" = ["instances:read"])),
    params(("project" = text::LabelName, Path, description = "The project.")),
    responses((status = 200, description = "What they use.", body = InstanceStatsList))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    ProjectPath(project): ProjectPath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Json<InstanceStatsList>, ApiError> {
    let used = state.control.project_stats(&principal, &project).await?;
    Ok(Json(convert::project_stats(used)))
}

/// Read the same in the Prometheus text format
///
/// For a scraper with a token. `wherry_instance_up` is 0 for an instance whose machine does not answer, of which no other number is
/// given then.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/metrics",
    operation_id = "project_metrics",
    tag = "instances",
    security(("token" = ["instances:read"])),
    params(("project" = text::LabelName, Path, description = "The project.")),
    responses((status = 200, description = "The numbers.", body = String, content_type = "text/plain; version=0.0.4; charset=utf-8"))
)]
pub(crate) async fn metrics(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    ProjectPath(project): ProjectPath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Response, ApiError> {
    let used = state.control.project_stats(&principal, &project).await?;
    let headers = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    Ok((headers, convert::metrics(&convert::project_stats(used))).into_response())
}
