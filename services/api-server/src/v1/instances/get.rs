//! `GET /v1/projects/{project}/instances/{instance}`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use wherry_api_types::{Instance, text};

use super::answer;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{InstancePath, NoQuery, Query};
use crate::state::ApiState;

/// Read an instance
///
/// With its state, its address, every recent run of its containers, and what it has cost so far.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/instances/{instance}",
    operation_id = "instance_get",
    tag = "instances",
    security(("token" = ["instances:read"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceNameOrId, Path, description = "Name or id of the instance."),
    ),
    responses((status = 200, description = "The instance.", body = Instance, headers(
        ("ETag" = String, description = "Its generation."),
    )))
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    InstancePath { project, instance }: InstancePath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Response, ApiError> {
    let view = state.control.get_instance(&principal, &project, &instance).await?;
    Ok(answer(StatusCode::OK, view))
}
