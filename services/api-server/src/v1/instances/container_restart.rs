//! `POST /v1/projects/{project}/instances/{instance}/containers/{container}:restart`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use wherry_api_types::{Instance, Problem, text};

use super::answer;
use super::restart::RestartQuery;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{ContainerPath, Query};
use crate::state::ApiState;

/// Restart one container
///
/// It is ended as at a stop and started again; the other containers run on. Name, address and volumes stay.
#[utoipa::path(
    post,
    path = "/v1/projects/{project}/instances/{instance}/containers/{container}:restart",
    operation_id = "container_restart",
    tag = "instances",
    security(("token" = ["instances:write"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceNameOrId, Path, description = "Name or id of the instance."),
        ("container" = text::LabelName, Path, description = "The container; `main` unless the spec names it otherwise."),
        RestartQuery,
    ),
    responses(
        (status = 202, description = "The container is being restarted.", body = Instance),
        (status = 409, description = "The instance has ended, or its machine cannot do this.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    ContainerPath { project, instance, container }: ContainerPath,
    Query(RestartQuery { pull }): Query<RestartQuery>,
) -> Result<Response, ApiError> {
    let view = state.control.restart_container(&principal, &project, &instance, &container, pull).await?;
    Ok(answer(StatusCode::ACCEPTED, view))
}
