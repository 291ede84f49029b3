//! `POST /v1/projects/{project}/instances/{instance}:stop`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use wherry_api_types::{Instance, Problem, text};

use super::answer;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{InstancePath, NoQuery, Query};
use crate::state::ApiState;

/// Stop an instance
///
/// Answers at once; the instance is `stopping` until its containers have ended: SIGTERM, and SIGKILL after its stop grace.
/// Name, DNS name and logs are kept, nothing is metered. Stopping a stopped instance changes nothing.
#[utoipa::path(
    post,
    path = "/v1/projects/{project}/instances/{instance}:stop",
    operation_id = "instance_stop",
    tag = "instances",
    security(("token" = ["instances:write"])),
    params(
        ("project" = text::LabelName, Path, description = "The project."),
        ("instance" = text::InstanceNameOrId, Path, description = "Name or id of the instance."),
    ),
    responses(
        (status = 202, description = "The instance is stopping or stopped.", body = Instance),
        (status = 409, description = "Something else is under way.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn handle(
    Caller(principal): Caller,
    State(state): State<ApiState>,
    InstancePath { project, instance }: InstancePath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Response, ApiError> {
    let view = state.control.stop_instance(&principal, &project, &instance).await?;
    Ok(answer(StatusCode::ACCEPTED, view))
}
