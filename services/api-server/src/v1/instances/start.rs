//! `POST /v1/projects/{project}/instances/{instance}:start`

use axum::extract::{Extension, State};
use axum::response::Response;
use http::StatusCode;
use wherry_api_types::{Instance, Problem, text};

use super::answer;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{InstancePath, NoQuery, Query};
use crate::layers::StreamPlace;
use crate::state::ApiState;

/// Start a stopped or ended instance again
///
/// Wherever there is room now. Name, DNS name and logs are those of before; the image is exactly the one of its first start.
/// A stop that is under way is waited for. Starting an instance that runs changes nothing.
#[utoipa::path(
    post,
    path = "/v1/projects/{project}/instances/{instance}:start",
    operation_id = "instance_start",
    tag = "instances",
    security(("token" = ["instances:write"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceNameOrId, Path, description = "Name or id of the instance."),
    ),
    responses(
        (status = 202, description = "The instance is starting or running.", body = Instance),
        (status = 409, description = "Its stop takes too long to wait for, or too many of the tenant's starts wait for a stop.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The tenant has too many waits and streams open.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    InstancePath { project, instance }: InstancePath,
    Query(NoQuery): Query<NoQuery>,
    Extension(place): Extension<StreamPlace>,
) -> Result<Response, ApiError> {
    // It may have to wait for a stop.
    let _permit = place.admit(&state, principal.tenant)?;
    let view = state.control.start_instance(&principal, &project, &instance).await?;
    Ok(answer(StatusCode::ACCEPTED, view))
}
