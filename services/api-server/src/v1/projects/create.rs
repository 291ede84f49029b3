//! `POST /v1/projects`

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use wherry_api_types::{Problem, Project, ProjectCreate};

use crate::auth::Caller;
use crate::convert;
use crate::error::ApiError;
use crate::extract::{JsonBody, NoQuery, Query};
use crate::state::ApiState;

/// Create a project
///
/// A folder of instances with names and a DNS label of their own.
#[utoipa::path(
    post,
    path = "/v1/projects",
    operation_id = "project_create",
    tag = "projects",
    security(("token" = ["instances:write"])),
    request_body = ProjectCreate,
    responses(
        (status = 201, description = "The project.", body = Project),
        (status = 409, description = "The name is in use.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    Query(NoQuery): Query<NoQuery>,
    JsonBody(body): JsonBody<ProjectCreate>,
) -> Result<(StatusCode, Json<Project>), ApiError> {
    let name = convert::project_name("name", &body.name)?;
    let project = state.control.create_project(&principal, name).await?;
    Ok((StatusCode::CREATED, Json(convert::project(project))))
}
