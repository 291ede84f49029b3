//! `GET /v1/projects`

use axum::Json;
use axum::extract::State;
use wherry_api_types::ProjectList;

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{NoQuery, Query};
use crate::state::ApiState;

/// List the tenant's projects
#[utoipa::path(
    get,
    path = "/v1/projects",
    operation_id = "project_list",
    tag = "projects",
    security(("token" = ["instances:read"])),
    responses((status = 200, description = "All projects, by name.", body = ProjectList))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Json<ProjectList>, ApiError> {
    let projects = state.control.projects(&principal).await?;
    Ok(Json(ProjectList { items: projects.into_iter().map(convert::project).collect() }))
}
